"""Runs against the voxels."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.merge.runs import Room, find_runs, paint_runs
from cryoscale.unionfind import flatten, join_pairs, number_trees
from tests.merge.shapes import SHAPES, random_mask, shells


@pytest.mark.parametrize("name", SHAPES)
def test_painted_runs_are_the_mask_again(name):
    mask = SHAPES[name]()
    runs = find_runs(mask)
    np.testing.assert_array_equal(paint_runs(runs, np.ones(runs.start.size, np.int32)), mask)
    z, y = runs.rows()
    assert all(mask[z, y, runs.start]) and all(mask[z, y, runs.stop - 1])
    before = runs.start > 0
    assert not mask[z[before], y[before], runs.start[before] - 1].any()


def test_values_end_runs_when_kept_apart():
    runs = find_runs(np.array([[[5, 5, -3, 0, 5]]]), separate_values=True)
    assert runs.start.tolist() == [0, 2, 4] and runs.stop.tolist() == [2, 3, 5] and runs.value.tolist() == [5, -3, 5]
    assert find_runs(np.array([[[5, 5, -3, 0, 5]]])).start.tolist() == [0, 4]


def test_label_zero_paints_nothing():
    runs = find_runs(np.array([[[1, 0, 1]]]))
    assert paint_runs(runs, np.array([0, 7], np.int32)).tolist() == [[[0, 0, 7]]]


def test_roots_are_the_smallest_members_in_any_order():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 200, (120, 2))
    forests = []
    for _ in range(5):
        parent = np.arange(200)
        join_pairs(parent, rng.permutation(pairs))
        flatten(parent)
        forests.append(parent)
    assert all((forest == forests[0]).all() for forest in forests)
    for root in np.unique(forests[0]):
        assert np.flatnonzero(forests[0] == root)[0] == root
    assert (forests[0][pairs[:, 0]] == forests[0][pairs[:, 1]]).all()


def painted_in_its_own_room(mask):
    """Labels 1, 2, ... of all runs, whose tables live in the labels until they are painted."""
    labels = np.empty(mask.shape, np.int32)
    room = Room(labels)
    runs = find_runs(mask, room=room)
    label = room.take(runs.start.size, np.int32)
    label[:] = np.arange(1, label.size + 1)
    return paint_runs(runs, label, labels, room), room


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 20)] * 3), st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]))
def test_runs_may_live_in_the_labels_until_they_are_painted(seed, shape, density):
    mask = random_mask(seed, shape, density)
    runs = find_runs(mask)
    wanted = paint_runs(runs, np.arange(1, runs.start.size + 1, dtype=np.int32))
    labels, room = painted_in_its_own_room(mask)
    np.testing.assert_array_equal(labels, wanted)
    assert room.used <= labels.size // 4


def test_a_membrane_takes_no_memory_beyond_its_labels():
    mask = shells(0, (64, 96, 128), count=6)
    painted_in_its_own_room(mask)
    tracemalloc.start()
    _, room = painted_in_its_own_room(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert room.used * 4 > 0.1 * mask.size and peak < 4.3 * mask.size


def test_trees_are_numbered_in_the_order_of_their_roots():
    parent = np.array([0, 0, 2, 1, 2, 5, 4], np.int32)
    assert number_trees(parent) == 3
    assert parent.tolist() == [1, 1, 2, 1, 2, 3, 2]


def test_neighbours_beyond_the_distance_are_runs_of_their_own():
    runs = find_runs(np.array([[[4, 4, 0, 5]]]), single_voxels=True)
    assert runs.start.tolist() == [0, 1, 3] and runs.stop.tolist() == [1, 2, 4] and runs.value.size == 0
