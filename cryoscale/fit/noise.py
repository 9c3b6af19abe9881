r"""How far off a control point is: measured from the scatter of the raw points around it.

A control point is the intercept h = a . y of a paraboloid through the heights y of its neighbourhood. Raw heights err
independently and together with their neighbours along the membrane,

    cov(y_k, y_l) = s^2 [k = l] + c^2 exp(-r_kl / 5 voxels),     var h = sum_kl a_k a_l cov(y_k, y_l)

and the residuals e = (I - H) y of the paraboloids tell both apart: with w the neighbourhood's weights,

    sum w_k e_k^2     and     sum over r_kl < 2.5 voxels of sqrt(w_k w_l) e_k e_l

are compared with what s^2 = 1 and c^2 = 1 alone would give, through (I - H) (..) (I - H)^T, over many neighbourhoods.
Where the missing wedge makes points worse along the beam, s^2 = s_xy^2 + (s_z^2 - s_xy^2) n_z^2: a straight line
through the neighbourhoods' own s^2 tells whether that shows. Planes tilt with such noise, at the rim of missing caps by
3, 6 and 9 degrees at 2, 3 and 4 times the noise, and hide some of it; fitted with z shrunk they tilt the other way
where it is not there. So what nearly shows is tried (`normals`), and where it is found, control points and normals are
those of paraboloids that know the noise (`moments`).
Clean points have c = 0 and give back their noise; ridges of a network's score have c of 0.3 to 0.7 voxel and little s.
A marginal likelihood cannot do this: it takes errors that neighbours share for shape, and prefers half the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["BEAM_DOUBT", "MOST_STRETCH", "LocalFit", "PointNoise", "point_noise", "pulled_noise"]

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
BEAM_DOUBT = 3.0
"""Standard errors that a difference of s^2 along and across the beam must have."""
MOST_STRETCH = 4.0
"""Largest ratio of the two that is believed."""
USUAL_NOISE = 0.5
USUAL_WEIGHT = 0.1
"""Noise of a raw point, and its weight in neighbourhoods, where too few points are left to measure it."""
LEAST_NOISE = 0.01
LEAST_PULL, LEAST_WEIGHT = 1e-4, 1e-6
"""Raw points with less have no part in an intercept, and in the moments."""
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
    stretch: Array
    """(m,) voxels along the normal for one of heights: above 1 where z was shrunk to make noise alike in all axes."""
    beam: Array
    """(m,) squares of the normals' z components, z shrunk."""


@dataclass(frozen=True)
class PointNoise:
    """Noise of m control points, in voxels."""

    sd: Array
    """(m,) standard deviations of their positions along the normal."""
    common_share: float
    """c^2 / (s^2 + c^2): share of the raw points' variance that neighbours have in common; 0 where c << 0.15 voxel."""
    own: float
    """s^2 across the beam, in squared voxels."""
    common: float
    """c^2 across the beam, in squared voxels."""
    ratio: float
    """Variance of raw points along z over that across it, where z is shrunk already."""
    ratio_shows: float
    """By how many standard errors it is above 1."""
    whole: NDArray[np.bool_]
    """(m,) whether a control point can be relied on: False where noise along z moves points off their end."""


def point_noise(fit: LocalFit, *, sampled: int = SAMPLED) -> PointNoise:
    """Measure the noise of control points from about ``sampled`` of their neighbourhoods."""
    rows = np.unique(np.linspace(0, len(fit.terms) - 1, min(len(fit.terms), sampled)).round().astype(int))
    folds = [f for f in np.array_split(np.arange(len(rows)), FOLDS) if 0 < len(f) < len(rows)]
    expected, found = _moments(fit, rows)
    own, common = _components(expected, found, folds)
    sd = pulled_noise(_pulls(fit.inverse, fit.terms, fit.weights), fit.along, own, common)
    share = common / max(own + common, 1e-12) * common**2 / (common**2 + MISFIT**4)
    more = _more_along_z(fit.beam[rows], expected, found, common)
    return PointNoise(fit.stretch * sd, share, own, common, *more, np.ones(len(sd), bool))


def pulled_noise(pull: Array, along: Array, own: float, common: float) -> Array:
    """Return standard deviations (m,) of intercepts h = pull . y, pull (m, k), from places (m, k, 2) in the plane."""
    return np.asarray(np.sqrt(np.maximum(_variances(pull, along, own, common), LEAST_NOISE**2)))


def _more_along_z(beam: Array, expected: Array, found: Array, common: float) -> tuple[float, float]:
    """Return the ratio s_z^2 / s_xy^2, c^2 in both, and by how many standard errors s_z^2 is larger.

    A straight line through the neighbourhoods' own s^2 over n_z^2.
    """
    size = np.maximum(expected[:, 0, 0], 1e-12)
    own = (found[:, 0] - common * expected[:, 0, 1]) / size
    every = np.arange(len(beam))
    across, more = _line(beam, own, size, every)
    folds = [every[start::FOLDS] for start in range(FOLDS if len(every) > FOLDS else 0)]
    left = [_line(beam, own, size, np.delete(every, f))[1] for f in folds]
    error = float(np.sqrt(np.var(left) * (len(left) - 1))) if left else np.inf
    return max(1 + more / max(across + common, LEAST_NOISE**2), 0.1), more / max(error, 1e-12)


