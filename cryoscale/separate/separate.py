r"""Which voxels are one membrane: distance, orientation, curvature and the evidence of the gap.

    membranes = join(cut(patches(middle surface of the voxels))),     two patches are one where excess < 0.8 voxels

Distance alone (`merge_regions`) fuses membranes that touch and leaves apart the pieces of one membrane with a wider
gap. This is the predicate of statistical region merging (Nock and Nielsen, 2004; 4.2 of the paper) that looks at shape
instead. It takes the voxels of one group, grouped by a generous distance, and returns its membranes:

1. `sheets`: every voxel moves to the middle of its sheet. Touching sheets come apart.
2. `split`: what hangs together along the sheet is a patch; patches are cut where they are no smooth surface and where
   a narrow neck holds together sheets that face each other. `rims`: but not a fold into its two faces.
3. `evidence`: two patches are one membrane if one paraboloid fits both sides of the gap as well as each side
   alone, and unless they face each other. A tongue that points at another patch must fit it without a seam.
4. Pairs are joined best first. A join is refused if more than 15 % of the smaller partner's elements face the other
   one, counted over everything that has been joined to either.
5. The remaining voxels (seams, junctions, scraps) go to the membrane whose sheet, extended, is nearest.

Over wider gaps, within a group and from group to group, pieces are joined afterwards (`gaps`).

One set of numbers serves all data. They were chosen on simulated scenes and on real labels (a mitochondrion's among
them), are in voxels, and belong to membranes that are 1-6 voxels thick. What cannot
work: two membranes fused over their whole extent, without a crest each; a vesicle of a radius under about 4 voxels;
two membranes that end together and touch at that end alone (a rim, to all appearance); sheets that continue each other
and yet, in truth, are two. Where pieces end 10-14 voxels apart, right and wrong joins overlap: excess up to 0.8 and
from 0.2.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.separate.evidence import GAP, Evidence, weigh
from cryoscale.separate.rims import join_rims
from cryoscale.separate.rows import Rows, row_range, rows_of
from cryoscale.separate.sheets import Sheets, settle
from cryoscale.separate.split import SMALLEST_VOXELS, cut_junctions, cut_necks, link_voxels
from cryoscale.separate.surfels import CELL, Ints, Surfels, make_surfels

__all__ = ["ELEMENT_AREA", "FACING", "NARROW", "join_best_first", "join_patches", "separate_membranes", "take_apart"]

EXCESS = 0.8
ELEMENT_AREA = CELL * CELL
EXACT = 64.0
CONTACTS = 5
"""Fewest contacts that can join two patches."""
SEAMLESS = 0.15
"""Largest excess of two patches that a gap of at least"""
GAP_STEP = 4.0
"""voxels (the longest step within a patch) parts, and that come near each other along a front shorter than"""
NARROW = 0.5
"""of the square root of the smaller one's area."""
FACING = 0.15
"""Share of the smaller partner's elements that may face the other."""
CLAIM = 4.0
"""Reach of a membrane over voxels not yet its own, in one round;"""
ALONG = 0.2
"""what a squared step along the sheet costs, in squared steps across."""


def separate_membranes(
    points: NDArray[np.int32], *, gap_voxels: float = GAP, smooth_voxels: float = EXCESS
) -> NDArray[np.int32]:
    """Tell the membranes of one group of voxels apart.

    Parameters
    ----------
    points : (n, 3) int32 array
        z, y, x of the voxels of one group, in raster order, each once.
    gap_voxels : float
        Longest step between the middle surfaces of pieces that may be one membrane.
    smooth_voxels : float
        How much worse, root mean square, the joint surface may fit than the separate ones.

    Returns
    -------
    (n,) int32 array
        Membrane numbers 1, 2, ... in raster order of each one's first voxel; 0 for voxels that no membrane reaches. A
        group too small or too rough to have a surface is one membrane. The same for the same points moved elsewhere.

    Raises
    ------
    ValueError
        If the array is not (n, 3) integers in raster order.
    """
    return take_apart(points, gap_voxels=gap_voxels, smooth_voxels=smooth_voxels)[0]


