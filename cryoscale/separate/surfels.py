"""Surface elements: a sheet's voxels thinned to about one element for 2 x 2 voxels of its middle surface.

    element = mean of the middles of the voxels of one patch in one cell of 2 voxels

Elements know a position, a normal and a patch. Two elements are neighbours **along the surface** when the step from
one to the other is short and runs in both tangent planes, |step . n| <= 0.35 |step| + 0.4; a surface bent to a radius
of 3 voxels still holds together, two sheets 2 voxels apart do not. `Bins` finds the elements near a place, by a sorted
list of cells: memory follows the elements, not the box around them. Lengths in voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

__all__ = [
    "CELL",
    "Bins",
    "Graph",
    "Surfels",
    "bin_elements",
    "cell_range",
    "connect",
    "gather",
    "make_surfels",
    "pieces",
    "step_between",
]

CELL = 2.0
STEP = 4.0
"""Longest step between neighbours."""
LEAN = 0.35
SLACK = 0.4
SAME_WAY = 0.7
"""Least |cosine| between the normals of neighbours."""

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Surfels:
    """Elements of all patches."""

    position: Doubles
    """(m, 3)"""
    normal: Doubles
    """(m, 3) unit vectors of arbitrary sign."""
    patch: Ints
    """(m,) 0, 1, ...; -1 for none."""

    def take(self, rows: NDArray[np.bool_], patch: Ints) -> Surfels:
        """Return some elements under other patch numbers."""
        return Surfels(self.position[rows], self.normal[rows], patch)


@dataclass(frozen=True)
class Bins:
    """Elements by the cell they are in."""

    order: Ints
    """(m,) elements, by cell."""
    key: Ints
    """(m,) the cells of `order`, ascending."""
    corner: Doubles
    """(3,)"""
    shape: Ints
    """(3,) cells along each axis, with one empty cell around."""
    edge: float
    """Of a cell: elements at most this far are in the cells around."""


@dataclass(frozen=True)
class Graph:
    """Neighbours along the surface: those of element i are other[start[i] : start[i + 1]]."""

    start: Ints
    other: Ints

    def rows(self) -> Ints:
        """Return the element each entry of `other` belongs to."""
        return np.repeat(np.arange(self.start.size - 1), np.diff(self.start))

    def only(self, keep: NDArray[np.bool_]) -> Graph:
        """Return the graph with some of its entries."""
        ends = np.concatenate([[0], np.cumsum(keep)])
        return Graph(ends[self.start], self.other[keep])


def make_surfels(
    middle: NDArray[np.float32], normal: NDArray[np.float32], patch: Ints
) -> tuple[Surfels, NDArray[np.int64]]:
    """Thin voxels to elements.

    Parameters
    ----------
    middle, normal : (n, 3) float32 arrays
        Of the voxels, counted from the corner of their box.
    patch : (n,) int64 array
        The patch of each, 0, 1, ...

    Returns
    -------
    surfels : Surfels
    element : (n,) int64 array
        Where each voxel went.
    """
    cell = np.floor(middle / CELL).astype(np.int64) + 2
    shape = cell.max(0) + 1
    key = ((patch * shape[0] + cell[:, 0]) * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    _, first, element = np.unique(key, return_index=True, return_inverse=True)
    count = np.bincount(element)
    sign = np.where((normal * normal[first][element]).sum(1) < 0, -1.0, 1.0)
    position: Doubles = np.stack([np.bincount(element, middle[:, axis]) / count for axis in range(3)], 1)
    turned: Doubles = np.stack([np.bincount(element, sign * normal[:, axis]) / count for axis in range(3)], 1)
    turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
    return Surfels(position, turned, patch[first]), element


def bin_elements(position: Doubles, edge: float) -> Bins:
    """Sort elements into cells.

    Parameters
    ----------
    position : (m, 3) float64 array
    edge : float
        Of a cell, in voxels.

    Returns
    -------
    Bins
    """
    corner = position.min(0) if len(position) else np.zeros(3)
    cell = ((position - corner) / edge).astype(np.int64) + 1
    shape = cell.max(0, initial=1) + 2
    key = (cell[:, 0] * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    order = np.argsort(key, kind="stable")
    return Bins(order, key[order], corner, shape, edge)


@njit(cache=True, nogil=True, inline="always")
def cell_range(key, corner, shape, edge, place, dz, dy):  # type: ignore[no-untyped-def]
    """Return the range of the sorted elements in the three cells along x around a place, shifted by cells dz, dy."""
    z = min(max(int(np.floor((place[0] - corner[0]) / edge)) + 1, 0), shape[0] - 1) + dz
    y = min(max(int(np.floor((place[1] - corner[1]) / edge)) + 1, 0), shape[1] - 1) + dy
    x = min(max(int(np.floor((place[2] - corner[2]) / edge)) + 1, 0), shape[2] - 1)
    if z < 0 or y < 0 or z >= shape[0] or y >= shape[1]:
        return 0, 0
    row = (z * shape[1] + y) * shape[2]
    low = row + max(x - 1, 0)
    high = row + min(x + 1, shape[2] - 1)
    return np.searchsorted(key, low), np.searchsorted(key, high + 1)


@njit(cache=True, nogil=True, inline="always")
def step_between(position, normal, i, j):  # type: ignore[no-untyped-def]
    """Return the step from i to j: its square, its parts along the normals of i and of j, and the cosine of these."""
    square = up = down = cosine = 0.0
    for axis in range(3):
        d = position[j, axis] - position[i, axis]
        square += d * d
        up += d * normal[i, axis]
        down += d * normal[j, axis]
        cosine += normal[i, axis] * normal[j, axis]
    return square, up, down, cosine


@njit(cache=True, nogil=True)
def _neighbours(position, normal, patch, order, key, corner, shape, edge, bent, start, other):  # type: ignore[no-untyped-def]
    """Count neighbours into `start` where `other` is empty, else write them."""
    for i in range(len(position)):
        found = 0
        for dz in range(-1, 2):
            for dy in range(-1, 2):
                a, b = cell_range(key, corner, shape, edge, position[i], dz, dy)
                for t in range(a, b):
                    j = order[t]
                    if j == i or patch[i] != patch[j] or patch[i] < 0:
                        continue
                    square, up, down, cosine = step_between(position, normal, i, j)
                    if square > STEP * STEP:
                        continue
                    up, down, allowed = abs(up), abs(down), LEAN * np.sqrt(square) + SLACK
                    if (min(up, down) <= allowed) if bent else (max(up, down) <= allowed and abs(cosine) > SAME_WAY):
                        if len(other):
                            other[start[i] + found] = j
                        found += 1
        if len(other) == 0:
            start[i + 1] = found


def connect(surfels: Surfels, *, bent: bool = False) -> Graph:
    """Find the neighbours along the surface within each patch.

    Parameters
    ----------
    surfels : Surfels
    bent : bool
        Whether the surface may have an edge: a step then runs in one of the two tangent planes.

    Returns
    -------
    Graph
        Symmetric.
    """
    bins = bin_elements(surfels.position, STEP)
    start, none = np.zeros(len(surfels.patch) + 1, np.int64), np.zeros(0, np.int64)
    inputs = (surfels.position, surfels.normal, surfels.patch)
    cells = (bins.order, bins.key, bins.corner, bins.shape, bins.edge)
    _neighbours(*inputs, *cells, bent, start, none)
    start = np.cumsum(start)
    other = np.zeros(int(start[-1]), np.int64)
    if other.size:
        _neighbours(*inputs, *cells, bent, start, other)
    return Graph(start, other)


@njit(cache=True, nogil=True)
def gather(position, start, other, centre, radius, seen, queue):  # type: ignore[no-untyped-def]
    """Put the elements within a radius, reached from one of them along the surface, into `queue`; how many they are.

    `seen` (m,) keeps the last centre that came by each element: -1 before the first.
    """
    done, found = 0, 1
    queue[0] = centre
    seen[centre] = centre
    while done < found:
        i = queue[done]
        done += 1
        for t in range(start[i], start[i + 1]):
            j = other[t]
            if seen[j] == centre:
                continue
            seen[j] = centre
            square = 0.0
            for axis in range(3):
                square += (position[j, axis] - position[centre, axis]) ** 2
            if square <= radius * radius:
                queue[found] = j
                found += 1
    return found


def pieces(graph: Graph, kept: NDArray[np.bool_], smallest: int) -> Ints:
    """Return what still hangs together when only some elements are kept.

    Parameters
    ----------
    graph : Graph
    kept : (m,) bool array
    smallest : int
        Pieces of fewer elements are none.

    Returns
    -------
    (m,) int64 array
        Piece numbers 0, 1, ... by first element, -1 for what is not kept or too small.
    """
    m = kept.size
    there = graph.only(kept[graph.rows()] & kept[graph.other])
    matrix = csr_matrix((np.ones(there.other.size, np.int8), there.other, there.start), (m, m))
    _, number = connected_components(matrix, directed=False)
    sizes = np.bincount(number[kept], minlength=1)
    good = kept & (sizes[np.minimum(number, sizes.size - 1)] >= smallest)
    result = np.full(m, -1, np.int64)
    found, first, inverse = np.unique(number[good], return_index=True, return_inverse=True)
    rank = np.empty(found.size, np.int64)
    rank[np.argsort(first)] = np.arange(found.size)
    result[good] = rank[inverse]
    return result
