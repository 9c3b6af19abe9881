"""A volume at a time: scraps follow the slices around them, touching membranes stay two, bad input."""

import numpy as np
import pytest

from cryoscale.connect import ConnectOptions
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import connect_volume, slice_labels, slice_seed

OPTIONS = ConnectOptions(episodes=60)


def ring(centre, radius, shape=(70, 110)):
    y, x = np.indices(shape)
    return np.abs(np.hypot(y - centre[0], x - centre[1]) - radius) < 1.6


def test_what_is_too_short_becomes_a_piece_after_the_paths():
    mask = ring((35, 30), 20)
    mask[5:8, 60:63], mask[40:42, 80:83] = True, True
    paths = connect_slice(mask, OPTIONS, 0)
    labels = slice_labels(mask, OPTIONS, 0)
    np.testing.assert_array_equal(labels > 0, mask)
    np.testing.assert_array_equal(labels[ring((35, 30), 20)], paths.labels[ring((35, 30), 20)])
    count = len(paths.paths)
    assert (labels[5:8, 60:63] == count + 1).all() and (labels[40:42, 80:83] == count + 2).all()
    assert not slice_labels(np.zeros_like(mask), OPTIONS, 0).any()


def test_scraps_of_one_slice_follow_the_slices_around_them():
    whole = ring((35, 30), 20)
    scraps = whole.copy()
    scraps[(np.indices(whole.shape).sum(axis=0) % 17) > 6] = False
    labels, count = connect_volume(np.stack([whole, whole, scraps, whole]), OPTIONS)
    assert count == 1 and (labels[2] > 0).sum() == scraps.sum()


def test_membranes_that_touch_in_a_slice_are_two():
    """Two vesicles that lean on each other: one component in 3-D, two membranes, whatever the middle slice takes."""
    volume = np.stack([ring((35, 30), 20 - abs(z - 4)) | ring((35, 71), 20 - abs(z - 4)) for z in range(9)])
    labels, count = connect_volume(volume, OPTIONS)
    assert count == 2
    clear = np.delete(labels, 4, axis=0)
    left, right = clear[:, :, :50], clear[:, :, 54:]
    assert (left[left > 0] == 1).all() and (right[right > 0] == 2).all()


def test_the_seed_decides_everything():
    volume = np.random.default_rng(0).random((3, 60, 60)) < 0.2
    first, again = (connect_volume(volume, OPTIONS, seed=5)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert slice_seed(5, 0) != slice_seed(5, 1)


@pytest.mark.parametrize("bad", [np.zeros((4, 5), bool), np.zeros((3, 4, 5), np.uint8)])
def test_bad_masks_are_refused(bad):
    with pytest.raises(ValueError, match=f"not {bad.ndim}-dimensional {bad.dtype}"):
        connect_volume(bad, OPTIONS)
