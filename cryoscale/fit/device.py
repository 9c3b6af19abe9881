r"""A batch of Gaussian processes on a device: array arithmetic in the arrays' own module, all members at once.

    L L^T = C,    L^-1 by products,    L^-1 y,    alpha = L^-T L^-1 y     (`solve` says what they are for)

Products of matrices are what devices are made for: the inverse is made of them, and solves, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryoscale.backend import array_namespace, cholesky
from cryoscale.fit.covariance import Kernel, correlation, squared_distances
from cryoscale.fit.triangle import inverse_by_halves

__all__ = ["solve_on_device"]


def solve_on_device(
    points: Any,
    noise: Any,
    counts: Any,
    kernels: Sequence[Kernel],
    right: Any,
    *,
    trend: Any = None,
    shared: Any = None,
    reach: Any = None,
    inverse: bool = True,  # noqa: ARG001
) -> tuple[Any, Any, Any, Any]:
    """Factorise and solve a batch: takes and returns what `solve_on_host` does, L^-1 always."""
    xp = array_namespace(points)
    lengths = xp.asarray([k.length for k in kernels])[:, None, None]
    amplitudes = xp.asarray([k.amplitude for k in kernels])[:, None, None]
    diagonal = xp.arange(points.shape[1])
    live = diagonal[None, :] < counts[:, None]
    centred = points - (points * live[..., None]).sum(1, keepdims=True) / counts[:, None, None]
    distances = xp.sqrt(squared_distances(centred, centred, xp))
    matrix = correlation(kernels[0].kind, distances / lengths, xp)
    matrix *= amplitudes**2
    if trend is not None:
        matrix += trend @ xp.swapaxes(trend, 1, 2)
    if shared is not None and reach is not None:
        matrix += xp.exp(-distances / reach[:, None, None]) * (shared[:, :, None] * shared[:, None, :])
    matrix *= live[:, :, None] & live[:, None, :]
    matrix[:, diagonal, diagonal] = xp.where(live, matrix[:, diagonal, diagonal] + noise**2, 1.0)
    lower = cholesky(matrix)
    found = inverse_by_halves(lower, xp)
    white = (found @ right[..., None])[..., 0]
    alpha = (xp.swapaxes(found, 1, 2) @ white[..., None])[..., 0]
    return xp.log(lower[:, diagonal, diagonal]).sum(1), white, alpha, found
