r"""The ellipse of least robust cost within bounds, in one compiled loop.

    cost(p) = 1/2 sum_i rho(d_i(p) / noise) + 1/2 |prior p - offset|^2,      low <= p <= high

with p the centre y, x, the logarithms of the half axes and the angle, d the signed distance of `ellipse` and rho either
2 sqrt(1 + z) - 2 (soft L1) or ln(1 + z) (Cauchy) of z = (d / noise)^2. Levenberg's and Marquardt's steps from residuals
sign(d) rho^1/2, cut at the bounds; a parameter that is at its bound and pushed against it sits out the step. The loss
is not put on the prior: a tamed prior would not hold a short arc.

A membrane has a hundred small problems of this kind, and a general solver spends its time between their few points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["cost_slopes", "search"]

Array = NDArray[np.float64]
MOST_STEPS = 50
LEAST_STEP = 1e-4
"""Of the parameters over their scale."""
LEAST_GAIN = 1e-5
"""Of the cost."""
FIRST_DAMPING, MOST_DAMPING = 1e-3, 1e10


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def cost_slopes(
    points: Any, p: Any, noise: float, cauchy: bool, prior: Any, offset: Any, matrix: Any, lean: Any
) -> float:
    """Return the cost; put its slopes (5,) into ``lean``, and J^T J (5, 5), J those of residuals, into ``matrix``."""
    matrix[:] = 0.0
    lean[:] = 0.0
    cost = 0.0
    a, b = math.exp(p[2]), math.exp(p[3])
    sine, cosine = math.sin(p[4]), math.cos(p[4])
    slopes = np.empty(5)
    for i in range(len(points)):
        y, x = points[i, 0] - p[0], points[i, 1] - p[1]
        u, v = (y * sine + x * cosine) / a, (y * cosine - x * sine) / b
        g = max(math.sqrt(u * u + v * v), 1e-9)
        steep = max(math.sqrt(u * u / (a * a) + v * v / (b * b)), 1e-9 / max(a, b))
        distance = (g * g - g) / steep
        size = min(max(abs(distance) / noise, 1e-6), 1e6)
        z = size * size
        rho, falls = math.log1p(z), 1.0 + z
        if not cauchy:
            falls = math.sqrt(1.0 + z)
            rho = 2.0 * z / (falls + 1.0)
        root = math.sqrt(rho)
        residual = root if distance >= 0 else -root
        cost += rho
        # How the distance goes with u and v, and with the axes where they stand by themselves.
        of_g, of_steep = (2.0 * g - 1.0) / (g * steep), distance / (steep * steep)
        of_u, of_v = u * (of_g - of_steep / (a * a)), v * (of_g - of_steep / (b * b))
        scale = size / (falls * root * noise)
        slopes[0] = -scale * (of_u * sine / a + of_v * cosine / b)
        slopes[1] = -scale * (of_u * cosine / a - of_v * sine / b)
        slopes[2] = scale * (of_steep * u * u / (a * a) - of_u * u)
        slopes[3] = scale * (of_steep * v * v / (b * b) - of_v * v)
        slopes[4] = scale * (of_u * v * b / a - of_v * u * a / b)
        _add(slopes, residual, matrix, lean)
    for row in range(len(prior)):
        residual = -offset[row]
        for k in range(5):
            residual += prior[row, k] * p[k]
        cost += residual * residual
        _add(prior[row], residual, matrix, lean)
    for j in range(5):
        for k in range(j):
            matrix[k, j] = matrix[j, k]
    return float(0.5 * cost)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _add(slopes: Any, residual: float, matrix: Any, lean: Any) -> None:
    """Add to the slopes of the cost, and to the lower triangle of J^T J."""
    for j in range(5):
        lean[j] += slopes[j] * residual
        for k in range(j + 1):
            matrix[j, k] += slopes[j] * slopes[k]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _step(p: Any, matrix: Any, lean: Any, damping: float, low: Any, high: Any) -> Any:
    """Return the next parameters."""
    damped, right = matrix.copy(), -lean
    for j in range(5):
        damped[j, j] += damping * max(matrix[j, j], 1e-12)
        if (p[j] <= low[j] and lean[j] > 0) or (p[j] >= high[j] and lean[j] < 0):
            damped[j, :] = 0.0
            damped[:, j] = 0.0
            damped[j, j] = 1.0
            right[j] = 0.0
    return np.minimum(np.maximum(p + np.linalg.solve(damped, right), low), high)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def search(
    points: Any, guess: Any, low: Any, high: Any, scale: Any, noise: float, cauchy: bool, prior: Any, offset: Any
) -> Any:
    """Return the parameters (5,) of least cost near a guess, and that cost.

    Parameters
    ----------
    points
        (n, 2) y, x.
    guess, low, high, scale
        (5,) where to begin, the bounds, and what change of a parameter counts as one.
    noise
        Distance that counts as one.
    cauchy
        The loss: Cauchy, or else soft L1.
    prior, offset
        (k, 5) and (k,).
    """
    best = np.minimum(np.maximum(guess, low), high)
    matrix, lean = np.empty((5, 5)), np.empty(5)
    next_matrix, next_lean = np.empty((5, 5)), np.empty(5)
    cost = cost_slopes(points, best, noise, cauchy, prior, offset, matrix, lean)
    damping, faster = FIRST_DAMPING, 2.0
    for _ in range(MOST_STEPS):
        tried = _step(best, matrix, lean, damping, low, high)
        moved = tried - best
        found = cost_slopes(points, tried, noise, cauchy, prior, offset, next_matrix, next_lean)
        foreseen = -(lean @ moved + 0.5 * moved @ (matrix @ moved))
        small = np.sqrt(((moved / scale) ** 2).sum()) < LEAST_STEP
        if found < cost:
            share = (cost - found) / max(foreseen, 1e-300)
            small = small or (cost - found < LEAST_GAIN * cost and share > 0.25)
            damping *= max(1.0 / 3.0, 1.0 - (2.0 * share - 1.0) ** 3)
            faster = 2.0
            best, cost = tried, found
            matrix, next_matrix = next_matrix, matrix
            lean, next_lean = next_lean, lean
        else:
            damping *= faster
            faster *= 2.0
        if small or damping > MOST_DAMPING:
            break
    return best, cost
