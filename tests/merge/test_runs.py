"""Runs against the voxels."""

import numpy as np
import pytest

from cryoscale.merge.runs import find_runs, paint_runs
from cryoscale.merge.unionfind import flatten, join_pairs
from tests.merge.shapes import SHAPES


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
