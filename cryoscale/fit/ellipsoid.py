r"""An ellipsoid as the prior mean of the field, and its robust fit.

With c the centre and M the symmetric matrix whose eigenvalues are 1 / axis^2, g(x) = sqrt((x - c)^T M (x - c)):

    d(x) = (g - 1) / |grad g| = (g^2 - g) / |M (x - c)|

the first-order (Sampson) signed distance, negative inside, exact on the surface and on spheres. Between the foci it
jumps, and so does its change with the parameters, enough to make zeros of their own in a slender membrane's middle. So
deep inside, it levels off: with b the least half axis and t = (-d - `LEVEL_FROM` b) / ((`LEVEL_TO` - `LEVEL_FROM`) b)
between 0 and 1,

    m = -b (`LEVEL_FROM` + (`LEVEL_TO` - `LEVEL_FROM`) (t - t^3 + t^4 / 2)),     constant beyond

whose slope falls from 1 to 0, twice differentiable. The fit minimises a soft-L1 loss of d over the points, with a weak
prior that holds the logarithms of the axes together: caps that the missing wedge took away leave one axis nearly free.
What that freedom means for the surface is told by `trend`, the change of m with each of the 9 parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

__all__ = ["Ellipsoid", "fit_ellipsoid"]

Array = NDArray[np.float64]
FIT_POINTS = 400
LOG_AXIS_SD = 0.5
"""Prior standard deviation of an axis' logarithm about the mean of the three."""
CENTRE_SD = 0.3
"""Prior standard deviation of the centre's coordinates, over the radius."""
STRETCH_SD = 0.6
"""Prior standard deviation of the elements of the stretch: 0.3 for the logarithm of an axis."""
TREND_STEP = 1e-4
FORWARD_STEP = 2.0**-26
"""Root of the spacing of doubles at 1."""
GRADIENT_STEP = 1e-2
"""Voxels over which a trend's gradient is taken."""
LEVEL_FROM, LEVEL_TO = 0.6, 0.9
"""Depth, over the least half axis, from which on the distance levels off, and from which it is level."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: centre (3,), matrix M (3, 3), half axes (3,), in voxels, z, y, x."""

    centre: Array
    matrix: Array
    axes: Array
    depth: float = math.inf
    """The half axis b by which the distance levels off inside; infinite where it does not."""

    @property
    def radius(self) -> float:
        """Return the geometric mean of the half axes."""
        return float(np.exp(np.log(self.axes).mean()))

    def distance(self, q: Array) -> Array:
        """Return the first-order signed distance (m,) at places (m, 3)."""
        _, p, g = self._slope(q)
        return _levelled((g * g - g) / p, self.depth)[0]

    def _slope(self, q: Array) -> tuple[Array, Array, Array]:
        """Return M (x - c) (m, 3), its length (m,) and g (m,)."""
        x = q - self.centre
        x = np.where((x * x).sum(1, keepdims=True) > 1e-18, x, 1e-9)
        slope = x @ self.matrix
        return slope, np.maximum(np.sqrt((slope * slope).sum(1)), 1e-300), np.sqrt((x * slope).sum(1))

    def distance_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the signed distance (m,) and its gradient (m, 3) at places (m, 3)."""
        slope, p, g = self._slope(q)
        value = (g * g - g) / p
        curve = slope @ self.matrix
        gradient = ((2 * g - 1) / (p * g))[:, None] * slope - (value / (p * p))[:, None] * curve
        level, steep, _ = _levelled(value, self.depth)
        return level, steep[:, None] * gradient

    def distance_hessian(self, q: Array) -> Array:
        """Return the Hessian (m, 3, 3) of the signed distance at places (m, 3)."""
        x = q - self.centre
        x = np.where((x * x).sum(1, keepdims=True) > 1e-18, x, 1e-9)
        u = x @ self.matrix
        v = u @ self.matrix
        p = np.linalg.norm(u, axis=1)[:, None, None]
        g = np.sqrt((x * u).sum(1))[:, None, None]
        value = g * g - g
        slope = (2 - 1 / g) * u[:, :, None]
        lean = v[:, :, None] / p
        bend = (2 - 1 / g) * self.matrix + u[:, :, None] * u[:, None, :] / g**3
        turn = (self.matrix @ self.matrix) / p - lean * np.swapaxes(lean, 1, 2) / p
        cross = slope * np.swapaxes(lean, 1, 2)
        cross = cross + np.swapaxes(cross, 1, 2)
        plain = bend / p - (cross + value * turn) / p**2 + 2 * value * lean * np.swapaxes(lean, 1, 2) / p**3
        gradient = slope / p - value * lean / p**2
        _, steep, bent = _levelled(value / p, self.depth)
        return np.asarray(steep * plain + bent * gradient * np.swapaxes(gradient, 1, 2))

    def moved(self, change: Array) -> Ellipsoid:
        """Return the ellipsoid with its 9 parameters changed, in units of their prior standard deviations.

        The first three move the centre, the others are the upper triangle of a symmetric S: M' = M^1/2 exp(S) M^1/2.
        """
        values, vectors = np.linalg.eigh(self.matrix)
        root = (vectors * np.sqrt(values)) @ vectors.T
        stretch = np.zeros((3, 3))
        stretch[np.triu_indices(3)] = change[3:] * STRETCH_SD
        stretch = np.where(np.eye(3) > 0, stretch, (stretch + stretch.T) / 2**0.5)
        powers, turned = np.linalg.eigh(stretch)
        matrix = root @ ((turned * np.exp(np.clip(powers, -8, 8))) @ turned.T) @ root
        matrix = (matrix + matrix.T) / 2
        axes = np.linalg.eigvalsh(matrix)[::-1] ** -0.5
        return Ellipsoid(self.centre + change[:3] * CENTRE_SD * self.radius, matrix, axes, self.depth)

    def trend(self, q: Array) -> Array:
        """Return the change of the distance (m, 9) at places (m, 3) with each parameter, times its prior sd."""
        centres, matrices = self._moved
        out = np.empty((len(q), len(centres)))
        _distances(centres, matrices, np.ascontiguousarray(q, np.float64), out)
        out = _levelled(out, self.depth)[0]
        return (out[:, ::2] - out[:, 1::2]) / (2 * TREND_STEP)

    @cached_property
    def _moved(self) -> tuple[Array, Array]:
        """Centres (18, 3) and matrices (18, 3, 3) with each parameter a little more and a little less."""
        moved = [self.moved(side * step) for step in TREND_STEP * np.eye(9) for side in (1.0, -1.0)]
        return np.stack([e.centre for e in moved]), np.stack([e.matrix for e in moved])

    def trend_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the trend (m, 9) and its gradient (m, 9, 3) at places (m, 3)."""
        around = [self.trend(q + side * step) for step in GRADIENT_STEP * np.eye(3) for side in (1.0, -1.0)]
        slopes = [(ahead - behind) / (2 * GRADIENT_STEP) for ahead, behind in pairwise(around)][::2]
        return self.trend(q), np.stack(slopes, 2)


