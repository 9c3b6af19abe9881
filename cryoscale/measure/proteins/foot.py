"""Where a point meets a membrane: the nearest point of the mesh itself, not of its vertices.

foot = argmin over the triangles (a, b, c) of |p - (u a + v b + w c)|,   u + v + w = 1, none negative

The nearest triangle has a corner within (distance to any triangle) + (longest edge) of the point, so that a tree of
the vertices gives the few triangles in question, and the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Feet", "corner_table", "nearest_feet"]


@dataclass(frozen=True)
class Feet:
    """Points of a mesh, one for each point asked about."""

    face: NDArray[np.int64]
    """(n,) triangle the foot lies in."""
    weights: NDArray[np.float64]
    """(n, 3) shares of its corners, summing to 1."""
    position: NDArray[np.float64]
    """(n, 3) in the unit of the vertices."""
    distance: NDArray[np.float64]
    """(n,) from the point asked about."""

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Feet:
        """Return some of them, by row or mask."""
        return Feet(self.face[rows], self.weights[rows], self.position[rows], self.distance[rows])

    def interpolate(self, values: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, k) values of the vertices at the feet."""
        found: NDArray[np.float64] = np.einsum("nc,nck->nk", self.weights, values[faces[self.face]])
        return found


def corner_table(faces: NDArray[np.integer], vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces around each vertex: those of vertex v are ``around[start[v]:start[v + 1]]``."""
    corners = faces.ravel()
    around = np.argsort(corners, kind="stable") // 3
    return np.concatenate([[0], np.cumsum(np.bincount(corners, minlength=vertices))]), around


def nearest_feet(points: NDArray[np.floating], vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Feet:
    """Find the nearest point of a mesh for each of (n, 3) points; all in one unit.

    Raises
    ------
    ValueError
        If the mesh has no faces.
    """
    if not len(faces):
        msg = "a mesh without faces has no nearest point"
        raise ValueError(msg)
    corners = vertices.astype(np.float64)
    start, around = corner_table(faces, len(vertices))
    used = np.flatnonzero(np.diff(start))
    tree = cKDTree(corners[used])
    ends = corners[faces]
    longest = float(np.sqrt(((ends - np.roll(ends, 1, axis=1)) ** 2).sum(axis=2).max()))
    face, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    for row, point in enumerate(points.astype(np.float64)):
        near = np.array([used[tree.query(point)[1]]])
        _, _, reach = _best(point, corners, faces, near, start, around)
        near = used[tree.query_ball_point(point, (reach + longest) * (1 + 1e-9))]
        face[row], weights[row], _ = _best(point, corners, faces, np.sort(near), start, around)
    position = np.einsum("nc,nck->nk", weights, corners[faces[face]])
    return Feet(face, weights, position, np.linalg.norm(points - position, axis=1))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best(
    point: NDArray[np.float64],
    corners: NDArray[np.float64],
    faces: NDArray[np.integer],
    near: NDArray[np.int64],
    start: NDArray[np.int64],
    around: NDArray[np.int64],
) -> tuple[int, NDArray[np.float64], float]:
    best, found, weights = np.inf, -1, np.zeros(3)
    for vertex in near:
        for k in range(start[vertex], start[vertex + 1]):
            face = around[k]
            a, b, c = corners[faces[face, 0]], corners[faces[face, 1]], corners[faces[face, 2]]
            u, v, w = _closest(point, a, b, c)
            square = 0.0
            for axis in range(3):
                square += (point[axis] - u * a[axis] - v * b[axis] - w * c[axis]) ** 2
            # Of equally near triangles the first, whatever vertex it was met at.
            if square < best or (square == best and face < found):
                best, found = square, face
                weights[0], weights[1], weights[2] = u, v, w
    return found, weights, np.sqrt(best)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _closest(
    p: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Shares of a, b, c in the point of their triangle nearest to p, by the region that p projects into."""
    ab, ac, ap, bp, cp = b - a, c - a, p - a, p - b, p - c
    d1, d2, d3 = (ab * ap).sum(), (ac * ap).sum(), (ab * bp).sum()
    d4, d5, d6 = (ac * bp).sum(), (ab * cp).sum(), (ac * cp).sum()
    if d1 <= 0 and d2 <= 0:
        return 1.0, 0.0, 0.0
    if d3 >= 0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    if d6 >= 0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if vc <= 0 and d1 >= 0 and d3 <= 0 and d1 > d3:
        share = d1 / (d1 - d3)
        return 1.0 - share, share, 0.0
    if vb <= 0 and d2 >= 0 and d6 <= 0 and d2 > d6:
        share = d2 / (d2 - d6)
        return 1.0 - share, 0.0, share
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0 and (d4 - d3) + (d5 - d6) > 0:
        share = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 0.0, 1.0 - share, share
    whole = va + vb + vc
    if whole <= 0:
        return 1.0, 0.0, 0.0
    return va / whole, vb / whole, vc / whole
