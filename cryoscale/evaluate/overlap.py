"""Overlap of a prediction with the truth, voxel by voxel.

Dice = 2 TP / (2 TP + FP + FN),   IoU = TP / (TP + FP + FN)

(paper eq. 8). Only counts are kept, and counts add up: blocks of a volume scored apart and summed give exactly the
score of the whole. Where neither prediction nor truth has a voxel the scores are NaN, not 1: an empty slice says
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "class_counts", "count_overlap", "mean_dice", "slice_counts"]


@dataclass(frozen=True)
class Counts:
    """Voxels (or other things) right, too many and missing; counts of different parts add up."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add the counts of two parts."""
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def dice(self) -> float:
        """Dice coefficient, 0 to 1."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float:
        """Intersection over union, 0 to 1."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the truth that was found."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def count_overlap(prediction: NDArray[np.generic], truth: NDArray[np.generic]) -> Counts:
    """Count right, surplus and missing voxels of two masks (anything but 0 is foreground).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _same_shape(prediction, truth)
    found, wanted = prediction != 0, truth != 0
    right = int(np.count_nonzero(found & wanted))
    return Counts(right, int(np.count_nonzero(found)) - right, int(np.count_nonzero(wanted)) - right)


def class_counts(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], classes: Iterable[int]
) -> dict[int, Counts]:
    """Count for each class, given class volumes (0 background, 1 protein, 2 membrane, say).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return {value: count_overlap(prediction == value, truth == value) for value in classes}


def slice_counts(prediction: NDArray[np.generic], truth: NDArray[np.generic]) -> list[Counts]:
    """Count for each slice along z.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _same_shape(prediction, truth)
    return [count_overlap(found, wanted) for found, wanted in zip(prediction, truth, strict=True)]


def mean_dice(counts: Iterable[Counts]) -> float:
    """Mean Dice of the parts that have any voxel, NaN where none has (the paper's mean over slices)."""
    known = [part.dice for part in counts if not math.isnan(part.dice)]
    return float(np.mean(known)) if known else math.nan


def _same_shape(prediction: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
    if prediction.shape != truth.shape:
        msg = f"prediction has shape {prediction.shape}, truth {truth.shape}"
        raise ValueError(msg)
