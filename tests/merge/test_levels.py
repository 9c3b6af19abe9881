"""Which boxes there are: every block in one box of each level, every voxel in one range, every number found."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.merge.levels import Levels, places_of

levels = st.builds(
    Levels,
    st.tuples(*[st.integers(1, 60)] * 3),
    st.tuples(*[st.integers(3, 20)] * 3),
    st.integers(2, 5),
)


@settings(max_examples=100, deadline=None)
@given(levels)
def test_every_box_has_one_parent_and_the_last_is_the_whole(tree):
    grids = tree.grids
    assert grids[-1] == (1, 1, 1)
    for level in range(1, len(grids)):
        members = [tree.members(level, box) for box in range(int(np.prod(grids[level])))]
        assert sorted(k for _, part in members for k in part) == list(range(int(np.prod(grids[level - 1]))))
        for box, (grid, part) in enumerate(members):
            assert np.prod(grid) == len(part) and max(grid) <= tree.fan_in
            low, high = tree.slices(level, box)
            assert (low, high) == (tree.slices(level - 1, part[0])[0], tree.slices(level - 1, part[-1])[1])


@settings(max_examples=100, deadline=None)
@given(levels, st.integers(1, 9))
def test_ranges_meet_the_boxes_that_hold_their_slices(tree, ranges):
    bounds, area = tree.bounds(ranges), tree.shape[1] * tree.shape[2]
    assert bounds[0] == 0 and bounds[-1] == np.prod(tree.shape) and bounds == sorted(bounds)
    for low, high in itertools.pairwise(bounds):
        for level, (first, past) in enumerate(tree.boxes_between(low, high)):
            boxes = range(int(np.prod(tree.grids[level])))
            touched = [
                b for b in boxes if tree.slices(level, b)[0] * area < high and tree.slices(level, b)[1] * area > low
            ]
            if low < high:
                assert touched == list(range(first, past))


@settings(max_examples=50, deadline=None)
@given(levels, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_places_are_parts_of_the_parents_map_and_all_their_ranges(tree, ranges, seed):
    rng = np.random.default_rng(seed)
    growing = [rng.integers(0, 9, int(np.prod(grid))).tolist() for grid in tree.grids]
    counts = rng.integers(0, 9, ranges).tolist()
    places, area, bounds = places_of(tree, growing, counts), tree.shape[1] * tree.shape[2], tree.bounds(ranges)
    for level in range(len(growing)):
        for place in places[level]:
            assert place.rows[1] - place.rows[0] == growing[level][place.box]
            low, high = (n * area for n in tree.slices(level, place.box))
            wanted = [k for k in range(ranges) if bounds[k] < high and bounds[k + 1] > low]
            assert [k for k, _ in place.ranges if bounds[k] < bounds[k + 1]] == wanted
            assert all(before == sum(counts[:k]) for k, before in place.ranges)
    for level in range(1, len(growing)):
        for box in range(len(growing[level])):
            rows = [places[level - 1][member].rows for member in tree.members(level, box)[1]]
            assert rows[0][0] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(rows))
    assert [place.parent for place in places[-1]] == [-1]


@pytest.mark.parametrize("shape", [(1, 1, 1), (128, 256, 256)])
def test_one_block_is_its_own_tree(shape):
    assert Levels(shape, (128, 256, 256), 4).grids == [(1, 1, 1)]
