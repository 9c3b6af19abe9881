"""The nearest point of a surface, for many points: exact, to the triangles and not only to their corners.

    distance(p, S) = min over the triangles of S of |p - foot|

Triangles are sorted along a space-filling curve and boxed, `LEAF` at a time, the boxes two by two in a complete binary
tree. A point walks down the nearer box first and leaves out every box that is farther than the best foot so far, which
is at first no farther than the point before it suggests: points in the order of a mesh are answered in a few dozen
triangles each. Of equally near triangles the first in the mesh wins, so that the answer does not depend on the order of
points. Memory is 200 bytes a triangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Nearest", "TriangleTree"]

Array = NDArray[np.float64]
LEAF = 4
_DEEPEST = 64
_CURVE_BITS = 10


@dataclass(frozen=True)
class Nearest:
    """Where points meet a surface."""

    distance: Array
    """(n,) infinite where nothing is within the limit."""
    face: NDArray[np.int64]
    """(n,) triangle, -1 where nothing is within the limit."""
    weights: Array
    """(n, 3) shares of the triangle's corners."""

    @classmethod
    def none(cls, count: int) -> Nearest:
        """Return that nothing is near so many points."""
        return cls(np.full(count, np.inf), np.full(count, -1, np.int64), np.zeros((count, 3)))


