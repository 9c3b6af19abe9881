"""One function for every kind of array: what is taken, and what comes back."""

import numpy as np
import pytest
import zarr

import cryoscale.merge.stream as stream
from cryoscale.merge import merge_regions
from cryoscale.merge.device import label_on_device
from tests.merge.shapes import shells


class Device:
    """Stands in for CuPy's array at the door; no test here runs on a GPU, and nothing may bring it to the host."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, index):
        return Device(self.array[index])

    def reshape(self, shape):
        return Device(self.array.reshape(shape))

    def __array__(self, *_, **__):
        raise TypeError("no implicit copy to the host")


Device.__module__ = "cupy"


@pytest.mark.parametrize("flat", [False, True])
def test_a_device_array_is_labelled_where_it_is(monkeypatch, flat):
    mask = shells(1, (9, 10, 11))
    mask = mask[4] if flat else mask

    def on_device(volume, *options):
        assert type(volume) is Device and len(volume.shape) == 3
        labels, count = label_on_device(volume.array, *options)
        return Device(labels), count

    monkeypatch.setattr("cryoscale.merge.arrays.label_on_device", on_device)
    labels, count = merge_regions(Device(mask), 2.0)
    wanted, wanted_count = merge_regions(mask, 2.0)
    assert type(labels) is Device and count == wanted_count
    np.testing.assert_array_equal(labels.array, wanted)


def test_what_numpy_understands_is_taken():
    labels, count = merge_regions([[True, False, True], [False, False, True]], 1.0)
    assert labels.tolist() == [[1, 0, 2], [0, 0, 2]] and count == 2


def test_a_memory_map_is_an_array_in_memory(tmp_path):
    mask = shells(1, (9, 10, 11))
    np.save(tmp_path / "mask.npy", mask)
    labels, _ = merge_regions(np.load(tmp_path / "mask.npy", mmap_mode="r"), 2.0)
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, merge_regions(mask, 2.0)[0])


def test_lazy_labels_are_a_stored_array_themselves(monkeypatch):
    """Labels can be merged again, value by value."""
    monkeypatch.setattr(stream, "_BLOCK_VOXELS", 200)
    mask = shells(1, (9, 10, 11))
    array = zarr.create_array(store=zarr.storage.MemoryStore(), shape=mask.shape, chunks=(4, 5, 6), dtype=bool)
    array[...] = mask
    labels, count = merge_regions(array, 2.0)
    again, same = merge_regions(labels, 2.0, separate_values=True)
    assert same == count
    np.testing.assert_array_equal(again[...], labels[...])
