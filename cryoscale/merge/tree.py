r"""The tree of joins: from the pieces of blocks to numbered regions, no step of it holding all of them.

    up:    pieces of members + links  ->  open regions (near an inner face, may grow) and closed ones (complete)
    rank:  closed regions of all boxes, a range of first voxels at a time  ->  1, 2, ... in raster order
    down:  numbers of a box's regions  ->  numbers of its members' pieces

Boxes of blocks are joined into larger boxes up to the whole volume (drawn for one axis)::

    whole              [ . . . . . . . . ]          code: open regions of the members -> regions of this box
                       /                 \
    boxes       [ a . . . ]           [ . . . b ]   a is closed here and stays here, b may grow and travels upwards
                 /      \              /      \
    blocks    [ . . ] [ . . ]      [ . . ] [ . . ]  code: labels of the block -> regions of this box

What travels upwards follows the surface of a box, not its content: a region is handed on only while it is near a face
that the box shares with others. Once it is not, nothing can join it any more; it stays where it became complete. Its
final number is its rank among all regions by first voxel, which needs no more than a sorted list of first voxels, and
that can be had a range at a time. So memory is bounded by the surface of the largest box that is joined and by the
size of a range, whatever the number of pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge.ball import Ball
from cryoscale.merge.labels import label_runs, runs_of
from cryoscale.merge.runs import Runs
from cryoscale.merge.shell import Shell, block_shell, join_shells
from cryoscale.merge.statistics import region_statistics
from cryoscale.regions import Regions, combine_regions, concatenate_regions, rank_regions
from cryoscale.unionfind import flatten, join_pairs

__all__ = ["Box", "block_box", "hand_down", "join_boxes", "rank_tables"]

Triple = tuple[int, int, int]

_NO_LINKS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class Box:
    """What is known of one box of blocks."""

    shell: Shell
    """Its runs near inner faces; a piece is a row of `growing`."""
    growing: Regions
    """Its regions that may still grow."""
    closed: Regions
    """Regions that became complete in this box, in the order of their first voxels."""
    code: NDArray[np.int32]
    """(n,) for each label of a block, or each growing region of the members one after the other, what became of it:
    row + 1 of `growing`, -(row + 1) of `closed`, or 0 for one that was complete and too small."""


def _settle(
    pieces: Regions, links: NDArray[np.int64], at_faces: NDArray[np.int64], minimum_voxels: int
) -> tuple[Regions, Regions, NDArray[np.int32]]:
    """Put regions together from pieces and tell those that may grow from complete ones; drop small complete ones."""
    regions, group = pieces, np.arange(len(pieces), dtype=np.int64)
    if len(links):
        join_pairs(group, links)
        flatten(group)
        roots, group = np.unique(group, return_inverse=True)
        regions = combine_regions(pieces, group, roots.size)
    grows = np.zeros(len(regions), np.bool_)
    grows[group[at_faces]] = True
    closed = np.flatnonzero(~grows & (regions.voxels >= minimum_voxels))
    closed = closed[np.argsort(regions.first_voxel[closed])]
    code = np.zeros(len(regions), np.int32)
    code[grows] = np.arange(1, np.count_nonzero(grows) + 1, dtype=np.int32)
    code[closed] = -np.arange(1, closed.size + 1, dtype=np.int32)
    return regions.take(grows), regions.take(closed), code[group]


def _box(pieces: Regions, links: NDArray[np.int64], shell: Shell, minimum_voxels: int) -> Box:
    growing, closed, code = _settle(pieces, links, shell.piece, minimum_voxels)
    piece = code[shell.piece].astype(np.int64) - 1
    return Box(replace(shell, piece=piece), growing, closed, code)


def block_box(
    mask: NDArray[Any],
    origin: Triple,
    shape: Triple,
    ball: Ball,
    *,
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> tuple[Box, Runs, NDArray[np.int32]]:
    """Find the pieces of regions in one block, and what is needed to join them with those of its neighbours.

    Parameters
    ----------
    mask : (nz, ny, nx) bool or integer array
        The block's own voxels, no halo; nonzero is foreground.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    shape : tuple of int
        Shape of the whole volume in voxels.
    ball : Ball
        Which voxels join.
    minimum_voxels : int
        Smaller regions are dropped once they are complete.
    separate_values : bool
        Join only voxels of equal value.

    Returns
    -------
    box : Box
        The block as a leaf of the tree.
    runs : Runs
        Its runs.
    label : (n,) int32 array
        The label of each run; ``box.code[label - 1]`` says what became of it.
    """
    runs = runs_of(mask, ball, separate_values)
    label, count = label_runs(runs, ball)
    shell = block_shell(runs, label, origin, shape, ball)
    number = _number_kept(runs, label, count, shell, minimum_voxels)
    kept = int(number.max(initial=0))
    pieces = region_statistics(runs, number[label - 1], kept, origin, shape)
    box = _box(pieces, _NO_LINKS, replace(shell, piece=number[shell.piece] - np.int64(1)), minimum_voxels)
    code = np.concatenate((np.zeros(1, np.int32), box.code))[number]
    return replace(box, code=code), runs, label


def _number_kept(
    runs: Runs, label: NDArray[np.int32], count: int, shell: Shell, minimum_voxels: int
) -> NDArray[np.int32]:
    """Return 1, 2, ... for labels that may grow or are large enough, 0 for specks, which take no more room."""
    if minimum_voxels <= 1:
        return np.arange(1, count + 1, dtype=np.int32)
    kept = np.bincount(label - 1, weights=runs.stop - runs.start, minlength=count) >= minimum_voxels
    kept[shell.piece] = True
    return np.where(kept, np.cumsum(kept, dtype=np.int32), np.int32(0))


def join_boxes(
    shells: NDArray[Any], growing: Sequence[Regions], shape: Triple, ball: Ball, *, minimum_voxels: int = 1
) -> Box:
    """Join neighbouring boxes into one.

    Parameters
    ----------
    shells : (a, b, c) object array of Shell
        The shells of the boxes, in their order along z, y, x.
    growing : sequence of Regions
        The boxes' regions that may grow, in raster order of the boxes.
    shape : tuple of int
        Shape of the whole volume in voxels.
    ball : Ball
        Which voxels join.
    minimum_voxels : int
        Smaller regions are dropped once they are complete.

    Returns
    -------
    Box
        The larger box; a box that is the whole volume has no growing regions left.
    """
    renamed, first = np.empty(shells.shape, object), 0
    for index, table in zip(np.ndindex(shells.shape), growing, strict=True):
        member: Shell = shells[index]  # type: ignore[assignment]
        renamed[index] = replace(member, piece=member.piece + first)
        first += len(table)
    shell, links = join_shells(renamed, shape, ball)
    return _box(concatenate_regions(growing), links, shell, minimum_voxels)


def rank_tables(tables: Sequence[Regions]) -> tuple[NDArray[np.int32], NDArray[np.int64], Regions]:
    """Rank complete regions of many boxes in raster order of their first voxels.

    Parameters
    ----------
    tables : sequence of Regions
        The complete regions of each box; no two first voxels are equal.

    Returns
    -------
    rank : (n,) int32 array
        The rank of each row of all tables, from 1.
    start : (len(tables) + 1,) int64 array
        Where each table's rows begin in `rank`.
    regions : Regions
        All rows in the order of their ranks.
    """
    start = np.cumsum([0, *(len(table) for table in tables)], dtype=np.int64)
    rank, regions = rank_regions(concatenate_regions(tables))
    return rank, start, regions


def hand_down(code: NDArray[np.int32], growing: NDArray[np.int32], closed: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn the numbers of a box's regions into those of its members' regions.

    Parameters
    ----------
    code : (n,) int32 array
        The box's `Box.code`.
    growing : (g,) int32 array
        Final numbers of the regions that grew beyond the box, as its parent handed them down.
    closed : (c,) int32 array
        Final numbers of the regions that became complete in it.

    Returns
    -------
    (n,) int32 array
        The final number of each member's region (or, for a block, of each label), 0 for dropped ones.
    """
    table = np.concatenate((closed[::-1], np.zeros(1, np.int32), growing))
    final: NDArray[np.int32] = table[code + np.int32(closed.size)]
    return final
