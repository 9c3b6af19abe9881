r"""Projections of a volume tilted about the y axis, and back-projection.

A voxel :math:`(z, y, x)`, measured from the centre of its box, falls on the detector at row :math:`y` and

.. math:: s = x \cos\theta + z \sin\theta.

:func:`project` is exact up to the volume's own sampling: the spectrum of a projection is the slice through the middle
of the volume's (projection-slice theorem), and nothing is interpolated to get it. Rows of voxels are shifted by
:math:`z \tan\theta` in their spectra and added, which leaves the projection stretched by :math:`1 / \cos\theta`;
what the detector can have of its spectrum is evaluated at the detector's columns. The steepest tilts do the same with z
and x exchanged. Both steps are matrix products over all rows, columns and tilts.

:func:`back_project` takes each voxel from the two detector columns next to it, linearly, as reconstruction programs do.
"""

import math

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from cryoscale.threads import on_one_thread

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex64]

#: Tilts with a smaller cosine are summed along x: along z, spectra would have to be several times as long.
STEEP_COSINE = 0.25
#: Tilts, and rows of a volume whose spectra are in memory together.
TILTS_AT_ONCE, ROWS_AT_ONCE = 64, 32


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
    cosines, sines = _directions(tilts_degrees)
    images = np.empty((len(cosines), volume.shape[1], width_voxels), np.float32)
    flat = np.abs(cosines) >= STEEP_COSINE
    # The last bit of a matrix product depends on how many threads share it.
    with on_one_thread():
        images[flat] = _sheared(volume.transpose(2, 1, 0), cosines[flat], sines[flat], width_voxels)
        images[~flat] = _sheared(volume, sines[~flat], cosines[~flat], width_voxels)
    return images


def back_project(projections: Floats, tilts_degrees: npt.ArrayLike, shape: tuple[int, int, int]) -> Floats:
    """Smear projections back through a box, linearly interpolated.

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


def _directions(tilts_degrees: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    tilts = np.radians(np.atleast_1d(np.asarray(tilts_degrees, dtype=np.float64)))
    return np.cos(tilts), np.sin(tilts)


def _sheared(volume: Floats, along: Doubles, across: Doubles, width: int) -> Floats:
    """Project (a, y, b) onto s = along a + across b, for each pair of an ``along`` and its ``across``."""
    images = np.empty((len(along), volume.shape[1], width), np.float32)
    for first in range(0, len(along), TILTS_AT_ONCE):
        tilts = slice(first, first + TILTS_AT_ONCE)
        slopes = across[tilts] / along[tilts]
        length = _period(volume.shape[0], np.abs(slopes).max() * volume.shape[2], width / np.abs(along[tilts]).min())
        k = 2 * np.pi * scipy.fft.rfftfreq(length)
        sums = _shifted_sums(volume, length, _turns(k, _centred(volume.shape[2])[:, None] * slopes, volume.shape[0]))
        for image, spectrum, scale in zip(images[tilts], sums, along[tilts], strict=True):
            image[:] = _columns(spectrum, k, scale, width)
    return images


def _shifted_sums(volume: Floats, length: int, turns: Complex) -> Complex:
    """Spectra (t, y, k) of the rows of (a, y, b), shifted by ``turns`` (k, b, t) and added over b."""
    sums = np.empty((turns.shape[2], volume.shape[1], turns.shape[0]), np.complex64)
    for first in range(0, volume.shape[1], ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        spectra = scipy.fft.rfft(np.ascontiguousarray(volume[:, rows], np.float32), length, axis=0)
        sums[:, rows] = (spectra @ turns).transpose(2, 1, 0)
    return sums


def _period(long: int, shifted: float, seen: float) -> int:
    """Length at which what leaves a row on one side comes in on the other where no detector is."""
    length: int = scipy.fft.next_fast_len(math.ceil(0.5 * (long + shifted + seen)) + 1, real=True)
    return length


def _turns(k: Doubles, places: Doubles, long: int) -> Complex:
    """Factors (k, b, t) that move spectra of rows by their ``places`` (b, t), and the rows' middle to 0."""
    turns = np.empty((len(k), *places.shape), np.complex64)
    for turn, frequency in zip(turns, k, strict=True):
        turn[:] = np.exp(-1j * frequency * (places - 0.5 * (long - 1)))
    return turns


def _columns(spectrum: Complex, k: Doubles, scale: float, width: int) -> Floats:
    """Evaluate rows whose spectra (y, k) are of what is stretched by 1 / ``scale``, at the detector's columns."""
    # Beyond it are frequencies that the detector's columns do not have.
    kept = k < np.pi * abs(scale)
    turn = np.outer(k[kept], _centred(width) / scale)
    weight = np.where(k[kept] > 0, 2.0, 1.0)[:, None] * (k[1] / (2 * np.pi * abs(scale)))
    cosines, sines = ((weight * wave(turn)).astype(np.float32) for wave in (np.cos, np.sin))
    columns: Floats = spectrum.real[:, kept] @ cosines - spectrum.imag[:, kept] @ sines
    return columns


def _centred(count: int) -> Doubles:
    places: Doubles = np.arange(count, dtype=np.float64) - 0.5 * (count - 1)
    return places


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
