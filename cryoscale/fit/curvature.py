r"""Normals and curvatures of an implicit surface, with standard errors, from the derivatives of its field.

With g = grad f, H = Hess f, n = g / |g|, P = I - n n^T, the shape operator S = P H P / |g| has

    mean curvature M = tr S / 2,    Gaussian K = ((tr S)^2 - tr S^2) / 2,    principal = eigenvalues of S

(R. Goldman, Comput. Aided Geom. Des. 22 (2005) 632). Where the field grows outward, a sphere of radius r has M = 1 / r
and K = 1 / r^2: convex is positive.

Standard errors follow by linearisation. Every scalar above changes by tr(W dS) for a symmetric tangential W (P / 2 for
M, (tr S) P - S for K, e e^T for the principal curvature of direction e), and to first order

    tr(W dS) = tr(W dH) / |g| - tr(W S) (n . dg) / |g| - 2 (W H n) . dg / |g|^2,     dn = P dg / |g|

The joint covariance of (g, H) is that of the posterior, for central differences over `STEP`: the cubic kernel's field
has no second derivative in mean square, so that an error of its curvature exists for a finite step only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.hessian import PAIRS

__all__ = ["STENCIL", "STEP", "Curvature", "CurvatureErrors", "curvature", "curvature_errors", "difference_weights"]

Array = NDArray[np.float64]
STEP = 3.0
"""Step of the differences whose errors are stated, in voxels."""
_OFFSETS = [(0, 0, 0)] + [
    tuple(sign * int(axis == other) for other in range(3)) for axis in range(3) for sign in (1, -1)
]
_OFFSETS += [
    tuple(first * int(k == a) + second * int(k == b) for k in range(3))
    for a, b in PAIRS
    if a != b
    for first in (1, -1)
    for second in (1, -1)
]
STENCIL: Array = STEP * np.array(_OFFSETS, np.float64)
"""(19, 3) places around a point, in voxels."""


@dataclass(frozen=True)
class Curvature:
    """Curvatures at m places; lengths in the unit of the surface."""

    mean: Array
    """(m,) mean curvature, 1 / length, positive where the surface is convex seen from the positive side."""
    gaussian: Array
    """(m,) Gaussian curvature, 1 / length^2."""
    principal: Array
    """(m, 2) principal curvatures, the larger first."""
    directions: Array
    """(m, 2, 3) unit tangents of the principal curvatures."""


@dataclass(frozen=True)
class CurvatureErrors:
    """Standard errors of normals and curvatures at m places."""

    normal: Array
    """(m,) of the normal's direction, in radian: root mean square over its two tangential components, times sqrt 2."""
    mean: Array
    gaussian: Array
    principal: Array
    """(m, 2)."""


def difference_weights() -> Array:
    """Return the weights (9, 19) that turn values at `STENCIL` into g (3) and H (6, in the order of `PAIRS`)."""
    weights = np.zeros((9, len(_OFFSETS)))
    for row, offset in enumerate(_OFFSETS):
        moved = np.flatnonzero(offset)
        if len(moved) == 1:
            axis = int(moved[0])
            weights[axis, row] = offset[axis] / (2 * STEP)
            weights[3 + PAIRS.index((axis, axis)), row] = 1 / STEP**2
        elif len(moved) == 2:
            a, b = map(int, moved)
            weights[3 + PAIRS.index((a, b)), row] = offset[a] * offset[b] / (4 * STEP**2)
    for axis in range(3):
        weights[3 + PAIRS.index((axis, axis)), 0] = -2 / STEP**2
    return weights


def _frame(gradient: Array, hessian: Array) -> tuple[Array, Array, Array, Array]:
    """Return |g| (m,), n (m, 3), P and S (m, 3, 3)."""
    size = np.maximum(np.linalg.norm(gradient, axis=1), 1e-12)
    normal = gradient / size[:, None]
    tangent = np.eye(3) - normal[:, :, None] * normal[:, None, :]
    return size, normal, tangent, tangent @ hessian @ tangent / size[:, None, None]


def curvature(gradient: Array, hessian: Array) -> Curvature:
    """Return the curvatures of the level sets of a field.

    Parameters
    ----------
    gradient, hessian
        (m, 3) and (m, 3, 3) derivatives of the field.
    """
    _, normal, _, shape = _frame(gradient, hessian)
    trace = np.trace(shape, axis1=1, axis2=2)
    gaussian = (trace**2 - np.einsum("mij,mji->m", shape, shape)) / 2
    # A large eigenvalue for the normal keeps it last, whatever the others are.
    most = 1 + 2 * np.abs(shape).sum((1, 2))
    values, vectors = np.linalg.eigh(shape + most[:, None, None] * normal[:, :, None] * normal[:, None, :])
    return Curvature(trace / 2, gaussian, values[:, 1::-1], np.swapaxes(vectors[:, :, 1::-1], 1, 2))


def curvature_errors(gradient: Array, hessian: Array, covariance: Array) -> CurvatureErrors:
    """Return the standard errors of normals and curvatures.

    Parameters
    ----------
    gradient, hessian
        (m, 3) and (m, 3, 3) derivatives of the field.
    covariance
        (m, 9, 9) of g and the six numbers of H, in the order of `PAIRS`.
    """
    size, normal, tangent, shape = _frame(gradient, hessian)
    found = curvature(gradient, hessian)

    def error(weight: Array) -> Array:
        slope = np.einsum("mij,mjk,mk->mi", weight, hessian, normal) * (-2 / size**2)[:, None]
        slope -= (np.einsum("mij,mji->m", weight, shape) / size)[:, None] * normal
        bend = np.stack([weight[:, a, b] * (1 if a == b else 2) for a, b in PAIRS], 1) / size[:, None]
        row = np.concatenate([slope, bend], 1)
        return np.asarray(np.sqrt(np.maximum(np.einsum("mi,mij,mj->m", row, covariance, row), 0.0)))

    principal = [error(e[:, :, None] * e[:, None, :]) for e in (found.directions[:, 0], found.directions[:, 1])]
    tilt = np.einsum("mij,mjk,mki->m", tangent, covariance[:, :3, :3], tangent)
    return CurvatureErrors(
        np.sqrt(np.maximum(tilt, 0.0)) / size,
        error(tangent / 2),
        error(2 * found.mean[:, None, None] * tangent - shape),
        np.stack(principal, 1),
    )
