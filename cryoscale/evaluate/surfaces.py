"""How far apart two surfaces are, in nm, and which share of them agrees.

d(a, B) = min over b in B of |a - b|,    mean, 95th percentile and maximum of {d(a, B)} and {d(b, A)} together
surface Dice at tolerance t = (#{a : d(a, B) <= t} + #{b : d(b, A) <= t}) / (|A| + |B|)

(S. Nikolov et al., J. Med. Internet Res. 23 (2021) e26151, for the surface Dice, here with points of equal weight.)
A and B are points of the surfaces: mesh vertices, or the border voxels of masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

__all__ = ["SurfaceScores", "border_points", "surface_scores"]


@dataclass(frozen=True)
class SurfaceScores:
    """Distances between two surfaces; all NaN where one of them is empty."""

    mean_nm: float
    percentile95_nm: float
    maximum_nm: float
    surface_dice: float
    """0 where one surface is empty, NaN where both are."""


def border_points(mask: NDArray[np.bool_], voxel_size_nm: float) -> NDArray[np.float64]:
    """(n, 3) centres in nm of the mask's voxels that touch background across a face; the volume's border is none."""
    inner = binary_erosion(mask, border_value=1)
    points: NDArray[np.float64] = np.argwhere(mask & ~inner).astype(np.float64) * voxel_size_nm
    return points


def surface_scores(
    prediction_nm: NDArray[np.floating], truth_nm: NDArray[np.floating], *, tolerance_nm: float
) -> SurfaceScores:
    """Compare two surfaces given as points.

    Parameters
    ----------
    prediction_nm, truth_nm : (n, 3) and (m, 3) arrays
        Points in nm; comparable only where both are about equally dense.
    tolerance_nm : float
        Distance up to which points agree, for the surface Dice.

    Raises
    ------
    ValueError
        If the tolerance is negative.
    """
    if not tolerance_nm >= 0:
        msg = f"tolerance_nm must not be negative, found {tolerance_nm}"
        raise ValueError(msg)
    if not len(prediction_nm) or not len(truth_nm):
        dice = math.nan if len(prediction_nm) == len(truth_nm) else 0.0
        return SurfaceScores(math.nan, math.nan, math.nan, dice)
    there = cKDTree(truth_nm).query(prediction_nm)[0]
    back = cKDTree(prediction_nm).query(truth_nm)[0]
    distances = np.concatenate([there, back])
    return SurfaceScores(
        float(distances.mean()),
        float(np.percentile(distances, 95)),
        float(distances.max()),
        float((distances <= tolerance_nm).mean()),
    )
