r"""The posterior variance in single precision, once a few constraints have said in double what they know.

    v(q) = k(q, q) - k^T C^-1 k,    k = k(x, q)

is a small difference of large numbers: s^2 less almost all of it. With S a few constraints spread over the surface,
k = C_xS c + k~ and c = C_SS^-1 k_S, so that k~ is what they leave open, zero on S,

    v = k(q, q) - |L_SS^-1 k_S|^2 - |L^-1 k~|^2

exactly, for any S. The first two terms are computed in double precision, and so is k~; the last, which has nearly all
of the work, is of the size of what S left open, and single precision loses a millionth of that. The gradient needs the
weights w = C^-1 k, on R, all but S, those of L^-T L^-1 k~, and on S what is then left of the equations of S,

    w_S = c - B^T w_R,    B = C_RS C_SS^-1,    grad v = 2 t . grad t - 2 (grad k)^T w

so that errors of w_R are weighed by what S leaves open, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.blas import strmm

from cryoscale.fit.covariance import correlation, squared_distances
from cryoscale.fit.solve import Problem
from cryoscale.threads import on_one_thread

__all__ = ["Screened", "spread_out"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
SPREAD = 64
"""Constraints that are taken out: of fewer, more is left to single precision; each costs two products a place."""


@dataclass(frozen=True)
class Screened:
    """Constraints ready to solve for the weights of many places; lengths in their unit."""

    chosen: Index
    """(m,) rows of the spread constraints S."""
    whitening: Array
    """(m, m) L_SS^-1."""
    spread: Array
    """(n, m) C_xS C_SS^-1."""
    inverse: NDArray[np.float32]
    """(n, n) L^-1, in Fortran's order."""

    @classmethod
    def of(cls, problem: Problem, lower_inverse: Array) -> Screened:
        """Prepare the constraints of a problem whose L^-1 (n, n) is known."""
        chosen = np.sort(spread_out(problem.points, min(SPREAD, len(problem.points))))
        with on_one_thread():
            columns = _columns(problem, chosen)
            whitening = solve_triangular(cholesky(columns[chosen], lower=True), np.eye(len(chosen)), lower=True)
            spread = columns @ whitening.T @ whitening
        return cls(chosen, whitening, spread, np.asfortranarray(lower_inverse, np.float32))

    def solve(self, cross: Array) -> tuple[Array, Array]:
        """Return k^T C^-1 k (m,) and C^-1 k (m, n) from k (m, n), which is overwritten."""
        given = cross[:, self.chosen]
        white = given @ self.whitening.T
        left = np.empty(cross.shape, np.float32)
        np.subtract(cross, given @ self.spread.T, out=left, casting="same_kind")
        left[:, self.chosen] = 0.0
        known = strmm(1.0, self.inverse, left.T, lower=1, overwrite_b=1)
        explained = np.einsum("ij,ij->i", white, white) + np.einsum("ij,ij->j", known, known, dtype=np.float64)
        cross[:] = strmm(1.0, self.inverse, known, lower=1, trans_a=1, overwrite_b=1).T
        cross[:, self.chosen] = 0.0
        cross[:, self.chosen] = white @ self.whitening - cross @ self.spread
        return explained, cross


def _columns(problem: Problem, chosen: Index) -> Array:
    """Return columns (n, m) of the covariance of a problem's constraints, with their noise."""
    centred = problem.points - problem.points.mean(0)
    distances = np.sqrt(squared_distances(centred, centred[chosen], np))
    out = problem.kernel.amplitude**2 * correlation(problem.kernel.kind, distances / problem.kernel.length, np)
    if problem.trend is not None:
        out += problem.trend @ problem.trend[chosen].T
    if problem.shared is not None:
        out += problem.shared[:, None] * problem.shared[chosen] * np.exp(-distances / problem.reach)
    out[chosen, np.arange(len(chosen))] += problem.noise[chosen] ** 2
    return np.asarray(out)


def spread_out(points: Array, count: int) -> Index:
    """Return the rows of points each of which is farthest from those before it."""
    rows = np.zeros(count, np.int64)
    far = ((points - points[0]) ** 2).sum(1)
    for number in range(1, count):
        rows[number] = far.argmax()
        far = np.minimum(far, ((points - points[rows[number]]) ** 2).sum(1))
    return rows
