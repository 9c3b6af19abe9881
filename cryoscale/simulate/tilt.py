r"""Projections of a volume tilted about the y axis, and their transpose.

A voxel :math:`(z, y, x)`, measured from the centre of its box, falls on the detector at row :math:`y` and

.. math:: s = x \cos\theta + z \sin\theta,

shared between the two nearest detector columns by linear interpolation. :func:`project` adds each voxel there;
:func:`back_project` collects the same two columns with the same weights, so that each is the exact adjoint of the
other. Both work slice by slice along y, and y is the innermost axis of their loops: every weight is computed once for
a whole row of voxels.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]


def project(volume: Floats, tilts_degrees: npt.ArrayLike, width_voxels: int) -> Floats:
    """Sum a volume along the beam at each tilt.

    Parameters
    ----------
    volume : ndarray (z, y, x)
        Any real values; outside the box they count as zero.
    tilts_degrees : array_like (t,)
        Tilt about the y axis; 0 sums along z.
    width_voxels : int
        Detector columns; what falls outside them is lost.

    Returns
    -------
    ndarray (t, y, width_voxels) float32
        Sums in units of the volume times one voxel.
    """
    if volume.ndim != 3 or width_voxels < 2:
        msg = f"volume must be (z, y, x) and width_voxels at least 2, got {volume.ndim} axes and {width_voxels}"
        raise ValueError(msg)
    rows = np.ascontiguousarray(np.swapaxes(volume, 1, 2), dtype=np.float32)
    return np.ascontiguousarray(np.swapaxes(_project(rows, *_directions(tilts_degrees), width_voxels), 1, 2))


def back_project(projections: Floats, tilts_degrees: npt.ArrayLike, shape: tuple[int, int, int]) -> Floats:
    """Smear projections back through a box: the transpose of :func:`project`.

    Parameters
    ----------
    projections : ndarray (t, y, width)
    tilts_degrees : array_like (t,)
    shape : (z, y, x)
        Shape of the box; y must be the projections' own.

    Returns
    -------
    ndarray (z, y, x) float32
        The plain sum over tilts, without weights.
    """
    cosines, sines = _directions(tilts_degrees)
    if projections.ndim != 3 or projections.shape[:2] != (len(cosines), shape[1]):
        msg = f"projections must be ({len(cosines)}, {shape[1]}, width), got {projections.shape}"
        raise ValueError(msg)
    columns = np.ascontiguousarray(np.swapaxes(projections, 1, 2), dtype=np.float32)
    return np.ascontiguousarray(np.swapaxes(_back_project(columns, cosines, sines, shape[0], shape[2]), 1, 2))


def _directions(tilts_degrees: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    tilts = np.radians(np.atleast_1d(np.asarray(tilts_degrees, dtype=np.float64)))
    return np.cos(tilts), np.sin(tilts)


@njit(cache=True, nogil=True, fastmath=True)
def _project(rows, cosines, sines, width):  # type: ignore[no-untyped-def]
    depth, breadth, height = rows.shape
    out = np.zeros((len(cosines), width, height), np.float32)
    for z in range(depth):
        for x in range(breadth):
            for t in range(len(cosines)):
                s = (x - 0.5 * (breadth - 1)) * cosines[t] + (z - 0.5 * (depth - 1)) * sines[t] + 0.5 * (width - 1)
                column = int(np.floor(s))
                if 0 <= column < width - 1:
                    right = np.float32(s - column)
                    left = np.float32(1.0) - right
                    for y in range(height):
                        out[t, column, y] += left * rows[z, x, y]
                        out[t, column + 1, y] += right * rows[z, x, y]
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _back_project(columns, cosines, sines, depth, breadth):  # type: ignore[no-untyped-def]
    _, width, height = columns.shape
    out = np.zeros((depth, breadth, height), np.float32)
    for z in range(depth):
        for x in range(breadth):
            for t in range(len(cosines)):
                s = (x - 0.5 * (breadth - 1)) * cosines[t] + (z - 0.5 * (depth - 1)) * sines[t] + 0.5 * (width - 1)
                column = int(np.floor(s))
                if 0 <= column < width - 1:
                    right = np.float32(s - column)
                    left = np.float32(1.0) - right
                    for y in range(height):
                        out[z, x, y] += left * columns[t, column, y] + right * columns[t, column + 1, y]
    return out
