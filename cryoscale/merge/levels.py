"""Which boxes the tree of joins has: grids of blocks, of boxes of blocks, and so on up to the whole volume.

    grid of level n + 1 = ceil(grid of level n / fan in),     the last grid is 1 x 1 x 1

Boxes of a level are numbered in raster order, so that those that share a range of slices have consecutive numbers.
Complete regions are numbered a range of first voxels at a time; ranges are equal parts of the volume in raster order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, product

__all__ = ["Levels", "Place", "places_of"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Levels:
    """The boxes of a volume that is cut into equal blocks."""

    shape: Triple
    """Voxels of the volume, z, y, x."""
    edge: Triple
    """Voxels of a block."""
    fan_in: int
    """Boxes along each axis that are joined into one."""

    @property
    def grids(self) -> list[Triple]:
        """Number of boxes along z, y, x at every level; level 0 are the blocks."""
        z, y, x = (-(-n // e) for n, e in zip(self.shape, self.edge, strict=True))
        grids = [(z, y, x)]
        while math.prod(grids[-1]) > 1:
            z, y, x = (-(-n // self.fan_in) for n in grids[-1])
            grids.append((z, y, x))
        return grids

    def members(self, level: int, box: int) -> tuple[Triple, list[int]]:
        """Return how many boxes of the level below a box has along z, y, x, and their numbers in raster order."""
        grids = self.grids
        (nz, ny, nx), (_, gy, gx) = grids[level - 1], grids[level]
        index = (box // (gy * gx), box // gx % gy, box % gx)
        z, y, x = (
            range(i * self.fan_in, min((i + 1) * self.fan_in, n)) for i, n in zip(index, (nz, ny, nx), strict=True)
        )
        return (len(z), len(y), len(x)), [(i * ny + j) * nx + k for i, j, k in product(z, y, x)]

    def slices(self, level: int, box: int) -> tuple[int, int]:
        """Return the first slice of a box and the one past its last."""
        _, gy, gx = self.grids[level]
        height, layer = self.edge[0] * self.fan_in**level, box // (gy * gx)
        return layer * height, min((layer + 1) * height, self.shape[0])

    def bounds(self, ranges: int) -> list[int]:
        """Return the raster indices at which ranges of first voxels begin, and the end of the last."""
        return [math.prod(self.shape) * k // ranges for k in range(ranges + 1)]

    def boxes_between(self, low: int, high: int) -> tuple[tuple[int, int], ...]:
        """Return for every level the first number of the boxes that reach into a range, and the one past the last."""
        slice_voxels = self.shape[1] * self.shape[2]
        found = []
        for level, (gz, gy, gx) in enumerate(self.grids):
            voxels = self.edge[0] * self.fan_in**level * slice_voxels
            found.append((low // voxels * gy * gx, min(-(-high // voxels), gz) * gy * gx))
        return tuple(found)


@dataclass(frozen=True)
class Place:
    """Where a box finds the numbers of its regions."""

    level: int
    """Its level."""
    box: int
    """Its number in that level."""
    parent: int
    """Its parent's number, -1 for the whole volume."""
    rows: tuple[int, int]
    """Its part of the parent's map: first row, and the one past the last."""
    ranges: tuple[tuple[int, int], ...]
    """The ranges of first voxels that it reaches into: number of the range, regions that begin before it."""


def places_of(levels: Levels, growing: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[Place]]:
    """Return for every box of every level where it finds the numbers of its regions.

    Parameters
    ----------
    levels : Levels
        The boxes.
    growing : sequence of sequence of int
        For every level the number of regions of each box that travelled upwards.
    counts : sequence of int
        The number of regions that begin in each range of first voxels.

    Returns
    -------
    list of list of Place
        Level by level, box by box.
    """
    before, bounds = [0, *accumulate(counts)], levels.bounds(len(counts))
    slice_voxels, places = levels.shape[1] * levels.shape[2], []
    for level, sizes in enumerate(growing):
        parents: dict[int, tuple[int, int]] = {}
        for parent in range(len(growing[level + 1]) if level + 1 < len(growing) else 0):
            first = 0
            for member in levels.members(level + 1, parent)[1]:
                parents[member] = (parent, first)
                first += sizes[member]
        row = []
        for box, size in enumerate(sizes):
            low, high = (n * slice_voxels for n in levels.slices(level, box))
            touched = range(bisect_right(bounds, low) - 1, bisect_left(bounds, high))
            parent, first = parents.get(box, (-1, 0))
            row.append(Place(level, box, parent, (first, first + size), tuple((k, before[k]) for k in touched)))
        places.append(row)
    return places
