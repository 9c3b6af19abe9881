r"""Mean, gradient and variance of a Gaussian process at many places, in compiled loops and bounded tiles.

    mu(q) = m(q) + sum_i alpha_i K(q, x_i),     v(q) = K(0) - || L^-1 K(x, q) ||^2,     L L^T = K(x, x) + noise

(paper, section 5.2, equations 3 and 4, the latter with its transposed block put right). These loops know nothing of
the prior mean m: `ellipsoid` adds it. exp(-a) is computed as (exp(-a / 256))^256 from a polynomial, which compilers
turn into vector instructions; its relative error stays below 1e-12 for every a that matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg.blas import dtrmm

from cryoscale.fit.covariance import Kernel
from cryoscale.threads import in_threads

__all__ = ["Solve", "field", "field_gradient", "in_double", "variance", "variance_gradient"]

Array = NDArray[np.float64]
Solve = Callable[[Array], tuple[Array, Array]]
TILE = 512
"""Query points per tile of the variance: TILE x n doubles are held up to three times, by each thread."""
SHARE = 8 * TILE
"""Query points that a thread takes at once."""


@njit(cache=True, nogil=True, fastmath=True, inline="always")  # type: ignore[untyped-decorator]
def _decay(a: float) -> float:
    """Return exp(-a) for a in [0, 60]; beyond, a value below 1e-26."""
    x = -min(a, 60.0) / 256.0
    y = 1.0 + x * (1.0 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040)))))))
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    return y * y


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _sum_cubic(x: Any, alpha: Any, q: Any, length: float, out: Any, slope: Any) -> None:
    n = alpha.shape[0]
    for j in range(q.shape[0]):
        f = gz = gy = gx = 0.0
        for i in range(n):
            dz, dy, dx = q[j, 0] - x[0, i], q[j, 1] - x[1, i], q[j, 2] - x[2, i]
            t = min(math.sqrt(dz * dz + dy * dy + dx * dx) / length, 1.0)
            f += alpha[i] * (1.0 - t * t * (3.0 - 2.0 * t))
            w = alpha[i] * (t - 1.0)
            gz, gy, gx = gz + w * dz, gy + w * dy, gx + w * dx
        out[j] = f
        scale = 6.0 / (length * length)
        slope[j, 0], slope[j, 1], slope[j, 2] = scale * gz, scale * gy, scale * gx


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _sum_matern(x: Any, alpha: Any, q: Any, length: float, out: Any, slope: Any) -> None:
    n = alpha.shape[0]
    c = math.sqrt(5.0) / length
    for j in range(q.shape[0]):
        f = gz = gy = gx = 0.0
        for i in range(n):
            dz, dy, dx = q[j, 0] - x[0, i], q[j, 1] - x[1, i], q[j, 2] - x[2, i]
            a = c * math.sqrt(dz * dz + dy * dy + dx * dx)
            e = alpha[i] * _decay(a)
            f += e * (1.0 + a + a * a / 3.0)
            w = e * (1.0 + a)
            gz, gy, gx = gz + w * dz, gy + w * dy, gx + w * dx
        out[j] = f
        scale = -c * c / 3.0
        slope[j, 0], slope[j, 1], slope[j, 2] = scale * gz, scale * gy, scale * gx


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _covariances(x: Any, q: Any, cubic: bool, length: float, out: Any) -> None:
    c = math.sqrt(5.0) / length
    for j in range(q.shape[0]):
        for i in range(x.shape[1]):
            dz, dy, dx = q[j, 0] - x[0, i], q[j, 1] - x[1, i], q[j, 2] - x[2, i]
            r = math.sqrt(dz * dz + dy * dy + dx * dx)
            if cubic:
                t = min(r / length, 1.0)
                out[j, i] = 1.0 - t * t * (3.0 - 2.0 * t)
            else:
                out[j, i] = (1.0 + c * r + c * r * c * r / 3.0) * _decay(c * r)


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _covariances_leans(x: Any, q: Any, cubic: bool, length: float, out: Any, lean: Any) -> None:
    """Put K / s^2 into ``out`` and A / s^2 into ``lean``, grad K = A (q - x)."""
    c = math.sqrt(5.0) / length
    for j in range(q.shape[0]):
        for i in range(x.shape[1]):
            dz, dy, dx = q[j, 0] - x[0, i], q[j, 1] - x[1, i], q[j, 2] - x[2, i]
            r = math.sqrt(dz * dz + dy * dy + dx * dx)
            if cubic:
                t = min(r / length, 1.0)
                out[j, i] = 1.0 - t * t * (3.0 - 2.0 * t)
                lean[j, i] = 6.0 * (t - 1.0) / (length * length)
            else:
                a = c * r
                e = _decay(a)
                out[j, i] = (1.0 + a + a * a / 3.0) * e
                lean[j, i] = -c * c / 3.0 * (1.0 + a) * e


def field_gradient(kernel: Kernel, points: Array, alpha: Array, q: Array) -> tuple[Array, Array]:
    """Return sum_i alpha_i K(q, x_i) and its gradient.

    Parameters
    ----------
    kernel
        Covariance function; amplitude^2 multiplies the sums.
    points, alpha
        Constraints (n, 3) and their weights (n,).
    q
        Places (m, 3), in the unit of ``points``.

    Returns
    -------
    tuple
        Values (m,) and gradients (m, 3).
    """
    out = np.empty(len(q))
    slope = np.empty((len(q), 3))
    loop = _sum_cubic if kernel.kind == "cubic" else _sum_matern
    x, places = np.ascontiguousarray(points.T), np.ascontiguousarray(q, np.float64)
    weights = alpha * kernel.amplitude**2

    def summed(start: int) -> None:
        rows = slice(start, start + SHARE)
        loop(x, weights, places[rows], kernel.length, out[rows], slope[rows])

    in_threads(summed, range(0, len(q), SHARE))
    return out, slope


def field(kernel: Kernel, points: Array, alpha: Array, q: Array) -> Array:
    """Return sum_i alpha_i K(q, x_i), (m,): `field_gradient` without the gradient."""
    return field_gradient(kernel, points, alpha, q)[0]


def variance(
    kernel: Kernel, points: Array, lower_inverse: Array, q: Array, trends: tuple[Array, Array] | None = None
) -> Array:
    """Return the posterior variance (m,) at places (m, 3), never negative.

    ``lower_inverse`` is L^-1 (n, n), lower triangular. Single precision there gives single-precision products: the
    error is then about 1e-6 of K(0), which is enough for a standard deviation that is shown. ``trends`` are the prior
    mean's basis functions at the constraints (n, k) and at q (m, k), each times the prior sd of its coefficient.
    """
    columns = np.ascontiguousarray(points.T)
    result = np.empty(len(q))
    places = np.ascontiguousarray(q, np.float64)

    def reached(start: int) -> None:
        rows = slice(start, start + TILE)
        cross = np.empty((len(places[rows]), len(points)), lower_inverse.dtype)
        _covariances(columns, places[rows], kernel.kind == "cubic", kernel.length, cross)
        if trends is not None:
            cross += trends[1][rows] @ trends[0].T / kernel.amplitude**2
        reach = cross @ lower_inverse.T
        reach *= kernel.amplitude
        result[rows] = 1.0 - np.einsum("ij,ij->i", reach, reach, dtype=np.float64)

    in_threads(reached, range(0, len(q), TILE))
    result *= kernel.amplitude**2
    if trends is not None:
        result += (trends[1] ** 2).sum(1)
    return np.maximum(result, 0.0)


def variance_gradient(
    kernel: Kernel,
    points: Array,
    solve: Solve,
    q: Array,
    trends: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Array]:
    r"""Return the posterior variance (m,) and its gradient (m, 3) at places (m, 3).

        v = k(q, q) - k . w,    grad v = 2 t . grad t - 2 (grad k)^T w,    w = C^-1 k,    k = K(x, q) + T t

    Parameters
    ----------
    kernel
        Covariance function.
    points
        Constraints (n, 3).
    solve
        Returns k . w (m,) and w (m, n) from k (m, n), which it may overwrite: `in_double`, or that of `screened`.
    q
        Places, in the unit of ``points``.
    trends
        The prior mean's basis functions at the constraints (n, k), at q (m, k), and their gradients there (m, k, 3),
        each times the prior sd of its coefficient.
    """
    x, variance = np.ascontiguousarray(points.T), kernel.amplitude**2
    value, gradient = np.empty(len(q)), np.empty((len(q), 3))
    places = np.ascontiguousarray(q, np.float64)
    moments = np.column_stack([points, np.ones(len(points))])

    def solved(rows: slice, cross: Array, lean: Array) -> None:
        tile = places[rows]
        _covariances_leans(x, tile, kernel.kind == "cubic", kernel.length, cross, lean)
        cross *= variance
        if trends is not None:
            cross += trends[1][rows] @ trends[0].T
        explained, weights = solve(cross)
        value[rows] = variance - explained
        lean *= weights
        moment = lean @ moments
        gradient[rows] = (-2 * variance) * (moment[:, 3:] * tile - moment[:, :3])
        if trends is not None:
            value[rows] += (trends[1][rows] ** 2).sum(1)
            left = trends[1][rows] - weights @ trends[0]
            gradient[rows] += 2 * np.einsum("mk,mka->ma", left, trends[2][rows])

    def shared(first: int) -> None:
        room = np.empty((2, min(TILE, len(q)), len(points)))
        for start in range(first, min(first + SHARE, len(q)), TILE):
            rows = slice(start, min(start + TILE, first + SHARE, len(q)))
            solved(rows, *room[:, : rows.stop - start])

    in_threads(shared, range(0, len(q), SHARE))
    return np.maximum(value, 0.0), gradient


def in_double(lower_inverse: Array) -> Solve:
    """Return what solves for the weights of constraints whose L^-1 (n, n) is given, C = L L^T with noise and trend."""
    triangle = np.asfortranarray(lower_inverse)

    def solve(cross: Array) -> tuple[Array, Array]:
        # Not k . C^-1 k: where the noise is small that would lose the digits that are left.
        known = dtrmm(1.0, triangle, cross.T, lower=1, overwrite_b=1)
        explained = np.einsum("ij,ij->j", known, known)
        return explained, dtrmm(1.0, triangle, known, lower=1, trans_a=1, overwrite_b=1).T

    return solve
