r"""Is it one membrane? Evidence for and against every two patches that come near each other.

    for:      excess = sqrt(max(rms_joint^2 - rms_own^2, 0)) small: **one paraboloid fits both as well as each its own**
    against:  elements of one that look straight at the other, |normal . step| 2.5 to 10 voxels: two sheets
    weak:     front = sqrt(12 var(middles of the contacts)) short: a tongue of one happens to point at the other

A contact is a pair of elements of two patches whose connecting step runs along both: the patches may continue each
other across a gap. Around its middle the elements of both within half the gap plus 7 voxels are fitted, jointly and
each side alone; both sides weigh the same. Continuing pieces of one membrane, whatever its shape, give 0.2-0.8 voxels
over gaps of 12; neighbours that touch, or that run in parallel, bend away from each other and give 1-4. Facing is no
evidence within one patch: a folded membrane faces itself. The front is the length of the line along which the two
come near each other: a membrane that lost a band goes on along a front as long as its pieces are wide.
Lengths in voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.separate.paraboloid import TERMS, add_element, joint_excess, mean_normal, set_frame
from cryoscale.separate.surfels import Doubles, Ints, Surfels, bin_elements, cell_range, step_between

__all__ = ["Evidence", "facing", "weigh"]

GAP = 14.0
"""Longest step of a contact, between middles of the outermost windows: the voxels are up to 4 nearer."""
FACING_REACH = 10.5
OTHERS = 16
"""Patches considered around one element."""
AROUND = 7.0
SPREAD = 4.0
"""Contacts this much longer than a pair's shortest are left out."""
MOST = 40
"""Contacts fitted for a pair of patches."""
FEWEST = 6
"""Elements on either side of a fit."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against pairs of patches."""

    pair: Ints
    """(k, 2) patches with contacts, first < second."""
    contacts: Ints
    """(k,) contacts fitted."""
    excess: Doubles
    """(k,) median over the contacts of what the joint paraboloid fits worse than the separate ones, voxels."""
    front: Doubles
    """(k,) length of the line along which the two come near each other, voxels."""
    step: Doubles
    """(k,) shortest contact, voxels."""
    looks: Ints
    """(j, 2) patch, and the patch that its elements face; not symmetric."""
    count: Ints
    """(j,) elements of the first that face the second."""


