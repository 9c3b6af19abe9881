"""What is known of a region without its voxels: counts, boxes and sums that add up across blocks and slices.

    voxels = sum of voxels,    box = hull of boxes,    coordinate_sum = sum of sums,    first_voxel = min of first
    voxels

All are integers, so that a region put together from pieces has exactly the numbers it would have in one go, in any
order. The centroid is coordinate_sum / voxels. Every stage that groups voxels hands on such a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES_PER_REGION", "Regions", "combine_regions", "concatenate_regions", "rank_regions"]

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

    @staticmethod
    def blank(count: int) -> Regions:
        """Return a table of `count` regions without voxels, from which boxes, minima and sums can start."""
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
    parts = [Regions.blank(0), *tables]
    return Regions(*(np.concatenate([part.columns()[name] for part in parts]) for name in parts[0].columns()))


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
    table = Regions.blank(count)
    np.add.at(table.voxels, group, pieces.voxels)
    np.add.at(table.coordinate_sum, group, pieces.coordinate_sum)
    np.minimum.at(table.first_voxel, group, pieces.first_voxel)
    for side in range(3):
        np.minimum.at(table.box[:, side], group, pieces.box[:, side])
        np.maximum.at(table.box[:, side + 3], group, pieces.box[:, side + 3])
    table.value[group] = pieces.value
    return table


def rank_regions(regions: Regions, minimum_voxels: int = 1) -> tuple[NDArray[np.int32], Regions]:
    """Drop small regions and number the others in raster order of their first voxels.

    Parameters
    ----------
    regions : Regions
        All regions of a volume, in any order.
    minimum_voxels : int
        Smaller ones are dropped, those without voxels in any case.

    Returns
    -------
    rank : (n,) int32 array
        The number of each region: 1, 2, ... for those kept, 0 for dropped ones.
    kept : Regions
        Those kept, in the order of their numbers.
    """
    kept = np.flatnonzero(regions.voxels >= max(1, minimum_voxels))
    kept = kept[np.argsort(regions.first_voxel[kept], kind="stable")]
    rank = np.zeros(len(regions), np.int32)
    rank[kept] = np.arange(1, kept.size + 1, dtype=np.int32)
    return rank, regions.take(kept)
