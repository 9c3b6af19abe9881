r"""The centre line of a membrane in a score volume, to a fraction of a voxel.

With g and H the gradient and the Hessian of the smoothed score, n the eigenvector of H with the most negative
eigenvalue l (across the membrane), the parabola along n through a voxel p has its top at

    p + t n,     t = -(g . n) / l

A voxel is kept where that top lies inside it: non-maximum suppression across the membrane (C. Steger, IEEE PAMI 20
(1998) 113). Points on the centre line make better surfaces than all voxels of a mask, whose outline is as uneven as
the threshold that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["RIDGE_HALO", "ridge_points"]

Array = NDArray[np.float64]
SMOOTHING_VOXELS = 1.25
SMOOTHING_RADIUS = 3
RIDGE_HALO = SMOOTHING_RADIUS + 1
"""Voxels around a voxel that decide about it."""
OWN_VOXEL = 0.55
"""Largest offset along each axis; a little over half, so that a ridge between two voxels is not lost by rounding."""


def ridge_points(score: Any, mask: Any, *, threshold: float = 0.5, start: Sequence[int] = (0, 0, 0)) -> Array:
    """Find the ridge of a score inside a mask.

    Parameters
    ----------
    score
        (z, y, x) membrane score, 0 to 1.
    mask
        (z, y, x) voxels of one membrane.
    threshold
        Voxels with a lower score are not looked at.
    start
        Place of the first voxel, which is added: to the bit what the whole volume gives.

    Returns
    -------
    numpy.ndarray
        (n, 3) float64 points z, y, x, in voxels; whole numbers are voxel centres. Empty where there is no ridge.

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional, or a score is not finite: what it would say of the voxels
        around it cannot be told.
    """
    volume, inside = np.asarray(score, np.float32), np.asarray(mask, bool)
    if volume.ndim != 3 or volume.shape != inside.shape:
        msg = f"score and mask must be volumes of one shape; found {volume.shape} and {inside.shape}"
        raise ValueError(msg)
    bad = ~np.isfinite(volume)
    if bad.any():
        first = tuple(np.argwhere(bad)[0].tolist())
        msg = f"score must be finite; found {bad.sum()} of {bad.size} voxels that are not, the first z, y, x {first}"
        raise ValueError(msg)
    voxels = np.argwhere(inside & (volume >= threshold))
    if not len(voxels):
        return np.zeros((0, 3))
    smooth = np.pad(gaussian_filter(volume, SMOOTHING_VOXELS, radius=SMOOTHING_RADIUS, mode="nearest"), 1, mode="edge")
    slope, curve = _derivatives(smooth, voxels + 1)
    values, vectors = np.linalg.eigh(curve)
    normal, least = vectors[:, :, 0], values[:, 0]
    curved = least < -1e-6
    along = (slope * normal).sum(1)
    step = (-along / np.where(curved, least, -1.0))[:, None] * normal
    top = curved & (np.abs(step) <= OWN_VOXEL).all(1)
    return np.asarray((voxels[top] + np.asarray(start)) + step[top], np.float64)


def _derivatives(volume: NDArray[np.float32], at: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return gradients (n, 3) and Hessians (n, 3, 3) at voxels, by central differences."""
    axes = np.eye(3, dtype=np.int64)

    def pick(shift: NDArray[np.int64]) -> Array:
        return np.asarray(volume[tuple((at + shift).T)], np.float64)

    centre = pick(0 * axes[0])
    slope = np.empty((len(at), 3))
    curve = np.empty((len(at), 3, 3))
    for a in range(3):
        after, before = pick(axes[a]), pick(-axes[a])
        slope[:, a] = (after - before) / 2
        curve[:, a, a] = after + before - 2 * centre
        for b in range(a):
            mixed = (
                pick(axes[a] + axes[b]) + pick(-axes[a] - axes[b]) - pick(axes[a] - axes[b]) - pick(axes[b] - axes[a])
            )
            curve[:, a, b] = curve[:, b, a] = mixed / 4
    return slope, curve