@njit(cache=True, nogil=True)
def _meet(position, normal, patch, order, key, corner, shape, edge, gap, write, contact, length, look):  # type: ignore[no-untyped-def]
    """For each element and patch near it, the nearest element that continues it, and whether the patch faces it."""
    other, nearest, partner = np.empty(OTHERS, np.int64), np.empty(OTHERS), np.empty(OTHERS, np.int64)
    faced = np.empty(OTHERS, np.bool_)
    contacts = looks = 0
    for i in range(len(position)):
        known = 0
        for cell in range(9):
            a, b = cell_range(key, corner, shape, edge, position[i], cell // 3 - 1, cell % 3 - 1)
            for t in range(a, b):
                j = order[t]
                if patch[j] == patch[i]:
                    continue
                square, up, down, cosine = step_between(position, normal, i, j)
                if square > edge * edge:
                    continue
                up, down, cosine = abs(up), abs(down), abs(cosine)
                far = np.sqrt(square)
                along = far <= gap and max(up, down) <= 0.65 * far + 0.5 and cosine > 0.2
                across = cosine > 0.7 and 2.5 < up < 10.0 and square - up * up < 4.0
                if not along and not across:
                    continue
                s = 0
                while s < known and other[s] != patch[j]:
                    s += 1
                if s == OTHERS:
                    continue
                if s == known:
                    other[s], nearest[s], partner[s], faced[s] = patch[j], np.inf, -1, False
                    known += 1
                faced[s] |= across
                if along and far < nearest[s]:
                    nearest[s], partner[s] = far, j
        for s in range(known):
            if partner[s] >= 0:
                if write:
                    contact[contacts, 0], contact[contacts, 1], length[contacts] = i, partner[s], nearest[s]
                contacts += 1
            if faced[s]:
                if write:
                    look[looks, 0], look[looks, 1] = i, other[s]
                looks += 1
    return contacts, looks


def _meetings(surfels: Surfels, reach: float, gap: float) -> tuple[Ints, Doubles, Ints]:
    """Contacts (k, 2) elements and their lengths (k,), and looks (j, 2): element, patch that faces it."""
    bins = bin_elements(surfels.position, reach)
    inputs = (surfels.position, surfels.normal, surfels.patch)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    contact, length, look = np.zeros((0, 2), np.int64), np.zeros(0), np.zeros((0, 2), np.int64)
    contacts, looks = _meet(*inputs, *cells, gap, False, contact, length, look)
    contact, length, look = np.zeros((contacts, 2), np.int64), np.zeros(contacts), np.zeros((looks, 2), np.int64)
    _meet(*inputs, *cells, gap, True, contact, length, look)
    return contact, length, look


def facing(surfels: Surfels) -> tuple[Ints, Ints]:
    """Find elements that look straight at another patch 2.5 to 10 voxels away.

    Parameters
    ----------
    surfels : Surfels

    Returns
    -------
    element, patch : (j,) int64 arrays
        Each element at most once with each patch.
    """
    _, _, look = _meetings(surfels, FACING_REACH, 0.0)
    return look[:, 0], look[:, 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _excesses(position, normal, patch, order, key, corner, shape, edge, contact, length):  # type: ignore[no-untyped-def]
    """Excess of the joint paraboloid at each contact; NaN where a side has too few elements."""
    excess = np.full(len(contact), np.nan)
    frame, work, f, c = np.empty((3, 3)), np.empty((TERMS, TERMS)), np.empty(TERMS), np.empty(TERMS)
    matrix, vector, heights, centre = np.empty((3, TERMS, TERMS)), np.empty((3, TERMS)), np.empty(2), np.empty(3)
    n = np.empty(3)
    for k in range(len(contact)):
        a, b = contact[k]
        mean_normal(normal[a], normal[b], n)
        set_frame(n[0], n[1], n[2], frame)
        for axis in range(3):
            centre[axis] = 0.5 * (position[a, axis] + position[b, axis])
        radius = 0.5 * length[k] + AROUND
        matrix[:], vector[:], heights[:] = 0.0, 0.0, 0.0
        for cell in range(9):
            low, high = cell_range(key, corner, shape, edge, centre, cell // 3 - 1, cell % 3 - 1)
            for t in range(low, high):
                i = order[t]
                if patch[i] != patch[a] and patch[i] != patch[b]:
                    continue
                square = turn = 0.0
                for axis in range(3):
                    square += (position[i, axis] - centre[axis]) ** 2
                    turn += normal[i, axis] * n[axis]
                if square > radius * radius or abs(turn) < 0.5:
                    continue
                side = 0 if patch[i] == patch[a] else 1
                h = add_element(frame, position[i], centre, radius, 0.75 * radius, f, matrix[side], vector[side])
                if not np.isnan(h):
                    heights[side] += h * h
        if min(matrix[0, 0, 0], matrix[1, 0, 0]) < FEWEST:
            continue
        excess[k] = joint_excess(matrix, vector, heights, work, c)
    return excess


def _shorter(pair: Ints, length: Doubles) -> Ints:
    """Rows of the contacts at most `SPREAD` longer than their pair's shortest; by pair, then length."""
    order = np.lexsort((length, pair))
    _, first, count = np.unique(pair[order], return_index=True, return_counts=True)
    return np.asarray(order[length[order] <= np.repeat(length[order][first], count) + SPREAD])


def _chosen(first: Ints, count: Ints) -> NDArray[np.bool_]:
    """Which of the shorter contacts are fitted: at most `MOST` of each pair, spread over all of them."""
    rank = np.arange(count.sum()) - np.repeat(first, count)
    return np.asarray(rank % np.repeat(-(-count // MOST), count) == 0)


def _fronts(place: Doubles, first: Ints, count: Ints) -> Doubles:
    """Length of a line with the same spread as the places (n, 3) of each pair."""
    if not first.size:
        return np.zeros(0)
    mean = np.add.reduceat(place, first) / count[:, None]
    square = np.add.reduceat((place - np.repeat(mean, count, axis=0)) ** 2, first).sum(1)
    return np.asarray(np.sqrt(12.0 * square / count))


def weigh(surfels: Surfels, *, gap: float = GAP) -> Evidence:
    """Collect the evidence for and against all pairs of patches that come near each other.

    Parameters
    ----------
    surfels : Surfels
        All of them in a patch.
    gap : float
        Longest step between continuing elements, voxels.

    Returns
    -------
    Evidence
        By pair.
    """
    contact, length, look = _meetings(surfels, max(gap, FACING_REACH), gap)
    looks, faced = np.unique(np.stack([surfels.patch[look[:, 0]], look[:, 1]], 1), axis=0, return_counts=True)
    ends = np.sort(surfels.patch[contact], 1)
    span = int(surfels.patch.max(initial=0)) + 1
    rows = _shorter(ends[:, 0] * span + ends[:, 1], length)
    ends, contact, length = ends[rows], contact[rows], length[rows]
    pair, first, count = np.unique(ends, axis=0, return_index=True, return_counts=True)
    front = _fronts(surfels.position[contact].mean(1), first, count)
    fitted = _chosen(first, count)
    excess = np.full(len(contact), np.nan)
    excess[fitted] = _fitted(surfels, contact[fitted], length[fitted], 0.5 * gap + AROUND)
    parts = [part[~np.isnan(part)] for part in (np.split(excess, first[1:]) if first.size else [])]
    known = np.array([part.size > 0 for part in parts], np.bool_)
    medians = np.array([np.median(part) for part in parts if part.size], np.float64)
    fits = np.array([part.size for part in parts if part.size], np.int64)
    return Evidence(pair[known], fits, medians, front[known], length[first][known], looks, faced)


def _fitted(surfels: Surfels, contact: Ints, length: Doubles, radius: float) -> Doubles:
    """Excess at each contact."""
    bins = bin_elements(surfels.position, radius)
    inputs = (surfels.position, surfels.normal, surfels.patch)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    return np.asarray(_excesses(*inputs, *cells, contact, length))
