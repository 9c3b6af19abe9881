"""Agreement of groupings: against all pairs by brute force, entropies by definition, and scikit-image."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as entropies

from cryoscale.evaluate import add_tables, adjusted_rand_index, contingency, variation_of_information


def groupings(seed, size=40):
    """A truth without gaps and a prediction that follows it more or less."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, rng.integers(3, 8), size)
    wrong = rng.random(size) < rng.uniform(0, 1)
    return np.where(wrong, rng.integers(0, 6, size), truth + 3), truth


def index_over_all_pairs(prediction, truth):
    """Observed, largest and expected agreement counted pair by pair."""
    pairs = list(combinations(range(len(truth)), 2))
    a = np.array([prediction[i] == prediction[j] for i, j in pairs])
    b = np.array([truth[i] == truth[j] for i, j in pairs])
    expected = a.sum() * b.sum() / len(pairs)
    return ((a & b).sum() - expected) / ((a.sum() + b.sum()) / 2 - expected)


def entropy(*groups):
    """H of the joint grouping, from its probabilities."""
    _, count = np.unique(np.stack(groups), axis=1, return_counts=True)
    p = count / count.sum()
    return -(p * np.log2(p)).sum()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_index_equals_brute_force_over_all_pairs(seed):
    prediction, truth = groupings(seed)
    assert adjusted_rand_index(contingency(prediction, truth)) == pytest.approx(
        index_over_all_pairs(prediction, truth), abs=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_variation_equals_joint_minus_single_entropy(seed):
    prediction, truth = groupings(seed)
    found = variation_of_information(contingency(prediction, truth))
    assert found.split == pytest.approx(entropy(prediction, truth) - entropy(truth), abs=1e-12)
    assert found.fused == pytest.approx(entropy(prediction, truth) - entropy(prediction), abs=1e-12)
    assert found.total == found.split + found.fused


def test_both_agree_with_scikit_image():
    rng = np.random.default_rng(2)
    truth = np.kron(rng.integers(1, 9, (3, 4, 4)), np.ones((5, 5, 5), int))
    prediction = np.where(rng.random(truth.shape) < 0.2, rng.integers(1, 30, truth.shape), truth)
    found = variation_of_information(contingency(prediction, truth))
    np.testing.assert_allclose((found.split, found.fused), entropies(truth, prediction))
    # Its Rand error is not adjusted for chance: with many instances of equal size the two nearly coincide.
    error, _, _ = adapted_rand_error(truth, prediction)
    assert adjusted_rand_index(contingency(prediction, truth)) == pytest.approx(1 - error, abs=0.1)


def test_each_half_sees_its_own_mistake():
    truth = np.repeat([1, 2], 50)
    fused = variation_of_information(contingency(np.ones(100, int), truth))
    assert (fused.split, fused.fused) == (0.0, 1.0)
    pieces = variation_of_information(contingency(np.repeat([1, 2, 3, 4], 25), truth))
    assert (pieces.split, pieces.fused) == (1.0, 0.0)


def test_names_of_instances_do_not_matter():
    prediction, truth = groupings(5)
    renamed = contingency(np.array([9, 4, 2, 70, 1, 3, 11, 12, 13])[prediction], truth)
    plain = contingency(prediction, truth)
    assert adjusted_rand_index(renamed) == adjusted_rand_index(plain)
    assert variation_of_information(renamed).total == pytest.approx(variation_of_information(plain).total)


def test_voxels_without_truth_are_left_out_and_missed_ones_are_not():
    prediction, truth = groupings(8)
    known = contingency(prediction, truth)
    more = contingency(np.append(prediction, [1, 1, 2, 2, 9]), np.append(truth, [0, 0, 0, 0, 0]))
    assert adjusted_rand_index(more) == adjusted_rand_index(known)
    assert variation_of_information(more) == variation_of_information(known)
    # Mutant: a score that leaves out what was missed would call half a membrane perfect.
    half = contingency(np.array([1, 1, 0, 0, 2, 2]), np.array([1, 1, 1, 1, 2, 2]))
    assert adjusted_rand_index(half) < 1
    assert variation_of_information(half).split > 0


def test_blocks_add_up():
    prediction, truth = groupings(11, 200)
    parts = [contingency(prediction[k : k + 70], truth[k : k + 70]) for k in range(0, 200, 70)]
    whole = contingency(prediction, truth)
    assert adjusted_rand_index(add_tables(parts)) == adjusted_rand_index(whole)
    assert adjusted_rand_index(parts[0]) != adjusted_rand_index(whole)


def test_chance_scores_nothing_and_counts_do_not_overflow():
    rng = np.random.default_rng(0)
    table = contingency(rng.integers(1, 5, 200_000), rng.integers(1, 5, 200_000))
    assert abs(adjusted_rand_index(table)) < 1e-3
    huge = type(table)(table.prediction, table.truth, table.voxels * 10**9)
    assert adjusted_rand_index(huge) == pytest.approx(adjusted_rand_index(table), abs=1e-4)
    assert variation_of_information(huge).total == pytest.approx(variation_of_information(table).total)


def test_the_edges():
    one, all_apart = np.ones(5, int), np.arange(1, 6)
    assert adjusted_rand_index(contingency(one, one)) == 1.0
    assert adjusted_rand_index(contingency(all_apart, all_apart)) == 1.0
    assert adjusted_rand_index(contingency(one, all_apart)) == 0.0
    assert adjusted_rand_index(contingency(one[:1], one[:1])) == 1.0
    for nothing in (add_tables([]), contingency(one, 0 * one)):
        assert math.isnan(adjusted_rand_index(nothing))
        assert math.isnan(variation_of_information(nothing).total)
