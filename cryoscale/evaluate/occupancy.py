"""Localisation as SHREC 2021 counts it: a prediction hits the particle whose voxels it lands in.

recall = TP / particles,   precision = TP / predictions reported,   F1 their harmonic mean,   miss rate = 1 - recall

The truth is a list of particles and a mask whose voxels hold the 1-based line of the particle they belong to. Its
rules, each of which moves the scores:

- The mask is dilated once by the cross of 6 neighbours, the higher number winning where two touch.
- A prediction's position is rounded (halves to even), moved into the volume where it lies outside, and hits what it
  finds there; predictions count in the order of the file.
- TP: particles with a hit. FN: particles without. FP: predictions on background alone. MH: particles with several
  hits. AD: mean distance from the rounded position of the first hit to the particle's centre.
- 4V94 and vesicles are no targets: hits on them are neither TP nor FP, but stay among the predictions reported.
  Of the particles that recall divides by, 4V94 is taken out and vesicles are not.
- Class scores come from the confusion matrix of first hits alone: a particle nobody hit, or whose first hit calls it
  4V94 or vesicle, counts as background.

(I. Gubins et al., SHREC 2021: Classification in cryo-electron tomograms, Eurographics 3DOR 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.evaluate.overlap import Counts

__all__ = ["EXCLUDED", "OccupancyScores", "dilated_at", "nearest_voxels", "score_hits"]

EXCLUDED = ("4v94", "vesicle")
"""Classes that are no targets, in lower case."""
_OUT_OF_THE_DENOMINATOR = ("4v94",)
_CROSS = np.array([(0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)])


@dataclass(frozen=True)
class OccupancyScores:
    """What the hits say; ratios are NaN where nothing is divided by nothing."""

    particles: int
    """What recall divides by."""
    reported: int
    """Predictions, wherever they landed."""
    true_positive: int
    false_positive: int
    false_negative: int
    multiple_hits: int
    excluded_hits: int
    """Predictions that landed on a particle of an excluded class."""
    mean_distance_voxels: float
    classes: tuple[str, ...]
    """Names in the order of the truth, then those that only predictions have."""
    confusion: NDArray[np.int64]
    """(k, k + 1) particles by true class and class of the first hit; the last column is background."""

    @property
    def recall(self) -> float:
        """Share of the particles that were found."""
        return self.true_positive / self.particles if self.particles else math.nan

    @property
    def precision(self) -> float:
        """Particles found over predictions reported."""
        return self.true_positive / self.reported if self.reported else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        whole = self.particles + self.reported
        return 2 * self.true_positive / whole if whole else math.nan

    @property
    def miss_rate(self) -> float:
        """Share of the particles that were not found."""
        return 1.0 - self.recall

    def class_counts(self) -> dict[str, Counts]:
        """Right, surplus and missing first hits of each class."""
        square = self.confusion[:, :-1]
        right, called, there = np.diag(square), square.sum(axis=0), self.confusion.sum(axis=1)
        rows = zip(self.classes, right.tolist(), (called - right).tolist(), (there - right).tolist(), strict=True)
        return {name: Counts(*counts) for name, *counts in rows}


def nearest_voxels(positions: NDArray[np.floating], shape: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Voxel of each position (z, y, x), halves to even, moved into the volume; and how many lay outside it."""
    rounded = np.rint(positions)
    inside = np.clip(rounded, 0, np.array(shape) - 1)
    return inside.astype(np.int64), int((inside != rounded).any(axis=1).sum())


def dilated_at(mask: NDArray[np.integer], voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values that `mask`, dilated once by the cross of 6 neighbours, has at (n, 3) voxels of it.

    A grey dilation is the largest value under the cross, so a higher number wins where two touch; seven look-ups
    for each voxel stand for the dilated volume.
    """
    largest = np.zeros(len(voxels), np.int64)
    for step in _CROSS:
        there = voxels + step
        inside = ((there >= 0) & (there < mask.shape)).all(axis=1)
        largest[inside] = np.maximum(largest[inside], mask[tuple(there[inside].T)])
    return largest


def score_hits(
    truth_classes: Sequence[str],
    truth_positions: NDArray[np.floating],
    classes: Sequence[str],
    voxels: NDArray[np.int64],
    found: NDArray[np.int64],
) -> OccupancyScores:
    """Score predictions by the particles they hit.

    Parameters
    ----------
    truth_classes : (n,) names
        Of the particles, compared without regard to case.
    truth_positions : (n, 3) array
        Centres z, y, x in voxels.
    classes : (m,) names
        Of the predictions, in the order of the file.
    voxels : (m, 3) array
        Where they landed, z, y, x.
    found : (m,) array
        Number of the particle hit, from 1; 0 for background.

    Raises
    ------
    ValueError
        If a number is beyond the list of particles.
    """
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) <= len(truth_classes):
        msg = f"particles {found.min()} to {found.max()} were hit, there are {len(truth_classes)}"
        raise ValueError(msg)
    true_names = [name.casefold() for name in truth_classes]
    target = np.array([name not in EXCLUDED for name in true_names], bool)
    hits = np.bincount(found, minlength=len(target) + 1)
    numbers, first = np.unique(found[found > 0], return_index=True)
    first, numbers = np.flatnonzero(found > 0)[first], numbers - 1
    kept = target[numbers]
    first, numbers = first[kept], numbers[kept]
    offset = voxels[first] - truth_positions[numbers]
    names, confusion = _confusion(truth_classes, target, classes, numbers, first)
    return OccupancyScores(
        particles=sum(name not in _OUT_OF_THE_DENOMINATOR for name in true_names),
        reported=len(found),
        true_positive=len(numbers),
        false_positive=int(hits[0]),
        false_negative=int(target.sum()) - len(numbers),
        multiple_hits=int((hits[1:][target] > 1).sum()),
        excluded_hits=int(hits[1:][~target].sum()),
        mean_distance_voxels=float(np.linalg.norm(offset, axis=1).mean()) if len(first) else math.nan,
        classes=names,
        confusion=confusion,
    )


def _confusion(
    truth_classes: Sequence[str],
    target: NDArray[np.bool_],
    classes: Sequence[str],
    numbers: NDArray[np.int64],
    first: NDArray[np.int64],
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    actual = [truth_classes[row] for row in np.flatnonzero(target).tolist()]
    called = dict(zip(numbers.tolist(), [classes[row] for row in first.tolist()], strict=True))
    spelled: dict[str, str] = {}
    for name in [*actual, *called.values()]:
        if name.casefold() not in EXCLUDED:
            spelled.setdefault(name.casefold(), name)
    order = {name: column for column, name in enumerate(spelled)}
    confusion = np.zeros((len(order), len(order) + 1), np.int64)
    for row, name in zip(np.flatnonzero(target).tolist(), actual, strict=True):
        confusion[order[name.casefold()], order.get(called.get(row, "").casefold(), -1)] += 1
    return tuple(spelled.values()), confusion
