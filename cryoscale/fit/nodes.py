"""What a field is at nodes i x pitch of a grid, to be found again by their numbers i."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Nodes", "find"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def find(keys: Index, wanted: Index) -> Index:
    """Return where each of some numbers (of any shape) is among ascending ones (n,), -1 where it is not."""
    if not len(keys):
        return np.full(wanted.shape, -1)
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[row] == wanted, row, -1)


@dataclass(frozen=True)
class Nodes:
    """A field at some nodes of a grid."""

    pitch: float
    """Distance of neighbouring nodes, in voxels."""
    index: Index
    """(n, 3) numbers z, y, x, in raster order."""
    value: Array
    """(n,) field."""
    slope: Array
    """(n, 3) its gradient."""

    def rows(self, index: Index) -> Index:
        """Return the row of each of some nodes (m, 3), -1 where it is not among these."""
        if not len(self.index):
            return np.full(len(index), -1)
        low = self.index.min(0)
        shape = self.index.max(0) - low + 1
        keys = np.ravel_multi_index(tuple((self.index - low).T), tuple(shape))
        inside = ((index >= low) & (index < low + shape)).all(1)
        wanted = np.ravel_multi_index(tuple(np.where(inside[:, None], index - low, 0).T), tuple(shape))
        return np.where(inside, find(keys, wanted), -1)

    def joined(self, more: Nodes) -> Nodes:
        """Return these nodes and others, none of which is among these."""
        index, value, slope = (
            np.concatenate([getattr(one, name) for one in (self, more)]) for name in ("index", "value", "slope")
        )
        order = np.lexsort(index.T[::-1])
        return Nodes(self.pitch, index[order], value[order], slope[order])

    def at(self, index: Index, field: Callable[[Array], tuple[Array, Array]]) -> tuple[Array, Array]:
        """Return the field (m,) and its gradient (m, 3) at nodes (m, 3), computed where it is not known."""
        row = self.rows(index)
        value, slope = np.empty(len(index)), np.empty((len(index), 3))
        known = row >= 0
        value[known], slope[known] = self.value[row[known]], self.slope[row[known]]
        value[~known], slope[~known] = field(np.asarray(index[~known] * self.pitch, np.float64))
        return value, slope
