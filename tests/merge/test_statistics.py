"""Statistics against the voxels themselves, and pieces against the whole."""

import numpy as np
import pytest
from scipy import ndimage

from cryoscale.merge import merge_regions, merge_regions_in_blocks
from tests.merge.shapes import random_mask, shells
from tests.test_regions import assert_equal_tables, from_voxels


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


def test_numbers_are_dense_after_small_ones_are_dropped():
    labels, count = merge_regions(random_mask(0, (10, 10, 10), 0.15), 1.0)
    found, regions = merge_regions_in_blocks(labels > 0, (4, 4, 4), 1.0, minimum_voxels=3)
    assert 0 < len(regions) < count
    assert np.unique(found).tolist() == list(range(len(regions) + 1))
