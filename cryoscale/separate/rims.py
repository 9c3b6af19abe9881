r"""Rims: where the two faces of a fold hang together, so that a cut between them was no cut between membranes.

    behind(a) = share of the elements within 7 voxels of a along the surface with (p - a) . w < -2.75 voxels,
    rim where behind(a) <= 0.05 for three quarters of the contact of two pieces

w is the direction in which the window lies, along its faces: the mean of p - a without its part along the axis N that
the window's normals share (the first eigenvector of sum n n^T). A crista, or any flattened sac, ends in a rim so tight
that no paraboloid fits it, and `split` cuts it into its two faces. At a rim both faces end, and nothing lies behind.
Where two membranes touch, or a few odd voxels bridge them, at least one of them goes on behind the contact.

The contact of two pieces is where they meet when they grow along the surface over all that was cut away between them.
Lengths in voxels.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from cryoscale.separate.surfels import Graph, Ints, Surfels, connect, gather

__all__ = ["join_rims"]

WINDOW = 7.0
BEHIND = 2.75
"""More than a fold's thickness and an element's size, less than the window."""
SHARE = 0.05
MOST = 0.75
"""Of a contact."""
LONGEST = 16
"""Elements of a contact, about as many voxels along it: a longer one is where two membranes have grown together."""
TURNS = 12
"""Steps of the power iteration for the shared normal."""


@njit(cache=True, nogil=True)
def _grow(start, other, piece, queue):  # type: ignore[no-untyped-def]
    """Give every element the piece that is the fewest steps away along the surface, in place."""
    done = found = 0
    for i in range(len(piece)):
        if piece[i] >= 0:
            queue[found] = i
            found += 1
    while done < found:
        i = queue[done]
        done += 1
        for t in range(start[i], start[i + 1]):
            if piece[other[t]] < 0:
                piece[other[t]] = piece[i]
                queue[found] = other[t]
                found += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _shared_normal(normal, window, axis):  # type: ignore[no-untyped-def]
    """Put the direction that the window's normals have in common, whatever their signs, into `axis`."""
    matrix = np.zeros((3, 3))
    for k in window:
        for i in range(3):
            for j in range(3):
                matrix[i, j] += normal[k, i] * normal[k, j]
    most = 0
    for i in range(1, 3):
        if matrix[i, i] > matrix[most, most]:
            most = i
    turned = np.empty(3)
    for i in range(3):
        axis[i] = matrix[most, i]
    for _ in range(TURNS):
        square = 0.0
        for i in range(3):
            turned[i] = 0.0
            for j in range(3):
                turned[i] += matrix[i, j] * axis[j]
            square += turned[i] * turned[i]
        for i in range(3):
            axis[i] = turned[i] / np.sqrt(square)


@njit(cache=True, nogil=True)
def _behind(position, normal, start, other, element):  # type: ignore[no-untyped-def]
    """Share of each given element's window that lies behind it."""
    share = np.zeros(len(element))
    seen, queue = np.full(len(position), -1, np.int64), np.empty(len(position), np.int64)
    axis, mean = np.empty(3), np.empty(3)
    for k in range(len(element)):
        a = element[k]
        window = queue[: gather(position, start, other, a, WINDOW, seen, queue)]
        _shared_normal(normal, window, axis)
        mean[:] = 0.0
        for i in window:
            for d in range(3):
                mean[d] += position[i, d] - position[a, d]
        along = square = 0.0
        for d in range(3):
            along += mean[d] * axis[d]
        for d in range(3):
            mean[d] -= along * axis[d]
            square += mean[d] * mean[d]
        for d in range(3):
            mean[d] /= max(np.sqrt(square), 1e-12)
        behind = 0
        for i in window:
            ahead = 0.0
            for d in range(3):
                ahead += (position[i, d] - position[a, d]) * mean[d]
            behind += ahead < -BEHIND
        share[k] = behind / len(window)
    return share


def _contacts(graph: Graph, piece: Ints) -> tuple[Ints, Ints]:
    """Pairs (k, 2) of pieces that meet, ascending, and the element (k,) where they do; each once."""
    grown = piece.copy()
    _grow(graph.start, graph.other, grown, np.empty(grown.size, np.int64))
    rows = graph.rows()
    meet = grown[rows] != grown[graph.other]
    found = np.stack([grown[rows[meet]], grown[graph.other[meet]]], 1)
    found.sort(axis=1)
    rows_of_pairs = np.unique(np.column_stack([found, rows[meet]]), axis=0)
    return rows_of_pairs[:, :2], rows_of_pairs[:, 2]


def join_rims(surfels: Surfels, piece: Ints) -> Ints:
    """Join pieces of one patch again that were cut apart along a rim.

    Parameters
    ----------
    surfels : Surfels
        With the patches as they were before the cuts.
    piece : (m,) int64 array
        The pieces 0, 1, ... they were cut into; -1 for what was cut away.

    Returns
    -------
    (m,) int64 array
        The smallest piece of those that are one; -1 as before.
    """
    ends, rim = _judged(surfels, connect(surfels), piece)
    # Only where the surface has no way round a rim may it have an edge: a step over one may be a step between sheets.
    more, also = _judged(surfels, connect(surfels, bent=True), piece)
    span = piece.max(initial=0) + 1
    new = ~np.isin(more @ [span, 1], ends @ [span, 1])
    return _united(np.concatenate([ends[rim], more[new & also]]), piece)


def _judged(surfels: Surfels, graph: Graph, piece: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Pairs (k, 2) of pieces that meet, and whether it is at a rim."""
    pair, element = _contacts(graph, piece)
    once, back = np.unique(element, return_inverse=True)
    share = _behind(surfels.position, surfels.normal, graph.start, graph.other, once)[back]
    ends, first = np.unique(pair, axis=0, return_index=True)
    parts = np.split(share, first[1:]) if first.size else []
    return ends, np.array([part.size <= LONGEST and np.quantile(part, MOST) <= SHARE for part in parts], np.bool_)


def _united(ends: Ints, piece: Ints) -> Ints:
    if not ends.size:
        return piece
    count = int(piece.max(initial=-1)) + 1
    linked = csr_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (count, count))
    _, number = connected_components(linked, directed=False)
    smallest: NDArray[np.int64] = np.full(count, count, np.int64)
    np.minimum.at(smallest, number, np.arange(count))
    return np.where(piece >= 0, smallest[number[piece]], -1)
