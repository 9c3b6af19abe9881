"""Voxels as rows along x, in the order z, y, x, so that cost and memory follow the foreground, not its box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Rows", "row_range", "rows_of"]


@dataclass(frozen=True)
class Rows:
    """Voxels in raster order, by row: voxels of row z * ny + y are start[row] to start[row + 1]."""

    points: NDArray[np.int32]
    """(n, 3) z, y, x from the corner of their box."""
    x: NDArray[np.int32]
    """(n,) the last column, contiguous."""
    start: NDArray[np.int64]
    """(nz * ny + 1,)"""
    nz: int
    ny: int


def rows_of(points: NDArray[np.int32]) -> Rows:
    """Index voxels by row.

    Parameters
    ----------
    points : (n, 3) int32 array
        z, y, x in raster order, n > 0.

    Returns
    -------
    Rows
    """
    local = np.ascontiguousarray(points - points.min(0), dtype=np.int32)
    nz, ny = (int(n) for n in local[:, :2].max(0) + 1)
    counts = np.bincount(local[:, 0].astype(np.int64) * ny + local[:, 1], minlength=nz * ny)
    return Rows(local, np.ascontiguousarray(local[:, 2]), np.concatenate([[0], np.cumsum(counts)]), nz, ny)


@njit(cache=True, nogil=True, inline="always")
def row_range(x, first, last, low, high):  # type: ignore[no-untyped-def]
    """Return the range of a row's voxels (first to last) whose x is from low to high."""
    end = last
    while first < last:
        half = (first + last) >> 1
        if x[half] < low:
            first = half + 1
        else:
            last = half
    last = first
    while last < end and x[last] <= high:
        last += 1
    return first, last
