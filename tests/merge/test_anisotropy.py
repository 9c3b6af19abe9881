"""Voxels that are no cubes, against a search tree over points in space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.merge import Ball, merge_regions, merge_regions_in_blocks
from tests.merge.shapes import SHAPES, oracle, random_mask, shells

edges = st.sampled_from([0.5, 0.7, 1.0, 1.3, 2.0, 5.0])
sizes = st.tuples(edges, edges, edges)
chunks = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([0.02, 0.08, 0.3, 1.0]),
    sizes,
    st.floats(1.0, 8.0),
    chunks,
)
def test_equals_all_pairs_in_space_whole_and_in_blocks(seed, shape, density, size, times, chunk):
    mask, distance = random_mask(seed, shape, density), times * min(size)
    wanted, count = oracle(mask, distance, voxel_size=size)
    labels, found = merge_regions(mask, distance=distance, voxel_size=size)
    assert found == count
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(merge_regions_in_blocks(mask, chunk, Ball(distance, size))[0], wanted)


@pytest.mark.parametrize("size", [(2.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 2.0), (1.0, 3.0, 2.0)])
@pytest.mark.parametrize("name", SHAPES)
def test_named_shapes(name, size):
    mask = SHAPES[name]()
    for distance in (1.0, 2.0, 3.0, 4.0):
        wanted, _ = oracle(mask, distance, voxel_size=size)
        np.testing.assert_array_equal(merge_regions(mask, distance=distance, voxel_size=size)[0], wanted)
        np.testing.assert_array_equal(merge_regions_in_blocks(mask, (5, 4, 6), Ball(distance, size))[0], wanted)


def test_neighbours_along_x_that_are_too_far_apart_stay_apart():
    assert merge_regions(np.ones((1, 1, 5), bool), distance=1.0, voxel_size=(1.0, 1.0, 2.0))[1] == 5
    assert merge_regions(np.ones((1, 5, 1), bool), distance=1.0, voxel_size=(1.0, 2.0, 1.0))[1] == 5
    values = np.array([[[7, 7, 9, 7]]])
    labels, _ = merge_regions(values, distance=1.0, voxel_size=(1.0, 1.0, 2.0), separate_values=True)
    assert labels.tolist() == [[[1, 2, 3, 4]]]


@pytest.mark.parametrize("factor", [0.1, 1e-9, 1e9])
def test_the_unit_does_not_matter(factor):
    mask, size = shells(2, (14, 17, 19)), np.array((3.1, 1.7, 1.1))
    wanted = merge_regions(mask, distance=4.0, voxel_size=size)
    found = merge_regions(mask, distance=4.0 * factor, voxel_size=size * factor)
    assert found[1] == wanted[1]
    np.testing.assert_array_equal(found[0], wanted[0])


def test_two_dimensions():
    mask = random_mask(3, (40, 50), 0.05)
    wanted, _ = oracle(mask, 4.0, voxel_size=(2.0, 1.0))
    np.testing.assert_array_equal(merge_regions(mask, distance=4.0, voxel_size=(2.0, 1.0))[0], wanted)


def test_axes_in_the_wrong_order_are_noticed():
    mask, size = random_mask(5, (20, 21, 22), 0.03), (2.5, 1.0, 1.5)
    wanted, _ = oracle(mask, 3.0, voxel_size=size)
    assert not np.array_equal(merge_regions(mask, distance=3.0, voxel_size=size[::-1])[0], wanted)
