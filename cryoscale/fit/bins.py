r"""Points in the cells of a grid: which cell, and what lies in the cells around it.

Cells are numbered in raster order; those (dz, dy, -r..r) from a cell are a run of numbers, whose first and last member
only move forward from one cell to the next, so that nothing is searched for:

    cells    0 1 2 . 3 4 . . 5 ...        of cell i:   keys_i + row - r  <=  key  <=  keys_i + row + r

A search tree answers the same questions; for every point of a cloud its many small steps take several times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.unionfind import flatten, separate, unite

__all__ = ["NEIGHBOURS", "Bins", "bin_points", "joined", "moments_around", "nearest_squares"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
WIDEST = 3
"""Farthest cells, along an axis, that are looked at together."""
DENSE, MOST_DENSE = 16, 2**22
"""Cells of the box per point, and in all, up to which a table of the box takes the place of sorting."""
MOST_NUMBERS = 2e18
NEIGHBOURS = 10
"""How many of the nearest points are found."""
LOOSE = 1.6
"""Times the squared distance that the point before needed: farther ones are looked at only if that was too little."""


@dataclass(frozen=True)
class Bins:
    """The cells of a grid that hold points."""

    keys: Index
    """(m,) numbers of the cells, ascending; no two rows of cells touch."""
    where: Index
    """(n,) which of those cells each point is in."""
    strides: Index
    """(3,) steps of the numbers along the axes."""

    def rows(self, reach: int) -> Index:
        """Return the steps to the rows of cells up to ``reach`` away, in raster order."""
        return (np.array(list(np.ndindex(2 * reach + 1, 2 * reach + 1))) - reach) @ self.strides[:2]


def bin_points(points: Array, cell: float) -> Bins:
    """Return the cells of edge ``cell`` that points (n, 3) are in, the first of them half a cell before the least."""
    low, high = (np.array([bound(column) for column in points.T]) for bound in (np.min, np.max))
    shape = np.floor((high - low) / cell + 0.5) + 1 + WIDEST
    if shape.prod() < MOST_NUMBERS:
        shape = shape.astype(np.int64)
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        flat = _numbers(points, low, cell, strides)
    else:
        index = np.floor((points - low) / cell + 0.5)
        for axis in range(3):
            # Nothing looks across more empty cells than this.
            values, where = np.unique(index[:, axis], return_inverse=True)
            index[:, axis] = np.cumsum(np.minimum(np.diff(values, prepend=0.0), WIDEST + 1))[where]
        shape = index.max(0).astype(np.int64) + 1 + WIDEST
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        flat = index.astype(np.int64) @ strides
    size = int(shape.prod())
    if size > min(DENSE * len(points), MOST_DENSE):
        keys, where = np.unique(flat, return_inverse=True)
        return Bins(keys, where, strides)
    held = np.zeros(size, bool)
    held[flat] = True
    keys = np.flatnonzero(held)
    number = np.empty(size, np.int64)
    number[keys] = np.arange(len(keys))
    return Bins(keys, number[flat], strides)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _numbers(points: Any, low: Any, cell: float, strides: Any) -> Any:
    """Return the number of the cell of each point."""
    flat = np.zeros(len(points), np.int64)
    for i in range(len(points)):
        for axis in range(3):
            flat[i] += np.int64(math.floor((points[i, axis] - low[axis]) / cell + 0.5)) * strides[axis]
    return flat


def nearest_squares(points: Array, wanted: Index, bins: Bins, out: Array) -> None:
    """Find the 10 points nearest to some of them in their cells and those around.

    Parameters
    ----------
    points
        (n, 3) distinct.
    wanted
        Rows of those that are asked for.
    bins
        The cells of the points.
    out
        (n, 10); least squared distances are put into the rows ``wanted``, ascending, infinite where there are fewer.
    """
    order = np.argsort(bins.where, kind="stable")
    live = np.zeros(len(points), bool)
    live[wanted] = True
    start = np.cumsum([0, *np.bincount(bins.where)])
    _nearest(points[order], order, live[order], start, bins.keys, bins.rows(1), out)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _forward(keys: Any, at: int, wanted: int) -> int:
    """Return the first cell from ``at`` on whose number is not less."""
    while at < len(keys) and keys[at] < wanted:
        at += 1
    return at


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nearest(points: Any, order: Any, live: Any, start: Any, keys: Any, rows: Any, out: Any) -> None:
    """Put the least squared distances of live points, sorted by cells, to points in the cells around into ``out``."""
    first, last = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    squares, least, bound = np.empty(64), np.empty(NEIGHBOURS + 1), np.inf
    for cell in range(len(keys)):
        total = 0
        for row in range(len(rows)):
            first[row] = _forward(keys, first[row], keys[cell] + rows[row] - 1)
            last[row] = _forward(keys, max(first[row], last[row]), keys[cell] + rows[row] + 2)
            total += start[last[row]] - start[first[row]]
        if total >= len(squares):
            squares = np.empty(2 * total)
        for i in range(start[cell], start[cell + 1]):
            if live[i]:
                found = _squares_below(bound, points, i, start, first, last, squares)
                if found <= NEIGHBOURS:
                    found = _squares_below(np.inf, points, i, start, first, last, squares)
                _least(squares[:found], least)
                # The least of all is the point itself.
                for k in range(NEIGHBOURS):
                    out[order[i], k] = least[k + 1]
                bound = LOOSE * least[-1]


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _squares_below(bound: float, points: Any, i: int, start: Any, first: Any, last: Any, squares: Any) -> int:
    """Put the squared distances from a point to those in runs of cells into ``squares``; return how many are less."""
    z, y, x = points[i, 0], points[i, 1], points[i, 2]
    count = 0
    for row in range(len(first)):
        for j in range(start[first[row]], start[last[row]]):
            dz, dy, dx = points[j, 0] - z, points[j, 1] - y, points[j, 2] - x
            squares[count] = dz * dz + dy * dy + dx * dx
            # Counted and not asked: which ones are near cannot be foreseen, and a wrong guess costs more.
            count += squares[count] < bound
    return count


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _least(values: Any, least: Any) -> None:
    """Put the least of some values into ``least``, ascending."""
    least[:] = np.inf
    for value in values:
        for at in range(NEIGHBOURS, 0, -1):
            here = least[at] if least[at] < value else value
            least[at] = least[at - 1] if least[at - 1] > here else here
        least[0] = least[0] if least[0] < value else value


def joined(bins: Bins) -> Index:
    """Return the number (m,) of a cell of each one's group, the same throughout: cells that touch, at corners too."""
    parent = np.empty(len(bins.keys), np.int64)
    _join(bins.keys, bins.rows(1), parent)
    return parent


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _join(keys: Any, rows: Any, parent: Any) -> None:
    separate(parent)
    first = np.zeros(len(rows), np.int64)
    for cell in range(len(keys)):
        for row in range(len(rows)):
            first[row] = at = _forward(keys, first[row], keys[cell] + rows[row] - 1)
            while at < len(keys) and keys[at] <= keys[cell] + rows[row] + 1:
                unite(parent, cell, at)
                at += 1
    flatten(parent)


