r"""The covariance matrix of one member in a compiled loop, each entry computed once and nothing held beside the result.

    C_ij = K(x_i, x_j) + [i = j] noise_i^2 + t_i . t_j + s_i s_j exp(-r_ij / reach),     i <= j < count

and the identity beyond a member's count; t are the prior mean's basis functions, s the noise that neighbours share.

Only one triangle is written, the one LAPACK's Cholesky reads. Array arithmetic would make eight temporaries of the
same size, and the time would go into fetching their memory.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from cryoscale.fit.evaluate import _decay

__all__ = ["fill"]


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def fill(
    x: Any,
    noise: Any,
    trend: Any,
    shared: Any,
    reach: float,
    count: int,
    cubic: bool,
    length: float,
    variance: float,
    out: Any,
) -> None:
    """Write the covariance of one member with its noise where LAPACK's Cholesky reads it.

    Parameters
    ----------
    x, noise
        (3, n) constraints and (n,) the standard deviations of their values, padded.
    trend, shared, reach
        (k, n), (n,) or (0,), and its correlation's length.
    count
        True number of constraints.
    cubic, length, variance
        The kernel.
    out
        (n, n): the lower triangle in Fortran's order, i <= j here; the other one stays as it is.
    """
    c = math.sqrt(5.0) / length
    # Noise is shared on the surface alone, whose points come first.
    sharing = shared.shape[0]
    while sharing > 0 and shared[sharing - 1] == 0.0:
        sharing -= 1
    for i in range(count):
        for j in range(i, count):
            dz, dy, dx = x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j]
            r = math.sqrt(dz * dz + dy * dy + dx * dx)
            if cubic:
                t = min(r / length, 1.0)
                out[i, j] = variance * (1.0 - t * t * (3.0 - 2.0 * t))
            else:
                a = c * r
                out[i, j] = variance * (1.0 + a + a * a / 3.0) * _decay(a)
        # Loops of their own: together the compiler would not make vector instructions of them.
        for j in range(i, sharing):
            dz, dy, dx = x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j]
            out[i, j] += shared[i] * shared[j] * _decay(math.sqrt(dz * dz + dy * dy + dx * dx) / reach)
        for k in range(0, trend.shape[0] - 2, 3):
            first, second, third = trend[k, i], trend[k + 1, i], trend[k + 2, i]
            for j in range(i, count):
                out[i, j] += first * trend[k, j] + second * trend[k + 1, j] + third * trend[k + 2, j]
        for k in range(trend.shape[0] // 3 * 3, trend.shape[0]):
            for j in range(i, count):
                out[i, j] += trend[k, i] * trend[k, j]
        out[i, i] += noise[i] * noise[i]
        out[i, count:] = 0.0
    for i in range(count, out.shape[0]):
        out[i, i:] = 0.0
        out[i, i] = 1.0
