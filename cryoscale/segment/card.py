"""The card of a model: what its weights are and what they were trained for, readable without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryoscale.errors import UsageError

__all__ = ["Card", "default_model_path", "model_hash", "named_model", "read_card", "refused"]

Card = dict[str, Any]
"""JSON-able description of a model; `architecture` and `sha256` are what loading needs."""


def default_model_path() -> Path:
    """Path of the weights that come with cryoscale."""
    return Path(__file__).parent / "weights" / "unet25d.safetensors"


def named_model(name: str) -> Path:
    """Path of weights as a user names them: their file, or "shipped" for those that come with cryoscale."""
    return default_model_path() if name == "shipped" else Path(name)


def model_hash(path: str | Path) -> str:
    """Return a sha256 of what results of this model depend on: weights, architecture, and how they are used.

    Raises
    ------
    UsageError
        If there is no readable card.
    """
    card = read_card(path)
    parts = [card.get(name) for name in ("sha256", "architecture", "voxel_size_angstrom", "score_threshold")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_card(path: str | Path) -> Card:
    """Return the card beside the weights at `path`.

    Raises
    ------
    UsageError
        If it is missing, or says nothing of the architecture or the weights.
    """
    path = Path(path)
    try:
        path = path.with_suffix(".json")
        card = json.loads(path.read_text(encoding="utf-8"))
        return {**card, "architecture": dict(card["architecture"]), "sha256": str(card["sha256"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(path, "the model's card is missing or damaged", error) from error


def refused(path: Path, what: str, found: object, allowed: str = "a safetensors file with its JSON card") -> UsageError:
    """Return the error that says which file of a model cannot be used."""
    return UsageError(
        what,
        where=str(path),
        found=found,
        allowed=allowed,
        todo="copy the .safetensors and .json files again, or train anew with `cryoscale train`",
    )
