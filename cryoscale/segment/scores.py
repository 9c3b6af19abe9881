"""How well classes agree with a known truth: confusion, Dice, IoU, and the best threshold.

    Dice = 2 |A and B| / (|A| + |B|)  (paper eq. 8),   IoU = |A and B| / |A or B|

All from one confusion matrix M[truth, found], so that matrices of slices or volumes simply add up. A class that is
in neither array has no score: NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["confusion", "dice", "dice_by_threshold", "iou"]


def confusion(found: NDArray[np.integer], truth: NDArray[np.integer], classes: int = 3) -> NDArray[np.int64]:
    """Count voxels by (truth, found) class: (classes, classes).

    Raises
    ------
    ValueError
        If the shapes differ or a class is outside 0..classes - 1.
    """
    if found.shape != truth.shape:
        msg = f"classes {found.shape} and truth {truth.shape} differ in shape"
        raise ValueError(msg)
    if found.size and max(int(found.max()), int(truth.max())) >= classes:
        msg = f"a class is above {classes - 1}"
        raise ValueError(msg)
    pairs = truth.astype(np.int64).ravel() * classes + found.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def dice(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each class from a confusion matrix, (classes,)."""
    return _ratio(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class from a confusion matrix, (classes,)."""
    return _ratio(np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix))


def dice_by_threshold(
    score: NDArray[np.floating], truth: NDArray[np.bool_], thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """Dice of `score >= threshold` with the truth, for each threshold."""
    inside = score[truth]
    return np.array(
        [_ratio(2 * (inside >= t).sum(), (score >= t).sum() + len(inside)) for t in thresholds], dtype=np.float64
    )


def _ratio(above: ArrayLike, below: ArrayLike) -> NDArray[np.float64]:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    result: NDArray[np.float64] = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return result
