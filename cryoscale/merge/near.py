r"""Join runs that come within a distance of each other.

Two runs in rows that are (dz, dy) apart hold voxels within eps exactly when their gap along x is at most gap(dz, dy)
(see `ball`). The runs of a row are sorted, so that two rows are compared in one sweep with two pointers::

    row (z, y)             . . . [a  a  a] . . . . [c  c] .
    row (z + dz, y + dy)   [b  b] . . . . . [d] . . . . . .        gap = 1: a joins b (0 between) and not d (2 between)

This finds every pair of voxels within eps, without a search tree and without ever listing the pairs.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.merge.ball import Ball
from cryoscale.merge.runs import Runs
from cryoscale.unionfind import flatten, unite

__all__ = ["join_near_runs"]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sweep(
    ny: int,
    row_start: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    value: NDArray[np.int64],
    offsets: NDArray[np.int64],
    reach: int,
    parent: NDArray[np.int32],
) -> None:
    """Unite all runs within the distance, in place."""
    separate = value.shape[0] > 0
    for row in range(row_start.shape[0] - 1):
        low, high = row_start[row], row_start[row + 1]
        if low == high:
            continue
        for a in range(low, high):
            b = a + 1
            while b < high and start[b] < stop[a] + reach:
                if not separate or value[a] == value[b]:
                    unite(parent, a, b)
                b += 1
        z = row // ny
        y = row - z * ny
        for k in range(offsets.shape[0]):
            other_z, other_y, gap = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if other_z < 0 or other_y < 0 or other_y >= ny:
                continue
            other = other_z * ny + other_y
            first, last = row_start[other], row_start[other + 1]
            for a in range(low, high):
                # Runs are sorted: what ends too early for this run does so for the next ones as well.
                while first < last and stop[first] + gap <= start[a]:
                    first += 1
                b = first
                while b < last and start[b] < stop[a] + gap:
                    if parent[a] != parent[b] and (not separate or value[a] == value[b]):
                        unite(parent, a, b)
                    b += 1


def join_near_runs(runs: Runs, ball: Ball, parent: NDArray[np.int32]) -> None:
    """Join all runs that hold voxels within a distance of each other.

    Parameters
    ----------
    runs : Runs
        The runs of a volume; where they carry values, only equal values join.
    ball : Ball
        Which voxels join.
    parent : (n,) int32 array
        A forest of runs, some of which may be joined already (each parent at most its child's index). Changed in
        place: afterwards it holds for each run the index of the first run of its region in raster order.

    Notes
    -----
    The distance of regions is the smallest distance over pairs of their voxels (Zhou et al. 2023, section 4.2, eq. 1).
    """
    offsets, reach = ball.row_offsets(), ball.reach_voxels[2]
    _sweep(runs.shape[1], runs.row_start, runs.start, runs.stop, runs.value, offsets, reach, parent)
    flatten(parent)
