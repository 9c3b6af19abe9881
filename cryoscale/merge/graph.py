"""Labels of a Dask array, as a Dask graph over its own chunks.

    chunks ──block──> leaves ──4 x 4 x 4──> boxes ... ──> whole
                        │ closed                │ closed          (first voxels of complete regions)
                        └──────> ranks <────────┘                 (one task; 8 bytes a region come in)
    labels <──paint── leaves <──maps── boxes ... <──maps── whole

Every step is a ``map_blocks`` of the mask itself or of arrays of objects made from it, one object a chunk, so that
this file needs no Dask: any scheduler that computes the mask computes the labels. A leaf keeps the runs of its chunk
with their labels (12 bytes a run; a fifth of a byte a voxel on membranes) and the chunk itself is let go, so the
mask is read once. Chunks may have any sizes; the result is the same for all of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.backend import to_numpy
from cryoscale.merge.ball import Ball
from cryoscale.merge.runs import Runs, paint_runs
from cryoscale.merge.tree import Box, block_box, hand_down, join_boxes

__all__ = ["merge_graph"]

_FAN_IN = 4
"""Boxes along each axis that one task joins."""
_META = np.empty((0, 0, 0), object)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A chunk's box in the tree, and what is left to paint."""

    box: Box
    runs: Runs
    label: NDArray[np.int32]


def _cell(value: object) -> NDArray[Any]:
    """Return an array of one object."""
    cell = np.empty((1, 1, 1), object)
    cell[0, 0, 0] = value
    return cell


