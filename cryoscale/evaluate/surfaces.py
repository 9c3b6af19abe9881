"""How far apart two surfaces are, in nm, and which share of them agrees.

d(a, B) = min over b in B of |a - b|,    mean, 95th percentile and maximum of {d(a, B)} and {d(b, A)} together
surface Dice at tolerance t = (#{a : d(a, B) <= t} + #{b : d(b, A) <= t}) / (|A| + |B|)

(S. Nikolov et al., J. Med. Internet Res. 23 (2021) e26151, for the surface Dice, here with points of equal weight.)
A and B are points of the surfaces: mesh vertices, or the border voxels of masks. Counts within a tolerance add up:
slabs of a volume, each with as much around it as the tolerance reaches, give the surface Dice of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

__all__ = ["SurfaceCounts", "SurfaceScores", "border_points", "count_near", "surface_scores"]


@dataclass(frozen=True)
class SurfaceScores:
    """Distances between two surfaces; all NaN where one of them is empty."""

    mean_nm: float
    percentile95_nm: float
    maximum_nm: float
    surface_dice: float
    """0 where one surface is empty, NaN where both are."""


@dataclass(frozen=True)
class SurfaceCounts:
    """Border voxels of prediction and truth, and how many of them agree; counts of different parts add up."""

    near: int = 0
    """Within the tolerance of the other border."""
    total: int = 0

    def __add__(self, other: SurfaceCounts) -> SurfaceCounts:
        """Add the counts of two parts."""
        return SurfaceCounts(self.near + other.near, self.total + other.total)

    @property
    def surface_dice(self) -> float:
        """0 to 1; NaN where there is no border at all."""
        return self.near / self.total if self.total else math.nan


def count_near(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_voxels: float, first: int, stop: int
) -> SurfaceCounts:
    """Count the border voxels of the planes `first` to `stop` that lie within a tolerance of the other mask's border.

    Parameters
    ----------
    prediction, truth : (z, y, x) arrays
        Masks, with all planes around those counted that the tolerance reaches, and one more.
    tolerance_voxels
        Distance up to which borders agree.
    first, stop
        Planes whose voxels are counted.

    Raises
    ------
    ValueError
        If the shapes differ or the tolerance is negative.
    """
    if prediction.shape != truth.shape or not tolerance_voxels >= 0:
        found = f"{prediction.shape}, {truth.shape} and {tolerance_voxels}"
        msg = f"masks must have one shape and the tolerance be 0 or more, not {found}"
        raise ValueError(msg)
    borders = [border_points(mask, 1.0) for mask in (prediction, truth)]
    near = total = 0
    for points, others in (borders, borders[::-1]):
        counted = points[(points[:, 0] >= first) & (points[:, 0] < stop)]
        total += len(counted)
        if len(counted) and len(others):
            # The bound is open: a hair more than the tolerance takes in what lies right on it.
            bound = tolerance_voxels + 1e-6
            near += int(np.isfinite(cKDTree(others).query(counted, distance_upper_bound=bound)[0]).sum())
    return SurfaceCounts(near, total)


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
