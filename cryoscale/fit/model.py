r"""The fitted field: one Gaussian process, or several overlapping ones blended by a partition of unity.

    f(q) = sum_p w_p(q) f_p(q) / sum_p w_p(q)
    w_p(q) = prod over axes of smooth(1 - (distance of q to box p) / overlap)

with smooth(t) = t^2 (3 - 2 t) on [0, 1]. Inside its own box a patch has weight 1 before the division, and none beyond
the overlap. The variance of the blend is taken as the blend of the variances: the patches share their data near a
seam, so their errors are nearly the same error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit import evaluate
from cryoscale.fit.choose import Hypothesis, problem_of
from cryoscale.fit.constraints import Constraints
from cryoscale.fit.solve import Solution, solve_many

__all__ = ["Model", "Patch"]

Array = NDArray[np.float64]


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

    def value_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the posterior mean (m,) and its gradient (m, 3)."""
        f, g = evaluate.field_gradient(self.hypothesis.kernel, self.constraints.points, self.alpha, q)
        if self.hypothesis.ellipsoid is None:
            return f, g
        m, dm = self.hypothesis.ellipsoid.distance_gradient(q)
        return f + m, g + dm

    def variance(self, q: Array) -> Array:
        """Return the posterior variance (m,)."""
        triangle = self.lower_inverse
        if triangle is None:
            solution = solve_many([problem_of(self.constraints, self.hypothesis)])[0]
            if not isinstance(solution, Solution) or solution.lower_inverse is None:
                msg = "the covariance of a patch is not positive definite"
                raise np.linalg.LinAlgError(msg)
            triangle = solution.lower_inverse
        return evaluate.variance(self.hypothesis.kernel, self.constraints.points, triangle, q)


@dataclass(frozen=True)
class Model:
    """The field of one membrane, in voxels."""

    patches: tuple[Patch, ...]
    overlap: float = 1.0

    def value_gradient(self, q: Array) -> tuple[Array, Array]:
        """Return the field (m,) and its gradient (m, 3) at places (m, 3)."""
        if len(self.patches) == 1:
            return self.patches[0].value_gradient(q)
        total, value = np.zeros(len(q)), np.zeros(len(q))
        slope, change, lean = (np.zeros((len(q), 3)) for _ in range(3))
        for patch, rows, w, dw in self._shares(q):
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

    def variance(self, q: Array) -> Array:
        """Return the variance of the field (m,) at places (m, 3)."""
        if len(self.patches) == 1:
            return self.patches[0].variance(q)
        total, value = np.zeros(len(q)), np.zeros(len(q))
        for patch, rows, w, _ in self._shares(q):
            total[rows] += w
            value[rows] += w * patch.variance(q[rows])
        return value / total

    def _shares(self, q: Array) -> list[tuple[Patch, NDArray[np.int64], Array, Array]]:
        """Return per patch the rows of q where it has a say, its weights there and their gradients."""
        low = np.stack([p.low for p in self.patches])
        high = np.stack([p.high for p in self.patches])
        best = np.full(len(q), np.inf)
        nearest = np.zeros(len(q), np.int64)
        shares = []
        for number in range(len(self.patches)):
            outside = np.maximum(np.maximum(low[number] - q, q - high[number]), 0)
            far = outside.max(1)
            nearest = np.where(far < best, number, nearest)
            best = np.minimum(best, far)
            rows = np.flatnonzero(far < self.overlap)
            shares.append(rows)
        lost = best >= self.overlap
        out = []
        for number, rows in enumerate(shares):
            w, dw = _weights(q[rows], low[number], high[number], self.overlap)
            alone = np.flatnonzero(lost & (nearest == number))
            rows = np.concatenate([rows, alone])
            w = np.concatenate([w, np.ones(len(alone))])
            dw = np.concatenate([dw, np.zeros((len(alone), 3))])
            if len(rows):
                out.append((self.patches[number], rows, w, dw))
        return out


def _weights(q: Array, low: Array, high: Array, overlap: float) -> tuple[Array, Array]:
    """Return the product of the three axes' weights (m,) and its gradient (m, 3)."""
    below, above = np.maximum(low - q, 0), np.maximum(q - high, 0)
    t = np.clip(1 - (below + above) / overlap, 0, 1)
    axis = np.maximum(t * t * (3 - 2 * t), 1e-12)
    slope = 6 * t * (1 - t) / overlap * ((below > 0).astype(float) - (above > 0))
    w = axis.prod(1)
    return w, w[:, None] * slope / axis
