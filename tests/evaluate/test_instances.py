"""Instance matching against brute force over all pairs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.evaluate.instances import add_tables, contingency, match_instances


def brute_force(prediction, truth, threshold):
    matches = []
    for b in np.unique(truth[truth > 0]):
        for a in np.unique(prediction[prediction > 0]):
            iou = ((prediction == a) & (truth == b)).sum() / ((prediction == a) | (truth == b)).sum()
            if iou > threshold:
                matches.append((int(a), int(b), float(iou)))
    return matches


def volumes(seed):
    """Blobs, with parts of the prediction renumbered, dropped and invented."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 6, (2, 3, 3)), np.ones((4, 4, 4), int))
    prediction = np.where(rng.random(truth.shape) < rng.uniform(0, 0.5), rng.integers(0, 9, truth.shape), truth + 2)
    return np.where(truth == 1, 0, prediction), truth


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), threshold=st.sampled_from([0.5, 0.75]))
def test_matches_equal_brute_force(seed, threshold):
    prediction, truth = volumes(seed)
    scores = match_instances(contingency(prediction, truth), threshold=threshold)
    wanted = brute_force(prediction, truth, threshold)
    assert [m[:2] for m in scores.matches] == [m[:2] for m in wanted]
    np.testing.assert_allclose([m[2] for m in scores.matches], [m[2] for m in wanted])
    found, true = len(np.unique(prediction[prediction > 0])), len(np.unique(truth[truth > 0]))
    assert len(scores.unmatched_predictions) == found - len(wanted)
    assert len(scores.unmatched_truths) == true - len(wanted)
    if found + true:
        assert scores.f1 == pytest.approx(2 * len(wanted) / (found + true))
        assert scores.panoptic_quality == pytest.approx(2 * sum(m[2] for m in wanted) / (found + true))


def test_blocks_add_up():
    prediction, truth = volumes(3)
    whole = contingency(prediction, truth)
    parts = [contingency(prediction[:, y : y + 5], truth[:, y : y + 5]) for y in range(0, 12, 5)]
    joined = add_tables(parts)
    for name in ("prediction", "truth", "voxels"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    # Mutant: a table that only keeps the last part's counts of a pair matches otherwise.
    assert match_instances(parts[-1]) != match_instances(whole)


def test_fused_and_split_membranes():
    truth = np.array([1, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    fused = match_instances(contingency(np.array([5, 5, 5, 5, 5, 5, 0, 0, 0, 0]), truth))
    assert fused.matches == () and fused.unmatched_predictions == (5,) and fused.unmatched_truths == (1, 2, 3)
    split = match_instances(contingency(np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2]), truth))
    assert split.matches == ((1, 3, 0.75),)
    assert split.precision == 0.5 and split.recall == pytest.approx(1 / 3)


def test_half_is_not_enough():
    """At exactly 0.5 two predictions could claim one truth."""
    truth, halves = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert match_instances(contingency(halves, truth)).matches == ()


def test_nothing_at_all():
    scores = match_instances(add_tables([]))
    assert all(math.isnan(v) for v in (scores.precision, scores.recall, scores.f1, scores.panoptic_quality))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="shape"):
        contingency(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="labels"):
        contingency(np.array([-1]), np.array([1]))
    with pytest.raises(ValueError, match="threshold"):
        match_instances(add_tables([]), threshold=0.4)
