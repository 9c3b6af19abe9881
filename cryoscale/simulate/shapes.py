r"""Membrane mid-surfaces as implicit functions, with exact distances near them.

A vesicle is a star-shaped body: with :math:`q = S^{-1} R^T (p - c)` (semi-axes S, rotation R, centre c) and
:math:`u = q / |q|`,

.. math:: f(p) = |q| - 1 - \sum_k h_k (u \cdot w_k)^{m_k},

an ellipsoid with smooth bumps of height :math:`h_k` about the directions :math:`w_k`. A sheet is the graph
:math:`w = h(u, v)` of a quadric and a wave over a disc, ending in a rim; a tube is the set at a fixed distance from a
curve. The foot x of a point p is the nearest point of the surface: p is first brought to :math:`p - f \nabla f /
|\nabla f|^2`, then moved along the tangent plane until :math:`p - x` is parallel to :math:`\nabla f(x)`. The distance
is :math:`|p - x|`, negative inside. Lengths are in voxels, points are z, y, x.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

Doubles = npt.NDArray[np.float64]

#: Up to this distance (less within small bodies) feet are refined; farther away the distance is a lower bound.
EXACT_VOXELS = 26.0
#: Points spread over a surface to measure clearances by.
SAMPLES = 1500
_ITERATIONS = 4
_STILL = 0.01
"""A foot that would move less than this, in voxels, along its tangent plane changes the distance by far less."""
_GOLDEN_TURN = np.pi * (1.0 + np.sqrt(5.0))


class Shape(Protocol):
    """A surface that a membrane may follow."""

    @property
    def kind(self) -> str:
        """What it is called in the truth."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it encloses a volume."""
        ...

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """Signed distance (n,) to the surface and its unit normal (n, 3) at the foot, for points (n, 3)."""
        ...

    @property
    def samples(self) -> Doubles:
        """Points (n, 3), about :data:`SAMPLES` of them, spread over the surface."""
        ...

    def inset(self, gap: float) -> "Shape":
        """Return the surface at about ``gap`` voxels further inside, or on the negative side."""
        ...


@dataclass(frozen=True)
class Vesicle:
    """An ellipsoid with bumps."""

    centre: Doubles
    semi_axes: Doubles
    rotation: Doubles
    directions: Doubles
    powers: npt.NDArray[np.int64]
    heights: Doubles
    kind: str = "vesicle"
    closed: bool = True

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        matrix = self.rotation.T / self.semi_axes[:, None]
        # Deep inside a small body a point has several feet.
        deepest = -min(EXACT_VOXELS, 0.6 * float(self.semi_axes.min()))
        return _vesicle_distance(points, self.centre, matrix, self.directions, self.powers, self.heights, deepest)  # type: ignore[no-any-return]

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        # Fibonacci sphere.
        k = np.arange(SAMPLES) + 0.5
        height, turn = 1.0 - 2.0 * k / SAMPLES, _GOLDEN_TURN * k
        ring = np.sqrt(1.0 - height**2)
        u = np.stack([height, ring * np.cos(turn), ring * np.sin(turn)], axis=1)
        radius = 1.0 + ((u @ self.directions.T) ** self.powers) @ self.heights
        return self.centre + (u * radius[:, None] * self.semi_axes) @ self.rotation.T

    def inset(self, gap: float) -> "Vesicle":
        """See :class:`Shape`."""
        return replace(self, semi_axes=self.semi_axes - gap)