def _levelled(distance: Array, depth: float) -> tuple[Array, Array, Array]:
    """Return the levelled distance with its first and second derivative by the plain one, of any shape."""
    if math.isinf(depth):
        return distance, np.ones_like(distance), np.zeros_like(distance)
    width = (LEVEL_TO - LEVEL_FROM) * depth
    t = np.clip((-distance - LEVEL_FROM * depth) / width, 0, 1)
    deep = -LEVEL_FROM * depth - width * t * (1 - t * t * (1 - 0.5 * t))
    return np.where(t > 0, deep, distance), 1 - t * t * (3 - 2 * t), 6 * t * (1 - t) / width


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _distances(centres: Any, matrices: Any, q: Any, out: Any) -> None:
    """Put the distances of places to many ellipsoids into ``out``, without a temporary per ellipsoid."""
    for j in range(len(q)):
        for k in range(len(centres)):
            m = matrices[k]
            z, y, x = q[j, 0] - centres[k, 0], q[j, 1] - centres[k, 1], q[j, 2] - centres[k, 2]
            if z * z + y * y + x * x <= 1e-18:
                z = y = x = 1e-9
            a = m[0, 0] * z + m[0, 1] * y + m[0, 2] * x
            b = m[1, 0] * z + m[1, 1] * y + m[1, 2] * x
            c = m[2, 0] * z + m[2, 1] * y + m[2, 2] * x
            square = z * a + y * b + x * c
            out[j, k] = (square - square**0.5) / max((a * a + b * b + c * c) ** 0.5, 1e-300)


