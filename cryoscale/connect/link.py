"""From slices to membranes in 3-D: pieces of neighbouring slices that lie over each other are one membrane.

A pixel of one slice votes for the piece of the next slice that is nearest to it, if one is within r pixels::

    o(P, Q) = votes of P for Q + votes of Q for P,      enough where votes of P >= s |P| or votes of Q >= s |Q|

1. P and Q of neighbouring slices are linked where each is the other's best partner: of all pieces with enough votes the
   one with the largest o. So a piece that lies over two is linked to the one it overlaps more, and every chain of
   links has one piece in a slice.
2. A chain may end at a piece of another chain, its host: one slice has joined what the next has not, and one of the two
   is wrong. The slices vote. The two were seen as two in as many slices as the chain has, and as one in those that the
   host has beyond the end; or, if a further chain leaves the host in the same place (the boxes of the two ends have
   half of their hull in common), in the slices in between, and as two in those of the shorter chain. Seen as one as
   often as not, chain and host are one membrane, of which some arcs were not joined; otherwise they are two that were
   joined by mistake, and the two chains on either side are one.

All decisions are made on whole numbers, in an order that the pieces' rows decide, so that the answer is the same
however the slices are spread over units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cryoscale.connect.pieces import Pieces

__all__ = ["REACH_PIXELS", "SHARE", "Overlaps", "link_pieces", "slice_overlaps"]

REACH_PIXELS = 2.0
"""A pixel votes for the nearest piece of the next slice within this distance."""
SHARE = 0.2
"""Share of a piece's pixels that must vote for another before they can be one membrane."""

_SAME_PLACE = 0.5
"""Share of the hull of two boxes that they have in common where they are the same place."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of pieces of neighbouring slices and their votes for each other."""

    pairs: NDArray[np.int64]
    """(m, 2) rows of the piece in the lower slice (smaller z) and of the one in the upper; sorted, each pair once."""
    votes: NDArray[np.int64]
    """(m, 2) pixels of the first that vote for the second, and of the second for the first."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _votes(labels: NDArray[np.int32], other: NDArray[np.int32], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k, 2) for each pixel that has a piece within reach in `other`: its own piece, and the nearest one there."""
    ny, nx = labels.shape
    found = np.empty((np.count_nonzero(labels), 2), np.int64)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if labels[y, x] == 0:
                continue
            for k in range(steps.shape[0]):
                v, u = y + steps[k, 0], x + steps[k, 1]
                if 0 <= v < ny and 0 <= u < nx and other[v, u] > 0:
                    found[count, 0], found[count, 1] = labels[y, x], other[v, u]
                    count += 1
                    break
    out: NDArray[np.int64] = found[:count]
    return out


def _disc(reach_pixels: float) -> NDArray[np.int64]:
    """(k, 2) steps y, x of at most `reach_pixels`, nearest first, in raster order where equally near."""
    reach = math.floor(reach_pixels)
    steps = np.array([(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)], np.int64)
    squared = (steps**2).sum(axis=1)
    order = np.argsort(squared, kind="stable")
    near: NDArray[np.int64] = steps[order][squared[order] <= reach_pixels**2]
    return near


