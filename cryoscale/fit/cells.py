r"""Cells of a coarse grid along a surface, grown from samples of it, with the field at their corners.

A cell stays while one of its corners says that the surface may be within the width of a point in the eighth of the
cell next to it: with c the middle of that eighth seen from the corner, (+-1, +-1, +-1) pitch / 4, and to first order,

    |f + grad f . c|  <=  max(|grad f|, 1) (width + 0.3 sqrt(3) / 2 pitch)  +  pitch / 4 sum |grad f|_k

and its neighbours are looked at next, for as many rounds as the gaps between samples are wide. Where the field is flat
(|grad f| < 1, as between two sheets) f alone decides, so that a small slope makes no surface look far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.nodes import Nodes, find

__all__ = ["CORNERS", "Cells", "grow"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
SLACK = 0.3
"""What is added for fields that are neither straight nor quite distances, as a share of half the cell's diagonal."""


@dataclass(frozen=True)
class Cells:
    """Cells and their nodes; node i lies at i x pitch."""

    pitch: float
    nodes: Index
    """(n, 3) in raster order."""
    value: Array
    """(n,) field there."""
    slope: Array
    """(n, 3) its gradient."""
    corners: Index
    """(m, 8) rows of the nodes around each cell, in raster order of the cells and of `CORNERS`."""
    keys: Index
    """(n,) numbers of the nodes, ascending; a cell has the number of its first corner."""
    strides: Index
    """(3,) steps of those numbers along the axes."""

    @property
    def base(self) -> int:
        """Return what node 0, 0, 0 would have as its number."""
        return int(self.keys[0] - self.nodes[0] @ self.strides)

    def neighbour(self, axis: int, side: int) -> Index:
        """Return the row of each node's neighbour (n,), -1 where it was not computed."""
        return find(self.keys, self.keys + side * self.strides[axis])


def grow(
    field: Callable[[Array], tuple[Array, Array]],
    samples: Array,
    gap: float,
    *,
    pitch: float,
    width: float,
    known: Nodes | None = None,
) -> Cells:
    """Find the cells near a surface and evaluate the field at their nodes.

    Parameters
    ----------
    field
        Returns value (m,) and gradient (m, 3) at places (m, 3).
    samples
        (n, 3) points on the surface, n >= 1.
    gap
        Largest distance from a point of the surface to the nearest sample.
    pitch
        Edge of the cells.
    width
        Distance from the surface up to which points must lie in some cell.
    known
        Where the field is known already; made use of if it has the same pitch.
    """
    if known is None or known.pitch != pitch:
        known = Nodes(pitch, np.zeros((0, 3), np.int64), np.zeros(0), np.zeros((0, 3)))
    start = np.unique(np.floor(samples / pitch).astype(np.int64), axis=0)
    rounds = math.ceil((width + gap) / pitch) + 1
    low, high = start.min(0) - rounds - 1, start.max(0) + rounds + 2
    shape = high - low + 1
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    corner, around = CORNERS @ strides, np.array([o @ strides for o in np.array(list(np.ndindex(3, 3, 3))) - 1])
    fresh = seen = np.sort((start - low) @ strides)
    keys, value, slope = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 3))
    kept, reach = [], width + SLACK * 0.5 * 3**0.5 * pitch
    for _ in range(rounds + 1):
        new = np.setdiff1d(fresh[:, None] + corner, keys)
        f, g = known.at(np.stack(np.unravel_index(new, tuple(shape)), 1) + low, field)
        order = np.argsort(np.concatenate([keys, new]))
        keys = np.concatenate([keys, new])[order]
        value, slope = np.concatenate([value, f])[order], np.concatenate([slope, g])[order]
        rows = np.searchsorted(keys, fresh[:, None] + corner)
        live = fresh[_near(value, slope, rows, reach, 0.25 * pitch)]
        kept.append(live)
        fresh = np.setdiff1d(live[:, None] + around, seen)
        if not len(fresh):
            break
        seen = np.union1d(seen, fresh)
    cells = np.sort(np.concatenate(kept))
    nodes = np.stack(np.unravel_index(keys, tuple(shape)), 1) + low
    return Cells(pitch, nodes, value, slope, np.searchsorted(keys, cells[:, None] + corner), keys, strides)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _near(value: Any, slope: Any, rows: Any, reach: float, quarter: float) -> Any:
    """Return which cells (m,) the surface may be near, from the nodes (m, 8) around them."""
    out = np.zeros(len(rows), np.bool_)
    for cell in range(len(rows)):
        for corner in range(8):
            node = rows[cell, corner]
            middle, spread, square = value[node], 0.0, 0.0
            for axis in range(3):
                lean = slope[node, axis]
                upper = (corner >> (2 - axis)) & 1
                middle += (-quarter if upper else quarter) * lean
                spread += quarter * abs(lean)
                square += lean * lean
            if abs(middle) <= max(square**0.5, 1.0) * reach + spread:
                out[cell] = True
                break
    return out
