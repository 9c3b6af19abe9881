"""Filters of one slice, scikit-image's.

bilateral:  out(p) = sum_q w(p, q) in(q) / sum_q w(p, q),  w = exp(-|p - q|^2 / 2 s^2) exp(-(in(p) - in(q))^2 / 2 r^2)

CLAHE equalises the histogram of each tile up to a clip limit and interpolates between tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["enhance_slice"]

_RANGE_SD = 4.0


def enhance_slice(
    image: NDArray[Any],
    *,
    centre: float,
    scale: float,
    sigma_voxels: float,
    sigma_intensity: float,
    clip_limit: float,
    tile_voxels: int,
) -> NDArray[np.float32]:
    """Enhance one slice.

    Parameters
    ----------
    image
        (y, x), any real type.
    centre, scale
        The tomogram's robust mean and sd: the same for every slice, so that grey values stay comparable.
    sigma_voxels, sigma_intensity
        Spatial sd in voxels and intensity sd in units of `scale` of the bilateral filter.
    clip_limit, tile_voxels
        Contrast limit, 0 to 1, and tile edge of the histogram equalisation.

    Returns
    -------
    (y, x) float32, 0 to 1.

    Raises
    ------
    ValueError
        `image` is not two-dimensional or `scale` is not positive.
    """
    if image.ndim != 2 or not scale > 0:
        msg = f"a slice of 2 axes and a positive scale are needed, not {image.ndim} axes and {scale}"
        raise ValueError(msg)
    # Imported when a slice is enhanced: with them comes all of SciPy's statistics, half a second of every start.
    from skimage.exposure import equalize_adapthist
    from skimage.restoration import denoise_bilateral

    standard = np.clip((image.astype(np.float64) - centre) / scale, -_RANGE_SD, _RANGE_SD)
    unit = (standard + _RANGE_SD) / (2 * _RANGE_SD)
    smooth = denoise_bilateral(unit, sigma_color=sigma_intensity / (2 * _RANGE_SD), sigma_spatial=sigma_voxels)
    tile = max(2, min(tile_voxels, *image.shape))
    equal: NDArray[np.float64] = equalize_adapthist(np.clip(smooth, 0, 1), kernel_size=tile, clip_limit=clip_limit)
    return equal.astype(np.float32)
