r"""Covariance matrices of a batch in one compiled loop, each entry computed once and nothing held beside the result.

    C_ij = K(x_i, x_j) + [i = j] noise_i^2 + t_i . t_j + s_i s_j exp(-r_ij / reach),     i <= j < count

and the identity beyond a member's count; t are the prior mean's basis functions, s the noise that neighbours share.

Only one triangle is written, the one LAPACK's Cholesky reads. Array arithmetic would make eight temporaries of the
same size, and the time would go into fetching their memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.evaluate import _decay

__all__ = ["clear_above", "covariance_triangles"]

Array = NDArray[np.float64]


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _fill(
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


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def clear_above(transposed: Any) -> None:
    """Set what lies above the diagonal of a matrix to zero; its transpose is given, so that rows lie in one piece."""
    for i in range(len(transposed)):
        transposed[i, :i] = 0.0


def covariance_triangles(
    kind: str,
    points: Array,
    noise: Array,
    counts: NDArray[np.int64],
    lengths: Array,
    amplitudes: Array,
    *,
    trend: Array | None = None,
    shared: Array | None = None,
    reach: Array | None = None,
) -> Array:
    """Return covariance matrices with noise (b, n, n) whose lower triangles are defined, ready for LAPACK.

    Parameters
    ----------
    kind
        Name of the covariance function.
    points, noise
        (b, n, 3) and (b, n), padded.
    counts, lengths, amplitudes
        (b,) members' true sizes and their kernels' parameters.
    trend, shared, reach
        (b, n, k), (b, n) and (b,), or None.

    Returns
    -------
    numpy.ndarray
        Each member in Fortran's order; what lies above its diagonal is not set.
    """
    out = np.empty((len(points), points.shape[1], points.shape[1]))
    for member, matrix in enumerate(out):
        columns = np.ascontiguousarray(points[member].T)
        variance = float(amplitudes[member]) ** 2
        basis = np.zeros((0, 0)) if trend is None else np.ascontiguousarray(trend[member].T)
        common, far = (np.zeros(0), 1.0) if shared is None or reach is None else (shared[member], float(reach[member]))
        form = (kind == "cubic", float(lengths[member]), variance)
        _fill(columns, noise[member], basis, common, far, int(counts[member]), *form, matrix)
    return out.swapaxes(1, 2)