def moments_around(centres: Array, bins: Bins, reach: float) -> Array:
    """Return moments, about the mean of all, of the centres within ``reach`` of each, itself among them.

    Parameters
    ----------
    centres
        (m, 3) one place in each cell, in their order.
    reach
        At most 3 edges of a cell.

    Returns
    -------
    ndarray
        (m, 13) how many, the sum of their coordinates (3), and of the products of those (9).
    """
    out = np.zeros((len(centres), 13))
    _moments(centres, centres - centres.mean(0), bins.keys, bins.rows(WIDEST), reach * reach, out)
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _moments(centres: Any, local: Any, keys: Any, rows: Any, most: float, out: Any) -> None:
    first = np.zeros(len(rows), np.int64)
    for cell in range(len(keys)):
        z, y, x = centres[cell, 0], centres[cell, 1], centres[cell, 2]
        count = a = b = c = aa = ab = ac = bb = bc = cc = 0.0
        for row in range(len(rows)):
            first[row] = at = _forward(keys, first[row], keys[cell] + rows[row] - WIDEST)
            last = keys[cell] + rows[row] + WIDEST
            while at < len(keys) and keys[at] <= last:
                dz, dy, dx = centres[at, 0] - z, centres[at, 1] - y, centres[at, 2] - x
                if dz * dz + dy * dy + dx * dx <= most:
                    u, v, w = local[at, 0], local[at, 1], local[at, 2]
                    count, a, b, c = count + 1.0, a + u, b + v, c + w
                    aa, ab, ac = aa + u * u, ab + u * v, ac + u * w
                    bb, bc, cc = bb + v * v, bc + v * w, cc + w * w
                at += 1
        for k, value in enumerate((count, a, b, c, aa, ab, ac, ab, bb, bc, ac, bc, cc)):
            out[cell, k] = value
