"""A batch of Gaussian processes on the host: one compiled loop, in which LAPACK takes one member after the other.

    L L^T = C,    L^-1 y,    alpha = L^-T L^-1 y,    L^-1     (`solve` says what they are for)

A member's matrix is filled, factorised, solved with and inverted in its place before the next one's. The interpreter is
left to other threads meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.covariance import Kernel
from cryoscale.fit.lapack import ROUTINES, potrf, trsv
from cryoscale.fit.matrix import fill
from cryoscale.fit.triangle import invert

__all__ = ["solve_on_host"]

Array = NDArray[np.float64]


def solve_on_host(
    points: Array,
    noise: Array,
    counts: NDArray[np.int64],
    kernels: Sequence[Kernel],
    right: Array,
    *,
    trend: Array | None = None,
    shared: Array | None = None,
    reach: Array | None = None,
    inverse: bool = True,
) -> tuple[Array, Array, Array, Array]:
    """Factorise and solve a batch of one kind of kernel.

    Parameters
    ----------
    points, noise, right
        (b, n, 3), (b, n) and (b, n) constraints, padded; the values are zero beyond a member's count.
    counts
        (b,) members' true numbers of constraints.
    kernels
        b of one kind.
    trend, shared, reach
        (b, n, k), (b, n), (b,) as in `solve.Problem`, or None.
    inverse
        Whether L^-1 is wanted.

    Returns
    -------
    tuple
        sum log L_ii (b,), L^-1 y and alpha (b, n), and L^-1 (b, n, n), whose matrices are in Fortran's order; where it
        is not wanted, the last member's L.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance is not positive definite.
    """
    size, nothing = right.shape, np.zeros((len(right), 0))
    forms = np.array([(kernel.length, kernel.amplitude**2) for kernel in kernels])
    basis = nothing[..., None] if trend is None else np.ascontiguousarray(trend.swapaxes(1, 2))
    common, far = (nothing, np.ones(len(right))) if shared is None or reach is None else (shared, reach)
    log_det, white, alpha, lower = np.empty(size[0]), np.empty(size), np.empty(size), _room(size, inverse)
    columns = np.ascontiguousarray(points.swapaxes(1, 2))
    cubic = kernels[0].kind == "cubic"
    member, pivot = _solve(
        ROUTINES, cubic, columns, noise, counts, forms, right, basis, common, far, inverse, log_det, white, alpha, lower
    )
    if pivot:
        msg = f"covariance {member} of {size[0]} is not positive definite: pivot {pivot} of {size[1]}"
        raise np.linalg.LinAlgError(msg)
    return log_det, white, alpha, lower.swapaxes(1, 2)


def _room(size: tuple[int, ...], inverse: bool) -> Array:
    """Return room for the matrices that are wanted, or for one that all members have in turn."""
    return np.empty((size[0] if inverse else 1, size[1], size[1]))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _solve(
    at: Any,
    cubic: bool,
    columns: Any,
    noise: Any,
    counts: Any,
    forms: Any,
    right: Any,
    trend: Any,
    shared: Any,
    reach: Any,
    inverse: bool,
    log_det: Any,
    white: Any,
    alpha: Any,
    lower: Any,
) -> tuple[int, int]:
    """Solve all members, or those before one whose number is returned with the pivot that is not positive."""
    for b in range(len(right)):
        matrix = lower[b % len(lower)]
        length, variance = forms[b]
        fill(columns[b], noise[b], trend[b], shared[b], reach[b], counts[b], cubic, length, variance, matrix)
        pivot = potrf(at, matrix)
        if pivot:
            return b, pivot
        log_det[b] = 0.0
        for i in range(len(matrix)):
            log_det[b] += math.log(matrix[i, i])
        white[b] = right[b]
        trsv(at, matrix, white[b], False)
        alpha[b] = white[b]
        trsv(at, matrix, alpha[b], True)
        if inverse:
            invert(at, matrix)
            for i in range(len(matrix)):
                matrix[i, :i] = 0.0
    return 0, 0
