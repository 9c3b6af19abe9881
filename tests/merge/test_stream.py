"""Labels of stored masks: equal to those in memory, for any chunks and any region, and for those who read slices."""

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import cryoscale.merge.stream as stream
from cryoscale.merge import LazyLabels, merge_regions
from tests.merge.shapes import SHAPES, random_mask, shells

SHAPE = (23, 29, 31)
chunks = st.tuples(*[st.integers(1, 17)] * 3)


def stored(mask, chunk):
    array = zarr.create_array(store=zarr.storage.MemoryStore(), shape=mask.shape, chunks=chunk, dtype=mask.dtype)
    array[...] = mask
    return array


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "_BLOCK_VOXELS", 600)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "nothing"])
@pytest.mark.parametrize("distance", [1.0, 3.0])
def test_equals_the_array_in_memory(name, distance):
    mask = SHAPES[name]()
    wanted, count = merge_regions(mask, distance)
    labels, found = merge_regions(stored(mask, tuple(min(n, 5) for n in mask.shape)), distance)
    assert isinstance(labels, LazyLabels) and found == count == labels.count
    assert labels.shape == mask.shape and labels.dtype == np.int32 and labels.ndim == 3 and labels.size == mask.size
    np.testing.assert_array_equal(np.asarray(labels), wanted)
    np.testing.assert_array_equal(labels.regions.voxels, np.bincount(wanted.ravel(), minlength=count + 1)[1:])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 14)] * 3), chunks, st.floats(1.0, 6.0), st.booleans())
def test_any_volume_any_chunks_any_distance(seed, shape, chunk, distance, separate):
    mask = random_mask(seed, shape, 0.1) * np.random.default_rng(seed).integers(1, 3, shape, dtype=np.uint8)
    array = stored(mask, tuple(min(c, n) for c, n in zip(chunk, shape, strict=True)))
    labels, count = merge_regions(array, distance, separate_values=separate)
    wanted, wanted_count = merge_regions(mask, distance, separate_values=separate)
    assert count == wanted_count
    np.testing.assert_array_equal(labels[...], wanted)


LAZY, WHOLE = {}, {}


def lazy_and_whole():
    """One volume in many blocks, made once."""
    if not LAZY:
        mask = shells(1, SHAPE)
        LAZY[0], WHOLE[0] = merge_regions(stored(mask, (6, 5, 7)), 2.0)[0], merge_regions(mask, 2.0)[0]
    return LAZY[0], WHOLE[0]


def indices(length):
    bound = st.one_of(st.none(), st.integers(-length - 2, length + 2))
    step = st.one_of(st.none(), st.integers(1, 5), st.integers(-5, -1))
    return st.one_of(st.builds(slice, bound, bound, step), st.integers(-length, length - 1))


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[indices(n) for n in SHAPE]), st.integers(0, 3))
def test_any_region_is_the_one_numpy_takes(index, kept):
    lazy, wanted = lazy_and_whole()
    np.testing.assert_array_equal(lazy[index], wanted[index])
    shorter = (*index[:kept], ...)
    np.testing.assert_array_equal(lazy[shorter], wanted[shorter])
    np.testing.assert_array_equal(lazy[(..., *index[kept:])], wanted[(..., *index[kept:])])


def test_the_forms_of_an_index():
    lazy, wanted = lazy_and_whole()
    np.testing.assert_array_equal(lazy[3], wanted[3])
    np.testing.assert_array_equal(lazy[np.int64(3), 2:9], wanted[3, 2:9])
    assert lazy[3, 4, 5] == wanted[3, 4, 5] and len(lazy) == SHAPE[0]
    np.testing.assert_array_equal(np.asarray(lazy, dtype=np.int64), wanted)
    for index in ((0, 0, 0, 0), (..., ...), np.array([1, 2]), (None, 0), 23, -24, True, "z"):
        with pytest.raises(IndexError):
            lazy[index]
    with pytest.raises(ValueError, match="copy must not be False"):
        np.array(lazy, copy=False)
    assert "shape=(23, 29, 31)" in repr(lazy)


