"""Matching by distance against every possible pairing, the dense assignment, and scores known by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cryoscale.evaluate.overlap import Counts
from cryoscale.evaluate.positions import count_within, f_beta, match_positions
from tests.plans import traced_peak


def brute_force(truth, radius, prediction):
    """Most pairs, then the smallest sum of distance over radius, over all pairings."""
    distance = cdist(truth, prediction)
    best = (0, 0.0)
    columns = [*range(len(prediction)), *[None] * len(truth)]
    for chosen in set(itertools.permutations(columns, len(truth))):
        pairs = [(r, c) for r, c in enumerate(chosen) if c is not None]
        if all(distance[p] <= radius[p[0]] for p in pairs):
            best = max(best, (len(pairs), -sum(distance[p] / radius[p[0]] for p in pairs)))
    return best


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 4), m=st.integers(0, 4))
def test_no_pairing_is_better(seed, n, m):
    rng = np.random.default_rng(seed)
    truth, prediction, radius = rng.random((n, 3)) * 4, rng.random((m, 3)) * 4, rng.uniform(0.5, 3, n)
    true, predicted, distance = match_positions(truth, radius, prediction)
    assert len(set(true)) == len(true) == len(set(predicted))
    assert (distance <= radius[true]).all()
    count, cost = brute_force(truth, radius, prediction)
    assert len(true) == count
    assert -(distance / radius[true]).sum() == pytest.approx(cost)


def test_a_crowd_as_the_dense_assignment_has_it():
    rng = np.random.default_rng(5)
    truth = rng.random((400, 3)) * 60
    prediction = np.concatenate([truth[:300] + rng.normal(0, 2, (300, 3)), rng.random((200, 3)) * 60])
    radius = rng.uniform(2, 5, 400)
    true, _, distance = match_positions(truth, radius, prediction)
    table = cdist(truth, prediction) / radius[:, None]
    cost = np.where(table <= 1, table + 1, 1e4)
    rows, columns = linear_sum_assignment(cost)
    within = table[rows, columns] <= 1
    assert len(true) == within.sum() > 200
    assert (distance / radius[true]).sum() == pytest.approx(table[rows, columns][within].sum())


def test_taking_the_nearest_first_would_lose_a_pair():
    truth, prediction = np.array([[0.0, 0, 0], [0, 0, 3]]), np.array([[0.0, 0, 1], [0, 0, -2.9]])
    true, predicted, _ = match_positions(truth, np.array([3.0, 3.0]), prediction)
    assert sorted(zip(true, predicted, strict=True)) == [(0, 1), (1, 0)]


def test_the_radius_itself_is_within():
    truth = np.array([[0.0, 0, 0]])
    for distance, expected in ((0.3, 1), (np.nextafter(0.3, 1), 0)):
        assert len(match_positions(truth, np.array([0.3]), np.array([[0, 0, distance]]))[0]) == expected
        assert count_within(truth, 0.3, np.array([[0, 0, distance]])).true_positive == expected


def test_nothing_to_match():
    for truth, prediction in ((np.zeros((0, 3)), np.zeros((2, 3))), (np.ones((2, 3)), np.zeros((0, 3)))):
        assert len(match_positions(truth, np.ones(len(truth)), prediction)[0]) == 0
    assert count_within(np.zeros((0, 3)), 1.0, np.zeros((2, 3))) == Counts(0, 2, 0)


def test_czii_counts_particles_found_and_the_rest_of_the_predictions():
    truth = np.array([[0.0, 0, 0], [0, 0, 10], [0, 0, 20]])
    prediction = np.array([[0.0, 0, 1], [0, 0, -1], [0, 0, 11], [0, 9, 0]])
    counts = count_within(truth, 2.0, prediction)
    assert counts == Counts(2, 2, 1)
    assert f_beta(counts, 4.0) == pytest.approx(17 * 0.5 * (2 / 3) / (16 * 0.5 + 2 / 3))
    assert f_beta(counts, 1.0) == pytest.approx(counts.dice)
    assert f_beta(counts, 4.0) != pytest.approx(counts.dice)


def test_f_beta_at_its_ends():
    assert f_beta(Counts(3, 0, 0), 4.0) == 1.0
    assert f_beta(Counts(0, 5, 5), 4.0) == 0.0
    assert math.isnan(f_beta(Counts(), 4.0))
    assert f_beta(Counts(9, 1, 9), 4.0) < f_beta(Counts(9, 9, 1), 4.0)  # beta 4: missing is worse than too many


def test_a_large_crowd_stays_sparse():
    rng = np.random.default_rng(0)
    truth = rng.random((6000, 3)) * 1000
    (true, _, _), peak = traced_peak(
        lambda: match_positions(truth, np.full(6000, 30.0), truth + rng.normal(0, 5, truth.shape))
    )
    assert len(true) > 5900
    assert peak < 6000 * 6000 * 8 / 10
