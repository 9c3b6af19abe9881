"""Blocks against the whole: equal number for number, for any chunks, distance and size limit."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryoscale.merge.near as near
import cryoscale.merge.shell as shell
from cryoscale.merge import merge_regions, merge_regions_in_blocks
from cryoscale.merge.blocks import label_block, links_to_rows, relabel_block
from cryoscale.merge.regions import concatenate_regions, number_regions
from tests.merge.shapes import DISTANCES, SHAPES, random_mask, shells, spiral

shapes = st.tuples(*[st.integers(1, 16)] * 3)
chunks = st.tuples(*[st.integers(1, 17)] * 3)
seeds = st.integers(0, 2**32 - 1)
densities = st.sampled_from([0.005, 0.02, 0.08, 0.4, 1.0])


def dropped(labels, count, minimum):
    """The labels after regions smaller than `minimum` are dropped: what blocks must give."""
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= minimum
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[labels]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", SHAPES)
def test_blocks_equal_the_whole(name, distance):
    mask = SHAPES[name]()
    labels, count = merge_regions(mask, distance)
    for chunk in [(4, 5, 6), (8, 8, 8), (2, 100, 7), (100, 3, 100)]:
        found, regions = merge_regions_in_blocks(mask, chunk, distance)
        assert len(regions) == count
        np.testing.assert_array_equal(found, labels)


@settings(max_examples=100, deadline=None)
@given(seeds, shapes, densities, chunks, st.floats(1.0, 7.0))
def test_any_volume_any_chunks_any_distance(seed, shape, density, chunk, distance):
    mask = random_mask(seed, shape, density)
    np.testing.assert_array_equal(merge_regions_in_blocks(mask, chunk, distance)[0], merge_regions(mask, distance)[0])


@settings(max_examples=50, deadline=None)
@given(seeds, shapes, chunks, st.sampled_from(DISTANCES), st.integers(1, 30))
def test_shells_with_small_regions_dropped(seed, shape, chunk, distance, minimum):
    mask = shells(seed, shape)
    wanted = dropped(*merge_regions(mask, distance), minimum)
    found, regions = merge_regions_in_blocks(mask, chunk, distance, minimum_voxels=minimum)
    np.testing.assert_array_equal(found, wanted)
    assert len(regions) == wanted.max(initial=0)
    assert np.all(regions.voxels >= minimum)


@settings(max_examples=50, deadline=None)
@given(seeds, shapes, densities, chunks, st.sampled_from(DISTANCES), st.integers(1, 4))
def test_values_kept_apart(seed, shape, density, chunk, distance, minimum):
    mask = random_mask(seed, shape, density) * np.random.default_rng(seed).integers(1, 4, shape, dtype=np.uint16)
    wanted = dropped(*merge_regions(mask, distance, separate_values=True), minimum)
    found, regions = merge_regions_in_blocks(mask, chunk, distance, minimum_voxels=minimum, separate_values=True)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(regions.value, mask.ravel()[regions.first_voxel])


def test_a_long_thread_through_many_blocks_is_one_region():
    mask = spiral(97)
    labels, regions = merge_regions_in_blocks(mask, (1, 7, 5), 1.0)
    assert len(regions) == 1 and regions.voxels[0] == mask.sum() > 2500
    np.testing.assert_array_equal(labels > 0, mask)


def test_small_pieces_of_a_large_region_survive():
    mask = np.zeros((1, 1, 40), bool)
    mask[..., 3:37:3] = True  # 12 voxels, at most 3 in any block of 8
    labels, regions = merge_regions_in_blocks(mask, (1, 1, 8), 3.0, minimum_voxels=12)
    assert regions.voxels.tolist() == [12] and labels.max() == 1
    assert not merge_regions_in_blocks(mask, (1, 1, 8), 3.0, minimum_voxels=13)[0].any()


def test_specks_inside_a_block_are_dropped_before_anything_is_handed_on():
    mask = random_mask(0, (20, 20, 20), 0.01)
    everything = label_block(mask, 0, (20, 20, 20), (60, 60, 60), 1.0)
    large = label_block(mask, 0, (20, 20, 20), (60, 60, 60), 1.0, minimum_voxels=10)
    assert len(large.pieces) < len(everything.pieces) / 2
    np.testing.assert_array_equal(large.shell.runs, everything.shell.runs)


# --------------------------------------------------------------------------------------- what would break, breaks


def split_grid(mask, chunk, distance):
    return merge_regions_in_blocks(mask, chunk, distance)[0]


def pairs_across(distance):
    """Volumes of two voxels at the distance, across every face, edge and corner between blocks of 8."""
    step = int(distance)
    for offset in np.ndindex(3, 3, 3):
        direction = np.array(offset) - 1
        if direction.any() and np.linalg.norm(direction * step) <= distance:
            mask = np.zeros((24, 24, 24), bool)
            low = np.where(direction > 0, 15, np.where(direction < 0, 8, 12))
            mask[tuple(low)] = mask[tuple(low + direction * step)] = True
            yield direction, mask


@pytest.mark.parametrize("distance", [3.0, 3.0 * np.sqrt(2), 3.0 * np.sqrt(3), 5.0])
def test_every_face_edge_and_corner_is_crossed(distance):
    for _, mask in pairs_across(distance):
        assert split_grid(mask, (8, 8, 8), distance).max() == 1


def test_a_shell_one_voxel_short_is_noticed(monkeypatch):
    mask = shells(3, (23, 29, 31))
    whole = merge_regions(mask, 3.0)[0]
    np.testing.assert_array_equal(split_grid(mask, (8, 8, 8), 3.0), whole)
    right = shell.reach_voxels
    monkeypatch.setattr(shell, "reach_voxels", lambda distance: right(distance) - 1)
    assert any(split_grid(mask, (8, 8, 8), 3.0).max() == 2 for _, mask in pairs_across(3.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_missing_face_is_noticed(monkeypatch, axis):
    right = shell.near_faces

    def without(z, y, start, stop, box, shape, reach):
        cut = list(shape)
        cut[axis] = box[axis + 3]  # the upper face is taken for the volume's own
        return right(z, y, start, stop, box, cut, reach)

    monkeypatch.setattr(shell, "near_faces", without)
    assert any(split_grid(mask, (8, 8, 8), 3.0).max() == 2 for _, mask in pairs_across(3.0))


@pytest.mark.parametrize("missing", range(14))
def test_a_missing_row_offset_is_noticed(monkeypatch, missing):
    offsets = np.delete(near.row_offsets(3.0), missing, axis=0)
    monkeypatch.setattr(near, "row_offsets", lambda distance: offsets)
    count = 0
    for dz, dy, dx in product(range(4), range(-3, 4), range(-3, 4)):
        mask = np.zeros((4, 7, 7), bool)
        mask[0, 3, 3] = mask[dz, 3 + dy, 3 + dx] = True
        count += (dz, dy, dx) != (0, 0, 0) and dz**2 + dy**2 + dx**2 <= 9 and merge_regions(mask, 3.0)[1] == 2
    assert count > 0


# -------------------------------------------------------------------------------------------------- order of joins


@pytest.mark.parametrize("seed", range(8))
def test_joins_in_any_order_give_the_same_numbers(seed):
    rng = np.random.default_rng(seed)
    mask, distance, edge = shells(seed, (12, 10, 14), thickness=1.0), 2.5, (6, 5, 7)
    origins = [(z, y, x) for z in (0, 6) for y in (0, 5) for x in (0, 7)]
    blocks = [mask[tuple(slice(o, o + e) for o, e in zip(origin, edge, strict=True))] for origin in origins]
    found = [
        label_block(block, k, origin, mask.shape, distance)
        for k, (origin, block) in enumerate(zip(origins, blocks, strict=True))
    ]
    links = joined_in_random_order(found, mask.shape, distance, rng)
    rng.shuffle(links)
    offset = np.cumsum([0, *(len(part.pieces) for part in found)])
    final, regions = number_regions(concatenate_regions([part.pieces for part in found]), links_to_rows(links, offset))
    labels, count = merge_regions(mask, distance)
    assert len(regions) == count
    for k, (origin, block) in enumerate(zip(origins, blocks, strict=True)):
        part = relabel_block(block, origin, mask.shape, distance, final[offset[k] : offset[k + 1]])
        where = tuple(slice(o, o + e) for o, e in zip(origin, edge, strict=True))
        np.testing.assert_array_equal(part, labels[where])


def joined_in_random_order(found, shape, distance, rng):
    """2 x 2 x 2 blocks joined along the three axes in random order, which never ends in a misfit."""
    boxes, links = [part.shell for part in found], []
    for axis in rng.permutation(3):
        joined, waiting = [], list(rng.permutation(len(boxes)))
        while waiting:
            i = waiting.pop()
            j = next(k for k in waiting if along(boxes[i].box, boxes[k].box, axis))
            waiting.remove(j)
            a, b = sorted((boxes[i], boxes[j]), key=lambda part: part.box[axis])
            both, new = shell.join_pair(a, b, shape, distance)
            joined.append(both)
            links.append(new)
        boxes = joined
    assert len(boxes) == 1
    return np.concatenate(links)


def along(a, b, axis):
    others = [k for k in range(3) if k != axis]
    return all(a[k] == b[k] for k in others)


# ------------------------------------------------------------------------------------------------------- bad input


def test_boxes_that_do_not_touch_are_refused():
    parts = [label_block(np.ones((2, 2, 2), bool), 0, (0, 0, x), (2, 2, 9), 1.0).shell for x in (0, 4)]
    with pytest.raises(ValueError, match=r"\(0, 0, 0, 2, 2, 2\).*\(0, 0, 4, 2, 2, 6\).*whole face"):
        shell.join_pair(*parts, (2, 2, 9), 1.0)


def test_a_mask_that_changed_between_the_passes_is_refused():
    with pytest.raises(ValueError, match=r"1 pieces.* for 2"):
        relabel_block(np.ones((2, 2, 2), bool), (0, 0, 0), (2, 2, 2), 1.0, np.ones(2, np.int32))


@pytest.mark.parametrize("chunk", [(0, 4, 4), (4, 4), (4, -1, 4)])
def test_chunks_must_be_three_positive_numbers(chunk):
    with pytest.raises(ValueError, match="chunks are"):
        merge_regions_in_blocks(np.ones((4, 4, 4), bool), chunk)


def test_two_dimensions_are_for_the_whole_only():
    with pytest.raises(ValueError, match=r"2 axes.*must have 3"):
        merge_regions_in_blocks(np.ones((4, 4), bool), (1, 2, 2))
