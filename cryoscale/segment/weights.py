"""Model files: safetensors weights with a JSON card beside them; nothing in them can run code.

    unet25d.safetensors    the tensors, nothing else
    unet25d.json           architecture, normalisation, training command, data, scores, sha256 of the weights

A file is refused by name when its bytes do not have the card's sha256, when its header is torn, too long or names a
tensor twice, when a tensor is missing, extra or of another shape, or when a value is not finite (safetensors itself
accepts the last two). Pickled checkpoints are never opened.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cryoscale.errors import UsageError
from cryoscale.segment.card import CLASSES, NORMALISATION, Card, read_card, refused
from cryoscale.segment.models import build_model
from cryoscale.segment.network import Network

__all__ = ["blend", "load_model", "read_tensors", "save_model", "write_bytes"]

_HEADER_BYTES = 16 << 20
_TENSORS = 10_000


def save_model(path: str | Path, model: Network, card: Card) -> Card:
    """Write weights and card; return the card with what the code itself knows filled in.

    Raises
    ------
    UsageError
        If a weight is not finite.
    """
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _require_finite(path, state)
    data = save(state)
    card = {
        **card,
        "classes": list(CLASSES),
        "input": "unfiltered slices, normal to the beam; dense matter is dark (low values)",
        "normalisation": NORMALISATION,
        "architecture": {"name": model.name, **model.options},
        "score_threshold": model.threshold,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_bytes(path, data)
    write_bytes(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    return card


def load_model(path: str | Path) -> tuple[Network, Card]:
    """Read a model in evaluation mode, with the threshold that its card states, and the card.

    Raises
    ------
    UsageError
        If the weights or the card are missing, damaged, of another architecture, or not finite.
    """
    path = Path(path)
    card = read_card(path)
    state = read_tensors(path, sha256=card["sha256"])
    try:
        with torch.device("meta"):  # a card that lies about the size costs no memory
            model = build_model(**card["architecture"])
        other = [
            name for name, tensor in model.state_dict().items() if name in state and state[name].dtype != tensor.dtype
        ]
        if other:
            msg = f"number type of {', '.join(other[:5])}"
            raise ValueError(msg)
        model.load_state_dict(state, strict=True, assign=True)
    except (UsageError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise refused(path, "the weights do not fit the card's architecture", error) from error
    model.threshold = float(card.get("score_threshold", model.threshold))
    return model.eval(), card


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file, checked.

    Raises
    ------
    UsageError
        If the file is missing, is not what `sha256` says, is torn, repeats a name or holds a value that is not finite.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise refused(path, "the weights cannot be read", error) from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise refused(path, "the weights are not the ones the card describes", f"sha256 {found}", f"sha256 {sha256}")
    _check_header(path, data)
    try:
        state: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise refused(path, "not a safetensors file, or damaged", error) from error
    _require_finite(path, state)
    return state


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_header(path: Path, data: bytes) -> None:
    """Refuse a header that is torn, too long or names a tensor twice: 8 bytes of length, then JSON."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            msg = f"{next(name for name in names if names.count(name) > 1)!r} is there twice"
            raise ValueError(msg)
        return dict(pairs)

    length = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 or not 2 <= length <= min(_HEADER_BYTES, len(data) - 8):
            msg = f"a header of {length} bytes in a file of {len(data)}"
            raise ValueError(msg)
        header = json.loads(data[8 : 8 + length], object_pairs_hook=unique)
        if len(header) > _TENSORS:
            msg = f"{len(header)} tensors"
            raise ValueError(msg)
    except (ValueError, TypeError, RecursionError) as error:
        raise refused(path, "not a safetensors file, or damaged", error) from error


def _require_finite(path: Path, state: dict[str, Tensor]) -> None:
    # As float64, because torch does not ask every small float whether it is finite.
    floats = ((name, value.double()) for name, value in state.items() if value.is_floating_point())
    bad = [name for name, value in floats if not bool(torch.isfinite(value).all())]
    if bad:
        raise refused(path, "weights that are not finite numbers", ", ".join(bad[:5]))


def blend(model: Network, other: Mapping[str, Tensor], share: float) -> None:
    """Give a network, weight by weight, a share of another one's of the same origin; its counts stay.

    On the way from weights to what further training made of them M. Wortsman et al. ("Robust fine-tuning of zero-shot
    models", CVPR 2022) found networks that do better on other data than either end.

    Parameters
    ----------
    model
        Changed in place.
    other
        State of the other network.
    share
        Of the other, 0 to 1.
    """
    own = model.state_dict()
    mixed = {name: torch.lerp(one, other[name], share) if one.is_floating_point() else one for name, one in own.items()}
    model.load_state_dict(mixed, strict=True)
