"""Runs: the foreground of a volume as intervals along x.

    row (z, y):   . . # # # . . # .      runs [2, 5) and [7, 8)

A membrane is a thin sheet, so its runs are few and short: 512 x 512 x 256 voxels with 2.7 % foreground are about half a
million runs, and everything after this file costs time and memory by the run, not by the voxel. Runs are stored in
raster order (z, then y, then x); `row_start` says where the runs of each row begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Room", "Runs", "find_runs", "paint_runs"]

_JOINED, _BY_VALUE, _SINGLE = 0, 1, 2
"""Where a run ends: at background; also where the value changes; after every voxel."""


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


class Room:
    """Memory that a volume of labels lends to its own runs until it is painted.

    The labels of a volume are four bytes a voxel, which nobody writes before every run has its number. The tables of
    runs of a membrane are a few hundredths of that, and need no memory of their own. A table that does not fit into
    the first quarter is allocated apart.
    """

    def __init__(self, labels: NDArray[np.int32]) -> None:
        self._words = labels.reshape(-1)
        self.used = 0
        """Words of 4 bytes at the head of the labels that are lent."""

    def take(self, count: int, dtype: type[np.int32] | type[np.int64]) -> NDArray[Any]:
        """Return an array of `count` items, its content undefined."""
        words = count * np.dtype(dtype).itemsize // 4
        if self.used + words > self._words.size // 4:
            return np.empty(count, dtype)
        self.used += words
        return self._words[self.used - words : self.used].view(dtype)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_runs(volume: NDArray[np.integer], ends: int, row_start: NDArray[np.int64]) -> None:
    """Write the cumulated number of runs of each row to `row_start`."""
    nz, ny, nx = volume.shape
    total = np.int64(0)
    for z in range(nz):
        for y in range(ny):
            row = volume[z, y]
            count = np.int64(row[0] != 0)
            if ends == 0:
                for x in range(1, nx):
                    count += (row[x] != 0) & (row[x - 1] == 0)
            elif ends == 1:
                for x in range(1, nx):
                    count += (row[x] != 0) & (row[x] != row[x - 1])
            else:
                for x in range(1, nx):
                    count += row[x] != 0
            total += count
            row_start[z * ny + y + 1] = total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill_runs(volume: NDArray[np.integer], ends: int, runs: tuple[NDArray[np.int64], ...]) -> None:
    """Write start, stop and (where there is room for it) value of the runs of every row that has any."""
    row_start, start, stop, value = runs
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
                while ends < 2 and x < nx and row[x] != 0 and (ends == 0 or row[x] == head):
                    x += 1
                stop[k] = x
                if value.shape[0] > 0:
                    value[k] = head
                k += 1


def find_runs(
    volume: NDArray[np.integer] | NDArray[np.bool_],
    separate_values: bool = False,
    *,
    single_voxels: bool = False,
    room: Room | None = None,
) -> Runs:
    """Find the runs of nonzero voxels along x.

    Parameters
    ----------
    volume : (nz, ny, nx) bool or integer array
        Nonzero is foreground.
    separate_values : bool
        Also end a run where the value changes, and keep its value.
    single_voxels : bool
        End a run after every voxel: neighbours along x are too far apart to join.
    room : Room, optional
        Where the tables are put, if it is large enough.

    Returns
    -------
    Runs
        The runs in raster order.

    Raises
    ------
    ValueError
        If there are 2^31 runs or more: such a volume must be taken in blocks.
    """
    nz, ny, nx = (int(n) for n in volume.shape)
    room = room or Room(np.empty(0, np.int32))
    ends = _SINGLE if single_voxels else _BY_VALUE if separate_values else _JOINED
    row_start = room.take(nz * ny + 1, np.int64)
    row_start[:] = 0
    if volume.size:
        solid = np.ascontiguousarray(volume)
        if solid.dtype == np.bool_:
            solid = solid.view(np.uint8)
        _count_runs(solid, ends, row_start)
    count = int(row_start[-1])
    if count >= 2**31:
        msg = f"{count} runs of foreground in one array; at most 2^31 - 1: pass it in blocks (a Zarr or Dask array)"
        raise ValueError(msg)
    start, stop = room.take(count, np.int32), room.take(count, np.int32)
    value = np.empty(count if separate_values else 0, np.int64)
    if count:
        _fill_runs(solid, ends, (row_start, start, stop, value))
    return Runs((nz, ny, nx), row_start, start, stop, value)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _paint(out: NDArray[np.int32], rows: tuple[int, int], table: tuple[NDArray[np.int64], ...]) -> None:
    """Write ``label[k]`` into the voxels of run k and 0 into all others of some rows."""
    row_start, start, stop, label = table
    ny = out.shape[1]
    for row in range(rows[0], rows[1]):
        line = out[row // ny, row % ny]
        line[:] = 0
        for k in range(row_start[row], row_start[row + 1]):
            if label[k] != 0:
                line[start[k] : stop[k]] = label[k]


def paint_runs(
    runs: Runs, label: NDArray[np.int32], out: NDArray[np.int32] | None = None, room: Room | None = None
) -> NDArray[np.int32]:
    """Turn runs back into a volume.

    Parameters
    ----------
    runs : Runs
        The runs of a volume.
    label : (n,) int32 array
        What to write into each run; 0 leaves background.
    out : (nz, ny, nx) int32 array, optional
        Where to write.
    room : Room, optional
        What of `out` the runs and labels live in: they are gone afterwards.

    Returns
    -------
    (nz, ny, nx) int32 array
        The labels, 0 outside the runs.
    """
    # Zeroed row by row as it is painted: NumPy asks for huge pages in empty but not in zeros, and first touching a
    # large volume in small pages takes several times longer than writing it.
    out = np.empty(runs.shape, np.int32) if out is None else out
    rows, row_start = runs.row_start.size - 1, runs.row_start
    first = 0
    if room is not None and room.used:
        # The rows beyond the tables first, then those below them, from a copy of the little that is left to paint.
        first = -(-room.used // runs.shape[2])
        _paint(out, (first, rows), (row_start, runs.start, runs.stop, label))
        left = slice(0, int(row_start[first]))
        row_start, label = row_start[: first + 1].copy(), label[left].copy()
        runs = Runs(runs.shape, row_start, runs.start[left].copy(), runs.stop[left].copy(), runs.value)
        rows = first
    _paint(out, (0, rows), (row_start, runs.start, runs.stop, label))
    return out
