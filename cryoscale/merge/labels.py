"""Membrane voxels to regions: the whole volume in memory.

    d(R1, R2) = min over p in R1, q in R2 of |p - q|,     R1 and R2 merge while d(R1, R2) <= eps

starting from one region per foreground voxel (Zhou et al. 2023, section 4.2, eq. 1), in three dimensions, so that two
pieces that are apart in one slice join through the slices beside it. The result is the set of connected components of
the graph of all voxel pairs within eps, and it does not depend on the order of the merges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge.ball import Ball
from cryoscale.merge.near import join_near_runs
from cryoscale.merge.runs import Room, Runs, find_runs, paint_runs
from cryoscale.unionfind import number_trees, separate

__all__ = ["check_mask", "label_runs", "label_volume", "runs_of"]


def check_mask(mask: Any, axes: tuple[int, ...] = (2, 3)) -> None:
    """Raise where an array of any kind cannot be merged.

    Parameters
    ----------
    mask : array
        Only its dtype and shape are looked at.
    axes : tuple of int
        Numbers of axes that are allowed.

    Raises
    ------
    TypeError
        If the mask is neither bool nor integer.
    ValueError
        If its number of axes is not allowed.
    """
    dtype, shape = np.dtype(mask.dtype), tuple(mask.shape)
    if dtype != np.bool_ and not np.issubdtype(dtype, np.integer):
        msg = f"mask has dtype {dtype}; it must be bool or integer: compare scores with a threshold first"
        raise TypeError(msg)
    if len(shape) not in axes:
        msg = f"mask has {len(shape)} axes, shape {shape}; it must have {' or '.join(map(str, axes))}"
        raise ValueError(msg)


def runs_of(mask: NDArray[Any], ball: Ball, separate_values: bool = False, room: Room | None = None) -> Runs:
    """Find the runs of a mask whose voxels join: single voxels where neighbours along x are beyond the ball.

    Parameters
    ----------
    mask : (nz, ny, nx) bool or integer array
        Nonzero is foreground.
    ball : Ball
        Which voxels join.
    separate_values, room
        As for `find_runs`.
    """
    return find_runs(mask, separate_values, single_voxels=ball.reach_voxels[2] < 1, room=room)


def label_runs(runs: Runs, ball: Ball, label: NDArray[np.int32] | None = None) -> tuple[NDArray[np.int32], int]:
    """Give numbers to the regions of a volume's runs in raster order of their first voxels.

    Parameters
    ----------
    runs : Runs
        The runs of a volume, as `runs_of` finds them.
    ball : Ball
        Which voxels join.
    label : (n,) int32 array, optional
        Where to put the numbers.

    Returns
    -------
    label : (n,) int32 array
        The number of each run's region, from 1.
    count : int
        The number of regions.
    """
    label = np.empty(runs.start.size, np.int32) if label is None else label
    separate(label)
    join_near_runs(runs, ball, label)
    return label, int(number_trees(label))


def label_volume(mask: NDArray[Any], ball: Ball, separate_values: bool = False) -> tuple[NDArray[np.int32], int]:
    """Group the foreground voxels of a volume in memory.

    Parameters
    ----------
    mask : (nz, ny, nx) bool or integer array
        Nonzero is foreground.
    ball : Ball
        Which voxels join.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    labels : (nz, ny, nx) int32 array
        0 for background, else the number of the region.
    count : int
        The number of regions.

    Notes
    -----
    Memory beyond the mask: the labels, and what `Room` cannot hold of 12 bytes a run and 8 bytes a row.
    """
    labels = np.empty(mask.shape, np.int32)
    room = Room(labels)
    runs = runs_of(mask, ball, separate_values, room)
    label, count = label_runs(runs, ball, room.take(runs.start.size, np.int32))
    return paint_runs(runs, label, labels, room), count