@dataclass(frozen=True)
class Sheet:
    """A curved disc with a rim."""

    centre: Doubles
    rotation: Doubles
    """Columns: the normal of the undeformed disc, then its u and v axes."""
    radius: float
    quadric: Doubles
    """Coefficients of u2, uv, v2 in 1 / voxel."""
    wave: Doubles
    """Amplitude in voxels, wave numbers along u and v in radian / voxel, phase in radian."""
    lift: float = 0.0
    """Height of the disc over its centre in voxels."""
    kind: str = "sheet"
    closed: bool = False

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        local = (points - self.centre) @ self.rotation
        distance, normal = _sheet_distance(local, self.radius, self.quadric, self.wave, self.lift)
        return distance, normal @ self.rotation.T

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        # Sunflower, its outermost seeds on the rim.
        k = np.arange(SAMPLES) + 0.5
        radius, turn = self.radius * np.sqrt(k / (SAMPLES - 0.5)), _GOLDEN_TURN * k
        u, v = radius * np.cos(turn), radius * np.sin(turn)
        a, b, c = self.quadric
        height, ku, kv, phase = self.wave
        w = self.lift + a * u * u + b * u * v + c * v * v + height * np.sin(ku * u + kv * v + phase)
        return self.centre + np.stack([w, u, v], axis=1) @ self.rotation.T

    def inset(self, gap: float) -> "Sheet":
        """See :class:`Shape`."""
        return replace(self, lift=self.lift - gap)


@dataclass(frozen=True)
class Tube:
    """All points at one radius from a curve, with round ends."""

    curve: Doubles
    """(k, 3) points along the axis, closer together than the radius."""
    radius: float
    kind: str = "tube"
    closed: bool = True

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        return _tube_distance(points, self.curve, self.radius)  # type: ignore[no-any-return]

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        k = np.arange(SAMPLES) + 0.5
        along = k / SAMPLES * (len(self.curve) - 1)
        segment = np.minimum(along.astype(int), len(self.curve) - 2)
        start, step = self.curve[segment], self.curve[segment + 1] - self.curve[segment]
        tangent = step / np.linalg.norm(step, axis=1, keepdims=True)
        across = np.cross(tangent, np.eye(3)[np.abs(tangent).argmin(axis=1)])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        turn = (_GOLDEN_TURN * k)[:, None]
        spoke = np.cos(turn) * across + np.sin(turn) * np.cross(tangent, across)
        sides = start + (along - segment)[:, None] * step + self.radius * spoke
        ends = self.curve[[0, -1]] + self.radius * np.stack([-tangent[0], tangent[-1]])
        return np.concatenate([sides, ends])

    def inset(self, gap: float) -> "Tube":
        """See :class:`Shape`."""
        return replace(self, radius=self.radius - gap)


@njit(cache=True, nogil=True, error_model="numpy")
def _star(q, directions, powers, heights, gradient):  # type: ignore[no-untyped-def]
    """Value of f at q; its gradient with respect to q goes into ``gradient``."""
    r = max(np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]), 1e-9)
    inverse = 1.0 / r
    for i in range(3):
        gradient[i] = q[i] * inverse
    value = r - 1.0
    for k in range(len(heights)):
        s = (q[0] * directions[k, 0] + q[1] * directions[k, 1] + q[2] * directions[k, 2]) * inverse
        power = heights[k]
        for _ in range(powers[k] - 1):
            power *= s
        value -= power * s
        power *= powers[k] * inverse
        for i in range(3):
            gradient[i] -= power * (directions[k, i] - s * q[i] * inverse)
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def _turned_star(place, centre, matrix, directions, powers, heights, q, inner, g):  # type: ignore[no-untyped-def]
    """Value of the star at a place and the square of its gradient, which goes into `g`; `q` and `inner` are room."""
    for i in range(3):
        q[i] = 0.0
        for j in range(3):
            q[i] += matrix[i, j] * (place[j] - centre[j])
    value = _star(q, directions, powers, heights, inner)
    square = 0.0
    for j in range(3):
        g[j] = matrix[0, j] * inner[0] + matrix[1, j] * inner[1] + matrix[2, j] * inner[2]
        square += g[j] * g[j]
    return value, max(square, 1e-12)