def take_apart(
    points: NDArray[np.int32], *, gap_voxels: float = GAP, smooth_voxels: float = EXCESS
) -> tuple[NDArray[np.int32], Surfels]:
    """Tell the membranes of one group of voxels apart, and say where their middle surfaces are.

    Parameters
    ----------
    points, gap_voxels, smooth_voxels
        As for `separate_membranes`.

    Returns
    -------
    membrane : (n,) int32 array
        As from `separate_membranes`.
    surfels : Surfels
        Elements of membrane k + 1 in patch k, in the frame of the points and to 1/64 of a voxel, so that they are the
        same wherever the points are. None of a group without a surface.

    Raises
    ------
    ValueError
        If the array is not (n, 3) integers in raster order.
    """
    _check(points)
    alone, nothing = np.ones(len(points), np.int32), np.zeros((0, 3))
    if len(points) < SMALLEST_VOXELS:
        return alone, Surfels(nothing, nothing, np.zeros(0, np.int64))
    rows = rows_of(points)
    sheets = settle(rows)
    part = _parts(rows, sheets, gap_voxels, smooth_voxels)
    if part.max() < 0:
        return alone, Surfels(nothing, nothing, np.zeros(0, np.int64))
    left = -1
    while left != (left := int(np.count_nonzero(part < 0))):
        part = _claim(rows.points, rows.x, rows.start, rows.nz, rows.ny, sheets.middle, sheets.normal, part)
    membrane = _numbered(part)
    on = np.flatnonzero(membrane)
    surfels, _ = make_surfels(sheets.middle[on], sheets.normal[on], membrane[on].astype(np.int64) - 1)
    place = np.round(surfels.position * EXACT) / EXACT + points.min(0)
    return membrane, Surfels(place, surfels.normal, surfels.patch)


def _check(points: NDArray[np.int32]) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "i":
        msg = f"points must be integers of shape (n, 3), not {points.dtype} of shape {points.shape}"
        raise ValueError(msg)
    step = np.diff(points.astype(np.int64), axis=0)
    ahead = np.where(step[:, 0] != 0, step[:, 0], np.where(step[:, 1] != 0, step[:, 1], step[:, 2]))
    if (ahead <= 0).any():
        msg = f"points must be in raster order (z, y, x), each once; row {int(np.argmax(ahead <= 0)) + 1} is not"
        raise ValueError(msg)


def _parts(rows: Rows, sheets: Sheets, gap: float, smooth: float) -> Ints:
    """Membrane of each voxel that lies on a patch, -1 for the others."""
    part = link_voxels(rows, sheets)
    on = np.flatnonzero(part >= 0)
    if on.size == 0:
        return part
    surfels, element = make_surfels(sheets.middle[on], sheets.normal[on], part[on])
    uncut, every = surfels, np.ones(surfels.patch.size, np.bool_)
    for cut in (cut_junctions, cut_necks):
        surfels = surfels.take(every, cut(surfels))
    surfels = surfels.take(every, join_rims(uncut, surfels.patch))
    patch, kept = surfels.patch.copy(), surfels.patch >= 0
    if kept.any():
        there = surfels.take(kept, patch[kept])
        patch[kept] = join_patches(np.bincount(there.patch), weigh(there, gap=gap), smooth=smooth)[there.patch]
    part[on] = patch[element]
    return part


def join_patches(sizes: Ints, evidence: Evidence, *, smooth: float = EXCESS) -> Ints:
    """Join patches into membranes, the smoothest pair first, never two that face each other.

    Parameters
    ----------
    sizes : (p,) int64 array
        Elements of each patch.
    evidence : Evidence
    smooth : float
        Largest excess of a pair that may be joined, voxels.

    Returns
    -------
    (p,) int64 array
        The smallest patch of the membrane each patch belongs to.
    """
    wide = evidence.front >= NARROW * np.sqrt(ELEMENT_AREA * sizes[evidence.pair].min(1))
    limit = np.where(wide | (evidence.step < GAP_STEP), smooth, min(smooth, SEAMLESS))
    good = np.flatnonzero((evidence.excess < limit) & (evidence.contacts >= CONTACTS))
    order = good[np.argsort(evidence.excess[good], kind="stable")]
    return join_best_first(sizes, evidence.pair[order], evidence.looks, evidence.count)


