"""Vesicles that others segmented: the membranes found are theirs, one to one with what the vesicles enclose."""

import mrcfile
import numpy as np

from cryoscale.merge import merge_regions, merge_regions_in_blocks


def test_thirty_vesicles_each_around_its_own_lumen(shared_data):
    with mrcfile.open(shared_data / "labels" / "vesicles.mrc.gz", permissive=True) as volume:
        classes = np.array(volume.data)
    lumen, lumens = merge_regions(classes == 2, np.sqrt(3))
    assert lumens == 30
    labels, regions = merge_regions_in_blocks(classes == 1, (64, 128, 128), 3.0, minimum_voxels=100)
    assert len(regions) == 30
    np.testing.assert_array_equal(labels, merge_regions(classes == 1, 3.0)[0])
    # Voxels of lumen that share a face with a membrane say which membrane is around them.
    z, y, x = np.nonzero(labels)
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    padded = np.pad(lumen, 1)
    beside = np.concatenate([padded[z + 1 + a, y + 1 + b, x + 1 + c] for a, b, c in steps])
    matches = np.unique(np.stack((beside, np.tile(labels[z, y, x], 6)), axis=1)[beside > 0], axis=0)
    assert sorted(matches[:, 0].tolist()) == sorted(matches[:, 1].tolist()) == list(range(1, 31))
