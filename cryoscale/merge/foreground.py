"""What counts as foreground: chosen values of a volume of classes or labels, or what reaches a score.

mask = (volume in values)     or     mask = (volume >= threshold)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Foreground"]


@dataclass(frozen=True)
class Foreground:
    """What counts as foreground in the source."""

    values: tuple[int, ...] = ()
    """Values that are kept; empty keeps every value but 0."""
    threshold: float | None = None
    """Keep what reaches this score instead."""
    separate_values: bool = False
    """Whether voxels join only within equal values."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a mask of `array`: bool, or its values where they are kept apart."""
        if self.threshold is not None:
            return np.asarray(array >= self.threshold)
        if not self.values:
            return array if self.separate_values else np.asarray(array != 0)
        # A value that the dtype cannot hold occurs nowhere; one comparison a value needs no sorting and little memory.
        kept = np.zeros(array.shape, np.bool_)
        for value in self.values:
            kept |= array == value
        return np.where(kept, array, array.dtype.type(0)) if self.separate_values else kept
