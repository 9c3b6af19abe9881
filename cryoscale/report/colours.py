"""Colours of membranes: told apart by colour-blind readers, in the dark and on paper.

membrane n gets PALETTE[(n - 1) mod 8]; what is inferred rather than seen gets the same hue, mixed with light grey.

The palette is that of M. Okabe and K. Ito ("Color universal design", 2008) with a violet in place of black.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PALETTE", "colour_of", "hex_of", "tint"]

PALETTE: tuple[tuple[int, int, int], ...] = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (240, 228, 66),  # yellow
    (116, 76, 214),  # violet
)
_PALE = (226, 229, 233)
_PALE_SHARE = 0.62


def colour_of(number: int) -> tuple[int, int, int]:
    """Colour of a membrane by its number, counted from 1.

    Raises
    ------
    ValueError
        The number is below 1: 0 is background.
    """
    if number < 1:
        msg = f"membranes are numbered from 1, not {number}"
        raise ValueError(msg)
    return PALETTE[(number - 1) % len(PALETTE)]


def tint(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the paler colours of what is inferred: (..., 3) in, (..., 3) out, 0 to 255."""
    return (1 - _PALE_SHARE) * colours + _PALE_SHARE * np.asarray(_PALE, colours.dtype)


def hex_of(colour: tuple[int, int, int]) -> str:
    """Write a colour as CSS reads it.

    Examples
    --------
    >>> hex_of((0, 114, 178))
    '#0072b2'
    """
    return "#" + "".join(f"{part:02x}" for part in colour)
