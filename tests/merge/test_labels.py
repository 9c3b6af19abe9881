"""Whole volumes against all pairs of voxels within the distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryoscale.merge import merge_regions
from tests.merge.shapes import DISTANCES, SHAPES, oracle, random_mask, shells

masks = st.builds(
    random_mask,
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([0.01, 0.05, 0.2, 0.6, 0.95]),
)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_all_pairs(name, distance):
    mask = SHAPES[name]()
    labels, count = merge_regions(mask, distance)
    wanted, wanted_count = oracle(mask, distance)
    assert labels.dtype == np.int32 and labels.shape == mask.shape
    assert count == wanted_count
    np.testing.assert_array_equal(labels, wanted)


@settings(max_examples=80, deadline=None)
@given(masks, st.floats(1.0, 6.0))
def test_equals_all_pairs_for_any_volume_and_distance(mask, distance):
    np.testing.assert_array_equal(merge_regions(mask, distance)[0], oracle(mask, distance)[0])


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from(DISTANCES), st.integers(0, 1000), st.sampled_from([np.uint8, np.int16, np.uint64]))
def test_values_stay_apart_when_asked(mask, distance, seed, dtype):
    values = (mask * np.random.default_rng(seed).integers(1, 4, mask.shape)).astype(dtype)
    np.testing.assert_array_equal(
        merge_regions(values, distance, separate_values=True)[0], oracle(values, distance, separate_values=True)[0]
    )
    np.testing.assert_array_equal(merge_regions(values, distance)[0], merge_regions(mask, distance)[0])


@pytest.mark.parametrize(("distance", "connectivity"), [(1.0, 1), (np.sqrt(2), 2), (np.sqrt(3), 3)])
def test_short_distances_are_connectivities(distance, connectivity):
    mask = random_mask(9, (30, 31, 32), 0.25)
    wanted, count = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))
    labels, found = merge_regions(mask, distance)
    assert found == count
    np.testing.assert_array_equal(labels > 0, wanted > 0)
    assert len(np.unique(np.stack((labels[mask], wanted[mask])), axis=1).T) == count


@pytest.mark.parametrize(
    "step", [(0, 0, 5), (0, 5, 0), (5, 0, 0), (0, 3, 4), (3, 0, 4), (4, -3, 0), (2, 3, 6), (6, -2, -3)]
)
def test_two_voxels_at_exactly_the_distance_join_and_beyond_it_do_not(step):
    mask = np.zeros((15, 15, 15), bool)
    mask[7, 7, 7] = mask[tuple(np.add(7, step))] = True
    distance = float(np.linalg.norm(step))
    assert merge_regions(mask, distance)[1] == 1
    assert merge_regions(mask, distance - 1e-4)[1] == 2


def test_a_distance_rounded_to_float32_or_from_nanometres_still_reaches():
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert merge_regions(corner, float(np.sqrt(np.float32(3))))[1] == 1
    assert merge_regions(np.array([[1, 0, 0, 1]]), 2.1 / 0.7 * (1 - 1e-9))[1] == 1


def test_numbers_follow_the_first_voxels():
    labels, count = merge_regions(shells(5, (40, 41, 42), count=8), 1.0)
    first = [np.flatnonzero(labels == k)[0] for k in range(1, count + 1)]
    assert count > 10 and first == sorted(first)


def test_two_dimensions():
    mask = random_mask(3, (40, 50), 0.05)
    np.testing.assert_array_equal(merge_regions(mask, 3.0)[0], oracle(mask, 3.0)[0])


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (4, 4, 0)])
def test_no_voxels_at_all(shape):
    labels, count = merge_regions(np.zeros(shape, bool))
    assert labels.shape == shape and count == 0


def test_views_and_read_only_masks_are_taken_and_left_alone():
    mask = random_mask(8, (12, 14, 16), 0.1)
    view = mask[::2, ::-1, 1::3]
    np.testing.assert_array_equal(merge_regions(view)[0], merge_regions(view.copy())[0])
    before = mask.copy()
    mask.flags.writeable = False
    merge_regions(mask)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("distance", [0.0, 0.5, 0.999, -1.0, np.nan, np.inf, 1e9])
def test_a_distance_that_makes_no_sense_is_refused_with_its_value(distance):
    with pytest.raises(
        ValueError, match=rf"distance_voxels is .*{distance!r}.*between 1 .* and 1000".replace("(", r"\(")
    ):
        merge_regions(np.ones((2, 2, 2), bool), distance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_scores_are_refused_with_the_way_out(dtype):
    with pytest.raises(TypeError, match=f"dtype {np.dtype(dtype)}.*bool or integer.*threshold"):
        merge_regions(np.ones((2, 2, 2), dtype))


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2, 2)])
def test_other_numbers_of_axes_are_refused(shape):
    with pytest.raises(ValueError, match=rf"{len(shape)} axes.*must have 2 or 3"):
        merge_regions(np.ones(shape, bool))
