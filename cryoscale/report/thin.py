"""Volumes and slices thinned to what a page can show, and which of their voxels are inferred.

thin(i) = mean of the voxels step i ... step (i + 1) - 1, fewer where the border cuts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.report.render import Surface

__all__ = ["inferred_voxels", "mean_cubes", "prevailing"]

_LEAST_SHARE = 0.25
"""Of a block's voxels that must be of membranes, for the block to be: fewer and thin membranes break, more and they
swell."""


def mean_cubes(box: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Mean over blocks of `step` samples a side, along every axis."""
    if step == 1:
        return box
    for axis in range(box.ndim):
        edges = np.arange(0, box.shape[axis], step)
        size = np.diff(edges, append=box.shape[axis]).reshape([-1 if k == axis else 1 for k in range(box.ndim)])
        box = np.asarray(np.add.reduceat(box, edges, axis=axis) / size, np.float32)
    return box


def prevailing(labels: NDArray[Any], step: int) -> NDArray[Any]:
    """Label of each block of `step` voxels a side: the largest in it where a quarter of its voxels has one, else 0."""
    if step == 1:
        return labels
    share = mean_cubes((labels > 0).astype(np.float32), step)
    largest = labels
    for axis in range(labels.ndim):
        largest = np.maximum.reduceat(largest, np.arange(0, labels.shape[axis], step), axis=axis)
    return np.asarray(np.where(share >= _LEAST_SHARE, largest, 0), labels.dtype)


def inferred_voxels(
    labels: NDArray[np.integer], surfaces: Sequence[Surface], voxel_nm: float, first_nm: float
) -> NDArray[np.bool_]:
    """Whether each labelled voxel is inferred: as the nearest vertex of any surface is.

    Parameters
    ----------
    labels
        (z, y, x) numbers of membranes, 0 elsewhere.
    surfaces
        First column of the values: 0 seen to 1 inferred.
    voxel_nm, first_nm
        Edge of a voxel, and position of the centre of the first.
    """
    out = np.zeros(labels.shape, bool)
    if any((surface.values[:, 0] > 0.5).any() for surface in surfaces):
        where = np.nonzero(labels)
        tree = cKDTree(np.concatenate([surface.vertices for surface in surfaces]))
        values = np.concatenate([surface.values[:, 0] > 0.5 for surface in surfaces])
        out[where] = values[tree.query(np.column_stack(where) * voxel_nm + first_nm)[1]]
    return out
