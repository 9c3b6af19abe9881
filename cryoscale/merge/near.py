r"""Join runs that come within a distance of each other.

Two runs in rows that are (dz, dy) apart hold voxels at distance <= eps exactly when their gap along x is at most

    gap(dz, dy) = floor( sqrt( eps^2 - dz^2 - dy^2 ) ).

The runs of a row are sorted, so that two rows are compared in one sweep with two pointers. Each row looks back at the
rows that come before it in raster order (half of the disc dz^2 + dy^2 <= eps^2) and at itself::

    eps = 3      dy -3 -2 -1  0  1  2  3
        dz = -3               0                 numbers: allowed gap along x
        dz = -2         1  2  2  2  1           (dz, dy) = (0, 0): the row itself
        dz = -1         2  2  2  2  2
        dz =  0      0  2  2  3

which finds every pair of voxels within eps, without a search tree and without ever listing the pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.merge.runs import Runs
from cryoscale.merge.unionfind import flatten, unite

__all__ = ["check_distance", "join_near_runs", "reach_voxels", "row_offsets"]

_SLACK = 1e-6
"""Relative slack on eps^2: a distance converted from nanometres, or sqrt(3) in float32, still reaches its own
corner."""


def check_distance(distance_voxels: float) -> float:
    """Return the distance as a float, or raise where it makes no sense.

    Parameters
    ----------
    distance_voxels : float
        Largest distance between voxels that join, in voxels.

    Returns
    -------
    float
        The same distance.

    Raises
    ------
    ValueError
        If it is not finite, below 1 (no two voxels are that close: every voxel would be its own region) or above 1000.
    """
    distance = float(distance_voxels)
    if not 1.0 - _SLACK / 2 <= distance <= 1000.0:
        msg = (
            f"distance_voxels is {distance_voxels!r}; it must lie between 1 (voxels that share a face) and 1000: "
            "below 1 voxel nothing joins; is it given in another unit?"
        )
        raise ValueError(msg)
    return distance


def _squared_reach(distance_voxels: float) -> int:
    """Return the largest squared distance between voxels, an integer, that still joins."""
    return math.floor(check_distance(distance_voxels) ** 2 * (1.0 + _SLACK))


def reach_voxels(distance_voxels: float) -> int:
    """Return how many voxels the distance reaches along an axis: the thickness of every halo and face.

    Parameters
    ----------
    distance_voxels : float
        Largest distance between voxels that join, in voxels.

    Returns
    -------
    int
        Whole voxels.
    """
    return math.isqrt(_squared_reach(distance_voxels))


def row_offsets(distance_voxels: float) -> NDArray[np.int64]:
    """List the row offsets that lie behind a row, with the gap along x that each allows.

    Parameters
    ----------
    distance_voxels : float
        Largest distance between voxels that join, in voxels.

    Returns
    -------
    (m, 3) int64 array
        Columns dz, dy, gap in voxels; dz < 0, or dz == 0 and dy < 0; nearest rows first, so that most later comparisons
        find two runs in one tree already.
    """
    squared, reach = _squared_reach(distance_voxels), reach_voxels(distance_voxels)
    found = [
        (dz * dz + dy * dy, dz, dy, math.isqrt(squared - dz * dz - dy * dy))
        for dz in range(-reach, 1)
        for dy in range(-reach, reach + 1)
        if dz * dz + dy * dy <= squared and (dz < 0 or dy < 0)
    ]
    return np.array([row[1:] for row in sorted(found)], np.int64).reshape(-1, 3)


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


def join_near_runs(runs: Runs, distance_voxels: float, parent: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Join all runs that hold voxels at a distance <= `distance_voxels`.

    Parameters
    ----------
    runs : Runs
        The runs of a volume; where they carry values, only equal values join.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels, at least 1.
    parent : (n,) int32 array, optional
        A forest of runs that are joined already (each parent at most its child's index); changed in place.

    Returns
    -------
    (n,) int32 array
        For each run, the index of the first run of its region in raster order.

    Notes
    -----
    The distance of regions is the smallest distance over pairs of their voxels (Zhou et al. 2023, section 4.2, eq. 1).
    """
    if parent is None:
        parent = np.arange(runs.start.size, dtype=np.int32)
    offsets, reach = row_offsets(distance_voxels), reach_voxels(distance_voxels)
    _sweep(runs.shape[1], runs.row_start, runs.start, runs.stop, runs.value, offsets, reach, parent)
    flatten(parent)
    return parent
