"""Parts of groups: what each is, and which block of the volume holds which of their voxels.

A group is a list of voxels in raster order, a part a number for each of them. Sorted by block, the numbers of a block
come in the block's own raster order: whoever paints the block needs no coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.regions import Regions
from cryoscale.unionfind import flatten, join_pairs

__all__ = ["drop_scraps", "order_by_block", "parts_table"]


def parts_table(points: NDArray[np.int32], part: NDArray[np.int32], count: int, shape: tuple[int, int, int]) -> Regions:
    """Describe the parts of a group.

    Parameters
    ----------
    points : (n, 3) int32 array
        The group's voxels, z, y, x, in raster order.
    part : (n,) int32 array
        Part of each voxel, 1 to `count`, each of them used; 0 for none.
    count : int
        Number of parts.
    shape : tuple of int
        Shape of the volume.

    Returns
    -------
    Regions
        Row k is part k + 1.
    """
    kept = np.flatnonzero(part)
    order = kept[np.argsort(part[kept], kind="stable")]
    starts = np.searchsorted(part[order], np.arange(1, count + 1))
    sorted_points = points[order].astype(np.int64)
    if not count:
        return Regions.blank(0)
    low = np.minimum.reduceat(sorted_points, starts, axis=0)
    high = np.maximum.reduceat(sorted_points, starts, axis=0) + 1
    first = sorted_points[starts]
    return Regions(
        np.diff(np.append(starts, order.size)).astype(np.int64),
        np.concatenate((low, high), axis=1),
        np.add.reduceat(sorted_points, starts, axis=0),
        (first[:, 0] * shape[1] + first[:, 1]) * shape[2] + first[:, 2],
        np.ones(count, np.int64),
    )


def drop_scraps(points: NDArray[np.int32], part: NDArray[np.int32], minimum_voxels: int) -> NDArray[np.int32]:
    """Drop parts that no piece of the least size belongs to: scraps of noise do not become a membrane by their number.

    Parameters
    ----------
    points : (n, 3) int32 array
        Voxels of a group, z, y, x, in raster order.
    part : (n,) int32 array
        Part of each voxel, from 1; 0 for none.
    minimum_voxels : int
        A part stays if one of its 26-connected pieces has so many voxels.

    Returns
    -------
    (n,) int32 array
        The parts that stay, numbered from 1 in the same order; 0 for none.
    """
    number = np.zeros(int(part.max(initial=0)) + 1, np.int32)
    rows = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[rows], np.arange(1, number.size + 1))
    kept = 0
    for k in range(1, number.size):
        own = points[rows[bounds[k - 1] : bounds[k]]]
        if len(own) >= minimum_voxels and _largest_piece(own) >= minimum_voxels:
            kept += 1
            number[k] = kept
    return number[part]


def _largest_piece(points: NDArray[np.int32]) -> int:
    """Return the voxels of the largest 26-connected piece of voxels in raster order; memory follows their number."""
    ny, nx = (int(n) for n in points[:, 1:].max(axis=0) + 2)  # an empty row and column: no neighbour across an edge
    key = (points[:, 0].astype(np.int64) * ny + points[:, 1]) * nx + points[:, 2]
    parent = np.arange(key.size)
    before = np.arange(13)  # the neighbours before a voxel, of the 27 places around it
    for back in ((1 - before // 9) * ny + 1 - before // 3 % 3) * nx + 1 - before % 3:
        place = np.searchsorted(key, key - back)
        found = np.flatnonzero(key[place] == key - back)
        join_pairs(parent, np.column_stack((place[found], found)))
    flatten(parent)
    return int(np.bincount(parent).max())


def order_by_block(
    points: NDArray[np.int32], shape: tuple[int, int, int], edge: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sort a group's voxels by the block that holds them.

    Parameters
    ----------
    points : (n, 3) int32 array
        Voxels in raster order.
    shape, edge : tuple of int
        Shape of the volume and of a block.

    Returns
    -------
    order : (n,) int64 array
        Indices into `points`, block by block, in raster order within each.
    block : (m,) int64 array
        The blocks that hold any, in raster order.
    voxels : (m,) int64 array
        How many each holds.
    """
    grid = [-(-n // e) for n, e in zip(shape, edge, strict=True)]
    z, y, x = (points[:, axis].astype(np.int64) // edge[axis] for axis in range(3))
    block = (z * grid[1] + y) * grid[2] + x
    order = np.argsort(block, kind="stable")
    found, voxels = np.unique(block, return_counts=True)
    return order, found, voxels.astype(np.int64)
