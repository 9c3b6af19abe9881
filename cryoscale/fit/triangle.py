r"""Triangular factors of covariances: made, solved with and inverted; on the host one by one, in place.

    C = L L^T,    L^-1 = [[A^-1, 0], [-D^-1 B A^-1, D^-1]]  of  L = [[A, 0], [B, D]], by halves down to `BLOCK` rows

LAPACK's own inverse of a triangle goes column by column: 1.7 ms for 500 rows where halves take 0.7, a Cholesky 0.7.
SciPy's wrappers keep the interpreter while LAPACK works; called at their addresses the same routines leave it to the
other threads.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np
from numba.extending import get_cython_function_address
from numpy.typing import NDArray

__all__ = ["factorise", "inverse_by_halves", "invert", "solve"]

Array = NDArray[np.float64]
BLOCK = 64
"""Rows of a triangle that is inverted in one piece."""
_LOWER, _LEFT, _RIGHT, _PLAIN, _TURNED = (ctypes.c_char_p(letter) for letter in (b"L", b"L", b"R", b"N", b"T"))
_ONE, _MINUS_ONE = ctypes.c_double(1.0), ctypes.c_double(-1.0)


def _routine(library: str, name: str, arguments: int) -> Any:
    """Return a Fortran routine of the library that SciPy calls; all of its arguments are addresses."""
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


_POTRF = _routine("lapack", "dpotrf", 5)
_TRTRI = _routine("lapack", "dtrtri", 6)
_TRMM = _routine("blas", "dtrmm", 11)
_TRSV = _routine("blas", "dtrsv", 8)


def factorise(matrix: Array) -> None:
    """Replace the lower triangle of a matrix (n, n), in Fortran's order, by its Cholesky factor.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite.
    """
    rows, info = _rows(matrix), ctypes.c_int()
    _POTRF(_LOWER, _count(rows), matrix.ctypes.data, _count(rows), ctypes.byref(info))
    if info.value:
        msg = f"covariance is not positive definite: pivot {info.value} of {rows}"
        raise np.linalg.LinAlgError(msg)


def solve(lower: Array, right: Array, *, transpose: bool = False) -> Array:
    """Return x of ``L x = b`` (or ``L^T x = b``), L (n, n) in Fortran's order; above its diagonal nobody looks."""
    rows, x, one = _rows(lower), right.astype(np.float64), _count(1)
    turn = _TURNED if transpose else _PLAIN
    _TRSV(_LOWER, turn, _PLAIN, _count(rows), lower.ctypes.data, _count(rows), x.ctypes.data, one)
    return x


def invert(lower: Array) -> None:
    """Replace a lower triangle (n, n), in Fortran's order, by its inverse; what is above the diagonal stays."""
    rows = _rows(lower)
    _invert(lower.ctypes.data, rows, rows)


def _invert(start: int, rows: int, apart: int) -> None:
    """Invert a triangle of so many rows at an address, its columns so many numbers apart."""
    if rows <= BLOCK:
        _TRTRI(_LOWER, _PLAIN, _count(rows), start, _count(apart), ctypes.byref(ctypes.c_int()))
        return
    upper = _half(rows)
    below, last = start + 8 * upper, start + 8 * upper * (apart + 1)
    _invert(start, upper, apart)
    _invert(last, rows - upper, apart)
    shape = _count(rows - upper), _count(upper)
    for side, factor, by in ((_LEFT, _MINUS_ONE, last), (_RIGHT, _ONE, start)):
        _TRMM(side, _LOWER, _PLAIN, _PLAIN, *shape, ctypes.byref(factor), by, _count(apart), below, _count(apart))


def inverse_by_halves(lower: Any, xp: ModuleType) -> Any:
    """Return the inverses (b, n, n) of a batch of lower triangles by products of matrices, which devices are made for.

    Parameters
    ----------
    lower
        (b, n, n), zero above the diagonals.
    xp
        Module of the arrays.
    """
    rows = lower.shape[1]
    if rows <= BLOCK:
        return xp.tril(xp.linalg.inv(lower))
    upper = _half(rows)
    first, second = (inverse_by_halves(lower[:, part, part], xp) for part in (slice(upper), slice(upper, None)))
    out = xp.zeros_like(lower)
    out[:, :upper, :upper], out[:, upper:, upper:] = first, second
    out[:, upper:, :upper] = -(second @ (lower[:, upper:, :upper] @ first))
    return out


def _half(rows: int) -> int:
    """Return about half of the rows, in whole vectors of the processor."""
    return (rows // 2 + 7) // 8 * 8


def _count(number: int) -> Any:
    return ctypes.byref(ctypes.c_int(number))


def _rows(matrix: Array) -> int:
    """Return how many rows a matrix has that may be handed over by its address."""
    if not (matrix.dtype == np.float64 and matrix.flags.f_contiguous and matrix.shape == (len(matrix),) * 2):
        msg = f"a square matrix of doubles in Fortran's order is needed, found {matrix.dtype} {matrix.shape}"
        raise ValueError(msg)
    return len(matrix)
