r"""How far off a control point is: measured from the scatter of the raw points around it.

A control point is the intercept h = a . y of a paraboloid through the heights y of its neighbourhood. Raw heights err
independently and together with their neighbours along the membrane,

    cov(y_k, y_l) = s^2 [k = l] + c^2 exp(-r_kl / 5 voxels),     var h = sum_kl a_k a_l cov(y_k, y_l)

and the residuals e = (I - H) y of the paraboloids tell both apart: with w the neighbourhood's weights,

    sum w_k e_k^2     and     sum over r_kl < 2.5 voxels of sqrt(w_k w_l) e_k e_l

are compared with what s^2 = 1 and c^2 = 1 alone would give, through (I - H) (..) (I - H)^T, over many neighbourhoods.
Clean points have c = 0 and give back their noise; ridges of a network's score have c of 0.3 to 0.7 voxel and little s.
A marginal likelihood cannot do this: it takes errors that neighbours share for shape, and prefers half the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["LocalFit", "PointNoise", "point_noise"]

Array = NDArray[np.float64]
COMMON_REACH = 5.0
"""Voxels over which raw points err together."""
NEAR = 2.5
SAMPLED = 120
"""Neighbourhoods whose residuals are looked at."""
FOLDS = 8
DOUBT = 2.0
"""Standard errors of c^2 that are taken off it: errors in common must show."""
BLUR = 0.2
"""Share of s^2 that is taken off c^2 as well."""
USUAL_NOISE = 0.5
USUAL_WEIGHT = 0.1
"""Noise of a raw point, and its weight in neighbourhoods, where too few points are left to measure it."""
LEAST_NOISE = 0.01
MISFIT = 0.15
"""What a paraboloid may miss of a smooth surface, in voxels: neighbours have that in common, yet it is no noise."""


@dataclass(frozen=True)
class LocalFit:
    """Paraboloids through m neighbourhoods of k raw points each; lengths in voxels."""

    normals: Array
    """(m, 3) unit normals, of arbitrary sign."""
    heights: Array
    """(m,) of the paraboloids above the control points, along the normals."""
    terms: Array
    """(m, k, 6) of the paraboloid at the raw points."""
    inverse: Array
    """(m, 6, 6) inverse of terms^T w terms."""
    weights: Array
    """(m, k) weights w of the raw points, of sum 1."""
    above: Array
    """(m, k) heights y of the raw points."""
    along: Array
    """(m, k, 2) places of the raw points in the tangent plane."""


@dataclass(frozen=True)
class PointNoise:
    """Noise of m control points, in voxels."""

    sd: Array
    """(m,) standard deviations of their positions along the normal."""
    common_share: float
    """c^2 / (s^2 + c^2): share of the raw points' variance that neighbours have in common; 0 where c << 0.15 voxel."""


def point_noise(fit: LocalFit) -> PointNoise:
    """Measure the noise of control points from their neighbourhoods."""
    own, common = _components(fit)
    variance = np.empty(len(fit.terms))
    for i in range(len(variance)):
        pull = fit.inverse[i, 0] @ (fit.terms[i].T * fit.weights[i])
        live = np.abs(pull) > 1e-4
        pull = pull[live]
        variance[i] = own * (pull @ pull) + common * (pull @ _together(fit.along[i][live])[1] @ pull)
    share = common / max(own + common, 1e-12) * common**2 / (common**2 + MISFIT**4)
    return PointNoise(np.sqrt(np.maximum(variance, LEAST_NOISE**2)), share)


def _together(along: Array) -> tuple[Array, Array]:
    """Return distances (k, k) in the tangent plane and exp(-r / reach)."""
    r = np.sqrt(((along[:, None] - along[None]) ** 2).sum(-1))
    return r, np.exp(-r / COMMON_REACH)


def _components(fit: LocalFit) -> tuple[float, float]:
    """Return s^2 and c^2."""
    rows = np.unique(np.linspace(0, len(fit.terms) - 1, min(len(fit.terms), SAMPLED)).round().astype(int))
    expected, found = _moments(fit, rows)
    own, common = _solve(expected.sum(0), found.sum(0))
    folds = [f for f in np.array_split(np.arange(len(rows)), FOLDS) if 0 < len(f) < len(rows)]
    left = [_solve(np.delete(expected, f, 0).sum(0), np.delete(found, f, 0).sum(0))[1] for f in folds]
    error = float(np.sqrt(np.var(left) * (len(left) - 1))) if left else 0.0
    kept = max(common - DOUBT * error - BLUR * own, 0.0)
    return own + common - kept, kept


def _solve(expected: Array, found: Array) -> tuple[float, float]:
    usual = USUAL_WEIGHT * np.array([1.0, 0.0])
    own, common = nnls(expected + np.diag(usual), found + usual * USUAL_NOISE**2)[0]
    return float(own), float(common)


def _moments(fit: LocalFit, rows: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return per neighbourhood the two moments that s^2 = 1 and c^2 = 1 give (n, 2, 2), and those found (n, 2)."""
    k = fit.terms.shape[1]
    hat = fit.terms[rows] @ fit.inverse[rows] @ (np.swapaxes(fit.terms[rows], 1, 2) * fit.weights[rows][:, None, :])
    rest = np.eye(k) - hat
    residual = (rest @ fit.above[rows][..., None])[..., 0]
    live = fit.weights[rows] > 1e-6
    # Outliers that the selection left must not pass for noise.
    edge = 3 * 1.4826 * float(np.median(np.abs(residual[live]))) if live.any() else 0.0
    residual = np.clip(residual, -edge, edge)
    expected, found = np.empty((len(rows), 2, 2)), np.empty((len(rows), 2))
    for i, row in enumerate(rows):
        m = live[i]
        e, smoother, w = residual[i][m], rest[i][np.ix_(m, m)], np.sqrt(fit.weights[row][m])
        r, together = _together(fit.along[row][m])
        pair = w[:, None] * w[None]
        single, common = smoother @ smoother.T, smoother @ together @ smoother.T
        for j, weight in enumerate((np.diag(w * w), pair * ((r < NEAR) & (r > 0)))):
            expected[i, j] = (weight * single).sum(), (weight * common).sum()
            found[i, j] = e @ weight @ e
    return expected, found
