"""Membrane voxels to regions in blocks: the same numbers as in one go, holding one block at a time.

1. `label_block`, per block: the block's own regions (pieces), their statistics, and its shell. Pieces that cannot grow
   (they stay clear of the block's inner faces) and are too small are dropped at once.
2. `join_shells`, pair by pair in a tree: links between pieces of different blocks. Only shells travel.
3. `number_regions`, once: the links joined into regions, small ones dropped, the rest numbered in raster order of their
   first voxels. Memory follows the number of pieces.
4. `relabel_block`, per block: the block labelled once more (cheaper than keeping labels on disk: the numbers of its
   pieces come out the same) and painted with the final numbers.

`merge_regions_in_blocks` runs the four steps in a plain loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge.labels import check_mask, label_runs
from cryoscale.merge.near import check_distance
from cryoscale.merge.regions import Regions, concatenate_regions, number_regions, region_statistics
from cryoscale.merge.runs import Runs, find_runs, paint_runs
from cryoscale.merge.shell import Shell, block_shell, join_shells, near_block_faces, unpack_piece

__all__ = ["BlockPieces", "label_block", "links_to_rows", "merge_regions_in_blocks", "relabel_block"]

Triple = tuple[int, int, int]

_NO_LINKS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class BlockPieces:
    """What one block hands on."""

    pieces: Regions
    """Its pieces; row k is label k + 1."""
    shell: Shell
    """Its runs near the faces it shares with other blocks."""


def _label_pieces(
    mask: NDArray[Any],
    origin: Triple,
    shape: Triple,
    distance_voxels: float,
    minimum_voxels: int,
    separate_values: bool,
) -> tuple[Runs, NDArray[np.int32], int]:
    """Return the runs of a block, the piece of each run (0: dropped), and the number of pieces."""
    runs = find_runs(check_mask(mask, (3,)), separate_values)
    label, count = label_runs(runs, distance_voxels)
    if minimum_voxels <= 1:
        return runs, label, count
    voxels = np.bincount(label, weights=runs.stop - runs.start, minlength=count + 1)
    kept = voxels >= minimum_voxels
    kept[label[near_block_faces(runs, origin, shape, distance_voxels)]] = True
    kept[0] = False
    number = np.where(kept, np.cumsum(kept, dtype=np.int32), np.int32(0))
    return runs, number[label], int(kept.sum())


def label_block(
    mask: NDArray[Any],
    block: int,
    origin: Triple,
    shape: Triple,
    distance_voxels: float,
    *,
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> BlockPieces:
    """Find the pieces of regions in one block, and what is needed to join them with those of its neighbours.

    Parameters
    ----------
    mask : (nz, ny, nx) bool or integer array
        The block's own voxels, no halo; nonzero is foreground.
    block : int
        The block's number.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    shape : tuple of int
        Shape of the whole volume in voxels.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels.
    minimum_voxels : int
        Smaller regions will be dropped; here only those that touch no shell.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    BlockPieces
        Table and shell.
    """
    runs, label, count = _label_pieces(mask, origin, shape, distance_voxels, minimum_voxels, separate_values)
    pieces = region_statistics(runs, label, count, origin, shape)
    return BlockPieces(pieces, block_shell(runs, label, block, origin, shape, distance_voxels))


def relabel_block(
    mask: NDArray[Any],
    origin: Triple,
    shape: Triple,
    distance_voxels: float,
    final: NDArray[np.int32],
    *,
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> NDArray[np.int32]:
    """Paint one block with the final numbers of its pieces.

    Parameters
    ----------
    mask, origin, shape, distance_voxels, minimum_voxels, separate_values
        As they were given to `label_block`.
    final : (n,) int32 array
        The final number of each piece of the block, 0 for dropped ones.

    Returns
    -------
    (nz, ny, nx) int32 array
        The block's part of the labels of the whole volume.

    Raises
    ------
    ValueError
        If the block has another number of pieces than `final`: the mask or a setting changed in between.
    """
    runs, label, count = _label_pieces(mask, origin, shape, distance_voxels, minimum_voxels, separate_values)
    if count != final.size:
        msg = f"the block at {origin} has {count} pieces, and final numbers came for {final.size}"
        raise ValueError(msg)
    return paint_runs(runs, np.concatenate((np.zeros(1, np.int32), final))[label])


def links_to_rows(links: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn names of pieces into rows of the table of all pieces.

    Parameters
    ----------
    links : (m, 2) int64 array
        Names of pieces, as `join_shells` gives them.
    offset : (blocks + 1,) int64 array
        The row at which each block's pieces begin.

    Returns
    -------
    (m, 2) int64 array
        Rows.
    """
    block, label = unpack_piece(links)
    return offset[block] + label - 1


def _grid(shape: Triple, chunks: Triple) -> Iterator[tuple[Triple, tuple[slice, slice, slice]]]:
    """Yield origin and slices of every block in raster order."""
    for origin in product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))):
        z, y, x = (slice(o, min(o + c, n)) for o, c, n in zip(origin, chunks, shape, strict=True))
        yield (z.start, y.start, x.start), (z, y, x)


def merge_regions_in_blocks(
    mask: NDArray[Any],
    chunks: Triple,
    distance_voxels: float = 3.0,
    *,
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> tuple[NDArray[np.int32], Regions]:
    """Group foreground voxels block by block, and measure the regions.

    Parameters
    ----------
    mask : (nz, ny, nx) bool or integer array
        Nonzero is foreground.
    chunks : tuple of int
        Shape of a block in voxels.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels, at least 1.
    minimum_voxels : int
        Regions with fewer voxels are dropped.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    labels : (nz, ny, nx) int32 array
        Equal to those of `merge_regions` (where `minimum_voxels` is 1), for any chunks.
    regions : Regions
        One row a region.

    Raises
    ------
    TypeError
        If the mask is neither bool nor integer.
    ValueError
        If the mask is not 3-D, a chunk is smaller than 1, or the distance is not finite or below 1.
    """
    array = check_mask(mask, (3,))
    check_distance(distance_voxels)
    if len(chunks) != 3 or min(chunks) < 1:
        msg = f"chunks are {chunks!r}; they must be three whole numbers of at least 1"
        raise ValueError(msg)
    shape: Triple = (array.shape[0], array.shape[1], array.shape[2])
    blocks = list(_grid(shape, chunks))
    options: dict[str, Any] = {"minimum_voxels": minimum_voxels, "separate_values": separate_values}
    found = [
        label_block(array[where], k, origin, shape, distance_voxels, **options)
        for k, (origin, where) in enumerate(blocks)
    ]
    offset = np.cumsum([0, *(len(block.pieces) for block in found)], dtype=np.int64)
    links = join_shells([block.shell for block in found], shape, distance_voxels)[1] if found else _NO_LINKS
    pieces = concatenate_regions([block.pieces for block in found])
    final, regions = number_regions(pieces, links_to_rows(links, offset), minimum_voxels)
    labels = np.empty(shape, np.int32)
    for k, (origin, where) in enumerate(blocks):
        part = final[offset[k] : offset[k + 1]]
        labels[where] = relabel_block(array[where], origin, shape, distance_voxels, part, **options)
    return labels, regions
