"""Statistics against the voxels themselves, and pieces against the whole."""

import numpy as np
import pytest
from scipy import ndimage

from cryoscale.merge import Ball, merge_regions, merge_regions_in_blocks
from cryoscale.merge.labels import label_runs
from cryoscale.merge.regions import Regions, combine_regions, concatenate_regions, region_statistics
from cryoscale.merge.runs import find_runs
from tests.merge.shapes import random_mask, shells


def from_voxels(labels, count, value=None):
    """The table, from a list of all voxels."""
    rows = []
    for k in range(1, count + 1):
        points = np.argwhere(labels == k)
        first = np.ravel_multi_index(tuple(points[0]), labels.shape)
        box = [*points.min(axis=0), *(points.max(axis=0) + 1)]
        rows.append((len(points), box, points.sum(axis=0), first, 1 if value is None else value.ravel()[first]))
    return Regions(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))


def assert_equal_tables(found, wanted):
    for name, column in wanted.columns().items():
        np.testing.assert_array_equal(found.columns()[name], column, err_msg=name)


@pytest.mark.parametrize("chunk", [(100, 100, 100), (7, 5, 6), (2, 40, 3)])
@pytest.mark.parametrize("separate", [False, True])
def test_tables_equal_a_count_over_voxels(chunk, separate):
    mask = shells(2, (14, 17, 19)).astype(np.int32)
    if separate:
        mask *= np.random.default_rng(0).integers(-2, 0, mask.shape, dtype=np.int32)
    labels, regions = merge_regions_in_blocks(mask, chunk, 2.0, separate_values=separate)
    wanted = from_voxels(labels, len(regions), mask if separate else None)
    assert_equal_tables(regions, wanted)
    centres = ndimage.center_of_mass(np.ones(mask.shape), labels, range(1, len(regions) + 1))
    np.testing.assert_allclose(regions.centroid(), centres)


def test_the_order_of_pieces_does_not_matter():
    rng = np.random.default_rng(4)
    runs = find_runs(random_mask(1, (9, 10, 11), 0.1))
    label, count = label_runs(runs, Ball(1.0))
    pieces, group = region_statistics(runs, label, count), rng.integers(0, 5, count)
    order = rng.permutation(count)
    assert_equal_tables(combine_regions(pieces.take(order), group[order], 5), combine_regions(pieces, group, 5))


def test_sums_beyond_32_bits_stay_exact():
    huge = Regions(
        np.full(2, 2**40),
        np.array([[0, 0, 0, 9, 9, 9]] * 2),
        np.full((2, 3), 2**61),
        np.array([2**50, 7]),
        np.ones(2, int),
    )
    regions = combine_regions(huge, np.zeros(2, np.int64), 1)
    assert regions.voxels.tolist() == [2**41] and regions.first_voxel.tolist() == [7]
    assert regions.coordinate_sum.tolist() == [[2**62] * 3]


def test_no_pieces_at_all():
    none = concatenate_regions([])
    assert len(none) == 0 and none.box.shape == (0, 6)
    assert len(combine_regions(none, np.empty(0, np.int64), 0)) == 0


def test_numbers_are_dense_after_small_ones_are_dropped():
    labels, count = merge_regions(random_mask(0, (10, 10, 10), 0.15), 1.0)
    found, regions = merge_regions_in_blocks(labels > 0, (4, 4, 4), 1.0, minimum_voxels=3)
    assert 0 < len(regions) < count
    assert np.unique(found).tolist() == list(range(len(regions) + 1))