def join_best_first(sizes: Ints, pairs: Ints, looks: Ints, count: Ints) -> Ints:
    """Join pairs in the given order, never two that face each other.

    Parameters
    ----------
    sizes : (p,) int64 array
        Elements of each patch.
    pairs : (k, 2) int64 array
        Patches that may be joined, the best pair first.
    looks : (j, 2) int64 array
        Patch, and the patch that its elements face.
    count : (j,) int64 array
        How many elements of the first do.

    Returns
    -------
    (p,) int64 array
        The smallest patch of the membrane each patch belongs to.
    """
    parent = np.arange(sizes.size)
    size = sizes.astype(np.float64)
    seen: list[dict[int, int]] = [{} for _ in range(sizes.size)]
    for (one, two), many in zip(looks.tolist(), count.tolist(), strict=True):
        seen[one][two] = many
        seen[two].setdefault(one, 0)
    for pair in pairs.tolist():
        one, two = sorted(_root(parent, patch) for patch in pair)
        small, large = (one, two) if size[one] < size[two] else (two, one)
        if one != two and seen[small].get(large, 0) <= FACING * size[small]:
            parent[two] = one
            size[one] += size[two]
            _hand_over(seen, two, one)
    return np.array([_root(parent, patch) for patch in range(sizes.size)], np.int64)


def _root(parent: Ints, patch: int) -> int:
    while parent[patch] != patch:
        patch = int(parent[patch])
    return patch


def _hand_over(looks: list[dict[int, int]], old: int, new: int) -> None:
    """Let everything that faces, or is faced by, `old` count for `new`."""
    for other, count in looks[old].items():
        back = looks[other].pop(old)
        if other != new:
            looks[new][other] = looks[new].get(other, 0) + count
            looks[other][new] = looks[other].get(new, 0) + back
    looks[old] = {}


@njit(cache=True, nogil=True)
def _claim(points, x, start, nz, ny, middle, normal, part):  # type: ignore[no-untyped-def]
    """Give voxels without a part that of the neighbour whose tangent plane is nearest."""
    result = part.copy()
    reach = int(CLAIM)
    for k in range(len(points)):
        if part[k] >= 0:
            continue
        z0, y0 = points[k, 0], points[k, 1]
        best = np.inf
        for z in range(max(z0 - reach, 0), min(z0 + reach + 1, nz)):
            for y in range(max(y0 - reach, 0), min(y0 + reach + 1, ny)):
                room = CLAIM * CLAIM - (z - z0) ** 2 - (y - y0) ** 2
                if room < 0.0:
                    continue
                room = np.sqrt(room)
                a, b = row_range(x, start[z * ny + y], start[z * ny + y + 1], x[k] - room, x[k] + room)
                for i in range(a, b):
                    if part[i] < 0:
                        continue
                    square = across = 0.0
                    for axis in range(3):
                        d = points[k, axis] - middle[i, axis]
                        square += d * d
                        across += d * normal[i, axis]
                    cost = across * across + ALONG * (square - across * across)
                    if cost < best:
                        best = cost
                        result[k] = part[i]
    return result


def _numbered(part: Ints) -> NDArray[np.int32]:
    """Replace parts by 1, 2, ... in order of their first voxels; what is below 0 becomes 0."""
    found, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    first = np.where(found < 0, -1, first)
    rank = np.empty(found.size, np.int32)
    rank[np.argsort(first)] = np.arange(found.size) + (1 if found[0] >= 0 else 0)
    return np.asarray(rank[inverse], np.int32)
