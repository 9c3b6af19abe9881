"""The weights that a training starts from."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cryoscale.errors import UsageError
from cryoscale.segment.card import Card, named_model
from cryoscale.segment.network import Network
from cryoscale.segment.unet import seeing_more
from cryoscale.segment.weights import load_model

__all__ = ["first_weights"]


def first_weights(start: str, wanted: Network, result: Path) -> tuple[dict[str, Tensor], Card]:
    """Return weights for the network that is wanted, and the card of those that they are from.

    Parameters
    ----------
    start
        Weights of the same network or of one that sees fewer slices; "shipped" are those that come with cryoscale.
    result
        Where the training will write its own.

    Raises
    ------
    UsageError
        If they cannot be read, are of another network, or would be overwritten.
    """
    path = named_model(start)
    if path.resolve() == result.resolve():
        raise UsageError(
            "the training would overwrite the weights that it starts from",
            where="--output",
            found=str(result.parent),
            allowed="another folder than theirs",
        )
    first, card = load_model(path)
    wider = seeing_more(first, wanted.slices_in)
    if (wider.name, wider.options) != (wanted.name, wanted.options):
        raise UsageError(
            "the weights are of another network",
            where=start,
            found=f"{first.name} {first.options}",
            allowed=f"{wanted.name} {wanted.options}" + ", or of fewer slices" * (wanted.name == "unet25d"),
        )
    return wider.state_dict(), card
