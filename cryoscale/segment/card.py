"""The card of a model: what its weights are and what they were trained for, readable without torch.

What a run goes by is checked where the card is read, so that a slip of a hand that edits it is named there. A field
that is absent is legal; one that says what the code does not do is not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryoscale.errors import UsageError
from cryoscale.segment.normalise import CLIP

__all__ = [
    "CLASSES",
    "NORMALISATION",
    "Card",
    "default_model_path",
    "model_hash",
    "named_model",
    "read_card",
    "refused",
]

Card = dict[str, Any]
"""JSON-able description of a model; `architecture` and `sha256` are what loading needs."""
CLASSES = ("background", "protein", "membrane")
"""What a network scores, in this order."""
NORMALISATION = f"clip((x - median) / (1.4826 x median absolute deviation), -{CLIP:g}, {CLIP:g})"
"""What `normalise` does, in a card's words."""
_LEAST_ANGSTROM, _LARGEST_ANGSTROM = 0.01, 10_000.0
"""Far beyond any tomogram's voxels: what is outside is a slip, and would ask for any amount of memory."""


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
    # Only where it is so: the results of all other models stay what they were.
    parts += ["enhanced"] * card.get("enhanced", False)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_card(path: str | Path) -> Card:
    """Return the card beside the weights at `path`.

    Raises
    ------
    UsageError
        If it is missing, says nothing of the architecture or the weights, or has a value that no run can go by.
    """
    path = Path(path)
    try:
        path = path.with_suffix(".json")
        card = json.loads(path.read_text(encoding="utf-8"))
        card = {**card, "architecture": dict(card["architecture"]), "sha256": str(card["sha256"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(path, "the model's card is missing or damaged", error) from error
    for name, (sound, allowed) in _FIELDS.items():
        if name in card and not sound(card[name]):
            what = f"the model's card has a {name} that cannot be used"
            raise refused(path, what, json.dumps(card[name])[:_SHOWN], allowed)
    return card


def refused(path: Path, what: str, found: object, allowed: str = "a safetensors file with its JSON card") -> UsageError:
    """Return the error that says which file of a model cannot be used."""
    return UsageError(
        what,
        where=str(path),
        found=found,
        allowed=allowed,
        todo="copy the .safetensors and .json files again, or train anew with `cryoscale train`",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_range(value: object) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(v) for v in value)):
        return False
    low, high = value
    return bool(_LEAST_ANGSTROM <= low <= high <= _LARGEST_ANGSTROM)


_SHOWN = 80
"""Characters of a wrong value that are shown."""
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "voxel_size_angstrom": (
        _is_range,
        f"two numbers, the least and the largest voxel size in Å, from {_LEAST_ANGSTROM:g} to {_LARGEST_ANGSTROM:g}",
    ),
    "score_threshold": (lambda value: _is_number(value) and 0 < value < 1, "a number above 0 and below 1"),
    "classes": (lambda value: value == list(CLASSES), f"{json.dumps(CLASSES)}, in this order"),
    "normalisation": (lambda value: value == NORMALISATION, f'"{NORMALISATION}"'),
    "enhanced": (lambda value: isinstance(value, bool), "true or false"),
}
"""What a run goes by, whether a value of it is sound, and what is."""