@njit(cache=True, nogil=True, error_model="numpy")
def _vesicle_distance(points, centre, matrix, directions, powers, heights, deepest):  # type: ignore[no-untyped-def]
    count = len(points)
    distance, normal = np.empty(count), np.empty((count, 3))
    foot, q, inner, g = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for n in range(count):
        for j in range(3):
            foot[j] = points[n, j]
        first = 0.0
        for iteration in range(2 * _ITERATIONS + 1):
            value, square = _turned_star(foot, centre, matrix, directions, powers, heights, q, inner, g)
            if iteration == 0:
                first = value / np.sqrt(square)
                if not deepest <= first <= EXACT_VOXELS:
                    break
            if iteration % 2 == 0:
                for j in range(3):
                    foot[j] -= value * g[j] / square
            else:
                along, move = 0.0, 0.0
                for j in range(3):
                    along += (points[n, j] - foot[j]) * g[j]
                for j in range(3):
                    q[j] = points[n, j] - along * g[j] / square
                    move += (q[j] - foot[j]) ** 2
                if move < _STILL * _STILL:
                    break
                for j in range(3):
                    foot[j] = q[j]
        length = np.sqrt(square)
        for j in range(3):
            normal[n, j] = g[j] / length
        if not deepest <= first <= EXACT_VOXELS:
            # Along the long axes of a flat body this may be up to twice the true distance.
            distance[n] = 0.5 * first
        else:
            away = 0.0
            for j in range(3):
                away += (points[n, j] - foot[j]) ** 2
            distance[n] = np.copysign(np.sqrt(away), first)
    return distance, normal


@njit(cache=True, nogil=True)
def _sheet_distance(local, radius, quadric, wave, lift):  # type: ignore[no-untyped-def]
    count = len(local)
    distance, normal = np.empty(count), np.empty((count, 3))
    for n in range(count):
        w0, u0, v0 = local[n]
        u, v = u0, v0
        for iteration in range(_ITERATIONS + 1):
            reach = np.sqrt(u * u + v * v)
            if reach > radius:
                u *= radius / reach
                v *= radius / reach
            angle = wave[1] * u + wave[2] * v + wave[3]
            w = lift + quadric[0] * u * u + quadric[1] * u * v + quadric[2] * v * v + wave[0] * np.sin(angle)
            wu = 2.0 * quadric[0] * u + quadric[1] * v + wave[0] * wave[1] * np.cos(angle)
            wv = quadric[1] * u + 2.0 * quadric[2] * v + wave[0] * wave[2] * np.cos(angle)
            length = np.sqrt(1.0 + wu * wu + wv * wv)
            along = ((w0 - w) - wu * (u0 - u) - wv * (v0 - v)) / length
            if iteration < _ITERATIONS:
                # The part of the offset that lies in the tangent plane.
                u = u0 + along * wu / length
                v = v0 + along * wv / length
        distance[n] = np.copysign(np.sqrt((w0 - w) ** 2 + (u0 - u) ** 2 + (v0 - v) ** 2), along)
        normal[n, 0] = 1.0 / length
        normal[n, 1] = -wu / length
        normal[n, 2] = -wv / length
    return distance, normal


@njit(cache=True, nogil=True)
def _tube_distance(points, curve, radius):  # type: ignore[no-untyped-def]
    count = len(points)
    distance, normal = np.empty(count), np.empty((count, 3))
    foot, best = np.empty(3), np.empty(3)
    for n in range(count):
        least = np.inf
        for k in range(len(curve) - 1):
            along, square = 0.0, 0.0
            for i in range(3):
                step = curve[k + 1, i] - curve[k, i]
                along += (points[n, i] - curve[k, i]) * step
                square += step * step
            along = min(max(along / square, 0.0), 1.0)
            away = 0.0
            for i in range(3):
                foot[i] = curve[k, i] + along * (curve[k + 1, i] - curve[k, i])
                away += (points[n, i] - foot[i]) ** 2
            if away < least:
                least = away
                best[:] = foot
        least = np.sqrt(least)
        distance[n] = least - radius
        for i in range(3):
            normal[n, i] = (points[n, i] - best[i]) / max(least, 1e-9)
    return distance, normal
