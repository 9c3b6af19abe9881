"""What is known of a region without its voxels: counts, boxes and sums that add up across blocks.

    voxels = sum of voxels,    box = hull of boxes,    coordinate_sum = sum of sums,    first_voxel = min of first
    voxels

All are integers, so that a region put together from pieces has exactly the numbers it would have in one go, in any
order. The centroid is coordinate_sum / voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.merge.runs import Runs

__all__ = ["BYTES_PER_REGION", "Regions", "combine_regions", "concatenate_regions", "region_statistics"]

BYTES_PER_REGION = 96
"""Bytes of one row of `Regions`."""


@dataclass(frozen=True, slots=True)
class Regions:
    """A table of n regions; row k is region k + 1. All integers, int64, in voxels of the whole volume."""

    voxels: NDArray[np.int64]
    """(n,) number of voxels."""
    box: NDArray[np.int64]
    """(n, 6) bounding box z0, y0, x0, z1, y1, x1, half-open."""
    coordinate_sum: NDArray[np.int64]
    """(n, 3) sum of the voxels' z, y, x."""
    first_voxel: NDArray[np.int64]
    """(n,) raster index of the first voxel: (z * ny + y) * nx + x."""
    value: NDArray[np.int64]
    """(n,) value of the voxels where values were kept apart, else 1."""

    def __len__(self) -> int:
        return int(self.voxels.size)

    def centroid(self) -> NDArray[np.float64]:
        """Return the centre of each region: (n, 3), z, y, x, in voxels (a voxel's own coordinate is its index)."""
        return self.coordinate_sum / self.voxels[:, np.newaxis]

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Regions:
        """Return the table of some rows, given as indices or as a mask."""
        return Regions(*(column[rows] for column in self.columns().values()))

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Return the columns by name, in the order of the fields."""
        return {
            "voxels": self.voxels,
            "box": self.box,
            "coordinate_sum": self.coordinate_sum,
            "first_voxel": self.first_voxel,
            "value": self.value,
        }

    def rows(self) -> NDArray[np.int64]:
        """Return the table as one array, (n, 12), the columns side by side in the order of the fields."""
        return np.column_stack(list(self.columns().values()))

    @staticmethod
    def from_rows(rows: NDArray[np.int64]) -> Regions:
        """Return the table that `rows` gave."""
        return Regions(rows[:, 0], rows[:, 1:7], rows[:, 7:10], rows[:, 10], rows[:, 11])


def _blank(count: int) -> Regions:
    """Return a table from which boxes, minima and sums can start."""
    largest = np.iinfo(np.int64).max
    box = np.tile(np.array([largest] * 3 + [-1] * 3, np.int64), (count, 1))
    return Regions(
        np.zeros(count, np.int64),
        box,
        np.zeros((count, 3), np.int64),
        np.full(count, largest, np.int64),
        np.ones(count, np.int64),
    )


def concatenate_regions(tables: Sequence[Regions]) -> Regions:
    """Put tables one below the other.

    Parameters
    ----------
    tables : sequence of Regions
        Any number, also none.

    Returns
    -------
    Regions
        All rows in the order given.
    """
    parts = [_blank(0), *tables]
    return Regions(*(np.concatenate([part.columns()[name] for part in parts]) for name in parts[0].columns()))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add_runs(
    row_start: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    value: NDArray[np.int64],
    label: NDArray[np.int32],
    ny: int,
    origin: tuple[int, int, int],
    whole: tuple[int, int, int],
    voxels: NDArray[np.int64],
    box: NDArray[np.int64],
    coordinate_sum: NDArray[np.int64],
    first_voxel: NDArray[np.int64],
    region_value: NDArray[np.int64],
) -> None:
    """Add every run to its region's row."""
    for row in range(row_start.shape[0] - 1):
        z = row // ny + origin[0]
        y = row % ny + origin[1]
        for k in range(row_start[row], row_start[row + 1]):
            r = label[k] - 1
            if r < 0:
                continue
            x0 = start[k] + origin[2]
            x1 = stop[k] + origin[2]
            count = x1 - x0
            voxels[r] += count
            box[r, 0], box[r, 1], box[r, 2] = min(box[r, 0], z), min(box[r, 1], y), min(box[r, 2], x0)
            box[r, 3], box[r, 4], box[r, 5] = max(box[r, 3], z + 1), max(box[r, 4], y + 1), max(box[r, 5], x1)
            coordinate_sum[r, 0] += count * z
            coordinate_sum[r, 1] += count * y
            coordinate_sum[r, 2] += (x0 + x1 - 1) * count // 2
            first_voxel[r] = min(first_voxel[r], (z * whole[1] + y) * whole[2] + x0)
            if value.shape[0] > 0:
                region_value[r] = value[k]


def region_statistics(
    runs: Runs,
    label: NDArray[np.int32],
    count: int,
    origin: tuple[int, int, int] = (0, 0, 0),
    whole: tuple[int, int, int] | None = None,
) -> Regions:
    """Measure the regions of a volume or of a block of it.

    Parameters
    ----------
    runs : Runs
        The runs of the block.
    label : (n,) int32 array
        The region of each run, 1..count; 0 is left out.
    count : int
        The number of regions.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    whole : tuple of int, optional
        Shape of the whole volume; the block's own when left out.

    Returns
    -------
    Regions
        Row k is region k + 1, in coordinates of the whole volume.
    """
    table = _blank(count)
    _add_runs(
        runs.row_start,
        runs.start,
        runs.stop,
        runs.value,
        label,
        runs.shape[1],
        origin,
        whole or runs.shape,
        *table.columns().values(),
    )
    return table


def combine_regions(pieces: Regions, group: NDArray[np.int64], count: int) -> Regions:
    """Add the rows of a table up by group.

    Parameters
    ----------
    pieces : Regions
        n rows, in any order.
    group : (n,) int64 array
        The group of each row, 0 to count - 1; no group is empty.
    count : int
        The number of groups.

    Returns
    -------
    Regions
        One row a group.
    """
    table = _blank(count)
    np.add.at(table.voxels, group, pieces.voxels)
    np.add.at(table.coordinate_sum, group, pieces.coordinate_sum)
    np.minimum.at(table.first_voxel, group, pieces.first_voxel)
    for side in range(3):
        np.minimum.at(table.box[:, side], group, pieces.box[:, side])
        np.maximum.at(table.box[:, side + 3], group, pieces.box[:, side + 3])
    table.value[group] = pieces.value
    return table
