r"""Distances along a membrane: how far it is from one point of a mesh to others without leaving the surface.

                   C           A and B are at distances a and b from a source that is not seen from here; unfolded into
                 / | \          the plane of the triangle it lies at S, on the other side of AB, with |SA| = a and
               A --+-- B       |SB| = b, and C is at |SC| where that line crosses AB, else behind A or B.
                 \ | /
                   S

Fronts run over the vertices from the nearest to the farther (M. Novotni and R. Klein, WSCG 2002), and a vertex that
is reached better later, as at obtuse triangles, runs again. On a plane this is exact for any triangles; on the meshes
of marching cubes great circles come out within 2 %, where edge paths (Dijkstra) are 6 % too long on the mean. No
distance is below the straight line.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.measure.proteins.foot import Feet, corner_table

__all__ = ["Sheet", "distances_from", "distances_to"]


@dataclass(frozen=True)
class Sheet:
    """A mesh made ready for walking on."""

    vertices: NDArray[np.float64]
    """(n, 3)."""
    faces: NDArray[np.int64]
    """(m, 3)."""
    start: NDArray[np.int64]
    around: NDArray[np.int64]
    """Faces around each vertex, as `cryoscale.measure.proteins.foot.corner_table` has them."""
    edges: NDArray[np.float64]
    """(m, 3) length of each face's edge from a corner to the next."""
    longest_edge: float

    @classmethod
    def of(cls, vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Sheet:
        """Index a mesh."""
        places, corners = vertices.astype(np.float64), faces.astype(np.int64)
        edges = _edges(places, corners)
        return cls(places, corners, *corner_table(faces, len(vertices)), edges, float(edges.max(initial=0.0)))

    def face_areas(self) -> NDArray[np.float64]:
        """(m,) areas."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        areas: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return areas

    def vertex_areas(self) -> NDArray[np.float64]:
        """(n,) a third of the area of the faces around each vertex; they sum to the area of the mesh."""
        shares = np.repeat(self.face_areas() / 3, 3)
        return np.bincount(self.faces.ravel(), shares, minlength=len(self.vertices)).astype(np.float64)


def distances_from(sheet: Sheet, feet: Feet, row: int, limit: float = np.inf) -> NDArray[np.float64]:
    """(n,) distance of every vertex along the mesh from one of `feet`; infinite beyond `limit` and where no way is."""
    distance = np.full(len(sheet.vertices), np.inf)
    source = feet.position[row]
    corners = sheet.faces[feet.face[row]]
    distance[corners] = np.linalg.norm(sheet.vertices[corners] - source, axis=1)
    # At obtuse triangles a way may lead over a vertex that is farther than where it ends.
    farthest = limit + 2 * sheet.longest_edge
    mesh = (sheet.vertices, sheet.faces, sheet.start, sheet.around, sheet.edges)
    _spread(*mesh, source, corners, distance, farthest)
    distance[distance > limit] = np.inf
    return distance


def distances_to(sheet: Sheet, distance: NDArray[np.float64], feet: Feet, row: int) -> NDArray[np.float64]:
    """(k,) distances of all `feet` from the one in `row`, whose distances to the vertices are given."""
    found: NDArray[np.float64] = _read(sheet.vertices, sheet.faces, distance, feet.face, feet.position, row)
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _length(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    length: float = np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)
    return length


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _edges(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    edges = np.empty(faces.shape)
    for face in range(len(faces)):
        for corner in range(3):
            edges[face, corner] = _length(vertices[faces[face, corner]], vertices[faces[face, (corner + 1) % 3]])
    return edges


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _across(a: float, b: float, length: float, ac: float, bc: float) -> float:
    """Distance of C when the ends of the edge AB before it, of this length, are at distances `a` and `b`."""
    way: float = min(a + ac, b + bc)
    if not (a < np.inf and b < np.inf) or length == 0:
        return way
    along = (a * a - b * b + length * length) / (2 * length)
    below = a * a - along * along
    if below < 0:
        return way
    across = (ac * ac - bc * bc + length * length) / (2 * length)
    above, below = np.sqrt(max(ac * ac - across * across, 0.0)), np.sqrt(below)
    if above + below == 0:
        return way
    cut = along + (across - along) * below / (below + above)
    if 0 <= cut <= length:
        way = min(way, np.sqrt((across - along) ** 2 + (above + below) ** 2))
    return way


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    start: NDArray[np.int64],
    around: NDArray[np.int64],
    edges: NDArray[np.float64],
    source: NDArray[np.float64],
    seeds: NDArray[np.int64],
    distance: NDArray[np.float64],
    limit: float,
) -> None:
    heap = [(distance[seed], seed) for seed in seeds]
    heapq.heapify(heap)
    while len(heap):
        reached, vertex = heapq.heappop(heap)
        if reached > distance[vertex]:
            continue
        for k in range(start[vertex], start[vertex + 1]):
            face = around[k]
            own = 0 if faces[face, 0] == vertex else (1 if faces[face, 1] == vertex else 2)
            after, before = (own + 1) % 3, (own + 2) % 3
            ahead, across, back = edges[face, own], edges[face, after], edges[face, before]
            for turn in range(2):
                target, other = faces[face, before if turn else after], faces[face, after if turn else before]
                sides = (ahead, back) if turn else (back, ahead)
                found = _across(reached, distance[other], sides[0], sides[1], across)
                # A little better is not worth another round.
                if found > limit or found >= distance[target] * (1 - 1e-12):
                    continue
                found = max(found, _length(source, vertices[target]))
                if found <= limit and found < distance[target] * (1 - 1e-12):
                    distance[target] = found
                    heapq.heappush(heap, (found, target))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _read(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    distance: NDArray[np.float64],
    at_face: NDArray[np.int64],
    position: NDArray[np.float64],
    row: int,
) -> NDArray[np.float64]:
    found = np.full(len(at_face), np.inf)
    for k in range(len(at_face)):
        face, straight = faces[at_face[k]], _length(position[row], position[k])
        if at_face[k] == at_face[row]:
            found[k] = straight
            continue
        for corner in range(3):
            a, b = face[corner], face[(corner + 1) % 3]
            ac, bc = _length(vertices[a], position[k]), _length(vertices[b], position[k])
            way = _across(distance[a], distance[b], _length(vertices[a], vertices[b]), ac, bc)
            found[k] = min(found[k], max(way, straight))
    return found
