"""What is known of the pieces of one slice without their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.regions import Regions, combine_regions, rank_regions

__all__ = ["number_membranes", "slice_pieces"]


def slice_pieces(labels: NDArray[np.int32], z: int) -> Regions:
    """Measure the pieces of one slice.

    Parameters
    ----------
    labels : (ny, nx) int32 array
        Number of the piece, 1 and up; 0 is background.
    z : int
        The slice.

    Returns
    -------
    Regions
        Row k is piece k + 1; a number that does not occur has 0 voxels.
    """
    ny, nx = labels.shape
    index = np.flatnonzero(labels)
    piece = labels.ravel()[index].astype(np.int64) - 1
    table = Regions.blank(int(piece.max(initial=-1)) + 1)
    place = (np.full(index.size, z), index // nx, index % nx)
    np.add.at(table.voxels, piece, 1)
    np.minimum.at(table.first_voxel, piece, z * ny * nx + index)
    for axis in range(3):
        np.add.at(table.coordinate_sum[:, axis], piece, place[axis])
        np.minimum.at(table.box[:, axis], piece, place[axis])
        np.maximum.at(table.box[:, axis + 3], piece, place[axis] + 1)
    return table


def number_membranes(
    pieces: Regions, group: NDArray[np.int64], minimum_voxels: int = 1
) -> tuple[NDArray[np.int32], Regions]:
    """Put membranes together from pieces, drop the small ones and number the rest.

    Parameters
    ----------
    pieces : Regions
        Those of all slices.
    group : (n,) int64 array
        What `link_pieces` returned.
    minimum_voxels : int
        Membranes with fewer voxels are dropped.

    Returns
    -------
    final : (n,) int32 array
        The membrane of each piece: 1, 2, ... in raster order of the first voxels of those kept, 0 for the others.
    membranes : Regions
        The membranes that were kept, in that order.
    """
    roots, member = np.unique(group, return_inverse=True)
    rank, membranes = rank_regions(combine_regions(pieces, member, roots.size), minimum_voxels)
    return rank[member], membranes
