"""NumPy or CuPy, decided by the array in hand.

Kernels call ``xp = array_namespace(x)`` and use `xp`; nothing here or above imports CuPy on a machine without one.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_namespace", "is_gpu_array", "solve_triangles", "to_numpy"]


def is_gpu_array(array: object) -> bool:
    """Whether `array` is CuPy's, told by its type's module without importing CuPy."""
    return type(array).__module__.split(".")[0] == "cupy"


def array_namespace(*arrays: object) -> ModuleType:
    """Return ``cupy`` where any array is CuPy's, else ``numpy``.

    Raises
    ------
    TypeError
        CuPy and NumPy arrays are mixed: moving data is the caller's decision.
    """
    gpu = [is_gpu_array(array) for array in arrays]
    if not any(gpu):
        return np
    if any(isinstance(array, np.ndarray) and array.ndim > 0 for array in arrays):
        msg = "NumPy and CuPy arrays in one call; move them to one device first"
        raise TypeError(msg)
    import cupy

    return cupy  # type: ignore[no-any-return]


def to_numpy(array: Any) -> NDArray[Any]:
    """Return `array` in host memory."""
    return array.get() if is_gpu_array(array) else np.asarray(array)


def solve_triangles(lower: Any, right: Any, *, transpose: bool = False) -> Any:
    """Solve ``L x = b`` (or ``L^T x = b``) for a batch of lower triangular matrices, on the device of `lower`.

    Parameters
    ----------
    lower
        (b, n, n) lower triangular; on the host, what is above the diagonals is not looked at.
    right
        (b, n).
    transpose
        Solve with the transposes of `lower`.
    """
    xp = array_namespace(lower)
    if xp is np:
        # LAPACK takes one at a time.
        from scipy.linalg import solve_triangular

        turn = 1 if transpose else 0
        pairs = zip(lower, right, strict=True)
        return np.stack([solve_triangular(a, b, lower=True, trans=turn, check_finite=False) for a, b in pairs])
    return xp.linalg.solve(xp.swapaxes(lower, 1, 2) if transpose else lower, right[..., None])[..., 0]
