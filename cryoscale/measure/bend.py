r"""Curvature: of meshes that come without one, and what follows from mean and Gaussian curvature M and K.

    k1, k2 = M +- (M^2 - K)^1/2,   shape index = 2 / pi atan2(k1 + k2, k1 - k2),   curvedness = ((k1^2 + k2^2) / 2)^1/2

(J. Koenderink and A. van Doorn, Image and Vision Computing 10 (1992) 557). Convex is positive: the shape index is 1 on
a sphere seen from outside, 0.5 on a cylinder, 0 at a saddle, -1 inside a sphere.

Of a mesh from elsewhere: around each vertex, in the frame of its normal, the height z = a x^2 + b x y + c y^2 + d x +
e y is fitted to the vertices up to `RINGS` edges away (F. Cazals and M. Pouget, Comput. Aided Geom. Des. 22 (2005)
121), and M and K follow from its fundamental forms. Steps along edges, not distances in space, so that a sheet that
lies close by has no say. Surfaces that cryoscale fitted have the curvature of their field instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "RINGS",
    "curvedness",
    "curvedness_error",
    "mesh_curvature",
    "principal",
    "shape_index",
    "shape_index_error",
    "vertex_normals",
]

Array = NDArray[np.float64]
RINGS = 3
"""Edges between a vertex and those that its curvature is fitted to."""
_MOST_NEAR = 256


def principal(mean: NDArray[np.floating], gaussian: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return both principal curvatures, the larger first."""
    middle = mean.astype(np.float64)
    root: Array = np.sqrt(np.maximum(middle**2 - gaussian, 0.0))
    return middle + root, middle - root


def shape_index(first: Array, second: Array) -> Array:
    """Return the shape index, -1 to 1, of principal curvatures, the larger first; 0 where both are 0."""
    return np.asarray(2 / np.pi * np.arctan2(first + second, first - second))


def shape_index_error(first: Array, second: Array, first_error: Array, second_error: Array) -> Array:
    """Return the standard error of the shape index, at most 1, from independent errors of the principal curvatures."""
    square = first**2 + second**2
    error = 2 / np.pi * np.hypot(second * first_error, first * second_error)
    # Where a surface is flat, any index is possible.
    return np.where(error < square, error / np.maximum(square, 1e-300), 1.0)


def curvedness(first: Array, second: Array) -> Array:
    """Return the root mean square of the principal curvatures."""
    return np.asarray(np.sqrt((first**2 + second**2) / 2))


def curvedness_error(first: Array, second: Array, first_error: Array, second_error: Array) -> Array:
    """Return the standard error of the curvedness from independent errors of the principal curvatures."""
    strength = curvedness(first, second)
    error = np.hypot(first * first_error, second * second_error) / np.maximum(2 * strength, 1e-300)
    # Where a surface is flat: what it comes to in the direction that errs most.
    return np.where(strength > 0, error, np.maximum(first_error, second_error) / np.sqrt(2))


def vertex_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Array:
    """(n, 3) unit normals: the mean of the faces around each vertex, weighted by area; 0 where there are none."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    across = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(vertices)) for axis in range(3)], 1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.where(length > 0, length, 1))


def mesh_curvature(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], normals: NDArray[np.floating], *, rings: int = RINGS
) -> tuple[Array, Array]:
    """Return mean and Gaussian curvature (n,) at the vertices of a mesh, NaN where too few are around.

    Parameters
    ----------
    vertices, faces, normals
        (n, 3), (m, 3) and (n, 3); normals point outward.
    rings
        Edges between a vertex and those its curvature is fitted to.
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    ends = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
    start = np.searchsorted(ends[:, 0], np.arange(len(vertices) + 1))
    mean, gaussian = np.full(len(vertices), np.nan), np.full(len(vertices), np.nan)
    places, directions = np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(normals, np.float64)
    _fit_all(places, directions, start, np.ascontiguousarray(ends[:, 1]), rings, mean, gaussian)
    return mean, gaussian


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fit_all(vertices: Any, normals: Any, start: Any, other: Any, rings: int, mean: Any, gaussian: Any) -> None:
    seen = np.full(len(vertices), -1)
    near, matrix, right, row = np.empty(_MOST_NEAR, np.int64), np.empty((5, 5)), np.empty(5), np.empty(5)
    for k in range(len(vertices)):
        n = normals[k]
        count = _around(k, start, other, rings, seen, near)
        if count < 6 or n[0] * n[0] + n[1] * n[1] + n[2] * n[2] < 0.5:
            continue
        # Any tangent: the least component of the normal is a safe start.
        u, v = np.zeros(3), np.empty(3)
        u[np.abs(n).argmin()] = 1.0
        u -= n * (u * n).sum()
        u /= np.sqrt((u * u).sum())
        v[0], v[1], v[2] = n[1] * u[2] - n[2] * u[1], n[2] * u[0] - n[0] * u[2], n[0] * u[1] - n[1] * u[0]
        scale = 0.0
        for i in range(1, count):
            d = vertices[near[i]] - vertices[k]
            scale = max(scale, np.sqrt((d * d).sum()))
        if scale == 0.0:
            continue
        matrix[:], right[:] = 0.0, 0.0
        for i in range(1, count):
            d = (vertices[near[i]] - vertices[k]) / scale
            x, y, z = (d * u).sum(), (d * v).sum(), (d * n).sum()
            row[0], row[1], row[2], row[3], row[4] = x * x, x * y, y * y, x, y
            for p in range(5):
                right[p] += row[p] * z
                for q in range(5):
                    matrix[p, q] += row[p] * row[q]
        for p in range(5):
            matrix[p, p] += 1e-12 * count
        a, b, c, d1, d2 = np.linalg.solve(matrix, right)
        e, f, g, slope = 1 + d1 * d1, d1 * d2, 1 + d2 * d2, 1 + d1 * d1 + d2 * d2
        # Seen along an outward normal, a convex surface falls off: its height is negative, its curvature positive.
        mean[k] = -(c * e - b * f + a * g) / slope**1.5 / scale
        gaussian[k] = (4 * a * c - b * b) / slope**2 / scale**2


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _around(vertex: int, start: Any, other: Any, rings: int, seen: Any, near: Any) -> int:
    """Put a vertex and those up to so many edges away into ``near``, and return how many there are."""
    seen[vertex], near[0] = vertex, vertex
    count, first = 1, 0
    for _ in range(rings):
        last = count
        for i in range(first, last):
            for k in range(start[near[i]], start[near[i] + 1]):
                if seen[other[k]] != vertex and count < len(near):
                    seen[other[k]], near[count] = vertex, other[k]
                    count += 1
        first = last
    return count
