r"""Bridges: how well one surface goes on across a wide gap, measured against the same membranes without one.

    excess^2 = max over sides (rms_joint^2 - rms_own^2),     own = the excess over a gap that is not there

Where two membranes end opposite each other (`edges`), the elements of both within half the gap plus w of its middle
are fitted by paraboloids, jointly and each side alone, as in `evidence`. How far the joint one may be off depends on
the gap, on the membrane's curvature and on how smooth it is, and nobody knows it beforehand. But either side tells:
from its edge one walks inwards along its own surface, w and then the length of the gap, takes what lies between away,
and asks the same question. What this gives is the error of continuing *this* membrane over *this* gap.

w = max(8, gap / 2). Nothing may stand in between: the joint surface is sampled where the gap is, and counts as blocked
where it passes within 2 voxels of any element. Lengths in voxels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.separate.edges import Fronts, cells_in_row
from cryoscale.separate.paraboloid import TERMS, add_element, joint_excess, mean_normal, set_frame
from cryoscale.separate.surfels import Bins, Doubles, Ints, Surfels, bin_elements

__all__ = ["Bridges", "weigh_bridges"]

SHALLOWEST = 8.0
DEPTH = 0.5
"""Of the gap: how deep a side is fitted; at least `SHALLOWEST`."""
LONGER = 1.3
SPREAD = 4.0
"""Contacts longer than 1.3 times a pair's shortest, plus this, are not fitted."""
MOST = 30
"""Contacts fitted for a pair."""
FEWEST = 12
"""Elements on either side of a fit."""
TALL = 0.75
"""Elements higher than this, of the window's radius, are left out: the far side of a narrow vesicle."""
BRIM = 1.5
"""Elements this far ahead of the end of their side still belong to it."""
STRIDE = 2.0
STRAY = 3.0
"""Walking inwards, the surface is this near the next stride's end."""
NEAR = 2.0
CELLS = 6.0
"""Edge of a cell of elements."""


@dataclass(frozen=True)
class Bridges:
    """What is known about the gaps between pairs of membranes."""

    pair: Ints
    """(k, 2) membranes, first < second."""
    gap: Doubles
    """(k,) length of the contacts that were fitted, median."""
    excess: Doubles
    """(k,) of the joint surface, median over the contacts."""
    own: Doubles
    """(k, 2) the same over a gap within either membrane; NaN where it is not deep enough to tell."""
    front: Doubles
    """(k,) length of the line along which those contacts lie, voxels."""
    blocked: Doubles
    """(k,) share of the contacts with something in between."""