def fit_ellipsoid(points: Array, *, weights: Array | None = None) -> tuple[Ellipsoid, float]:
    """Fit an ellipsoid robustly to points with outliers and gaps.

    Parameters
    ----------
    points
        (n, 3), n >= 10, in voxels.
    weights
        (n,) how much each point counts.

    Returns
    -------
    tuple
        The ellipsoid and the robust spread of its residuals (1.4826 times the median absolute distance), in voxels.
    """
    if len(points) > FIT_POINTS:
        step = np.linspace(0, len(points) - 1, FIT_POINTS).round().astype(int)
        points = points[step]
        weights = None if weights is None else weights[step]
    share = np.ones(len(points)) if weights is None else np.sqrt(weights / weights.mean())
    origin = np.median(points, axis=0)
    size = float(np.median(np.linalg.norm(points - origin, axis=1))) or 1.0
    local = np.ascontiguousarray((points - origin) / size)
    loss_scale = max(1.0 / size, 0.02)
    data, best = (local, share, loss_scale), None
    for start in _starts(local):
        found = least_squares(_residuals, start, _slopes, args=data, loss="soft_l1", max_nfev=60, xtol=1e-5, ftol=1e-6)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    unit = _build(best.x)
    axes = unit.axes * size
    ellipsoid = Ellipsoid(unit.centre * size + origin, unit.matrix / size**2, axes, float(axes.min()))
    return ellipsoid, 1.4826 * float(np.median(np.abs(ellipsoid.distance(points))))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _residuals(parameters: Any, local: Any, share: Any, scale: float) -> Any:
    """Return the residuals (n + 3,) of n points and of the prior."""
    n = len(local)
    d, out = np.empty((n, 1)), np.empty(n + 3)
    _distances(parameters[:3].copy().reshape(1, 3), _matrix(parameters).reshape(1, 3, 3), local, d)
    for i in range(n):
        out[i] = min(max(d[i, 0] * share[i] / scale, -1e6), 1e6)
    mean = (parameters[3] + parameters[4] + parameters[5]) / 3
    for axis in range(3):
        out[n + axis] = (parameters[3 + axis] - mean) / LOG_AXIS_SD
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _slopes(parameters: Any, local: Any, share: Any, scale: float) -> Any:
    """Return how the residuals change with each parameter (n + 3, 9), by forward differences."""
    here = _residuals(parameters, local, share, scale)
    out = np.empty((len(parameters), len(here)))
    for k in range(len(parameters)):
        moved = parameters.copy()
        moved[k] += math.copysign(FORWARD_STEP, parameters[k]) * max(1.0, abs(parameters[k]))
        there = _residuals(moved, local, share, scale)
        for i in range(len(here)):
            out[k, i] = (there[i] - here[i]) / (moved[k] - parameters[k])
    return out.T


def _build(parameters: Array) -> Ellipsoid:
    return Ellipsoid(parameters[:3], _matrix(parameters), np.exp(np.clip(parameters[3:6], -6, 6)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _matrix(parameters: Any) -> Any:
    """Return M of an ellipsoid with the logarithms of its axes, 3 to 5, and its rotation vector, 6 to 8."""
    z, y, x = parameters[6], parameters[7], parameters[8]
    angle = math.sqrt(z * z + y * y + x * x)
    cross = np.array([[0.0, -x, y], [x, 0.0, -z], [-y, z, 0.0]])
    first = 1.0 - angle * angle / 6 if angle < 1e-4 else math.sin(angle) / angle
    second = 0.5 - angle * angle / 24 if angle < 1e-4 else (1.0 - math.cos(angle)) / (angle * angle)
    out = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for k in range(3):
                out[a, b] += cross[a, k] * cross[k, b] * second
            out[a, b] += cross[a, b] * first
        out[a, a] += 1.0
    matrix = np.zeros((3, 3))
    for k in range(3):
        size = math.exp(-2.0 * min(max(parameters[3 + k], -6.0), 6.0))
        for a in range(3):
            for b in range(3):
                matrix[a, b] += out[a, k] * size * out[b, k]
    return matrix


def _starts(local: Array) -> list[Array]:
    """Return two starts: a sphere, and the ellipsoid with the points' principal axes."""
    sphere = np.zeros(9)
    values, vectors = np.linalg.eigh(np.cov((local - local.mean(0)).T))
    if np.linalg.det(vectors) < 0:
        vectors = -vectors
    principal = np.concatenate(
        [local.mean(0), 0.5 * np.log(np.maximum(3 * values, 0.05)), Rotation.from_matrix(vectors).as_rotvec()]
    )
    return [sphere, principal]
