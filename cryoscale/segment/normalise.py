"""Intensities before the network: one robust centre and scale per tomogram.

    u = clip((x - centre) / scale, -6, 6),   centre = median(x),   scale = 1.4826 median|x - centre|

1.4826 makes the scale the standard deviation of a Gaussian. The median ignores gold beads and membranes, so the noise
alone sets the unit; clipping at 6 keeps a gold bead from dominating its neighbourhood. Both numbers are taken once per
tomogram from whole slices evenly spaced in z (`sampled_slices`), in float64: they cannot depend on the chunking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIP", "centre_and_scale", "normalised", "sampled_slices"]

CLIP = 6.0
_GAUSSIAN = 1.4826


def sampled_slices(slice_count: int, wanted: int = 16) -> list[int]:
    """Return the middle slices of up to `wanted` equal parts of the z axis."""
    wanted = min(wanted, slice_count)
    return [int((part + 0.5) * slice_count / wanted) for part in range(wanted)]


def centre_and_scale(voxels: NDArray[np.generic]) -> tuple[float, float]:
    """Median and 1.4826 x median absolute deviation of an array's finite voxels, in float64.

    Where more than half of the voxels share one value (the empty border of a cut or rotated tomogram), that value is
    left out.

    Raises
    ------
    ValueError
        If no voxel is finite or all finite ones are equal.
    """
    values = np.asarray(voxels, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        msg = f"none of {voxels.size} voxels is finite"
        raise ValueError(msg)
    for _ in range(2):
        centre = float(np.median(values))
        scale = _GAUSSIAN * float(np.median(np.abs(values - centre)))
        if scale > 0:
            return centre, scale
        values = values[values != centre]
        if values.size == 0:
            break
    msg = f"all voxels are (nearly) the same: {centre}"
    raise ValueError(msg)


def normalised(voxels: NDArray[np.generic], centre: float, scale: float) -> NDArray[np.float32]:
    """Voxels in units of the tomogram's noise: clip((x - centre) / scale, -6, 6), float32, same shape."""
    if not (np.isfinite(centre) and np.isfinite(scale) and scale > 0):
        msg = f"centre {centre} and scale {scale} must be finite and the scale positive"
        raise ValueError(msg)
    units = (np.asarray(voxels, dtype=np.float32) - np.float32(centre)) / np.float32(scale)
    return np.clip(units, -CLIP, CLIP, out=units)
