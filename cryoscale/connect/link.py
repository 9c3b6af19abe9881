"""From slices to membranes in 3-D: pieces of neighbouring slices that lie over each other are one membrane.

A pixel of one slice votes for the piece of the next slice that is nearest to it, if one is within r pixels::

    o(P, Q) = votes of P for Q + votes of Q for P,      enough where votes of P >= s |P| or votes of Q >= s |Q|

1. P and Q of neighbouring slices are linked where each is the other's best partner: of all pieces with enough votes the
   one with the largest o. So a piece that lies over two is linked to the one it overlaps more, and every chain of
   links has one piece in a slice.
2. A chain may end at a piece of another chain, its host: one slice has joined what the next has not, and one of the two
   is wrong. A chain that leaves the same host further on, in the same place (the boxes of the two ends have half of
   their hull in common), is its continuation. The slices vote: a row of chains and its host were seen as two in as many
   slices as the chains have, and as one in those between the chains and beyond them, as far as the host goes. With at
   least two thirds as many slices for one as for two they are one membrane, of which some arcs were not joined (slices
   lose joins more often than they invent them); otherwise they are two that were joined by mistake.

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

from cryoscale.regions import Regions

__all__ = ["REACH_PIXELS", "SHARE", "Overlaps", "link_pieces", "slice_overlaps"]

REACH_PIXELS = 2.0
"""A pixel votes for the nearest piece of the next slice within this distance."""
SHARE = 0.2
"""Share of a piece's pixels that must vote for another before they can be one membrane."""

_FOR_ONE, _FOR_TWO = 3, 2
"""Weights of slices that saw one membrane, and of slices that saw two."""
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


def link_pieces(pieces: Regions, overlaps: Overlaps, *, share: float = SHARE) -> NDArray[np.int64]:
    """Group the pieces of all slices into membranes.

    Parameters
    ----------
    pieces : Regions
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
    chain = _components(len(pieces), np.stack([mutual, above[mutual]], axis=1))
    return _join_chains(pieces, chain, below, above)


def _join_chains(
    pieces: Regions, chain: NDArray[np.int64], below: NDArray[np.int64], above: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Let the slices vote wherever a chain ends at another one."""
    count = int(chain.max(initial=-1)) + 1
    # Rows ascend with z: the first row of a chain is its lower end, the last its upper.
    first, last = np.full(count, chain.size, np.int64), np.full(count, -1, np.int64)
    np.minimum.at(first, chain, np.arange(chain.size))
    np.maximum.at(last, chain, np.arange(chain.size))
    lower, upper = (np.append(chain, -1)[rows] for rows in (below[first], above[last]))
    z, box = pieces.box[:, 0], pieces.box[:, [1, 2, 4, 5]]
    ends = _Ends(z[first], z[last], lower, upper, box[first], box[last])
    links = _vote(ends, _following(ends))
    group: NDArray[np.int64] = _components(count, links)
    return group[chain]


def _components(count: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


@dataclass(frozen=True)
class _Ends:
    """Where chains begin and end."""

    begin: NDArray[np.int64]
    """(n,) slice of the lower end."""
    end: NDArray[np.int64]
    """(n,) slice of the upper end."""
    lower: NDArray[np.int64]
    """(n,) chain below that the lower end lies on, -1 for none."""
    upper: NDArray[np.int64]
    """(n,) chain above that the upper end lies on, -1 for none."""
    begin_box: NDArray[np.int64]
    """(n, 4) box y0, x0, y1, x1 of the piece at the lower end."""
    end_box: NDArray[np.int64]
    """(n, 4) the same at the upper end."""


def _following(ends: _Ends) -> NDArray[np.int64]:
    """(n,) the chain that leaves the host above in the place where each chain ran into it, -1 for none."""
    begin, end = ends.begin.tolist(), ends.end.tolist()
    begin_box, end_box = ends.begin_box.tolist(), ends.end_box.tolist()
    leaving = defaultdict(list)
    for member in np.argsort(ends.begin, kind="stable").tolist():
        leaving[int(ends.lower[member])].append(member)
    following = np.full(len(begin), -1, np.int64)
    for member in np.flatnonzero(ends.upper >= 0).tolist():
        for other in leaving[int(ends.upper[member])]:
            if begin[other] > end[member] + 1 and _same_place(end_box[member], begin_box[other]):
                following[member] = other
                break
    return following


def _vote(ends: _Ends, following: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, 2) pairs of chains that are one membrane, after a vote of the slices for every row of chains that follow."""
    count = len(following)
    led = np.flatnonzero(following >= 0)
    rows = _components(count, np.stack([led, following[led]], axis=1))
    as_two = np.bincount(rows, ends.end - ends.begin + 1, minlength=count)
    above, below = ends.upper >= 0, ends.lower >= 0
    below[following[led]] = False
    # Slices in which the host alone is there: up to the next chain of the row, or as far as the host goes.
    past = np.where(following >= 0, ends.begin[following] - 1, ends.end[ends.upper])
    run_above = np.where(above, past - ends.end, 0)
    run_below = np.where(below, ends.begin - ends.begin[ends.lower], 0)
    as_one = np.bincount(rows, run_above + run_below, minlength=count)
    one = (_FOR_ONE * as_one >= _FOR_TWO * as_two)[rows]
    hosts = np.where(run_above >= run_below, ends.upper, ends.lower)
    own = np.flatnonzero(one & (run_above + run_below > 0))
    return np.concatenate([np.stack([led, following[led]], axis=1), np.stack([own, hosts[own]], axis=1)])


def _same_place(a: list[int], b: list[int]) -> bool:
    """Whether two boxes y0, x0, y1, x1 have half of their hull in common."""
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return high > 0 and wide > 0 and high * wide >= _SAME_PLACE * hull
