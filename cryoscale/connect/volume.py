"""A whole volume in memory, slice by slice and across slices: what the stage's units do in parts.

labels, count = connect_volume(mask, options_in_voxels(ConnectSpec(), 10.0))
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoscale.connect.connection import ConnectOptions
from cryoscale.connect.link import Overlaps, link_pieces, slice_overlaps
from cryoscale.connect.pieces import number_membranes, slice_pieces
from cryoscale.connect.slice import connect_slice
from cryoscale.regions import concatenate_regions

__all__ = ["connect_volume", "link_slices", "slice_labels", "slice_seed"]


def slice_seed(seed: int, z: int) -> int:
    """Return the seed of slice `z`: its own, so that a slice can be repeated alone."""
    return seed + z


def slice_labels(mask: NDArray[np.bool_], options: ConnectOptions, seed: int) -> NDArray[np.int32]:
    """Return the pieces of one slice: its membranes, then what is too short to be traced.

    Scraps are no membrane by themselves, but the neighbouring slices may know what they belong to.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    options : ConnectOptions
        Lengths in voxels, costs and the schedule of learning.
    seed : int
        Of the random choices.

    Returns
    -------
    (ny, nx) int32 array
        0 background; the paths of `connect_slice` as it numbers them, then the connected scraps in raster order.
    """
    labels = connect_slice(mask, options, seed).labels
    scraps = ndimage.label(mask & (labels == 0), np.ones((3, 3), np.int8), output=np.int32)[0]
    return np.where(scraps > 0, scraps + labels.max(initial=0), labels).astype(np.int32)


def link_slices(slices: NDArray[np.int32], minimum_voxels: int = 1) -> tuple[NDArray[np.int32], int]:
    """Link pieces that are given slice by slice.

    Parameters
    ----------
    slices : (nz, ny, nx) int32 array
        Numbers of the pieces within each slice, 1 and up; 0 is background.
    minimum_voxels : int
        Membranes with fewer voxels are dropped.

    Returns
    -------
    labels : (nz, ny, nx) int32 array
        Numbers of the membranes, 1 and up in raster order of first voxels.
    count : int
    """
    tables = [slice_pieces(labels, z) for z, labels in enumerate(slices)]
    offset = np.cumsum([0, *map(len, tables)])
    found = [slice_overlaps(slices[z], slices[z + 1]) for z in range(len(slices) - 1)]
    pairs = [part.pairs + offset[[z, z + 1]] for z, part in enumerate(found)]
    none = np.empty((0, 2), np.int64)
    overlaps = Overlaps(np.concatenate([none, *pairs]), np.concatenate([none, *(part.votes for part in found)]))
    pieces = concatenate_regions(tables)
    final, membranes = number_membranes(pieces, link_pieces(pieces, overlaps), minimum_voxels)
    # Row 0 of each slice's numbers is background.
    parts = [np.append(np.int32(0), final[a:b]) for a, b in itertools.pairwise(offset)]
    labels = np.stack([part[plane] for part, plane in zip(parts, slices, strict=True)])
    return labels.astype(np.int32), len(membranes)


def connect_volume(
    mask: NDArray[np.bool_], options: ConnectOptions, *, seed: int = 0, minimum_voxels: int = 1
) -> tuple[NDArray[np.int32], int]:
    """Group the voxels of a mask into membranes by tracing and learning in its slices.

    Parameters
    ----------
    mask : (nz, ny, nx) bool array
        The segmented voxels.
    options : ConnectOptions
        Lengths in voxels, costs and the schedule of learning.
    seed : int
        Of the random choices; the same seed gives the same result.
    minimum_voxels : int
        Membranes with fewer voxels are dropped.

    Returns
    -------
    labels : (nz, ny, nx) int32 array
        0 background; membranes 1 and up in raster order of first voxels.
    count : int

    Raises
    ------
    ValueError
        The mask is not a three-dimensional bool array.
    """
    if mask.ndim != 3 or mask.dtype != np.bool_:
        msg = f"the mask must be a three-dimensional bool array, not {mask.ndim}-dimensional {mask.dtype}"
        raise ValueError(msg)
    slices = [slice_labels(plane, options, slice_seed(seed, z)) for z, plane in enumerate(mask)]
    return link_slices(np.stack(slices), minimum_voxels)
