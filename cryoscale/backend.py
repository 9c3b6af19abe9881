"""NumPy or CuPy, decided by the array in hand.

Kernels call ``xp = array_namespace(x)`` and use `xp`; nothing here or above imports CuPy on a machine without one.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_namespace", "cholesky", "is_gpu_array", "to_numpy"]


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


def cholesky(matrices: Any) -> Any:
    """Return the lower Cholesky factors of a batch of matrices (b, n, n), on their device.

    Raises
    ------
    numpy.linalg.LinAlgError
        If one is not positive definite.
    """
    xp = array_namespace(matrices)
    if xp is np:
        return np.linalg.cholesky(matrices)
    import cupyx

    # Left to itself CuPy would not look, and return whatever came out.
    with cupyx.errstate(linalg="raise"):
        return xp.linalg.cholesky(matrices)
