"""How well classes agree with a known truth: confusion, Dice, IoU, and the best threshold.

    Dice = 2 |A and B| / (|A| + |B|)  (paper eq. 8),   IoU = |A and B| / |A or B|

All from one confusion matrix M[truth, found], so that matrices of slices or volumes simply add up. A class that is
in neither array has no score: NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["classes_of", "confusion", "dice", "dice_by_threshold", "iou", "precision", "recall"]

_MEMBRANE = 2


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


def classes_of(scores: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Classes (z, y, x) of scores (classes, z, y, x): membrane from `threshold` on, else the better of the others."""
    others = scores[:_MEMBRANE].argmax(axis=0).astype(np.uint8)
    return np.where(scores[_MEMBRANE] >= threshold, np.uint8(_MEMBRANE), others)


def dice(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each class from a confusion matrix, (classes,)."""
    return _ratio(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class from a confusion matrix, (classes,)."""
    return _ratio(np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix))


def precision(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of what was found that is true, for each class, from a confusion matrix, (classes,)."""
    return _ratio(np.diag(matrix), matrix.sum(axis=0))


def recall(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of what is true that was found, for each class, from a confusion matrix, (classes,)."""
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


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
