"""Every group of a volume of labels taken apart, in memory: what the stage's units do in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoscale.regions import concatenate_regions, rank_regions
from cryoscale.separate.parts import drop_scraps, parts_table
from cryoscale.separate.separate import separate_membranes

__all__ = ["projected_bytes", "separate_groups"]

_BYTES_PER_VOXEL = 520
"""Measured 175 to 300 for membranes 2-4 voxels thick, 500 for a slanting sheet of single voxels."""
_BASE_BYTES = 4 << 20


def projected_bytes(voxels: int) -> int:
    """Return the peak memory of separating one group of so many voxels, in bytes."""
    return _BASE_BYTES + _BYTES_PER_VOXEL * voxels


def separate_groups(groups: NDArray[np.integer], minimum_voxels: int = 1) -> tuple[NDArray[np.int32], int]:
    """Tell the membranes of every group apart.

    Parameters
    ----------
    groups : (nz, ny, nx) integer array
        0 for background, else the number of a group, as `merge_regions` gives them for a generous distance (about 10
        voxels): what a group holds may be one membrane or many, and no membrane is in two groups.
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
    for number, box in enumerate(ndimage.find_objects(groups) if groups.size else [], start=1):
        if box is None:
            continue
        points = (np.argwhere(groups[box] == number) + [side.start for side in box]).astype(np.int32)
        part = drop_scraps(points, separate_membranes(points), minimum_voxels)
        count = int(part.max(initial=0))
        tables.append(parts_table(points, part, count, groups.shape))
        labels[tuple(points.T)] = np.where(part > 0, part + np.int32(total), np.int32(0))
        total += count
    final, membranes = rank_regions(concatenate_regions(tables), minimum_voxels)
    return np.append(np.int32(0), final)[labels], len(membranes)