def _label(
    mask: Any,
    starts: tuple[tuple[int, ...], ...],
    shape: tuple[int, int, int],
    ball: Ball,
    separate_values: bool,
    block_id: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[Any]:
    """Chunk of the mask -> leaf."""
    origin = (starts[0][block_id[0]], starts[1][block_id[1]], starts[2][block_id[2]])
    return _cell(_Leaf(*block_box(to_numpy(mask), origin, shape, ball, separate_values=separate_values)))


def _upwards(leaf: NDArray[Any]) -> NDArray[Any]:
    """Leaf -> its box alone: the runs stay where they are."""
    return _cell(leaf.item().box)


def _join(members: NDArray[Any], shape: tuple[int, int, int], ball: Ball) -> NDArray[Any]:
    """Boxes -> the box they make together."""
    shells = np.empty(members.shape, object)
    for index in np.ndindex(members.shape):
        shells[index] = members.item(index).shell
    return _cell(join_boxes(shells, [box.growing for box in members.flat], shape, ball))


def _sizes(box: NDArray[Any]) -> NDArray[Any]:
    """Box -> number of its regions that travelled upwards."""
    return _cell(len(box.item().growing))


def _closed(box: NDArray[Any]) -> NDArray[Any]:
    """Box -> first voxels of the regions that became complete in it."""
    return _cell(box.item().closed.first_voxel)


def _rank(last: NDArray[Any], *others: NDArray[Any]) -> NDArray[Any]:
    """First voxels of the last level and of the others -> their ranks, level by level, in arrays of the same shapes."""
    levels = (*others, last)
    parts = [first for level in levels for first in level.flat]
    everything = np.concatenate(parts)
    rank = np.empty(everything.size, np.int32)
    rank[np.argsort(everything)] = np.arange(1, everything.size + 1, dtype=np.int32)
    own = iter(np.split(rank, np.cumsum([len(part) for part in parts])[:-1]))
    found = []
    for level in levels:
        numbers = np.empty(level.shape, object)
        for index in np.ndindex(level.shape):
            numbers[index] = next(own)
        found.append(numbers)
    return _cell(found)


def _own_rank(
    _closed: NDArray[Any], ranks: NDArray[Any], level: int, block_id: tuple[int, int, int] = (0, 0, 0)
) -> NDArray[Any]:
    """Ranks of all regions -> those of one box, mapped over what has one chunk a box."""
    return _cell(ranks.item()[level][block_id])


def _count(ranks: NDArray[Any]) -> NDArray[np.int64]:
    """Ranks -> number of regions."""
    return np.array([[[sum(part.size for level in ranks.item() for part in level.flat)]]], np.int64)


def _down(box: NDArray[Any], rank: NDArray[Any], growing: NDArray[Any], sizes: NDArray[Any]) -> NDArray[Any]:
    """Box, numbers of its regions, sizes of its members -> numbers of the members' regions that travelled upwards."""
    final = hand_down(box.item().code, growing.item(), rank.item())
    ends = np.cumsum([int(n) for n in sizes.flat])
    below = np.empty(sizes.shape, object)
    for index, part in zip(np.ndindex(sizes.shape), np.split(final, ends[:-1]), strict=True):
        below[index] = part
    return below


def _paint(leaf: NDArray[Any], rank: NDArray[Any], growing: NDArray[Any]) -> NDArray[np.int32]:
    """Leaf, numbers of its regions -> chunk of the labels."""
    found = leaf.item()
    final = hand_down(found.box.code, growing.item(), rank.item())
    return paint_runs(found.runs, final[found.label - 1])


def _nothing(_box: NDArray[Any]) -> NDArray[Any]:
    """Return no numbers: nothing grew beyond the whole volume."""
    return _cell(np.empty(0, np.int32))


def _objects(array: Any, call: Any, *others: Any, chunks: Any = None, **options: Any) -> Any:
    """Map blocks to objects, one a block where no chunks are given."""
    ones = tuple((1,) * len(axis) for axis in array.chunks)
    return array.map_blocks(call, *others, dtype=object, meta=_META, chunks=chunks or ones, **options)


def _checked_chunks(mask: Any) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the mask's chunks along each axis, or raise where they are not known."""
    if any(math.isnan(size) for axis in mask.chunks for size in axis):
        msg = f"the mask's chunks {mask.chunks} are not known; call its compute_chunk_sizes() first"
        raise ValueError(msg)
    return tuple(tuple(int(size) for size in axis) for axis in mask.chunks)


def merge_graph(mask: Any, ball: Ball, separate_values: bool = False) -> tuple[Any, Any]:
    """Group the foreground voxels of a Dask array.

    Parameters
    ----------
    mask : (nz, ny, nx) or (ny, nx) Dask array
        Bool or integer, in chunks of any sizes.
    ball : Ball
        Which voxels join.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    labels : Dask array
        int32, in the mask's chunks.
    count : Dask array
        int64, without axes.

    Raises
    ------
    ValueError
        If the sizes of the chunks are not known.
    """
    if mask.ndim == 2:
        labels, count = merge_graph(mask[np.newaxis], ball, separate_values)
        return labels[0], count
    chunks, shape = _checked_chunks(mask), tuple(int(n) for n in mask.shape)
    starts = tuple(tuple(itertools.accumulate(axis, initial=0)) for axis in chunks)
    leaf = _objects(mask, _label, starts=starts, shape=shape, ball=ball, separate_values=separate_values)
    boxes, grouped = [_objects(leaf, _upwards)], []
    while any(n > 1 for n in boxes[-1].numblocks):
        grouped.append(boxes[-1].rechunk((_FAN_IN,) * 3, method="tasks"))
        boxes.append(_objects(grouped[-1], _join, shape=shape, ball=ball))
    closed = [_objects(box, _closed) for box in boxes]
    everything = [first.rechunk((-1, -1, -1), method="tasks") for first in closed]
    ranks = _objects(everything[-1], _rank, *everything[:-1])
    own = [_objects(first, _own_rank, ranks, level=level) for level, first in enumerate(closed)]
    growing = _objects(boxes[-1], _nothing)
    for level in reversed(range(1, len(boxes))):
        sizes = _objects(boxes[level - 1], _sizes).rechunk(grouped[level - 1].chunks, method="tasks")
        growing = _objects(boxes[level], _down, own[level], growing, sizes, chunks=sizes.chunks)
        growing = growing.rechunk((1, 1, 1), method="tasks")
    meta = np.empty((0, 0, 0), np.int32)
    labels = leaf.map_blocks(_paint, own[0], growing, dtype=np.int32, meta=meta, chunks=chunks)
    count = ranks.map_blocks(_count, dtype=np.int64, meta=meta.astype(np.int64), chunks=(1, 1, 1))
    return labels, count[0, 0, 0]
