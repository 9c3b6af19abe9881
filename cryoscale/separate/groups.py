"""Every group of a volume of labels taken apart, in memory: what the stage's units do in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoscale.regions import Regions, combine_regions, concatenate_regions, rank_regions
from cryoscale.separate.gaps import join_over_gaps
from cryoscale.separate.parts import drop_scraps, parts_table
from cryoscale.separate.separate import take_apart
from cryoscale.separate.surfels import Surfels

__all__ = ["concatenate_surfels", "number_parts", "part_group", "projected_bytes", "separate_groups"]

_BYTES_PER_VOXEL = 520
"""Measured 175 to 300 for membranes 2-4 voxels thick, 500 for a slanting sheet of single voxels."""
_BASE_BYTES = 4 << 20


def projected_bytes(voxels: int) -> int:
    """Return the peak memory of separating one group of so many voxels, in bytes."""
    return _BASE_BYTES + _BYTES_PER_VOXEL * voxels


def part_group(points: NDArray[np.int32], minimum_voxels: int) -> tuple[NDArray[np.int32], Surfels]:
    """Take one group apart and drop what is too small.

    Parameters
    ----------
    points : (n, 3) int32 array
        The group's voxels, z, y, x of the volume, in raster order.
    minimum_voxels : int
        Parts without one connected piece of this size are dropped.

    Returns
    -------
    part : (n,) int32 array
        1, 2, ...; 0 for none.
    surfels : Surfels
        The middle surface of part k + 1 in patch k.
    """
    whole, surfels = take_apart(points)
    part = drop_scraps(points, whole, minimum_voxels)
    number = np.zeros(int(whole.max(initial=0)) + 1, np.int64)
    number[whole] = part
    kept = number[surfels.patch + 1]
    return part, surfels.take(kept > 0, kept[kept > 0] - 1)


def concatenate_surfels(surfels: list[Surfels], counts: list[int]) -> Surfels:
    """Put elements of several tables of parts one below the other; `counts` are the parts of each table."""
    starts = np.cumsum([0, *counts])
    nothing = np.zeros((0, 3))
    return Surfels(
        np.concatenate([nothing, *(table.position for table in surfels)]),
        np.concatenate([nothing, *(table.normal for table in surfels)]),
        np.concatenate(
            [np.zeros(0, np.int64), *(table.patch + start for table, start in zip(surfels, starts, strict=False))]
        ),
    )


def number_parts(parts: Regions, surfels: Surfels, minimum_voxels: int) -> tuple[NDArray[np.int32], Regions]:
    """Join the parts of all groups over wide gaps, drop small membranes, and number the others.

    Parameters
    ----------
    parts : Regions
        All parts of a volume, in any order.
    surfels : Surfels
        The middle surface of row k in patch k.
    minimum_voxels : int
        Smaller membranes are dropped.

    Returns
    -------
    final : (n,) int32 array
        The number of each part's membrane, 0 for dropped ones.
    membranes : Regions
        Row k is membrane k + 1; in raster order of first voxels.
    """
    # In raster order, so that whatever order the groups came in makes no difference.
    order = np.argsort(parts.first_voxel, kind="stable")
    rank = np.argsort(order, kind="stable")
    patch = rank[surfels.patch]
    rows = np.argsort(patch, kind="stable")
    there = Surfels(surfels.position[rows], surfels.normal[rows], patch[rows])
    roots, row = np.unique(order[join_over_gaps(there, len(parts))][rank], return_inverse=True)
    final, membranes = rank_regions(combine_regions(parts, row, roots.size), minimum_voxels)
    return final[row], membranes


def separate_groups(groups: NDArray[np.integer], minimum_voxels: int = 1) -> tuple[NDArray[np.int32], int]:
    """Tell the membranes of every group apart.

    Parameters
    ----------
    groups : (nz, ny, nx) integer array
        0 for background, else the number of a group, as `merge_regions` gives them for a generous distance (about 10
        voxels): what a group holds may be one membrane or many; pieces farther apart are joined by evidence alone.
    minimum_voxels : int
        Membranes without one connected piece of this size are dropped.

    Returns
    -------
    labels : (nz, ny, nx) int32 array
        0 for background and for voxels that no membrane reaches; membranes 1 and up in raster order of first voxels.
    count : int
        The number of membranes.

    Raises
    ------
    TypeError
        If the groups are not integers.
    ValueError
        If they are not 3-D, or a number is negative.
    """
    if not np.issubdtype(groups.dtype, np.integer):
        msg = f"groups have dtype {groups.dtype}; they must be integers"
        raise TypeError(msg)
    if groups.ndim != 3 or groups.min(initial=0) < 0:
        msg = f"groups have shape {groups.shape} and numbers from {groups.min(initial=0)}; they must be 3-D, from 0"
        raise ValueError(msg)
    labels, tables, total = np.zeros(groups.shape, np.int32), [], 0
    surfels: list[Surfels] = []
    for number, box in enumerate(ndimage.find_objects(groups) if groups.size else [], start=1):
        if box is None:
            continue
        points = (np.argwhere(groups[box] == number) + [side.start for side in box]).astype(np.int32)
        part, elements = part_group(points, minimum_voxels)
        count = int(part.max(initial=0))
        tables.append(parts_table(points, part, count, groups.shape))
        surfels.append(elements)
        labels[tuple(points.T)] = np.where(part > 0, part + np.int32(total), np.int32(0))
        total += count
    all_surfels = concatenate_surfels(surfels, [len(table) for table in tables])
    final, membranes = number_parts(concatenate_regions(tables), all_surfels, minimum_voxels)
    return np.append(np.int32(0), final)[labels], len(membranes)
