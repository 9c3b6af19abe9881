r"""How far places are from the nearest of many points, for places of which neighbours follow each other.

    distance(q) = min over i of |q - x_i|

Points are sorted into cubic cells, the cells of a row along x one after the other. The point nearest to the place
before bounds a place's distance from the start; rows are walked from the place's own outward, and of each only the
cells are opened that the ball of the best distance so far reaches, so that empty rows cost two look-ups each. Over
whole membranes, caps that nobody saw among them, where many points are about equally far, it takes a third of a search
tree's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["PointGrid"]

Array = NDArray[np.float64]
EDGE = 5.0
"""Least edge of the cells, in voxels: about twenty points of a membrane each."""
CELLS_PER_POINT = 16
"""Most cells, so that memory follows the points however far apart they lie."""


@dataclass(frozen=True)
class PointGrid:
    """Points ready to be asked which of them is nearest."""

    points: Array
    """(n, 3) in the order of the cells."""
    low: Array
    edge: float
    shape: NDArray[np.int64]
    """(3,) cells along the axes."""
    start: NDArray[np.int64]
    """(cells + 1,) row of each cell's first point."""

    @classmethod
    def of(cls, points: Array) -> PointGrid:
        """Sort points (n, 3), n >= 1."""
        low, extent = points.min(0), np.ptp(points, axis=0)
        edge = EDGE
        # A flat or thin cloud has one layer of cells, whatever their edge: the edge is found and not computed.
        while np.prod(np.floor(extent / edge) + 1) > CELLS_PER_POINT * len(points) + 1:
            edge *= 1.3
        cell = ((points - low) / edge).astype(np.int64)
        shape = cell.max(0) + 1
        key = np.ravel_multi_index(tuple(cell.T), tuple(shape))
        start = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=int(shape.prod())))])
        return cls(np.ascontiguousarray(points[np.argsort(key, kind="stable")]), low, edge, shape, start)

    def distance(self, places: Array) -> Array:
        """Return the distances of places (m, 3) to the nearest point (m,)."""
        out = np.empty(len(places))
        _search(np.ascontiguousarray(places), self.points, self.low, self.edge, self.shape, self.start, out)
        return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _search(q: Any, points: Any, low: Any, edge: float, shape: Any, start: Any, out: Any) -> None:
    guess = 0
    for k in range(len(q)):
        # In cells, from the corner of the grid.
        z, y, x = (q[k, 0] - low[0]) / edge, (q[k, 1] - low[1]) / edge, (q[k, 2] - low[2]) / edge
        best = _square(q, k, points, guess)
        own_z, own_y = min(max(int(z), 0), shape[0] - 1), min(max(int(y), 0), shape[1] - 1)
        for up in range(2):
            i = own_z - up
            while 0 <= i < shape[0]:
                away_z = (edge * max(i - z, z - i - 1, 0.0)) ** 2
                if away_z >= best:
                    break
                for right in range(2):
                    j = own_y - right
                    while 0 <= j < shape[1]:
                        left = best - away_z - (edge * max(j - y, y - j - 1, 0.0)) ** 2
                        if left <= 0:
                            break
                        half = left**0.5 / edge
                        first, last = max(int(x - half), 0), min(int(x + half), shape[2] - 1)
                        if first <= last and x + half >= 0:
                            row = (i * shape[1] + j) * shape[2]
                            for p in range(start[row + first], start[row + last + 1]):
                                square = _square(q, k, points, p)
                                if square < best:
                                    best, guess = square, p
                        j += 1 - 2 * right
                i += 1 - 2 * up
        out[k] = best**0.5


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _square(q: Any, k: int, points: Any, p: int) -> float:
    """Return the squared distance of a place and a point."""
    z, y, x = q[k, 0] - points[p, 0], q[k, 1] - points[p, 1], q[k, 2] - points[p, 2]
    return float(z * z + y * y + x * x)