@njit(cache=True, nogil=True)
def _blocked(position, order, key, corner, shape, edge, frame, c, centre, radius, ahead):  # type: ignore[no-untyped-def]
    """Whether the joint surface passes an element around the middle of the gap."""
    u = v = 0.0
    for axis in range(3):
        u += ahead[axis] * frame[1, axis]
        v += ahead[axis] * frame[2, axis]
    place = np.empty(3)
    for t in (-0.3, 0.0, 0.3):
        a, b = t * u / radius, t * v / radius
        h = c[0] + c[1] * a + c[2] * b + c[3] * a * a + c[4] * a * b + c[5] * b * b
        for axis in range(3):
            place[axis] = centre[axis] + h * frame[0, axis] + radius * (a * frame[1, axis] + b * frame[2, axis])
        for row in range(9):
            low, high = cells_in_row(key, corner, shape, edge, place, row // 3 - 1, row % 3 - 1, NEAR)
            for s in range(low, high):
                square = 0.0
                for axis in range(3):
                    square += (position[order[s], axis] - place[axis]) ** 2
                if square < NEAR * NEAR:
                    return True
    return False


@njit(cache=True, nogil=True)
def _across(position, normal, patch, order, key, corner, shape, edge, ends, turns, owner, depth, excess, blocked):  # type: ignore[no-untyped-def]
    """Excess of the joint paraboloid between ends[q, 0] and ends[q, 1]; NaN where a side has too few elements."""
    frame, work, f, c = np.empty((3, 3)), np.empty((TERMS, TERMS)), np.empty(TERMS), np.empty(TERMS)
    matrix, vector, heights = np.empty((3, TERMS, TERMS)), np.empty((3, TERMS)), np.empty(2)
    n, ahead, centre = np.empty(3), np.empty(3), np.empty(3)
    for q in range(len(ends)):
        excess[q] = np.nan
        mean_normal(turns[q, 0], turns[q, 1], n)
        set_frame(n[0], n[1], n[2], frame)
        square = 0.0
        for axis in range(3):
            ahead[axis], centre[axis] = ends[q, 1, axis] - ends[q, 0, axis], 0.5 * (ends[q, 0, axis] + ends[q, 1, axis])
            square += ahead[axis] * ahead[axis]
        gap = np.sqrt(square)
        radius = 0.5 * gap + depth[q]
        matrix[:], vector[:], heights[:] = 0.0, 0.0, 0.0
        rows = int(np.ceil(radius / edge))
        for row in range((2 * rows + 1) ** 2):
            dz, dy = row // (2 * rows + 1) - rows, row % (2 * rows + 1) - rows
            low, high = cells_in_row(key, corner, shape, edge, centre, dz, dy, radius)
            for s in range(low, high):
                i = order[s]
                if patch[i] != owner[q, 0] and patch[i] != owner[q, 1]:
                    continue
                square = turn = along = 0.0
                for axis in range(3):
                    d = position[i, axis] - centre[axis]
                    square += d * d
                    turn += normal[i, axis] * n[axis]
                    along += d * ahead[axis]
                along /= gap
                if square > radius * radius or abs(turn) < 0.5 or abs(along) < 0.5 * gap - BRIM:
                    continue
                side = 0 if along < 0.0 else 1
                if patch[i] != owner[q, side]:
                    continue
                h = add_element(frame, position[i], centre, radius, TALL * radius, f, matrix[side], vector[side])
                if not np.isnan(h):
                    heights[side] += h * h
        if min(matrix[0, 0, 0], matrix[1, 0, 0]) < FEWEST:
            continue
        excess[q] = joint_excess(matrix, vector, heights, work, c)
        blocked[q] = _blocked(position, order, key, corner, shape, edge, frame, c, centre, radius, ahead)


@njit(cache=True, nogil=True)
def _nearest_on(position, normal, patch, order, key, corner, shape, edge, place, n, owner):  # type: ignore[no-untyped-def]
    """Nearest element of a membrane to a place on its surface, turned like the last one; -1 if there is none."""
    best, found = STRAY * STRAY, -1
    for row in range(9):
        low, high = cells_in_row(key, corner, shape, edge, place, row // 3 - 1, row % 3 - 1, STRAY)
        for s in range(low, high):
            i = order[s]
            square = cosine = 0.0
            for axis in range(3):
                square += (position[i, axis] - place[axis]) ** 2
                cosine += normal[i, axis] * n[axis]
            if patch[i] == owner and square < best and abs(cosine) > 0.6:
                best, found = square, i
    return found


@njit(cache=True, nogil=True)
def _inwards(position, normal, patch, order, key, corner, shape, edge, begin, outward, depth, gap, ends, turns, whole):  # type: ignore[no-untyped-def]
    """Walk from edge elements into their membrane; the places after `depth` and `depth + gap`, if it is that deep."""
    place, target, n, d = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for q in range(len(begin)):
        owner, gone, state = patch[begin[q]], 0.0, 0
        for axis in range(3):
            place[axis], d[axis] = position[begin[q], axis], -outward[begin[q], axis]
            n[axis] = normal[begin[q], axis]
        while state < 2:
            for axis in range(3):
                target[axis] = place[axis] + STRIDE * d[axis]
            i = _nearest_on(position, normal, patch, order, key, corner, shape, edge, target, n, owner)
            if i < 0:
                break
            above = square = along = flat = 0.0
            for axis in range(3):
                n[axis] = normal[i, axis]
                above += (target[axis] - position[i, axis]) * n[axis]
            for axis in range(3):
                target[axis] -= above * n[axis]
                d[axis] = target[axis] - place[axis]
                square += d[axis] * d[axis]
                along += d[axis] * n[axis]
            length = np.sqrt(square)
            if length < 0.25 * STRIDE:
                break
            for axis in range(3):
                d[axis] -= along * n[axis]
                flat += d[axis] * d[axis]
                place[axis] = target[axis]
            for axis in range(3):
                d[axis] /= max(np.sqrt(flat), 1e-12)
            gone += length
            if gone >= depth[q] + state * gap[q]:
                for axis in range(3):
                    ends[q, state, axis], turns[q, state, axis] = place[axis], n[axis]
                state += 1
        whole[q] = state == 2


def _median(values: Doubles) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _excess(
    surfels: Surfels, bins: Bins, ends: Doubles, turns: Doubles, owner: Ints, depth: Doubles
) -> tuple[Doubles, Doubles]:
    excess, blocked = np.full(len(ends), np.nan), np.zeros(len(ends))
    inputs = (surfels.position, surfels.normal, surfels.patch)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    _across(*inputs, *cells, ends, turns, owner, depth, excess, blocked)
    return excess, blocked


def _own(surfels: Surfels, bins: Bins, begin: Ints, outward: Doubles, depth: Doubles, gap: Doubles) -> float:
    """Excess over the same gap within the membrane that the edge elements belong to."""
    ends, turns = np.zeros((begin.size, 2, 3)), np.zeros((begin.size, 2, 3))
    whole: NDArray[np.bool_] = np.zeros(begin.size, np.bool_)
    inputs = (surfels.position, surfels.normal, surfels.patch)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    _inwards(*inputs, *cells, begin, outward, depth, gap, ends, turns, whole)
    owner = np.stack([surfels.patch[begin]] * 2, 1)
    return _median(_excess(surfels, bins, ends[whole], turns[whole], owner[whole], depth[whole])[0])


def weigh_bridges(surfels: Surfels, fronts: Fronts, *, fewest: int) -> Bridges:
    """Find out how well membranes continue each other over the gaps between their edges.

    Parameters
    ----------
    surfels : Surfels
        All of them in a membrane.
    fronts : Fronts
        Between those.
    fewest : int
        Pairs with fewer contacts are left out.

    Returns
    -------
    Bridges
        By pair; pairs without a fit are left out.
    """
    bins = bin_elements(surfels.position, CELLS)
    weighed = [
        _weighed(surfels, bins, fronts, rows)
        for rows in itertools.starmap(slice, itertools.pairwise(fronts.first.tolist()))
        if rows.stop - rows.start >= fewest
    ]
    table = np.array(weighed, np.float64).reshape(-1, 6)
    pair = fronts.pair[np.diff(fronts.first) >= fewest]
    fitted = ~np.isnan(table[:, 1])
    table = table[fitted]
    return Bridges(pair[fitted], table[:, 0], table[:, 1], table[:, 2:4], table[:, 4], table[:, 5])


def _weighed(surfels: Surfels, bins: Bins, fronts: Fronts, rows: slice) -> tuple[float, ...]:
    """Gap, excess, own excess of either side, front and blocked share of one pair."""
    length = fronts.length[rows]
    short = np.flatnonzero(length <= LONGER * length[0] + SPREAD)
    place = surfels.position[fronts.contact[rows][short]].mean(1)
    short = short[:: -(-short.size // MOST)]
    gap, near = length[short], fronts.contact[rows][short]
    depth = np.maximum(SHALLOWEST, DEPTH * gap)
    excess, blocked = _excess(surfels, bins, surfels.position[near], surfels.normal[near], surfels.patch[near], depth)
    known = ~np.isnan(excess)
    if not known.any():
        return (np.nan,) * 6
    own = [_own(surfels, bins, near[:, side], fronts.outward, depth, gap) for side in range(2)]
    front = float(np.sqrt(12.0 * place.var(0).sum()))
    return float(np.median(gap)), float(np.median(excess[known])), *own, front, float(blocked[known].mean())
