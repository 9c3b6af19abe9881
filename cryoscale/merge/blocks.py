"""Membrane voxels to regions block by block: the same numbers as in one go, holding one block at a time.

1. Up (`number_blocks`): each block is labelled and forgotten but for its shell and tables; boxes of 2 x 2 x 2 are
   joined as soon as their members are there, so that the shells in memory are those of a few boxes.
2. Ranks and down: the final number of every label of every block.
3. Paint (`paint_block`), in any order: a block is labelled once more (cheaper than keeping its labels: they come out
   the same) and painted with the final numbers.

`merge_regions_in_blocks` runs all of it in a plain loop over an array in memory; `stream` does the same for an array
on disk and paints on demand, `graph` as a Dask graph, `plan` in units of work over files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.merge.ball import Ball
from cryoscale.merge.labels import check_mask, label_runs, runs_of
from cryoscale.merge.runs import paint_runs
from cryoscale.merge.tree import Box, block_box, hand_down, join_boxes, rank_tables
from cryoscale.regions import Regions

__all__ = ["grid_of", "merge_regions_in_blocks", "number_blocks", "paint_block"]

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Branch:
    """What one box needs on the way down."""

    code: NDArray[np.int32]
    closed: Regions
    block: int
    """The block's number, where the box is a single one."""
    members: list[int]
    """Branches of the members in the order of `code`; none for a block."""
    growing: int
    """Number of regions that travelled upwards."""


def grid_of(shape: Triple, block: Triple) -> NDArray[Any]:
    """Cut a volume into blocks.

    Parameters
    ----------
    shape, block : tuple of int
        Voxels of the volume and of a block, z, y, x.

    Returns
    -------
    (a, b, c) object array of Region
        The blocks; one empty block where the volume is empty.
    """
    parts = blocks(shape, block) if min(shape) > 0 else [Region((0, 0, 0), shape)]
    grid = np.empty(len(parts), object)
    grid[:] = parts
    return grid.reshape([max(1, -(-n // b)) if min(shape) > 0 else 1 for n, b in zip(shape, block, strict=True)])


def paint_block(
    mask: NDArray[Any],
    ball: Ball,
    final: NDArray[np.int32],
    separate_values: bool = False,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Paint one block with the final numbers of its labels.

    Parameters
    ----------
    mask, ball, separate_values
        As they were given to `block_box`.
    final : (n,) int32 array
        The final number of each label of the block, 0 for dropped ones.
    out : (nz, ny, nx) int32 array, optional
        Where to paint.

    Returns
    -------
    (nz, ny, nx) int32 array
        The block's part of the labels of the whole volume.

    Raises
    ------
    ValueError
        If the block has another number of labels than `final`: the mask or a setting changed in between.
    """
    runs = runs_of(mask, ball, separate_values)
    label, count = label_runs(runs, ball)
    if count != final.size:
        msg = f"a block of shape {mask.shape} has {count} pieces, and final numbers came for {final.size}"
        raise ValueError(msg)
    return paint_runs(runs, final[label - 1], out)


def _halves(grid: NDArray[Any]) -> NDArray[Any]:
    """Cut a grid into up to 2 x 2 x 2 grids: an object array of them."""
    cuts = [sorted({0, n // 2, n}) for n in grid.shape]
    members = np.empty([len(cut) - 1 for cut in cuts], object)
    for index in np.ndindex(members.shape):
        members[index] = grid[tuple(slice(*cut[i : i + 2]) for cut, i in zip(cuts, index, strict=True))]
    return members


def _climb(
    number: NDArray[np.intp], leaf: Callable[[int], Box], branches: list[_Branch], shape: Triple, ball: Ball, least: int
) -> Box:
    """Join a brick of blocks, members before the whole; append a branch for each box."""
    members: list[int] = []
    if number.size == 1:
        box = leaf(int(number.item()))
    else:
        parts = _halves(number)
        shells, growing = np.empty(parts.shape, object), []
        for index in np.ndindex(parts.shape):
            below = _climb(parts[index], leaf, branches, shape, ball, least)
            shells[index] = below.shell
            growing.append(below.growing)
            members.append(len(branches) - 1)
        box = join_boxes(shells, growing, shape, ball, minimum_voxels=least)
    branches.append(_Branch(box.code, box.closed, int(number.flat[0]), members, len(box.growing)))
    return box


def number_blocks(
    read: Callable[[Region], NDArray[Any]],
    grid: NDArray[Any],
    shape: Triple,
    ball: Ball,
    *,
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> tuple[NDArray[Any], Regions]:
    """Find the final number of every label of every block, reading each block once.

    Parameters
    ----------
    read : callable
        Gives the mask of a region.
    grid : (a, b, c) object array of Region
        The blocks, as `grid_of` cuts them; any rectilinear grid will do.
    shape : tuple of int
        Shape of the volume in voxels.
    ball : Ball
        Which voxels join.
    minimum_voxels : int
        Smaller regions are dropped.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    finals : (a, b, c) object array of (n,) int32 arrays
        What `paint_block` needs.
    regions : Regions
        One row a region, in the order of the final numbers.

    Notes
    -----
    Memory: one block, the shells of the boxes on the path to it, 4 bytes a piece and 96 a region.
    """
    options: dict[str, Any] = {"minimum_voxels": minimum_voxels, "separate_values": separate_values}

    def leaf(number: int) -> Box:
        region = grid.flat[number]
        return block_box(read(region), region.start, shape, ball, **options)[0]

    branches: list[_Branch] = []
    _climb(np.arange(grid.size).reshape(grid.shape), leaf, branches, shape, ball, minimum_voxels)
    rank, start, regions = rank_tables([branch.closed for branch in branches])
    handed = {len(branches) - 1: np.empty(0, np.int32)}
    finals = np.empty(grid.shape, object)
    for number in reversed(range(len(branches))):
        branch = branches[number]
        below = hand_down(branch.code, handed.pop(number), rank[start[number] : start[number + 1]])
        if not branch.members:
            finals.flat[branch.block] = below
        ends = np.cumsum([branches[member].growing for member in branch.members], dtype=np.int64)
        handed.update(zip(branch.members, np.split(below, ends[:-1]), strict=False))
    return finals, regions


def merge_regions_in_blocks(
    mask: NDArray[Any],
    chunks: Triple,
    distance_voxels: float | Ball = 3.0,
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
    distance_voxels : float or Ball
        Largest Euclidean distance between two voxels that join, in voxels, at least 1; or a `Ball` where voxels are
        no cubes.
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
    array = np.asarray(mask)
    check_mask(array, (3,))
    ball = distance_voxels if isinstance(distance_voxels, Ball) else Ball(float(distance_voxels))
    if len(chunks) != 3 or min(chunks) < 1:
        msg = f"chunks are {chunks!r}; they must be three whole numbers of at least 1"
        raise ValueError(msg)
    shape: Triple = (array.shape[0], array.shape[1], array.shape[2])
    grid = grid_of(shape, chunks)
    finals, regions = number_blocks(
        lambda region: array[region.slices],
        grid,
        shape,
        ball,
        minimum_voxels=minimum_voxels,
        separate_values=separate_values,
    )
    labels = np.empty(shape, np.int32)
    for region, final in zip(grid.flat, finals.flat, strict=True):
        paint_block(array[region.slices], ball, final, separate_values, labels[region.slices])
    return labels, regions
