"""What is known of a piece of a slice, or of a membrane of such pieces, without its voxels.

    voxels = sum of voxels,   box = hull of boxes,   coordinate_sum = sum of sums,   first_voxel = min of first voxels

All are integers, so that a membrane put together from pieces has exactly the numbers it would have in one go, in any
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES_PER_PIECE", "Pieces", "concatenate_pieces", "number_membranes", "slice_pieces"]

BYTES_PER_PIECE = 88
"""Bytes of one row of `Pieces`."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A table of n pieces, or of n membranes made of them. All integers, int64, in voxels of the whole volume."""

    voxels: NDArray[np.int64]
    """(n,) number of voxels."""
    box: NDArray[np.int64]
    """(n, 6) bounding box z0, y0, x0, z1, y1, x1, half-open."""
    coordinate_sum: NDArray[np.int64]
    """(n, 3) sum of the voxels' z, y, x."""
    first_voxel: NDArray[np.int64]
    """(n,) raster index of the first voxel: (z * ny + y) * nx + x."""

    def __len__(self) -> int:
        return int(self.voxels.size)

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Return the columns by name, in the order of the fields."""
        return {
            "voxels": self.voxels,
            "box": self.box,
            "coordinate_sum": self.coordinate_sum,
            "first_voxel": self.first_voxel,
        }


def _blank(count: int) -> Pieces:
    """Return a table from which boxes, minima and sums can start."""
    largest = np.iinfo(np.int64).max
    box = np.tile(np.array([largest] * 3 + [-1] * 3, np.int64), (count, 1))
    return Pieces(np.zeros(count, np.int64), box, np.zeros((count, 3), np.int64), np.full(count, largest, np.int64))


def concatenate_pieces(tables: Sequence[Pieces]) -> Pieces:
    """Put tables one below the other.

    Parameters
    ----------
    tables : sequence of Pieces
        Any number, also none.
    """
    parts = [_blank(0), *tables]
    return Pieces(*(np.concatenate([part.columns()[name] for part in parts]) for name in parts[0].columns()))


def slice_pieces(labels: NDArray[np.int32], z: int) -> Pieces:
    """Measure the pieces of one slice.

    Parameters
    ----------
    labels : (ny, nx) int32 array
        Number of the piece, 1 and up; 0 is background.
    z : int
        The slice.

    Returns
    -------
    Pieces
        Row k is piece k + 1; a number that does not occur has 0 voxels.
    """
    ny, nx = labels.shape
    index = np.flatnonzero(labels)
    piece = labels.ravel()[index].astype(np.int64) - 1
    table = _blank(int(piece.max(initial=-1)) + 1)
    place = (np.full(index.size, z), index // nx, index % nx)
    np.add.at(table.voxels, piece, 1)
    np.minimum.at(table.first_voxel, piece, z * ny * nx + index)
    for axis in range(3):
        np.add.at(table.coordinate_sum[:, axis], piece, place[axis])
        np.minimum.at(table.box[:, axis], piece, place[axis])
        np.maximum.at(table.box[:, axis + 3], piece, place[axis] + 1)
    return table


def number_membranes(
    pieces: Pieces, group: NDArray[np.int64], minimum_voxels: int = 1
) -> tuple[NDArray[np.int32], Pieces]:
    """Put membranes together from pieces, drop the small ones and number the rest.

    Parameters
    ----------
    pieces : Pieces
        Those of all slices.
    group : (n,) int64 array
        What `link_pieces` returned.
    minimum_voxels : int
        Membranes with fewer voxels are dropped.

    Returns
    -------
    final : (n,) int32 array
        The membrane of each piece: 1, 2, ... in raster order of the first voxels of those kept, 0 for the others.
    membranes : Pieces
        The membranes that were kept, in that order.
    """
    roots, member = np.unique(group, return_inverse=True)
    table = _blank(roots.size)
    np.add.at(table.voxels, member, pieces.voxels)
    np.add.at(table.coordinate_sum, member, pieces.coordinate_sum)
    np.minimum.at(table.first_voxel, member, pieces.first_voxel)
    np.minimum.at(table.box[:, :3], member, pieces.box[:, :3])
    np.maximum.at(table.box[:, 3:], member, pieces.box[:, 3:])
    kept = np.flatnonzero(table.voxels >= max(1, minimum_voxels))
    kept = kept[np.argsort(table.first_voxel[kept])]
    final = np.zeros(roots.size, np.int32)
    final[kept] = np.arange(1, kept.size + 1, dtype=np.int32)
    return final[member], Pieces(*(column[kept] for column in table.columns().values()))
