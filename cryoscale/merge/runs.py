"""Runs: the foreground of a volume as intervals along x.

    row (z, y):   . . # # # . . # .      runs [2, 5) and [7, 8)

A membrane is a thin sheet, so its runs are few and short: 512 x 512 x 256 voxels with 2.7 % foreground are about half a
million runs, and everything after this file costs time and memory by the run, not by the voxel. Runs are stored in
raster order (z, then y, then x); `row_start` says where the runs of each row begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Runs", "find_runs", "paint_runs"]


@dataclass(frozen=True, slots=True)
class Runs:
    """Foreground runs of a volume in raster order."""

    shape: tuple[int, int, int]
    """Shape of the volume in voxels (z, y, x)."""
    row_start: NDArray[np.int64]
    """(nz * ny + 1,) index of the first run of each row; row = z * ny + y."""
    start: NDArray[np.int32]
    """(n,) first x of each run, in voxels."""
    stop: NDArray[np.int32]
    """(n,) x just past each run, in voxels."""
    value: NDArray[np.int64]
    """(n,) the value of the voxels of each run; empty where values are not kept apart."""

    def rows(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return z and y of every run, (n,) each, in voxels."""
        row = np.repeat(np.arange(self.row_start.size - 1, dtype=np.int32), np.diff(self.row_start))
        z, y = np.divmod(row, np.int32(max(self.shape[1], 1)))
        return z, y


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_runs(volume: NDArray[np.integer], separate: bool, row_start: NDArray[np.int64]) -> None:
    """Write the cumulated number of runs of each row to `row_start`."""
    nz, ny, nx = volume.shape
    total = np.int64(0)
    for z in range(nz):
        for y in range(ny):
            row = volume[z, y]
            count = np.int64(row[0] != 0)
            if separate:
                for x in range(1, nx):
                    count += (row[x] != 0) & (row[x] != row[x - 1])
            else:
                for x in range(1, nx):
                    count += (row[x] != 0) & (row[x - 1] == 0)
            total += count
            row_start[z * ny + y + 1] = total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill_runs(
    volume: NDArray[np.integer],
    separate: bool,
    row_start: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    value: NDArray[np.int64],
) -> None:
    """Write the runs of every row that has any."""
    nz, ny, nx = volume.shape
    for z in range(nz):
        for y in range(ny):
            k = row_start[z * ny + y]
            last = row_start[z * ny + y + 1]
            row = volume[z, y]
            x = 0
            while k < last:
                while row[x] == 0:
                    x += 1
                head = row[x]
                start[k] = x
                x += 1
                while x < nx and row[x] != 0 and (not separate or row[x] == head):
                    x += 1
                stop[k] = x
                if separate:
                    value[k] = head
                k += 1


def find_runs(volume: NDArray[np.integer] | NDArray[np.bool_], separate_values: bool = False) -> Runs:
    """Find the runs of nonzero voxels along x.

    Parameters
    ----------
    volume : (nz, ny, nx) bool or integer array
        Nonzero is foreground.
    separate_values : bool
        Also end a run where the value changes, and keep its value.

    Returns
    -------
    Runs
        The runs in raster order.
    """
    nz, ny, nx = (int(n) for n in volume.shape)
    row_start = np.zeros(nz * ny + 1, np.int64)
    if volume.size:
        solid = np.ascontiguousarray(volume)
        if solid.dtype == np.bool_:
            solid = solid.view(np.uint8)
        _count_runs(solid, separate_values, row_start)
    count = int(row_start[-1])
    start, stop = np.empty(count, np.int32), np.empty(count, np.int32)
    value = np.empty(count if separate_values else 0, np.int64)
    if count:
        _fill_runs(solid, separate_values, row_start, start, stop, value)
    return Runs((nz, ny, nx), row_start, start, stop, value)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _paint(
    out: NDArray[np.int32],
    row_start: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    label: NDArray[np.int32],
) -> None:
    """Write `label[k]` into the voxels of run k and 0 into all others."""
    nz, ny, _ = out.shape
    for z in range(nz):
        for y in range(ny):
            out[z, y] = 0
            for k in range(row_start[z * ny + y], row_start[z * ny + y + 1]):
                if label[k] != 0:
                    out[z, y, start[k] : stop[k]] = label[k]


def paint_runs(runs: Runs, label: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn runs back into a volume.

    Parameters
    ----------
    runs : Runs
        The runs of a volume.
    label : (n,) int32 array
        What to write into each run; 0 leaves background.

    Returns
    -------
    (nz, ny, nx) int32 array
        The labels, 0 outside the runs.
    """
    # Zeroed row by row as it is painted: NumPy asks for huge pages in empty but not in zeros, and first touching a
    # large volume in small pages takes several times longer than writing it.
    out = np.empty(runs.shape, np.int32)
    _paint(out, runs.row_start, runs.start, runs.stop, label)
    return out
