"""The steps of the GPU, run on NumPy: equal to the union-find and to all pairs of voxels, number for number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryoscale.merge.device as device
from cryoscale.merge import Ball, merge_regions
from cryoscale.merge.device import label_on_device
from tests.merge.shapes import DISTANCES, SHAPES, oracle, random_mask

edges = st.sampled_from([0.5, 1.0, 1.3, 3.0])


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_union_find(name, distance):
    mask = SHAPES[name]()
    labels, count = label_on_device(mask, Ball(distance))
    wanted, wanted_count = merge_regions(mask, distance)
    assert count == wanted_count and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, wanted)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 11)] * 3),
    st.sampled_from([0.03, 0.2, 0.7, 1.0]),
    st.floats(1.0, 6.0),
    st.tuples(edges, edges, edges),
    st.booleans(),
)
def test_equals_all_pairs(seed, shape, density, times, size, separate):
    mask = random_mask(seed, shape, density) * np.random.default_rng(seed).integers(1, 4, shape, dtype=np.uint16)
    before = mask.copy()
    mask.flags.writeable = False
    distance = times * min(size)
    labels, count = label_on_device(mask, Ball(distance, size), separate)
    wanted, wanted_count = oracle(mask, distance, separate, size)
    assert count == wanted_count
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("missing", range(14))
def test_a_missing_row_offset_is_noticed(monkeypatch, missing):
    offsets = Ball(3.0).row_offsets()
    dz, dy, dx = offsets[missing]
    mask = np.zeros((4, 7, 7), bool)
    mask[3, 3, 1] = mask[3 + dz, 3 + dy, 1 + dx] = True
    assert label_on_device(mask, Ball(3.0))[1] == 1
    monkeypatch.setattr(Ball, "row_offsets", lambda ball: np.delete(offsets, missing, axis=0))
    assert label_on_device(mask, Ball(3.0))[1] == 2


def test_pairs_are_expanded_from_ranges():
    one, other = device._meetings(np.array([0, 2, 5, 3]), np.array([2, 2, 8, 1]))
    assert one.tolist() == [0, 0, 2, 2, 2] and other.tolist() == [0, 1, 5, 6, 7]


@pytest.mark.gpu
def test_a_gpu_gives_the_same(cupy):
    for name in SHAPES:
        mask = SHAPES[name]()
        labels, count = merge_regions(cupy.asarray(mask), 3.0)
        wanted, wanted_count = merge_regions(mask, 3.0)
        assert count == wanted_count
        np.testing.assert_array_equal(cupy.asnumpy(labels), wanted)
