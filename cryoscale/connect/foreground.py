"""What counts as membrane in a volume of classes, of another tool's labels, or of scores.

mask = (array in values),     or (array >= threshold),     or (array != 0) where neither is given
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["foreground"]


def foreground(array: NDArray[Any], values: Sequence[int], threshold: float | None) -> NDArray[np.bool_]:
    """Return a mask of `array`.

    Parameters
    ----------
    array
        Classes, labels or scores, any shape.
    values
        Values that are kept; empty keeps every value but 0.
    threshold
        Keep what reaches this score instead; NaN does not.
    """
    if threshold is not None:
        return np.asarray(array >= threshold)
    if not values:
        return np.asarray(array != 0)
    # A value that the dtype cannot hold occurs nowhere; one comparison a value needs no sorting and little memory.
    kept = np.zeros(array.shape, np.bool_)
    for value in values:
        kept |= array == value
    return kept
