"""Labels of Dask arrays: lazy, equal to those in memory for any chunks and scheduler, one read of each chunk."""

import dask
import dask.array
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

import cryoscale.merge.graph as graph
from cryoscale.merge import merge_regions
from tests.merge.shapes import SHAPES, oracle, random_mask, shells


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def never(*_, **__):
    raise AssertionError("computed too early")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("distance", [np.sqrt(3), 3.0])
def test_equals_the_array_in_memory(name, distance):
    mask = SHAPES[name]()
    labels, count = merge_regions(dask.array.from_array(mask, chunks=(5, 6, 7)), distance)
    assert labels.shape == mask.shape and labels.dtype == np.int32 and count.shape == ()
    found, number = dask.compute(labels, count)
    wanted, wanted_number = merge_regions(mask, distance)
    assert number == wanted_number and type(found) is np.ndarray and found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)


def cut(draw, length):
    """Any sizes that add up to a length, zeros among them."""
    sizes = []
    while sum(sizes) < length:
        sizes.append(draw(st.integers(0, length - sum(sizes))))
    return tuple(sizes) or (0,)


@st.composite
def masks_and_chunks(draw):
    shape = draw(st.tuples(*[st.integers(0, 11)] * 3))
    density = draw(st.sampled_from([0.02, 0.1, 0.4, 1.0]))
    mask = random_mask(draw(st.integers(0, 2**32 - 1)), shape, density)
    return mask, tuple(cut(draw, n) for n in shape)


edges = st.sampled_from([0.5, 1.0, 1.6])


@settings(max_examples=30, deadline=None)
@given(masks_and_chunks(), st.floats(1.0, 5.0), st.tuples(edges, edges, edges), st.sampled_from([2, 3, 4]))
def test_chunks_of_any_sizes(made, times, size, fan_in):
    mask, chunks = made
    distance = times * min(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_FAN_IN", fan_in)
        lazy = merge_regions(dask.array.from_array(mask, chunks=chunks), distance=distance, voxel_size=size)
    found, number = dask.compute(*lazy)
    wanted, count = oracle(mask, distance, voxel_size=size)
    assert number == count and lazy[0].chunks == chunks
    np.testing.assert_array_equal(found, wanted)


def test_nothing_is_computed_before_it_is_asked_for():
    blocks = dask.array.from_array(np.ones((8, 8, 8), bool), chunks=4).map_blocks(
        never, dtype=bool, meta=np.empty(0, bool)
    )
    with dask.config.set(scheduler=never):
        labels, count = merge_regions(blocks)
    with pytest.raises(AssertionError, match="too early"):
        count.compute()
    assert labels.chunks == blocks.chunks


def test_each_chunk_is_read_once():
    mask, reads = shells(1, (12, 13, 14)), []

    def read(block, block_id=None):
        reads.append(block_id)
        return block

    array = dask.array.from_array(mask, chunks=5).map_blocks(read, dtype=bool, meta=np.empty((0, 0, 0), bool))
    found, _ = dask.compute(*merge_regions(array, 2.0))
    assert len(reads) == len(set(reads)) == 27
    np.testing.assert_array_equal(found, merge_regions(mask, 2.0)[0])


def test_values_kept_apart_and_two_dimensions():
    mask = random_mask(3, (40, 50), 0.1) * np.random.default_rng(0).integers(1, 4, (40, 50), dtype=np.int16)
    labels, count = merge_regions(dask.array.from_array(mask, chunks=(7, 8)), 3.0, separate_values=True)
    wanted, wanted_count = merge_regions(mask, 3.0, separate_values=True)
    assert labels.chunks[0][0] == 7 and count.compute() == wanted_count
    np.testing.assert_array_equal(labels.compute(), wanted)
    np.testing.assert_array_equal(labels[3:9, 5].compute(), wanted[3:9, 5])


def test_threads_processes_and_a_cluster_give_the_same():
    mask = shells(2, (24, 25, 26))
    wanted, count = merge_regions(mask, 2.0)
    lazy = merge_regions(dask.array.from_array(mask, chunks=(7, 9, 26)), 2.0)
    found, number = dask.compute(*lazy, scheduler="threads", num_workers=2)
    assert number == count
    np.testing.assert_array_equal(found, wanted)
    cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
    with cluster, Client(cluster) as client:
        # A cluster's own way to rechunk cannot carry objects: the graph must not use it.
        found, number = client.compute(merge_regions(dask.array.from_array(mask, chunks=(7, 9, 26)), 2.0), sync=True)
    assert number == count
    np.testing.assert_array_equal(found, wanted)


def test_only_shells_and_numbers_travel_between_chunks():
    """A leaf's runs stay where they are: what goes upwards is a box, and of a box what is near its faces."""
    mask = np.ones((20, 20, 20), bool)
    leaf = graph._label(mask, ((0,), (20,), (20,)), (20, 60, 60), graph.Ball(1.0), False)
    box = graph._upwards(leaf).item()
    assert len(leaf.item().runs.start) == 400 and not hasattr(box, "runs")
    assert graph._closed(_cell_of(box)).item().size == 0 and graph._sizes(_cell_of(box)).item() == 1


def _cell_of(box):
    cell = np.empty((1, 1, 1), object)
    cell[0, 0, 0] = box
    return cell


def test_unknown_chunks_are_refused_with_the_way_out():
    mask = dask.array.from_array(np.ones((4, 4, 4), bool), chunks=2)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        merge_regions(mask[mask[:, 0, 0]])


def test_scores_are_refused_before_anything_is_computed():
    with pytest.raises(TypeError, match="threshold"):
        merge_regions(dask.array.zeros((2, 2, 2)))


# --------------------------------------------------------------------------------------- what would break, breaks


def test_a_chunk_at_the_wrong_place_is_noticed(monkeypatch):
    mask = shells(2, (16, 16, 16))
    right = graph._label

    def moved(block, starts, *args, **options):
        return right(block, (starts[0], starts[2], starts[1]), *args, **options)

    monkeypatch.setattr(graph, "_label", moved)
    with pytest.raises(Exception, match=r"whole face|piece") as caught:
        found, _ = dask.compute(*merge_regions(dask.array.from_array(mask, chunks=(16, 3, 7)), 2.0))
        np.testing.assert_array_equal(found, merge_regions(mask, 2.0)[0], err_msg="piece")
    assert caught.type in (ValueError, AssertionError)


def test_numbers_of_the_wrong_member_are_noticed(monkeypatch):
    mask = shells(2, (16, 16, 16), thickness=1.0)
    right = graph._down

    def swapped(*args):
        below = right(*args)
        return below[::-1]

    monkeypatch.setattr(graph, "_down", swapped)
    with pytest.raises((AssertionError, IndexError)):
        found, _ = dask.compute(*merge_regions(dask.array.from_array(mask, chunks=4), 1.0))
        np.testing.assert_array_equal(found, merge_regions(mask, 1.0)[0])