def slice_overlaps(lower: NDArray[np.int32], upper: NDArray[np.int32], reach_pixels: float = REACH_PIXELS) -> Overlaps:
    """Let the pixels of two neighbouring slices vote for each other's pieces.

    Parameters
    ----------
    lower, upper : (ny, nx) int32 array
        Numbers of pieces, 1 and up; 0 is background. The slice with the smaller z is the lower.
    reach_pixels : float
        A pixel votes for the nearest piece within this distance in the plane.

    Returns
    -------
    Overlaps
        Row k of its pairs holds numbers of pieces less 1.

    Raises
    ------
    ValueError
        The shapes differ, or the distance is negative.
    """
    if lower.shape != upper.shape or lower.ndim != 2:
        msg = f"two slices of one shape are needed, not {lower.shape} and {upper.shape}"
        raise ValueError(msg)
    if not reach_pixels >= 0:
        msg = f"reach_pixels must be 0 or more, not {reach_pixels}"
        raise ValueError(msg)
    steps = _disc(reach_pixels)
    up, down = _votes(lower, upper, steps), _votes(upper, lower, steps)[:, ::-1]
    both = np.concatenate([up, down]) - 1
    # One number for a pair sorts many times faster than a row of two.
    most = int(upper.max(initial=0)) + 1
    found, where = np.unique(both[:, 0] * most + both[:, 1], return_inverse=True)
    votes = np.zeros((len(found), 2), np.int64)
    np.add.at(votes, (where, np.repeat([0, 1], [len(up), len(down)])), 1)
    return Overlaps(np.stack([found // most, found % most], axis=1), votes)


def _best(own: NDArray[np.int64], other: NDArray[np.int64], weight: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) best partner of each piece, -1 where it has none; the first row where two are equally good."""
    best = np.full(count, -1, np.int64)
    order = np.lexsort((-other, weight, own))
    # The last of each run of equal `own` is the largest weight, and there the smallest row.
    best[own[order]] = other[order]
    return best


def link_pieces(pieces: Pieces, overlaps: Overlaps, *, share: float = SHARE) -> NDArray[np.int64]:
    """Group the pieces of all slices into membranes.

    Parameters
    ----------
    pieces : Pieces
        Those of all slices, in order of z.
    overlaps : Overlaps
        Between rows of `pieces`.
    share : float
        The share s of a piece's pixels that must vote, above 0 to 1.

    Returns
    -------
    (n,) int64 array
        A number for each piece, the same for those of one membrane.

    Raises
    ------
    ValueError
        The share is out of range.
    """
    if not 0 < share <= 1:
        msg = f"share must be above 0 and at most 1, not {share}"
        raise ValueError(msg)
    size = pieces.voxels[overlaps.pairs]
    enough = (overlaps.votes >= share * size).any(axis=1)
    lower, upper = overlaps.pairs[enough].T
    weight = overlaps.votes[enough].sum(axis=1)
    above = _best(lower, upper, weight, len(pieces))
    below = _best(upper, lower, weight, len(pieces))
    rows = np.flatnonzero(above >= 0)
    mutual = rows[below[above[rows]] == rows]
    graph = coo_array((np.ones(mutual.size, np.int8), (mutual, above[mutual])), (len(pieces), len(pieces)))
    chain = connected_components(graph, directed=False)[1].astype(np.int64)
    return _join_chains(pieces, chain, below, above)


def _join_chains(
    pieces: Pieces, chain: NDArray[np.int64], below: NDArray[np.int64], above: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Let the slices vote wherever a chain ends at another one."""
    count = int(chain.max(initial=-1)) + 1
    # Rows ascend with z: the first row of a chain is its lower end, the last its upper.
    first, last = np.full(count, chain.size, np.int64), np.full(count, -1, np.int64)
    np.minimum.at(first, chain, np.arange(chain.size))
    np.maximum.at(last, chain, np.arange(chain.size))
    hosts = [np.append(chain, -1)[rows] for rows in (below[first], above[last])]
    z, box = pieces.box[:, 0], pieces.box[:, [1, 2, 4, 5]].tolist()
    upwards = _votes_at_ends(_Ends(first, last, hosts[0], hosts[1], z), box)
    downwards = _votes_at_ends(_Ends(last, first, hosts[1], hosts[0], -z), box)
    joined = np.array(upwards + downwards, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), (count, count))
    group: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return group[chain]


@dataclass(frozen=True)
class _Ends:
    """Chains as one walks along z, upwards or downwards."""

    start: NDArray[np.int64]
    """(n,) row of the piece where each begins."""
    stop: NDArray[np.int64]
    """(n,) row of the piece where it ends."""
    start_host: NDArray[np.int64]
    """(n,) chain that it leaves where it begins, -1 for none."""
    stop_host: NDArray[np.int64]
    """(n,) chain that it runs into where it ends, -1 for none."""
    z: NDArray[np.int64]
    """Slice of each piece, ascending along the walk."""


def _votes_at_ends(ends: _Ends, box: list[list[int]]) -> list[tuple[int, int]]:
    """Return pairs of chains that are one membrane, judged where one of them ends at another."""
    start, stop, host = ends.start.tolist(), ends.stop.tolist(), ends.stop_host.tolist()
    begins, stops = ends.z[ends.start].tolist(), ends.z[ends.stop].tolist()
    leaving = defaultdict(list)
    for member in np.argsort(ends.z[ends.start], kind="stable").tolist():
        leaving[int(ends.start_host[member])].append(member)
    joined = []
    for member in np.flatnonzero(ends.stop_host >= 0).tolist():
        end = stops[member]
        as_two, as_one, partner = end - begins[member] + 1, stops[host[member]] - end, -1
        for other in leaving[host[member]]:
            if begins[other] > end + 1 and _same_place(box[stop[member]], box[start[other]]):
                as_two = min(as_two, stops[other] - begins[other] + 1)
                as_one, partner = begins[other] - 1 - end, other
                break
        if as_one >= as_two:
            joined.append((member, host[member]))
        elif partner >= 0:
            joined.append((member, partner))
    return joined


def _same_place(a: list[int], b: list[int]) -> bool:
    """Whether two boxes y0, x0, y1, x1 have half of their hull in common."""
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return high > 0 and wide > 0 and high * wide >= _SAME_PLACE * hull
