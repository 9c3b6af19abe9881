"""Grey values of a tomogram: made finite, described slice by slice, halved for the pyramid.

Statistics are those of whole slices, in float64, and are joined by medians over the slices::

    m_z = median of slice z          s_z = 1.4826 * median |v - m_z|
    centre = median over z of m_z    scale = median over z of s_z

so that they do not depend on how the volume was cut, and hot pixels, gold and a few bad slices do not move them. A
slice of one value only (not filled by the reconstruction) says nothing and is left out. A voxel that is not finite
becomes its slice's median.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LARGEST_NON_FINITE",
    "Intensity",
    "byte_bands",
    "clean_slices",
    "combine",
    "halve",
    "signed_bytes_contradicted",
    "spans",
    "stored_dtype",
]

LARGEST_NON_FINITE = 0.01
"""Largest fraction of voxels that may be not finite."""

_SD_PER_MAD = 1.4826
_COLUMNS = 6
_SMALLEST_PILE = 0.05


@dataclass(frozen=True)
class Intensity:
    """What the slices' statistics say of the whole tomogram."""

    centre: float
    """Robust mean grey value."""
    scale: float
    """Robust standard deviation; 0 where all voxels are equal."""
    low: float
    """Smallest finite value."""
    high: float
    """Largest finite value."""
    non_finite: int
    """Voxels that were replaced."""
    unfilled: tuple[int, ...]
    """Slices of one value only."""


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type a tomogram is kept in: small integers as they are, everything else as float32."""
    return dtype if dtype.kind in "iu" and dtype.itemsize <= 2 else np.dtype(np.float32)


def clean_slices(slab: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Replace what is not finite by its slice's median and describe each slice.

    Parameters
    ----------
    slab
        Whole slices, z, y, x; changed in place where it has `dtype` already.
    dtype
        Type of the result, from `stored_dtype`.

    Returns
    -------
    slab, statistics
        The slab as `dtype`, and per slice: median, robust sd, sd, minimum, maximum, number of voxels not finite,
        (z, 6). A slice without a finite voxel becomes 0.
    """
    with np.errstate(over="ignore"):
        clean = slab if slab.dtype == dtype else slab.astype(dtype)
    statistics = np.zeros((slab.shape[0], _COLUMNS))
    for plane, row in zip(clean, statistics, strict=True):
        finite = np.isfinite(plane)
        values = plane[finite].astype(np.float64)
        row[5] = plane.size - values.size
        if values.size:
            row[:5] = _describe(values)
        if row[5]:
            plane[~finite] = row[0]
    return clean, statistics


def _describe(values: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low, 0.0, 0.0, low, high
    spread = float(values.std())
    median = float(np.median(values, overwrite_input=True))
    np.abs(np.subtract(values, median, out=values), out=values)
    return median, _SD_PER_MAD * float(np.median(values, overwrite_input=True)), spread, low, high


def combine(statistics: NDArray[np.float64], slice_voxels: int) -> Intensity:
    """Join the statistics of all slices; the result does not depend on how they were cut into slabs.

    Parameters
    ----------
    statistics
        Of every slice, in order, (z, 6), from `clean_slices`.
    slice_voxels
        Voxels of a slice.
    """
    median, robust, spread, low, high, bad = statistics.T
    has_values = bad < slice_voxels
    filled = has_values & (low < high)
    unfilled = tuple(int(z) for z in np.flatnonzero(~filled))
    if not has_values.any():
        return Intensity(0.0, 0.0, 0.0, 0.0, int(bad.sum()), unfilled)
    described = filled if filled.any() else has_values
    scale = float(np.median(robust[described]))
    if scale == 0.0:
        # More than half of the voxels are equal (a wide border, say): the plain sd is all there is.
        scale = float(np.median(spread[described]))
    return Intensity(
        centre=float(np.median(median[described])),
        scale=scale,
        low=float(low[has_values].min()),
        high=float(high[has_values].max()),
        non_finite=int(bad.sum()),
        unfilled=unfilled,
    )


def spans(numbers: tuple[int, ...]) -> str:
    """Return ascending numbers as text.

    Examples
    --------
    >>> spans((0, 1, 2, 7))
    '0-2, 7'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def byte_bands(slab: NDArray[np.int8]) -> tuple[int, int, int]:
    """Count the voxels below -112, from -16 to 15, and from 112."""
    histogram = np.bincount(slab.ravel().view(np.uint8), minlength=256)
    signed = np.concatenate((histogram[128:], histogram[:128]))
    return int(signed[:16].sum()), int(signed[112:144].sum()), int(signed[240:].sum())


def signed_bytes_contradicted(low: int, middle: int, high: int, total: int) -> bool:
    """Return whether bytes pile up at both ends of the signed range and are scarce between: unsigned ones misread.

    Parameters
    ----------
    low, middle, high, total
        Counts from `byte_bands`, and all voxels.
    """
    smaller = min(low, high)
    return smaller > _SMALLEST_PILE * total and middle < smaller / 2


def halve(volume: NDArray[Any], *, labels: bool = False) -> NDArray[Any]:
    """Return a volume of half the samples along each axis.

    Parameters
    ----------
    volume
        Voxels z, y, x; cells at an odd end are made of what is there.
    labels
        Take the largest value of each cell of 2 x 2 x 2 (thin labels survive) instead of the mean, which is computed
        in float64 and rounded for integers.
    """
    depth, height, width = (-(-n // 2) for n in volume.shape)
    out = np.empty((depth, height, width), volume.dtype)
    for z in range(depth):
        first = _even(volume[2 * z])
        second = _even(volume[2 * z + 1]) if 2 * z + 1 < volume.shape[0] else first
        if labels:
            plane = np.maximum(first, second)
            rows = np.maximum(plane[0::2], plane[1::2])
            out[z] = np.maximum(rows[:, 0::2], rows[:, 1::2])
        else:
            plane = np.add(first, second, dtype=np.float64)
            rows = plane[0::2] + plane[1::2]
            mean = (rows[:, 0::2] + rows[:, 1::2]) / 8.0
            out[z] = np.rint(mean) if volume.dtype.kind in "iu" else mean
    return out


def _even(plane: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last row and column where their number is odd: the mean of a cell stays that of its own voxels."""
    odd = [(0, n % 2) for n in plane.shape]
    return np.pad(plane, odd, mode="edge") if any(pad for _, pad in odd) else plane
