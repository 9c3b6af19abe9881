r"""Edges: where a membrane ends, which way it was going there, and what goes on opposite.

    lean(a) = |t| / r,     t = mean of (p - a) over the elements within r = 7 voxels of a along the surface,
    edge where lean(a) > 0.28,     outward direction = -t without its part along the normal

Inside a membrane the elements around one balance; at a straight edge they lie on one side, and lean is 4 / (3 pi) =
0.42. Elements a and b of two edges are a **contact** if each lies ahead of the other, (b - a) . out(a) > 0.7 |b - a|,
and the step between them does not leave either tangent plane by more than an arc of 80 degrees would. For an element
and another membrane only the nearest contact counts. Lengths in voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cryoscale.separate.surfels import Doubles, Ints, Surfels, bin_elements, connect, gather

__all__ = ["Fronts", "cells_in_row", "find_fronts"]

WINDOW = 7.0
LEAN = 0.28
FEWEST = 8
"""Elements of a window."""
AHEAD = 0.7
OUT_OF_PLANE = 0.65
SLACK = 1.5
"""Of the step in both, for the sake of short ones."""
PARTNERS = 32
"""Other membranes considered at one element of an edge."""
CELLS = 16.0
"""Edge of a cell of elements of edges."""


@dataclass(frozen=True)
class Fronts:
    """Contacts between the edges of membranes."""

    contact: Ints
    """(k, 2) elements, the one of the membrane with the smaller number first; by pair of membranes, then length."""
    length: Doubles
    """(k,) of the step between them."""
    pair: Ints
    """(j, 2) membranes, first < second."""
    first: Ints
    """(j + 1,) where each pair's contacts start."""
    outward: Doubles
    """(m, 3) unit vectors; zero where the surface does not end."""


@njit(cache=True, nogil=True)
def _outward(position, normal, start, other, result):  # type: ignore[no-untyped-def]
    seen, queue = np.full(len(position), -1, np.int64), np.empty(len(position), np.int64)
    mean = np.empty(3)
    for a in range(len(position)):
        found = gather(position, start, other, a, WINDOW, seen, queue)
        if found < FEWEST:
            continue
        mean[:] = 0.0
        for t in range(found):
            for axis in range(3):
                mean[axis] += position[queue[t], axis] - position[a, axis]
        above = square = 0.0
        for axis in range(3):
            mean[axis] /= found
            above += mean[axis] * normal[a, axis]
        for axis in range(3):
            mean[axis] -= above * normal[a, axis]
            square += mean[axis] * mean[axis]
        length = np.sqrt(square)
        if length > LEAN * WINDOW:
            for axis in range(3):
                result[a, axis] = -mean[axis] / length


@njit(cache=True, nogil=True)
def cells_in_row(key, corner, shape, edge, place, dz, dy, reach):  # type: ignore[no-untyped-def]
    """Return the range of the sorted elements in the cells within reach along x, in the row shifted by dz, dy cells."""
    z = min(max(int(np.floor((place[0] - corner[0]) / edge)) + 1, 0), shape[0] - 1) + dz
    y = min(max(int(np.floor((place[1] - corner[1]) / edge)) + 1, 0), shape[1] - 1) + dy
    if z < 0 or y < 0 or z >= shape[0] or y >= shape[1]:
        return 0, 0
    row = (z * shape[1] + y) * shape[2]
    low = max(int(np.floor((place[2] - reach - corner[2]) / edge)) + 1, 0)
    high = min(int(np.floor((place[2] + reach - corner[2]) / edge)) + 1, shape[2] - 1)
    if high < low:
        return 0, 0
    return np.searchsorted(key, row + low), np.searchsorted(key, row + high + 1)


@njit(cache=True, nogil=True)
def _meet(position, normal, outward, patch, reach, order, key, corner, shape, edge, contact, length):  # type: ignore[no-untyped-def]
    """Count contacts, and write them where there is room."""
    other, nearest, partner = np.empty(PARTNERS, np.int64), np.empty(PARTNERS), np.empty(PARTNERS, np.int64)
    count, room = 0, len(length)
    for i in range(len(position)):
        known = 0
        own = reach[patch[i]]
        rows = int(np.ceil(own / edge))
        for dz in range(-rows, rows + 1):
            for dy in range(-rows, rows + 1):
                a, b = cells_in_row(key, corner, shape, edge, position[i], dz, dy, own)
                for t in range(a, b):
                    j = order[t]
                    if patch[j] == patch[i]:
                        continue
                    square = ahead = back = up = down = 0.0
                    for axis in range(3):
                        d = position[j, axis] - position[i, axis]
                        square += d * d
                        ahead += d * outward[i, axis]
                        back -= d * outward[j, axis]
                        up += d * normal[i, axis]
                        down += d * normal[j, axis]
                    far = np.sqrt(square)
                    if far > own or far > reach[patch[j]] or min(ahead, back) < AHEAD * far - SLACK:
                        continue
                    if max(abs(up), abs(down)) > OUT_OF_PLANE * far + SLACK:
                        continue
                    s = 0
                    while s < known and other[s] != patch[j]:
                        s += 1
                    if s == PARTNERS:
                        continue
                    if s == known:
                        other[s], nearest[s] = patch[j], np.inf
                        known += 1
                    if far < nearest[s]:
                        nearest[s], partner[s] = far, j
        for s in range(known):
            if room:
                contact[count, 0], contact[count, 1], length[count] = i, partner[s], nearest[s]
            count += 1
    return count


def find_fronts(surfels: Surfels, reach: Doubles) -> Fronts:
    """Find where edges of membranes come towards each other.

    Parameters
    ----------
    surfels : Surfels
        All of them in a membrane.
    reach : (p,) float64 array
        Longest contact of each membrane, voxels.

    Returns
    -------
    Fronts
    """
    graph = connect(surfels)
    outward = np.zeros_like(surfels.position)
    _outward(surfels.position, surfels.normal, graph.start, graph.other, outward)
    edge = np.flatnonzero(outward.any(1) & (reach[surfels.patch] > 0))
    inputs = (surfels.position[edge], surfels.normal[edge], outward[edge], surfels.patch[edge], reach)
    bins = bin_elements(surfels.position[edge], CELLS)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    contact, length = np.zeros((0, 2), np.int64), np.zeros(0)
    count = _meet(*inputs, *cells, contact, length)
    contact, length = np.zeros((count, 2), np.int64), np.zeros(count)
    _meet(*inputs, *cells, contact, length)
    contact = edge[contact]
    ends = surfels.patch[contact]
    contact = np.where((ends[:, 0] > ends[:, 1])[:, None], contact[:, ::-1], contact)
    ends = np.sort(ends, axis=1)
    order = np.lexsort((contact[:, 1], contact[:, 0], length, ends[:, 1], ends[:, 0]))
    pair, first = np.unique(ends[order], axis=0, return_index=True)
    return Fronts(contact[order], length[order], pair, np.append(first, count), outward)
