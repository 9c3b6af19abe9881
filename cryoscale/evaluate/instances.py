"""Are separate membranes found as separate membranes? Matching at IoU above 0.5.

F1 = TP / (TP + FP / 2 + FN / 2),   panoptic quality = sum of IoU over matches / (TP + FP / 2 + FN / 2)

(A. Kirillov et al., Panoptic segmentation, CVPR 2019.) Above 0.5 a predicted and a true instance can each match one
partner at most, so there is nothing to choose. All comes from one sparse table: how many voxels carry each pair of
numbers; tables of blocks add up to the table of the volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contingency", "InstanceScores", "add_tables", "contingency", "match_instances"]


@dataclass(frozen=True)
class Contingency:
    """Voxels by pair of numbers; pairs that do not occur, and background on background, are left out."""

    prediction: NDArray[np.int64]
    """(k,) predicted instance, 0 where there is none."""
    truth: NDArray[np.int64]
    """(k,) true instance, 0 where there is none."""
    voxels: NDArray[np.int64]
    """(k,) how many voxels carry this pair."""


@dataclass(frozen=True)
class InstanceScores:
    """How well instances match."""

    matches: tuple[tuple[int, int, float], ...]
    """(predicted, true, IoU) of each match, by true number."""
    unmatched_predictions: tuple[int, ...]
    unmatched_truths: tuple[int, ...]

    @property
    def precision(self) -> float:
        """Share of the predicted instances that match; NaN where there are none."""
        return _ratio(len(self.matches), len(self.matches) + len(self.unmatched_predictions))

    @property
    def recall(self) -> float:
        """Share of the true instances that were found; NaN where there are none."""
        return _ratio(len(self.matches), len(self.matches) + len(self.unmatched_truths))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is nothing at all."""
        return _ratio(len(self.matches), self._weight)

    @property
    def panoptic_quality(self) -> float:
        """F1 times the mean IoU of the matches; NaN where there is nothing at all."""
        return _ratio(sum(iou for _, _, iou in self.matches), self._weight)

    @property
    def _weight(self) -> float:
        return len(self.matches) + (len(self.unmatched_predictions) + len(self.unmatched_truths)) / 2


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def contingency(prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> Contingency:
    """Count the voxels of each pair of numbers in two label volumes (0 is background, numbers below 2^31).

    Raises
    ------
    ValueError
        If the shapes differ or a number is negative or too large.
    """
    if prediction.shape != truth.shape:
        msg = f"prediction has shape {prediction.shape}, truth {truth.shape}"
        raise ValueError(msg)
    there = (prediction != 0) | (truth != 0)
    a, b = prediction[there].astype(np.int64), truth[there].astype(np.int64)
    if a.size and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= 1 << 31):
        msg = f"labels must be 0 to 2^31 - 1, found {min(a.min(), b.min())} to {max(a.max(), b.max())}"
        raise ValueError(msg)
    pairs, voxels = np.unique((a << 32) + b, return_counts=True)
    return Contingency(pairs >> 32, pairs & 0xFFFFFFFF, voxels.astype(np.int64))


def add_tables(tables: Sequence[Contingency]) -> Contingency:
    """Add the tables of disjoint parts of a volume."""
    none = np.zeros(0, np.int64)
    prediction, truth, voxels = (
        np.concatenate([none, *(getattr(table, name) for table in tables)])
        for name in ("prediction", "truth", "voxels")
    )
    pairs, where = np.unique((prediction << 32) + truth, return_inverse=True)
    total = np.zeros(len(pairs), np.int64)
    np.add.at(total, where, voxels)
    return Contingency(pairs >> 32, pairs & 0xFFFFFFFF, total)


def match_instances(table: Contingency, *, threshold: float = 0.5) -> InstanceScores:
    """Match instances whose IoU is above a threshold.

    Parameters
    ----------
    table : Contingency
    threshold : float
        At least 0.5 and below 1.

    Raises
    ------
    ValueError
        If the threshold is out of range: below 0.5 matches are not unique.
    """
    if not 0.5 <= threshold < 1:
        msg = f"threshold must be from 0.5 to below 1, not {threshold}"
        raise ValueError(msg)
    predicted, size_predicted = _sizes(table.prediction, table.voxels)
    true, size_true = _sizes(table.truth, table.voxels)
    both = (table.prediction > 0) & (table.truth > 0)
    rows, columns = np.searchsorted(predicted, table.prediction[both]), np.searchsorted(true, table.truth[both])
    shared = table.voxels[both]
    iou = shared / (size_predicted[rows] + size_true[columns] - shared)
    good = np.flatnonzero(iou > threshold)
    matches = sorted(
        ((int(predicted[rows[k]]), int(true[columns[k]]), float(iou[k])) for k in good), key=lambda match: match[1]
    )
    return InstanceScores(
        tuple(matches),
        tuple(int(k) for k in np.delete(predicted, rows[good])),
        tuple(int(k) for k in np.delete(true, columns[good])),
    )


def _sizes(numbers: NDArray[np.int64], voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Instances that occur, ascending, and their voxels."""
    found, where = np.unique(numbers, return_inverse=True)
    sizes = np.zeros(len(found), np.int64)
    np.add.at(sizes, where, voxels)
    return found[found > 0], sizes[found > 0]
