"""Confusion, Dice and IoU against scikit-image-free brute force."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.segment.scores import confusion, dice, dice_by_threshold, iou


def test_against_sets_of_voxels() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 3, (2, 5, 6, 7), dtype=np.uint8)
    matrix = confusion(found, truth)
    for c in range(3):
        a, b = set(np.flatnonzero(found == c)), set(np.flatnonzero(truth == c))
        assert dice(matrix)[c] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        assert iou(matrix)[c] == pytest.approx(len(a & b) / len(a | b))
    half = confusion(found[:2], truth[:2]) + confusion(found[2:], truth[2:])
    np.testing.assert_array_equal(half, matrix)


def test_absent_class_has_no_score() -> None:
    matrix = confusion(np.zeros(4, np.uint8), np.zeros(4, np.uint8))
    np.testing.assert_array_equal(dice(matrix), [1.0, np.nan, np.nan])


def test_thresholds() -> None:
    score, truth = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    np.testing.assert_allclose(dice_by_threshold(score, truth, [0.0, 0.4, 0.7, 1.0]), [2 / 3, 4 / 5, 2 / 3, 0.0])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros(3, np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="above 2"):
        confusion(np.zeros(3, np.uint8), np.full(3, 3, np.uint8))
