r"""Second derivatives of the posterior mean, in closed form and compiled loops.

With d = q - x_i, r = |d|, every kernel has grad K = A d and

    Hess K = A I + B d d^T,     A = K'(r) / r,     B = A'(r) / r

- cubic       A = 6 s^2 (t - 1) / R^2,  B = 6 s^2 / (R^3 r),  t = r / R <= 1   (0 beyond R)
- Matern 5/2  A = -s^2 c^2 (1 + a) exp(-a) / 3,  B = s^2 c^4 exp(-a) / 3,  a = c r,  c = sqrt(5) / l

B d d^T of the cubic tends to 0 with r, so both are finite everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.covariance import Kernel

__all__ = ["PAIRS", "field_hessian", "symmetric"]

Array = NDArray[np.float64]
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Rows and columns of the six numbers that a symmetric matrix is stored as."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum(x: Any, alpha: Any, q: Any, cubic: bool, length: float, out: Any) -> None:
    c = math.sqrt(5.0) / length
    for j in range(q.shape[0]):
        for i in range(alpha.shape[0]):
            dz, dy, dx = q[j, 0] - x[i, 0], q[j, 1] - x[i, 1], q[j, 2] - x[i, 2]
            r = math.sqrt(dz * dz + dy * dy + dx * dx)
            if cubic:
                if r >= length:
                    continue
                first = 6.0 * (r / length - 1.0) / (length * length)
                second = 6.0 / (length**3 * max(r, 1e-12))
            else:
                decay = math.exp(-c * r)
                first = -c * c * (1.0 + c * r) * decay / 3.0
                second = c**4 * decay / 3.0
            first *= alpha[i]
            second *= alpha[i]
            out[j, 0] += first + second * dz * dz
            out[j, 1] += second * dz * dy
            out[j, 2] += second * dz * dx
            out[j, 3] += first + second * dy * dy
            out[j, 4] += second * dy * dx
            out[j, 5] += first + second * dx * dx


def field_hessian(kernel: Kernel, points: Array, alpha: Array, q: Array) -> Array:
    """Return the Hessian (m, 3, 3) of sum_i alpha_i K(q, x_i) at places q (m, 3)."""
    out = np.zeros((len(q), 6))
    places = np.ascontiguousarray(q, np.float64)
    weights = alpha * kernel.amplitude**2
    _sum(np.ascontiguousarray(points), weights, places, kernel.kind == "cubic", kernel.length, out)
    return symmetric(out)


def symmetric(six: Array) -> Array:
    """Return symmetric matrices (.., 3, 3) from their six numbers (.., 6) in the order of `PAIRS`."""
    out = np.empty((*six.shape[:-1], 3, 3))
    for column, (a, b) in enumerate(PAIRS):
        out[..., a, b] = out[..., b, a] = six[..., column]
    return out