@dataclass(frozen=True)
class TriangleTree:
    """A mesh made ready for being asked what of it is nearest."""

    corners: Array
    """(m, 3, 3) of the triangles in the tree's order."""
    faces: NDArray[np.int64]
    """(m,) which triangle of the mesh each is."""
    low: Array
    high: Array
    """(2 k, 3) boxes; those of row i are in rows 2 i and 2 i + 1, the leaves in the second half."""

    @classmethod
    def of(cls, vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> TriangleTree:
        """Index a mesh of (n, 3) vertices and (m, 3) faces.

        Raises
        ------
        ValueError
            If the mesh has no faces.
        """
        if not len(faces):
            msg = "a mesh without faces has no nearest point"
            raise ValueError(msg)
        corners = np.ascontiguousarray(vertices, np.float64)[faces]
        middles = (corners[:, 0] + corners[:, 1] + corners[:, 2]) / 3
        order = np.argsort(_along_a_curve(middles), kind="stable")
        corners = np.ascontiguousarray(corners[order])
        one, two, three = (corners[:, corner] for corner in range(3))
        leaves = 1 << int(np.ceil(np.log2(max(-(-len(faces) // LEAF), 1))))
        low, high = np.full((2 * leaves, 3), np.inf), np.full((2 * leaves, 3), -np.inf)
        starts = np.arange(0, len(faces), LEAF)
        low[leaves : leaves + len(starts)] = np.minimum.reduceat(np.minimum(np.minimum(one, two), three), starts)
        high[leaves : leaves + len(starts)] = np.maximum.reduceat(np.maximum(np.maximum(one, two), three), starts)
        while leaves > 1:
            leaves //= 2
            low[leaves : 2 * leaves] = np.minimum(
                low[2 * leaves : 4 * leaves : 2], low[2 * leaves + 1 : 4 * leaves : 2]
            )
            pair = high[2 * leaves : 4 * leaves]
            high[leaves : 2 * leaves] = np.maximum(pair[::2], pair[1::2])
        return cls(corners, order.astype(np.int64), low, high)

    def nearest(self, points: NDArray[np.floating], limit: float = np.inf) -> Nearest:
        """Find the nearest point of the mesh for each of (n, 3) points, up to a distance."""
        found = Nearest.none(len(points))
        places = np.ascontiguousarray(points, np.float64)
        _search(places, self.corners, self.faces, self.low, self.high, limit, found.distance, found.face, found.weights)
        return found


def _along_a_curve(points: Array) -> NDArray[np.int64]:
    """Return the place of each point (n, 3) along a Z-order curve."""
    low, size = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1e-300)
    cell = np.minimum((points - low) / size * (1 << _CURVE_BITS), (1 << _CURVE_BITS) - 1).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(_CURVE_BITS):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_square(p: Any, low: Any, high: Any) -> float:
    square = 0.0
    for axis in range(3):
        gap = max(low[axis] - p[axis], p[axis] - high[axis], 0.0)
        square += gap * gap
    return square


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _search(
    points: Any, corners: Any, faces: Any, low: Any, high: Any, limit: float, distance: Any, face: Any, weights: Any
) -> None:
    half, share = len(low) // 2, np.empty(3)
    stack, known = np.empty(_DEEPEST, np.int64), np.empty(_DEEPEST)
    guess = -1
    for k in range(len(points)):
        p = points[k]
        # The triangle of the point before bounds this one's distance; the slack keeps that triangle itself in.
        best = limit * limit
        if guess >= 0:
            best = min(best, _closest(p, corners[guess], share) * (1 + 1e-9) + 1e-300)
        found, top = -1, 1
        stack[0], known[0] = 1, _box_square(p, low[1], high[1])
        while top > 0:
            top -= 1
            node = stack[top]
            if known[top] > best:
                continue
            if node >= half:
                for row in range(LEAF * (node - half), min(LEAF * (node - half) + LEAF, len(faces))):
                    square = _closest(p, corners[row], share)
                    if square < best or (square == best and (found < 0 or faces[row] < faces[found])):
                        best, found = square, row
                        weights[k, 0], weights[k, 1], weights[k, 2] = share[0], share[1], share[2]
                continue
            one, two = 2 * node, 2 * node + 1
            near, far = _box_square(p, low[one], high[one]), _box_square(p, low[two], high[two])
            if near > far:
                one, two, near, far = two, one, far, near
            stack[top], known[top] = two, far
            stack[top + 1], known[top + 1] = one, near
            top += 2
        if found >= 0:
            distance[k], face[k] = np.sqrt(best), faces[found]
            guess = found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _closest(p: Any, triangle: Any, share: Any) -> float:
    """Put the shares of a triangle's corners in its point nearest to p into ``share``, and return the distance^2."""
    abx, aby, abz = triangle[1, 0] - triangle[0, 0], triangle[1, 1] - triangle[0, 1], triangle[1, 2] - triangle[0, 2]
    acx, acy, acz = triangle[2, 0] - triangle[0, 0], triangle[2, 1] - triangle[0, 1], triangle[2, 2] - triangle[0, 2]
    apx, apy, apz = p[0] - triangle[0, 0], p[1] - triangle[0, 1], p[2] - triangle[0, 2]
    d1, d2 = abx * apx + aby * apy + abz * apz, acx * apx + acy * apy + acz * apz
    bpx, bpy, bpz = apx - abx, apy - aby, apz - abz
    d3, d4 = abx * bpx + aby * bpy + abz * bpz, acx * bpx + acy * bpy + acz * bpz
    cpx, cpy, cpz = apx - acx, apy - acy, apz - acz
    d5, d6 = abx * cpx + aby * cpy + abz * cpz, acx * cpx + acy * cpy + acz * cpz
    v, w = _region(d1, d2, d3, d4, d5, d6)
    share[0], share[1], share[2] = max(1.0 - v - w, 0.0), v, w
    x, y, z = apx - v * abx - w * acx, apy - v * aby - w * acy, apz - v * abz - w * acz
    return float(x * x + y * y + z * z)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _region(d1: float, d2: float, d3: float, d4: float, d5: float, d6: float) -> tuple[float, float]:
    """Shares of b and c, by the region of the triangle's plane that the point projects into."""
    if d1 <= 0 and d2 <= 0:
        return 0.0, 0.0
    if d3 >= 0 and d4 <= d3:
        return 1.0, 0.0
    if d6 >= 0 and d5 <= d6:
        return 0.0, 1.0
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if vc <= 0 and d1 >= 0 and d3 <= 0 and d1 > d3:
        return d1 / (d1 - d3), 0.0
    if vb <= 0 and d2 >= 0 and d6 <= 0 and d2 > d6:
        return 0.0, d2 / (d2 - d6)
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0 and (d4 - d3) + (d5 - d6) > 0:
        share = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1.0 - share, share
    whole = va + vb + vc
    return (vb / whole, vc / whole) if whole > 0 else (0.0, 0.0)