def _line(x: Array, y: Array, weights: Array, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Return intercept and slope of a weighted straight line through some rows."""
    x, y, weights = x[rows], y[rows], weights[rows]
    middle, high = np.average(x, weights=weights), np.average(y, weights=weights)
    slope = (weights * (x - middle) * y).sum() / max((weights * (x - middle) ** 2).sum(), 1e-12)
    return float(high - slope * middle), float(slope)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pulls(inverse: Any, terms: Any, weights: Any) -> Any:
    """Return how much each point (m, k) moves its intercept."""
    pull = np.zeros(weights.shape)
    for i in range(len(terms)):
        for k in range(pull.shape[1]):
            for j in range(terms.shape[2]):
                pull[i, k] += inverse[i, 0, j] * terms[i, k, j] * weights[i, k]
    return pull


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _variances(pulls: Any, along: Any, own: float, common: float) -> Any:
    """Return var h (m,) of the intercepts h = pull . y."""
    variance = np.empty(len(pulls))
    for i in range(len(pulls)):
        pull = pulls[i]
        live = np.flatnonzero(np.abs(pull) > LEAST_PULL)
        alone = (pull[live] ** 2).sum()
        variance[i] = (own + common) * alone
        for first in range(len(live) if common > 0 else 0):
            one = along[i, live[first]]
            for second in range(first):
                apart = _apart(one, along[i, live[second]])
                variance[i] += 2 * common * pull[live[first]] * pull[live[second]] * math.exp(-apart / COMMON_REACH)
    return variance


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _apart(one: Any, other: Any) -> float:
    """Return the distance of two places in the tangent plane."""
    return math.sqrt((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2)


def _components(expected: Array, found: Array, folds: list[NDArray[np.int64]]) -> tuple[float, float]:
    """Return s^2 and c^2 from the moments of neighbourhoods."""
    own, common = _solve(expected.sum(0), found.sum(0))
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
    terms, weights = fit.terms[rows], fit.weights[rows]
    solving = fit.inverse[rows] @ (np.swapaxes(terms, 1, 2) * weights[:, None, :])
    above = fit.above[rows]
    residual = above - (terms @ (solving @ above[..., None]))[..., 0]
    live = weights > LEAST_WEIGHT
    # Outliers that the selection left must not pass for noise.
    edge = 3 * 1.4826 * float(np.median(np.abs(residual[live]))) if live.any() else 0.0
    residual = np.clip(residual, -edge, edge)
    expected, found = _row_moments(residual, terms, solving, weights, fit.along[rows])
    return expected, found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _row_moments(residual: Any, terms: Any, solving: Any, weights: Any, along: Any) -> Any:
    """Return both moments of n neighbourhoods of k points, expected (n, 2, 2) and found (n, 2).

    H = T A has rank 6, terms T (k, 6) and what solves for them A (6, k). With C for any covariance

        (I - H) C (I - H)^T = C + T U + (T U)^T,     U = A C A^T T^T / 2 - A C

    of which a row and a column are 12 products instead of k^2.
    """
    count = len(residual)
    expected, found = np.zeros((count, 2, 2)), np.zeros((count, 2))
    for row in range(count):
        # Points without weight have no part in it.
        live = np.flatnonzero(weights[row] > LEAST_WEIGHT)
        k = len(live)
        t, a, places = terms[row][live], np.ascontiguousarray(solving[row][:, live]), along[row][live]
        together, apart = np.ones((k, k)), np.zeros((k, k))
        for i in range(k):
            for j in range(i):
                apart[i, j] = _apart(places[i], places[j])
                together[i, j] = together[j, i] = math.exp(-apart[i, j] / COMMON_REACH)
        both = a @ together
        alone = 0.5 * (a @ a.T) @ t.T - a
        shared = 0.5 * (both @ a.T) @ t.T - both
        for i in range(k):
            own = weights[row, live[i]]
            single, common = 1 + 2 * _dot(t[i], alone, i), 1 + 2 * _dot(t[i], shared, i)
            _note(expected[row, 0], found[row], 0, own, single, common, residual[row, live[i]] ** 2)
            for j in range(i):
                if 0 < apart[i, j] < NEAR:
                    # Each pair counts in both orders.
                    share = 2 * math.sqrt(own * weights[row, live[j]])
                    product = residual[row, live[i]] * residual[row, live[j]]
                    single = _dot(t[i], alone, j) + _dot(t[j], alone, i)
                    common = together[i, j] + _dot(t[i], shared, j) + _dot(t[j], shared, i)
                    _note(expected[row, 1], found[row], 1, share, single, common, product)
    return expected, found


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _dot(row: Any, matrix: Any, column: int) -> float:
    """Return the product of a row and a matrix's column."""
    total = 0.0
    for i in range(len(row)):
        total += row[i] * matrix[i, column]
    return total


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _note(expected: Any, found: Any, moment: int, weight: float, single: float, common: float, both: float) -> None:
    expected[0] += weight * single
    expected[1] += weight * common
    found[moment] += weight * both
