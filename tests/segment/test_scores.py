"""Confusion, Dice and IoU against scikit-image-free brute force."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.segment.scores import classes_of, confusion, dice, dice_by_threshold, iou, precision, recall


def test_against_sets_of_voxels() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 3, (2, 5, 6, 7), dtype=np.uint8)
    matrix = confusion(found, truth)
    for c in range(3):
        a, b = set(np.flatnonzero(found == c)), set(np.flatnonzero(truth == c))
        assert dice(matrix)[c] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        assert precision(matrix)[c] == pytest.approx(len(a & b) / len(a))
        assert recall(matrix)[c] == pytest.approx(len(a & b) / len(b))
        assert iou(matrix)[c] == pytest.approx(len(a & b) / len(a | b))
    half = confusion(found[:2], truth[:2]) + confusion(found[2:], truth[2:])
    np.testing.assert_array_equal(half, matrix)


def test_absent_class_has_no_score() -> None:
    matrix = confusion(np.zeros(4, np.uint8), np.zeros(4, np.uint8))
    np.testing.assert_array_equal(dice(matrix), [1.0, np.nan, np.nan])


def test_membrane_from_the_threshold_on_else_the_better_of_the_others() -> None:
    scores = np.array([[0.3, 0.1, 0.4], [0.2, 0.3, 0.2], [0.5, 0.6, 0.4]], np.float32)[:, None, None]
    assert classes_of(scores, 0.55).ravel().tolist() == [0, 2, 0]
    assert classes_of(scores, 0.5).ravel().tolist() == [2, 2, 0]
    assert classes_of(scores, 0.7).ravel().tolist() == [0, 1, 0]


def test_thresholds() -> None:
    score, truth = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    np.testing.assert_allclose(dice_by_threshold(score, truth, [0.0, 0.4, 0.7, 1.0]), [2 / 3, 4 / 5, 2 / 3, 0.0])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros(3, np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="above 2"):
        confusion(np.zeros(3, np.uint8), np.full(3, 3, np.uint8))
