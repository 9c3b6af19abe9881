"""Dice and IoU against their set definitions; parts add up."""

import math

import numpy as np
import pytest

from cryoscale.evaluate.overlap import Counts, class_counts, count_overlap, mean_dice, slice_counts


@pytest.fixture
def pair():
    rng = np.random.default_rng(7)
    return rng.random((6, 9, 8)) < 0.3, rng.random((6, 9, 8)) < 0.4


def test_dice_and_iou_are_those_of_the_sets(pair):
    prediction, truth = pair
    a, b = {tuple(p) for p in np.argwhere(prediction)}, {tuple(p) for p in np.argwhere(truth)}
    counts = count_overlap(prediction, truth)
    assert counts.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert counts.iou == pytest.approx(len(a & b) / len(a | b))
    assert counts.precision == pytest.approx(len(a & b) / len(a))
    assert counts.recall == pytest.approx(len(a & b) / len(b))
    assert count_overlap(truth, prediction).precision == counts.recall


def test_parts_add_up(pair):
    prediction, truth = pair
    whole = count_overlap(prediction, truth)
    assert sum(slice_counts(prediction, truth), Counts()) == whole
    blocks = [count_overlap(prediction[:, y : y + 4], truth[:, y : y + 4]) for y in (0, 4, 8)]
    assert sum(blocks, Counts()) == whole
    # Mutant: the mean of the blocks' scores is another number.
    assert np.mean([block.dice for block in blocks]) != pytest.approx(whole.dice, abs=1e-6)


def test_classes():
    truth = np.array([[[0, 1, 2, 2]]])
    prediction = np.array([[[0, 2, 2, 1]]])
    found = class_counts(prediction, truth, (0, 1, 2))
    assert found == {0: Counts(1, 0, 0), 1: Counts(0, 1, 1), 2: Counts(1, 1, 1)}


def test_empty_slices_say_nothing():
    prediction, truth = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    prediction[0], truth[1] = 1, 1
    counts = slice_counts(prediction, truth)
    assert [part.dice for part in counts[:2]] == [0, 0] and math.isnan(counts[2].dice)
    assert mean_dice(counts) == 0
    truth[0] = 1
    assert mean_dice(slice_counts(prediction, truth)) == 0.5
    assert math.isnan(mean_dice([Counts()]))


def test_shapes_must_agree():
    for function in (count_overlap, slice_counts):
        with pytest.raises(ValueError, match="shape"):
            function(np.zeros((2, 2, 2)), np.zeros((2, 2, 1)))
