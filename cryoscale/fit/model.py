r"""The fitted field: one Gaussian process, or several overlapping ones blended by a partition of unity.

    f(q) = sum_p w_p(q) f_p(q) / sum_p w_p(q)     (the weights: `blend`)

A fit of the whole membrane in one piece, the *ground*, speaks where the patches hardly do: what is far from all data,
as the caps of a large vesicle, is told by the shape of the whole, and what lies inside a box by its patch alone. The
variance of the blend is taken as the blend of the variances: the patches share their data near a seam, so their errors
are nearly the same error. With an ellipsoid as the prior mean, m is its distance plus the change of that distance with
its 9 parameters, to first order: the parameters are unknowns of the same Gaussian process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit import evaluate
from cryoscale.fit.blend import box_weights, ground_weights, speaking, weight_hessians
from cryoscale.fit.choose import Hypothesis, problem_of
from cryoscale.fit.constraints import Constraints
from cryoscale.fit.covariance import covariance
from cryoscale.fit.hessian import field_hessian
from cryoscale.fit.net import Function
from cryoscale.fit.screened import Screened
from cryoscale.fit.smooth import interpolated
from cryoscale.fit.solve import Solution, solve_many
from cryoscale.threads import in_threads, on_one_thread

__all__ = ["Model", "Patch"]

Array = NDArray[np.float64]
FIRST_ORDER = 1e-4
"""Step of the ellipsoid along its change: the prior mean is linear in its parameters."""

FINELY, FINEST_PITCH, FINE_PITCH = 600, 1.25, 2.0
"""Constraints up to which the finest cells are worth their time, their edge in voxels, and the least edge for more."""
PROOFS, SINGLE = 16, 0.002
"""Places at which single precision is held against double, and what it may be off there, as a share of the variance."""


@dataclass(frozen=True)
class Patch:
    """One Gaussian process and the box in which it speaks."""

    constraints: Constraints
    hypothesis: Hypothesis
    alpha: Array
    low: Array
    high: Array
    """(3,) corners of its own box, in voxels; infinite for a single patch."""
    lower_inverse: Array | None = None
    """L^-1, or None: computed again when a variance is asked for."""
    change: Array | None = None
    """(9,) posterior mean of the ellipsoid's parameters, in their prior sds; the mean follows it to first order."""

    def value_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the posterior mean (m,) and its gradient (m, 3)."""
        f, g = evaluate.field_gradient(self.hypothesis.kernel, self.constraints.points, self.alpha, q)
        if self.hypothesis.ellipsoid is None:
            return f, g
        m, dm = self.hypothesis.ellipsoid.distance_gradient(q)
        if self.change is not None:
            moved, turned = self.hypothesis.ellipsoid.moved(FIRST_ORDER * self.change).distance_gradient(q)
            return f + m + (moved - m) / FIRST_ORDER, g + dm + (turned - dm) / FIRST_ORDER
        return f + m, g + dm

    def hessian(self, q: Array) -> Array:
        """Return the Hessian (m, 3, 3) of the posterior mean."""
        out = field_hessian(self.hypothesis.kernel, self.constraints.points, self.alpha, q)
        ellipsoid = self.hypothesis.ellipsoid
        if ellipsoid is None:
            return out
        out += ellipsoid.distance_hessian(q)
        if self.change is not None:
            moved = ellipsoid.moved(FIRST_ORDER * self.change)
            out += (moved.distance_hessian(q) - ellipsoid.distance_hessian(q)) / FIRST_ORDER
        return out

    def covariance(self, q: Array, offsets: Array, weights: Array) -> Array:
        """Return the posterior covariance (m, k, k) of k differences around places (m, 3).

        ``weights`` (k, s) turn the values at s ``offsets`` (s, 3) into the differences.
        """
        kernel, x = self.hypothesis.kernel, self.constraints.points
        triangle, ellipsoid = self.triangle(), self.hypothesis.ellipsoid
        prior = weights @ covariance(kernel, offsets, offsets, np) @ weights.T
        around = (q[:, None] + offsets).reshape(-1, 3)
        basis, trend = np.zeros((len(x), 0)), np.zeros((len(q), len(weights), 0))
        if ellipsoid is not None:
            basis, trend = ellipsoid.trend(x), weights @ ellipsoid.trend(around).reshape(len(q), len(offsets), -1)
        places = around.reshape(len(q), -1, 3)

        def around_one(row: int) -> Array:
            cross = weights @ covariance(kernel, places[row], x, np) + trend[row] @ basis.T
            reach = cross @ triangle.T
            return np.asarray(prior + trend[row] @ trend[row].T - reach @ reach.T)

        return np.array(in_threads(around_one, range(len(q)))).reshape(len(q), len(weights), len(weights))

    def joint_covariance(self, q: Array) -> Array:
        """Return the posterior covariance (m, m) of the field among places (m, 3)."""
        kernel, x, ellipsoid = self.hypothesis.kernel, self.constraints.points, self.hypothesis.ellipsoid
        with on_one_thread():
            prior, cross = covariance(kernel, q, q, np), covariance(kernel, q, x, np)
            if ellipsoid is not None:
                trend = ellipsoid.trend(q)
                prior, cross = prior + trend @ trend.T, cross + trend @ ellipsoid.trend(x).T
            reach = cross @ self.triangle().T
            return np.asarray(prior - reach @ reach.T)

    def variance(self, q: Array) -> Array:
        """Return the posterior variance (m,)."""
        ellipsoid, x = self.hypothesis.ellipsoid, self.constraints.points
        trends = None if ellipsoid is None else (ellipsoid.trend(x), ellipsoid.trend(q))
        return evaluate.variance(self.hypothesis.kernel, x, self.triangle(), q, trends)

    def variance_near(self, q: Array, normals: Array, field: Function) -> Array:
        """Return the posterior variance (m,) at many places on the field's surface; see `smooth` and `screened`."""
        problem, triangle = problem_of(self.constraints, self.hypothesis), self.triangle()
        ellipsoid, trend = self.hypothesis.ellipsoid, problem.trend

        def by(solve: evaluate.Solve) -> Function:
            def function(at: Array) -> tuple[Array, Array]:
                trends = None
                if ellipsoid is not None and trend is not None:
                    trends = (trend, *ellipsoid.trend_gradient(at))
                return evaluate.variance_gradient(problem.kernel, problem.points, solve, at, trends)

            return function

        single, double = by(Screened.of(problem, triangle).solve), by(evaluate.in_double(triangle))
        proof = q[:: max(1, len(q) // PROOFS)]
        exact = double(proof)[0]
        proven = bool((np.abs(single(proof)[0] - exact) <= SINGLE * exact).all())
        least = FINEST_PITCH if len(problem.points) <= FINELY else FINE_PITCH
        return interpolated(single if proven else double, field, q, normals, least_pitch=least)

    def triangle(self) -> Array:
        """Return L^-1 (n, n), computed again where it was not kept."""
        triangle = self.lower_inverse
        if triangle is None:
            solution = solve_many([problem_of(self.constraints, self.hypothesis)])[0]
            if not isinstance(solution, Solution) or solution.lower_inverse is None:
                msg = "the covariance of a patch is not positive definite"
                raise np.linalg.LinAlgError(msg)
            triangle = solution.lower_inverse
        return triangle


@dataclass(frozen=True)
class Model:
    """The field of one membrane, in voxels."""

    patches: tuple[Patch, ...]
    overlap: float = 1.0
    scale: float = 1.0
    """Factor on the posterior's standard deviations; see `calibrate`."""
    ground: Patch | None = None
    """What speaks where no patch does."""
    ground_scale: float = 1.0
    """Factor on its standard deviations."""

    def value_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the field (m,) and its gradient (m, 3) at places (m, 3)."""
        if len(self.patches) == 1:
            return self.patches[0].value_gradient(q)
        total, value = np.zeros(len(q)), np.zeros(len(q))
        slope, change, lean = (np.zeros((len(q), 3)) for _ in range(3))
        for patch, rows, w, dw in self.shares(q):
            f, g = patch.value_gradient(q[rows])
            total[rows] += w
            value[rows] += w * f
            slope[rows] += w[:, None] * g
            change[rows] += dw * f[:, None]
            lean[rows] += dw
        mean = value / total
        return mean, (slope + change - mean[:, None] * lean) / total[:, None]

    def value(self, q: Array) -> Array:
        """Return the field (m,) at places (m, 3)."""
        return self.value_gradient(q)[0]

    def hessian(self, q: Array) -> Array:
        """Return the Hessian of the field (m, 3, 3) at places (m, 3)."""
        if len(self.patches) == 1:
            return self.patches[0].hessian(q)
        total, value = np.zeros(len(q)), np.zeros(len(q))
        lean, slope = np.zeros((len(q), 3)), np.zeros((len(q), 3))
        turn, bend = np.zeros((len(q), 3, 3)), np.zeros((len(q), 3, 3))
        for patch, rows, w, dw in self.shares(q):
            f, g = patch.value_gradient(q[rows])
            if patch is self.ground:
                # All others come first: their sums are whole.
                ddw = ground_weights(total[rows], lean[rows], turn[rows])[2]
            else:
                ddw = weight_hessians(q[rows], patch.low, patch.high, self.overlap)
            total[rows] += w
            value[rows] += w * f
            lean[rows] += dw
            slope[rows] += w[:, None] * g + dw * f[:, None]
            turn[rows] += ddw
            mixed = dw[:, :, None] * g[:, None, :]
            bend[rows] += ddw * f[:, None, None] + mixed + np.swapaxes(mixed, 1, 2)
            bend[rows] += w[:, None, None] * patch.hessian(q[rows])
        mean = value / total
        gradient = (slope - mean[:, None] * lean) / total[:, None]
        mixed = gradient[:, :, None] * lean[:, None, :]
        return np.asarray((bend - mean[:, None, None] * turn - mixed - np.swapaxes(mixed, 1, 2)) / total[:, None, None])

    def variance(self, q: Array) -> Array:
        """Return the variance of the field (m,) at places (m, 3)."""
        return self.scale**2 * self._blended(q, lambda patch, rows: patch.variance(q[rows]))

    def variance_near(self, q: Array, normals: Array) -> Array:
        """Return the variance (m,) at many places (m, 3) of the surface, normal to (m, 3), to about 1 %."""

        def of(patch: Patch, rows: Any) -> Array:
            return patch.variance_near(q[rows], normals[rows], self.value_gradient)

        return self.scale**2 * self._blended(q, of)

    def covariance(self, q: Array, offsets: Array, weights: Array) -> Array:
        """Return the covariance (m, k, k) of differences of the field around places (m, 3); see `Patch`."""
        return self.scale**2 * self._blended(q, lambda patch, rows: patch.covariance(q[rows], offsets, weights))

    def _blended(self, q: Array, of: Callable[[Patch, Any], Array]) -> Array:
        """Return the patches' answers for rows of q, (m, ..), averaged by their weights."""
        if len(self.patches) == 1:
            return of(self.patches[0], slice(None))
        total = np.zeros(len(q))
        value: Array | None = None
        for patch, rows, w, _ in self.shares(q):
            found = of(patch, rows)
            if patch is self.ground:
                found = found * (self.ground_scale / self.scale) ** 2
            if value is None:
                value = np.zeros((len(q), *found.shape[1:]))
            total[rows] += w
            value[rows] += w.reshape(-1, *[1] * (found.ndim - 1)) * found
        assert value is not None
        return np.asarray(value / total.reshape(-1, *[1] * (value.ndim - 1)))

    def shares(self, q: Array) -> Iterator[tuple[Patch, NDArray[np.int64], Array, Array]]:
        """Yield per patch the rows of q where it has a say, its weights there and their gradients."""
        low, high = (np.stack(corners) for corners in zip(*((p.low, p.high) for p in self.patches), strict=True))
        ends, near, nearest = speaking(np.ascontiguousarray(q), low, high, self.overlap)
        alone = np.full(len(q), -1)
        if self.ground is None:
            heard = np.zeros(len(q), bool)
            heard[near] = True
            alone = np.where(heard, -1, nearest)
        total, lean = np.zeros(len(q)), np.zeros((len(q), 3))
        for number in np.union1d(np.flatnonzero(np.diff(ends)), alone[alone >= 0]):
            rows, lost = near[ends[number] : ends[number + 1]], np.flatnonzero(alone == number)
            w, dw = box_weights(q[rows], low[number], high[number], self.overlap)
            rows = np.concatenate([rows, lost])
            w = np.concatenate([w, np.ones(len(lost))])
            dw = np.concatenate([dw, np.zeros((len(lost), 3))])
            yield self.patches[number], rows, w, dw
            total[rows] += w
            lean[rows] += dw
        rows = np.flatnonzero(total < 1)
        if self.ground is not None and len(rows):
            yield self.ground, rows, *ground_weights(total[rows], lean[rows])[:2]
