"""Which three slices show a tomogram's membranes best.

length of membrane in the plane x_k = c  =  d/dc of  integral over the surface, x_k < c, of sqrt(1 - n_k^2) dA

By the coarea formula the integral of sqrt(1 - n_k^2) over a surface is the integral over c of the length of the
curves in which the planes cut it. So the slice with the most membrane in it, and not the one that happens to graze
one, is the one with the greatest sum of sqrt(1 - n_k^2) times the face's area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoscale.report.render import Surface

__all__ = ["best_plane", "curve_lengths"]


def curve_lengths(surface: Surface, planes: tuple[int, int, int], step_nm: float) -> list[NDArray[np.float64]]:
    """Length in nm of a surface's curves in the planes of each axis.

    Parameters
    ----------
    surface
    planes
        Number of planes along z, y, x; plane i lies at ``i * step_nm``.
    step_nm
        Their distance.

    Returns
    -------
    list of ndarray
        Three, of ``planes[axis]`` lengths.
    """
    a, b, c = (surface.vertices[surface.faces[:, corner]].astype(np.float64) for corner in range(3))
    normal = np.cross(b - a, c - a) / 2
    area_squared = (normal**2).sum(axis=1)
    out = []
    for axis, count in enumerate(planes):
        across = np.sqrt(np.maximum(area_squared - normal[:, axis] ** 2, 0))
        middle = (a[:, axis] + b[:, axis] + c[:, axis]) / (3 * step_nm)
        index = np.clip(np.rint(middle).astype(np.int64), 0, count - 1)
        out.append(np.bincount(index, weights=across, minlength=count) / step_nm)
    return out


def best_plane(lengths: NDArray[np.float64], smoothing: float) -> int:
    """Return the plane with the most membrane after smoothing over `smoothing` planes; the middle if there is none."""
    if not lengths.any():
        return len(lengths) // 2
    return int(np.argmax(ndimage.gaussian_filter1d(lengths, smoothing, mode="constant")))
