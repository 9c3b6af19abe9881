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

__all__ = ["inferred_voxels", "mean_cubes", "middles"]


def mean_cubes(box: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Mean over blocks of `step` samples a side, along every axis."""
    if step == 1:
        return box
    for axis in range(box.ndim):
        edges = np.arange(0, box.shape[axis], step)
        size = np.diff(edges, append=box.shape[axis]).reshape([-1 if k == axis else 1 for k in range(box.ndim)])
        box = np.asarray(np.add.reduceat(box, edges, axis=axis) / size, np.float32)
    return box


def middles(box: NDArray[Any], step: int) -> NDArray[Any]:
    """One sample near the middle of each block of `step` samples a side: for labels, which have no mean."""
    rows = [np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in box.shape]
    return box[np.ix_(*rows)]


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
