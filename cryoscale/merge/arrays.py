"""`merge_regions`, for arrays of every kind.

========== ================================================= ===================================================
array      what happens                                      what comes back
========== ================================================= ===================================================
NumPy      at once, in memory                                labels (NumPy), count
CuPy       at once, on the device (see `device`)             labels (CuPy), count
Zarr       one pass over the blocks at once, in this         `LazyLabels`, painted where they are read; count
           process; one block in memory
Dask       nothing yet; blocks are labelled, joined and      labels (Dask, int32, the mask's chunks), count (Dask,
           painted when the result is computed               no axes)
========== ================================================= ===================================================

Arrays are told apart by what they can do, not by their type: what has ``map_blocks`` is taken for a Dask array, else
what has ``chunks`` for a Zarr array, of which no more is asked than its shape, its dtype and regions when it is sliced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryoscale.backend import is_gpu_array
from cryoscale.merge.ball import ball_of
from cryoscale.merge.device import label_on_device
from cryoscale.merge.graph import merge_graph
from cryoscale.merge.labels import check_mask, label_volume
from cryoscale.merge.stream import LazyLabels

__all__ = ["merge_regions"]


def merge_regions(
    mask: Any,
    distance_voxels: float | None = None,
    *,
    distance: float | None = None,
    voxel_size: float | Sequence[float] | None = None,
    separate_values: bool = False,
) -> tuple[Any, Any]:
    """Group foreground voxels: every pair within a distance shares a region.

    Parameters
    ----------
    mask : (nz, ny, nx) or (ny, nx) bool or integer array
        NumPy, CuPy, Dask or Zarr; nonzero is foreground. What NumPy can turn into an array is taken as well.
    distance_voxels : float, optional
        Largest Euclidean distance between two voxels that join, in voxels: 1, sqrt(2) and sqrt(3) are what is called
        6-, 18- and 26-connectivity, 3 bridges gaps of two voxels. From 1 to 1000; 3 where nothing else is given.
    distance, voxel_size : optional
        Instead of `distance_voxels`: the distance and the edges of a voxel (one for all axes, or one for each axis of
        the mask: z, y, x), both in any one unit. The distance is at least the smallest edge.
    separate_values : bool
        Join only voxels of equal value, so that the instances or classes of another tool stay apart.

    Returns
    -------
    labels : int32 array of the mask's shape
        0 for background, else the number of the region; regions count from 1 in raster order (z, then y, then x) of
        their first voxels. NumPy for NumPy, CuPy for CuPy; lazy for Zarr (`LazyLabels`) and Dask (a Dask array).
    count : int
        The number of regions; for Dask an array without axes that is computed with the labels.

    Raises
    ------
    TypeError
        If the mask is neither bool nor integer.
    ValueError
        If the mask is not 2-D or 3-D, or the distance or voxel size make no sense.

    Notes
    -----
    Zhou et al., J. Comput. Sci. 66 (2023) 101904, section 4.2, eq. 1. Time follows the runs of foreground along x.

    Examples
    --------
    >>> labels, count = merge_regions(np.array([[1, 0, 0, 1, 0, 0, 0, 1]]), distance_voxels=3.0)
    >>> labels.tolist(), count
    ([[1, 0, 0, 1, 0, 0, 0, 2]], 2)
    >>> merge_regions(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]]), distance=2.5, voxel_size=(2.0, 1.0))[0].tolist()
    [[1, 0, 1], [0, 0, 0], [2, 0, 0]]
    """
    if not all(hasattr(mask, name) for name in ("shape", "dtype", "__getitem__")):
        mask = np.asarray(mask)
    check_mask(mask)
    ball = ball_of(len(mask.shape), distance_voxels, distance, voxel_size)
    if hasattr(mask, "map_blocks"):
        return merge_graph(mask, ball, separate_values)
    if hasattr(mask, "chunks"):
        lazy = LazyLabels(mask, ball, separate_values)
        return lazy, lazy.count
    volume = mask if len(mask.shape) == 3 else mask[np.newaxis]
    labels, count = (label_on_device if is_gpu_array(mask) else label_volume)(volume, ball, separate_values)
    return labels.reshape(mask.shape), count
