"""LAPACK and BLAS from compiled loops: SciPy's routines at their addresses, without the interpreter.

SciPy's own wrappers keep the interpreter while LAPACK works: other threads would wait.
Addresses are another process's next time, so compiled code that is kept on disk is handed them: ``at``, `ROUTINES`.
An array is lower triangles in Fortran's order: its rows are the matrix's columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

__all__ = ["ROUTINES", "potrf", "trmm", "trsv", "trtri"]

_LOWER, _LEFT, _RIGHT, _PLAIN, _TURNED = (np.uint8(ord(letter)) for letter in "LLRNT")
_ADDRESS = (types.int64, types.uint64)
_POTRF, _TRTRI, _TRMM, _TRSV = range(4)
ROUTINES = (
    get_cython_function_address("scipy.linalg.cython_lapack", "dpotrf"),
    get_cython_function_address("scipy.linalg.cython_lapack", "dtrtri"),
    get_cython_function_address("scipy.linalg.cython_blas", "dtrmm"),
    get_cython_function_address("scipy.linalg.cython_blas", "dtrsv"),
)
"""Where they are in this process."""


@intrinsic  # type: ignore[untyped-decorator]
def _fortran(_context: Any, address: Any, arguments: Any) -> Any:
    """Call a subroutine: 64-bit integers are handed over as the addresses that they are, other numbers by theirs."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = zip(cgutils.unpack_tuple(builder, values[1]), signature.args[1], strict=True)
        byte = ir.IntType(8).as_pointer()
        where = [
            builder.inttoptr(value, byte)
            if kind in _ADDRESS
            else builder.bitcast(cgutils.alloca_once_value(builder, value), byte)
            for value, kind in given
        ]
        routine = ir.FunctionType(ir.VoidType(), [byte] * len(where)).as_pointer()
        builder.call(builder.inttoptr(values[0], routine), where)
        return context.get_dummy_value()

    return types.void(address, arguments), generate


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _apart(array: Any) -> Any:
    """Return how many numbers lie from one row to the next."""
    return np.int32(array.strides[0] // 8)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def potrf(at: Any, matrix: Any) -> Any:
    """Replace a matrix by its Cholesky factor; returns the first pivot, from 1, that is not positive, or 0."""
    failed = np.zeros(1, np.int32)
    rows = np.int32(len(matrix))
    _fortran(at[_POTRF], (_LOWER, rows, matrix.ctypes.data, _apart(matrix), failed.ctypes.data))
    return failed[0]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def trtri(at: Any, triangle: Any) -> None:
    """Replace a triangle by its inverse, column by column."""
    failed, rows = np.int32(0), np.int32(len(triangle))
    _fortran(at[_TRTRI], (_LOWER, _PLAIN, rows, triangle.ctypes.data, _apart(triangle), failed))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def trmm(at: Any, factor: float, triangle: Any, block: Any, left: bool) -> None:
    """Replace a block B by ``factor L B``, or by ``factor B L`` where the triangle L is not ``left``."""
    side = _LEFT if left else _RIGHT
    rows, columns = np.int32(block.shape[1]), np.int32(block.shape[0])
    triangular = (triangle.ctypes.data, _apart(triangle))
    _fortran(
        at[_TRMM],
        (side, _LOWER, _PLAIN, _PLAIN, rows, columns, factor, *triangular, block.ctypes.data, _apart(block)),
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def trsv(at: Any, triangle: Any, x: Any, transpose: bool) -> None:
    """Replace x (n,) by the solution of ``L y = x``, or of ``L^T y = x``."""
    turn = _TURNED if transpose else _PLAIN
    rows, one = np.int32(len(x)), np.int32(1)
    _fortran(at[_TRSV], (_LOWER, turn, _PLAIN, rows, triangle.ctypes.data, _apart(triangle), x.ctypes.data, one))
