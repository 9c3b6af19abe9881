"""Scores by the angle between a membrane's normal and the beam: where the missing wedge hides what.

angle = arccos |n_z|:   0 degrees a cap, seen worst;   90 degrees a side wall, seen best

The beam runs along z. A true voxel counts in the bin of its own angle; a surplus voxel in the bin of the true voxel
nearest to it, so that Dice has both kinds of error in every bin. Angles come from the phantom, or are estimated from
the true labels: the normal of a thin label is the direction in which it changes most, the leading eigenvector of the
structure tensor (J. Bigun and G. Granlund, ICCV 1987) of the smoothed label, which unlike a gradient does not vanish
in the middle of the membrane.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter
from scipy.spatial import cKDTree

from cryoscale.evaluate.overlap import Counts

__all__ = ["AngleBin", "beam_angle_degrees", "scores_by_angle"]

_GRADIENT_SD = 1.0
_TENSOR_SD = 2.0
_TRUNCATE = 3.0
_BORDER_VOXELS = 3
_BORDER_WEIGHT = 1e-3
_EIGEN_ROWS = 1 << 18


@dataclass(frozen=True)
class AngleBin:
    """Counts of the voxels whose membrane normal lies at these angles to the beam."""

    low_degrees: float
    high_degrees: float
    counts: Counts


def beam_angle_degrees(instances: NDArray[np.integer]) -> NDArray[np.float32]:
    """Estimate the angle of each labelled voxel's membrane to the beam.

    Parameters
    ----------
    instances : (z, y, x) array
        Numbers of true membranes a few voxels thick, 0 elsewhere. Each is looked at alone, so that touching ones do
        not bend each other's normals. On whole spheres the estimate is right within 4 degrees; within 3 voxels of
        the volume's border it may be off by 12, and within 4 voxels of a free edge it bends away from the normal.

    Returns
    -------
    ndarray
        Degrees from 0 to 90; NaN at 0.
    """
    angle = np.full(instances.shape, np.nan, np.float32)
    pad = int(np.ceil(_TRUNCATE * (_GRADIENT_SD + _TENSOR_SD))) + 1
    for number, box in enumerate(find_objects(instances.astype(np.int64, copy=False)), 1):
        if box is None:
            continue
        mask = instances[box] == number
        angle[box][mask] = _angles(
            _padded(mask, box, instances.shape, pad), _border_weight(box, instances.shape, pad), pad
        )
    return angle


def _padded(mask: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...], pad: int) -> NDArray[np.bool_]:
    """Pad a mask: by nothing inside the volume, by its own last layer where the volume's border cuts it."""
    cut = [(pad * (part.start == 0), pad * (part.stop == size)) for part, size in zip(box, shape, strict=True)]
    free = [(pad - low, pad - high) for low, high in cut]
    return np.pad(np.pad(mask, cut, mode="edge"), free)


def _border_weight(box: tuple[slice, ...], shape: tuple[int, ...], pad: int) -> NDArray[np.float32]:
    """Weight of each slope of a padded box: next to nothing where smoothing reached across the volume's border.

    Not nothing: a membrane may lie wholly within these layers.
    """
    weight = np.ones((), np.float32)
    for part, size in zip(box, shape, strict=True):
        place = np.arange(part.start - pad, part.stop + pad)
        doubtful = (place < _BORDER_VOXELS) | (place >= size - _BORDER_VOXELS)
        weight = np.multiply.outer(weight, np.where(doubtful, _BORDER_WEIGHT, 1.0).astype(np.float32))
    return weight


def _angles(mask: NDArray[np.bool_], weight: NDArray[np.float32], pad: int) -> NDArray[np.float32]:
    """Angle at each voxel of a mask, in raster order; mask and weight are padded."""
    smooth = gaussian_filter(mask.astype(np.float32), _GRADIENT_SD, truncate=_TRUNCATE)
    slopes = np.gradient(smooth)
    inner = np.s_[pad:-pad, pad:-pad, pad:-pad]
    where = mask[inner]
    tensors = np.empty((int(where.sum()), 3, 3), np.float32)
    for row in range(3):
        for column in range(row, 3):
            part = gaussian_filter(weight * slopes[row] * slopes[column], _TENSOR_SD, truncate=_TRUNCATE)
            tensors[:, row, column] = tensors[:, column, row] = part[inner][where]
    cosine = np.empty(len(tensors), np.float32)
    for start in range(0, len(tensors), _EIGEN_ROWS):
        chunk = slice(start, start + _EIGEN_ROWS)
        # Eigenvalues ascend: the last vector is the normal; its first component is along z.
        cosine[chunk] = np.abs(np.linalg.eigh(tensors[chunk])[1][:, 0, 2])
    return np.degrees(np.arccos(np.clip(cosine, 0, 1))).astype(np.float32)


def scores_by_angle(
    prediction: NDArray[np.generic],
    truth: NDArray[np.generic],
    angle_degrees: NDArray[np.floating],
    edges_degrees: Sequence[float] = (0.0, 30.0, 60.0, 90.0),
) -> list[AngleBin]:
    """Count right, surplus and missing voxels by angle to the beam.

    Parameters
    ----------
    prediction, truth : (z, y, x) arrays
        Anything but 0 is membrane.
    angle_degrees : (z, y, x) array
        Angle at each true voxel; a true voxel without one (NaN) takes that of the nearest one with.
    edges_degrees
        Ascending; a bin holds its lower edge, the last bin both.

    Returns
    -------
    list of AngleBin
        One per bin. Where no true voxel has an angle all counts are 0.

    Raises
    ------
    ValueError
        If shapes differ, the edges do not ascend, or an angle lies outside them.
    """
    if not prediction.shape == truth.shape == angle_degrees.shape:
        msg = f"prediction, truth and angles must have one shape, not {prediction.shape}, {truth.shape}"
        raise ValueError(msg + f" and {angle_degrees.shape}")
    edges = np.asarray(edges_degrees, float)
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        msg = f"edges_degrees must ascend, found {list(edges_degrees)}"
        raise ValueError(msg)
    found, wanted = prediction != 0, truth != 0
    known = wanted & np.isfinite(angle_degrees)
    angles = angle_degrees[known].astype(np.float64)
    if len(angles) and not (edges[0] <= angles.min() and angles.max() <= edges[-1]):
        msg = f"angles span {angles.min()} to {angles.max()} degrees, the bins {edges[0]} to {edges[-1]}"
        raise ValueError(msg)
    bins = np.minimum(np.searchsorted(edges, angles, side="right") - 1, len(edges) - 2)
    counts = _bin_counts(found, wanted, known, bins, len(edges) - 1)
    return [
        AngleBin(float(low), float(high), Counts(*(int(part[k]) for part in counts)))
        for k, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _bin_counts(
    found: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    known: NDArray[np.bool_],
    bins: NDArray[np.int64],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count right, surplus and missing voxels of each bin; `bins` belongs to the voxels of `known`."""
    right, missing = (np.bincount(bins[part[known]], minlength=count) for part in (found, ~found))
    surplus = np.zeros(count, np.int64)
    if len(bins):
        tree = cKDTree(np.argwhere(known))
        for part, total in (
            (found & ~wanted, surplus),
            (found & wanted & ~known, right),
            (~found & wanted & ~known, missing),
        ):
            points = np.argwhere(part)
            if len(points):
                total += np.bincount(bins[tree.query(points)[1]], minlength=count)
    return right, surplus, missing