def test_dask_and_zarr_take_lazy_labels(tmp_path):
    lazy, wanted = lazy_and_whole()
    array = dask.array.from_array(lazy, chunks=lazy.chunks)
    np.testing.assert_array_equal(array.compute(scheduler="threads", num_workers=2), wanted)
    assert array.chunksize == lazy.chunks
    out = zarr.create_array(store=str(tmp_path / "labels.zarr"), shape=lazy.shape, chunks=lazy.chunks, dtype=lazy.dtype)
    for z in range(0, SHAPE[0], lazy.chunks[0]):
        out[z : z + lazy.chunks[0]] = lazy[z : z + lazy.chunks[0]]
    np.testing.assert_array_equal(out[...], wanted)


def test_two_dimensions():
    mask = random_mask(3, (40, 50), 0.05)
    labels, count = merge_regions(stored(mask, (7, 8)), 3.0)
    wanted = merge_regions(mask, 3.0)
    assert count == wanted[1] and labels.chunks == (21, 24) and labels.ndim == 2
    np.testing.assert_array_equal(labels[...], wanted[0])
    np.testing.assert_array_equal(labels[3:17, ::-2], wanted[0][3:17, ::-2])


def test_anisotropy():
    mask = shells(1, SHAPE)
    options = {"distance": 3.0, "voxel_size": (2.0, 1.0, 1.5)}
    np.testing.assert_array_equal(
        merge_regions(stored(mask, (6, 5, 7)), **options)[0][...], merge_regions(mask, **options)[0]
    )


class Slices:
    """The least that a stored array can do."""

    def __init__(self, array, chunks):
        self.array, self.chunks, self.shape, self.dtype = array, chunks, array.shape, array.dtype
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return self.array[index]


@pytest.mark.parametrize("chunk", [None, "auto", ((4, 3), (5,), (6,)), (0, 1, 1)])
def test_what_is_not_stored_in_equal_chunks_is_read_all_the_same(chunk):
    mask = shells(1, (7, 5, 6))
    labels, _ = merge_regions(Slices(mask, chunk), 2.0)
    np.testing.assert_array_equal(labels[...], merge_regions(mask, 2.0)[0])


def test_each_block_is_read_once_to_number_and_only_where_it_is_painted():
    array = Slices(shells(1, SHAPE), (6, 5, 7))
    labels, _ = merge_regions(array, 2.0)
    assert len(array.read) == len(set(map(str, array.read))) == labels._grid.size > 40
    assert sum(array.array[index].size for index in array.read) == array.array.size
    array.read.clear()
    edges = labels.chunks
    labels[: edges[0], edges[1] : 2 * edges[1], :1]
    assert len(array.read) == 1


@pytest.mark.parametrize(
    ("shape", "chunk", "wanted"),
    [
        ((1024, 1024, 1024), (128, 128, 128), (256, 256, 128)),
        ((256, 4096, 4096), (1, 4096, 4096), (1, 4096, 4096)),
        ((256, 512, 512), (1, 512, 512), (32, 512, 512)),
        ((10, 10, 10), (64, 64, 64), (10, 10, 10)),
    ],
)
def test_blocks_are_whole_chunks_of_about_eight_million_voxels(monkeypatch, shape, chunk, wanted):
    monkeypatch.setattr(stream, "_BLOCK_VOXELS", 1 << 23)
    assert stream.block_edges(shape, chunk) == wanted


def test_a_mask_that_changes_afterwards_is_noticed():
    array = stored(np.ones((1, 1, 7), bool), (1, 1, 7))
    labels, _ = merge_regions(array, 1.0)
    array[0, 0, 3] = False
    with pytest.raises(ValueError, match=r"2 pieces.* for 1"):
        labels[...]


def test_scores_are_refused():
    with pytest.raises(TypeError, match=r"float32.*threshold"):
        merge_regions(stored(np.zeros((2, 2, 2), np.float32), (2, 2, 2)))
