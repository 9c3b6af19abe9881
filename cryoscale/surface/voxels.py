"""Membranes of a given thickness as voxels, and one volume of them all.

voxel in membrane k  <=>  |distance_k| <= thickness / 2;   label = argmin_k |distance_k|, ties to the smaller k

The distance to the fitted surface is uniform by construction, so the membrane has the thickness asked for everywhere
and no holes, which thinning and dilation do not give (science.md 6: 3.05 +- 0.47 voxels where 3 were asked for,
against 2.45 +- 0.54). Each voxel decides alone, so blocks painted apart are the whole volume painted at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cryoscale.band import Band
from cryoscale.chunks import Region

__all__ = ["VOXEL", "membrane_voxels", "paint_block", "split_by_block", "voxel_records"]

VOXEL = np.dtype(
    [
        ("z", "<i4"), ("y", "<i4"), ("x", "<i4"), ("distance", "<f4"), ("sd_nm", "<f4"), ("support_nm", "<f4"),
        ("number", "<u4"),
    ]
)  # fmt: skip
"""One voxel of one membrane: where it is, how far from that membrane's surface in voxels, how sure the surface is next
to it and how far from the nearest voxel that was seen, and whose it is."""


def membrane_voxels(band: Band, thickness_voxels: float) -> NDArray[np.int64]:
    """Rows of the band that lie inside a membrane of the given thickness.

    Parameters
    ----------
    band : Band
    thickness_voxels : float
        Full thickness; the band must reach half of it.

    Returns
    -------
    ndarray of shape (k,)
        Rows into the band's arrays, ascending.

    Raises
    ------
    ValueError
        If the thickness is not positive.
    """
    if not thickness_voxels > 0:
        msg = f"thickness_voxels must be positive, not {thickness_voxels}"
        raise ValueError(msg)
    return np.flatnonzero(np.abs(band.distance) <= thickness_voxels / 2)


def voxel_records(band: Band, thickness_voxels: float, voxel_size_nm: float, number: int) -> NDArray[np.void]:
    """Voxels of one membrane as records of type `VOXEL`, in raster order."""
    rows = membrane_voxels(band, thickness_voxels)
    records = np.zeros(len(rows), VOXEL)
    for axis, name in enumerate("zyx"):
        records[name] = band.index[rows, axis]
    records["distance"] = band.distance[rows]
    records["sd_nm"] = band.sd[rows] * voxel_size_nm
    records["support_nm"] = band.support[rows] * voxel_size_nm
    records["number"] = number
    return records


def split_by_block(
    records: NDArray[np.void], shape: tuple[int, int, int], block: tuple[int, int, int]
) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Give the records block by block: (raster number of the block, its records in their own order).

    Raises
    ------
    ValueError
        If a voxel lies outside the volume.
    """
    counts = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
    home = np.zeros(len(records), np.int64)
    for name, size, edge, count in zip("zyx", shape, block, counts, strict=True):
        if len(records) and not (records[name].min() >= 0 and records[name].max() < size):
            msg = f"voxels span {records[name].min()} to {records[name].max()} along {name}, the volume 0 to {size - 1}"
            raise ValueError(msg)
        home = home * count + records[name] // edge
    order = np.argsort(home, kind="stable")
    starts = np.flatnonzero(np.diff(home[order], prepend=-1))
    for start, stop in itertools.pairwise([*starts, len(order)]):
        yield int(home[order[start]]), records[order[start:stop]]


def paint_block(
    records: NDArray[np.void], region: Region, dtype: DTypeLike = np.uint32
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.float32], NDArray[np.float32]]:
    """Paint the voxels of several membranes into one block.

    Parameters
    ----------
    records : ndarray of `VOXEL`
        Voxels of any membranes in any order, all inside `region`.
    region : Region
        The block, in voxels of the volume.
    dtype
        Type of the labels.

    Returns
    -------
    labels : ndarray of region.shape
        Number of the membrane whose surface is nearest, 0 where there is none.
    sd_nm : ndarray of region.shape, float32
        Standard deviation of that membrane's position; 0 where there is none.
    support_nm : ndarray of region.shape, float32
        Distance from that membrane's surface, where it is nearest, to the nearest voxel that was seen; 0 where there is
        none. A surface that runs through such a voxel's middle is at 0 too: the labels tell which.

    Raises
    ------
    ValueError
        If a voxel lies outside the region, or a number does not fit `dtype`.
    """
    labels = np.zeros(math.prod(region.shape), dtype)
    sd_nm, support_nm = (np.zeros(len(labels), np.float32) for _ in range(2))
    if len(records):
        if records["number"].max() > np.iinfo(labels.dtype).max:
            msg = f"membrane number {records['number'].max()} does not fit {labels.dtype}"
            raise ValueError(msg)
        where = np.ravel_multi_index(
            tuple(records[name] - start for name, start in zip("zyx", region.start, strict=True)), region.shape
        )
        order = np.lexsort((records["number"], np.abs(records["distance"]), where))
        # Of the claims on one voxel the best comes first; NumPy promises no order for repeated writes.
        best = order[np.r_[True, np.diff(where[order]) != 0]]
        labels[where[best]] = records["number"][best]
        sd_nm[where[best]] = records["sd_nm"][best]
        support_nm[where[best]] = records["support_nm"][best]
    return labels.reshape(region.shape), sd_nm.reshape(region.shape), support_nm.reshape(region.shape)
