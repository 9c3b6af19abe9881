"""The registry of networks: a name and options in, a `Network` out.

========== ================================================= ==========================================================
`unet2d`   one slice                                         the paper's network
`unet25d`  neighbouring slices as channels, five or more     what is shipped
`unet3d`   a box                                             small: 8 channels, 2 poolings
`twohead`  one slice, two heads                              learns from slices without labels too
========== ================================================= ==========================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cryoscale.errors import UsageError
from cryoscale.segment.card import CLASSES
from cryoscale.segment.network import Network
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.unet import UNet

__all__ = ["MODELS", "build_model", "own_options"]

_LARGEST = 1024
"""No option is larger: what is, is damage."""


def _unet2d(*, slices_in: int = 1, classes: int = 3, width: int = 16, depth: int = 3) -> UNet:
    return UNet(slices_in, classes, width, depth)


def _unet25d(*, slices_in: int = 5, classes: int = 3, width: int = 16, depth: int = 3) -> UNet:
    return UNet(slices_in, classes, width, depth)


def _unet3d(*, slices_in: int = 1, classes: int = 3, width: int = 8, depth: int = 2) -> UNet:
    return UNet(slices_in, classes, width, depth, dims=3)


MODELS: Mapping[str, Callable[..., Network]] = MappingProxyType(
    {"unet2d": _unet2d, "unet25d": _unet25d, "unet3d": _unet3d, "twohead": TwoHead}
)
"""Every network by its name."""


def own_options(name: str) -> dict[str, int]:
    """Options of a network where nothing else is asked for, without making one."""
    return {option: taken.default for option, taken in inspect.signature(MODELS[name]).parameters.items()}


def build_model(name: str, **options: int) -> Network:
    """Make a network with fresh weights.

    Parameters
    ----------
    name
        One of `MODELS`.
    **options
        `slices_in`, `width`, `classes`, `depth`; what the network takes.

    Raises
    ------
    UsageError
        If there is no network of that name, or it does not take an option or its value, or the options make another
        or one that scores other classes than the three.
    """
    if name not in MODELS:
        raise UsageError("no network has this name", where="--model", found=name, allowed=", ".join(MODELS))
    try:
        if any(type(value) is not int or not 0 < value <= _LARGEST for value in options.values()):
            msg = f"whole numbers from 1 to {_LARGEST}"
            raise ValueError(msg)
        model = MODELS[name](**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be made of these options", found=options, allowed=str(error)) from error
    if model.classes != len(CLASSES):
        raise UsageError(
            "a network must score three classes",
            where=f"{name}, option classes",
            found=model.classes,
            allowed=f"{len(CLASSES)} ({', '.join(CLASSES)})",
        )
    if model.name != name:
        raise UsageError(f"these options make a {model.name}", where=name, found=options)
    return model
