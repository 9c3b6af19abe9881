"""Blocks against the whole: equal number for number, for any chunks, distance and size limit."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryoscale.merge.shell as shell
from cryoscale.merge import Ball, merge_regions, merge_regions_in_blocks
from cryoscale.merge.blocks import paint_block
from cryoscale.merge.tree import block_box, hand_down, join_boxes, rank_tables
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
    place = ((20, 20, 20), (60, 60, 60), Ball(1.0))
    everything, large = block_box(mask, *place)[0], block_box(mask, *place, minimum_voxels=10)[0]
    assert len(everything.closed) > 30 and len(large.closed) == 0
    assert len(large.growing) == len(everything.growing) > 0
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


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shell_one_voxel_short_is_noticed(monkeypatch, axis):
    mask = shells(3, (23, 29, 31))
    np.testing.assert_array_equal(split_grid(mask, (8, 8, 8), 3.0), merge_regions(mask, 3.0)[0])
    right = Ball.reach_voxels.fget
    short = property(lambda ball: tuple(n - (k == axis) for k, n in enumerate(right(ball))))
    monkeypatch.setattr(Ball, "reach_voxels", short)
    assert any(split_grid(mask, (8, 8, 8), 3.0).max() == 2 for _, mask in pairs_across(3.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_missing_face_is_noticed(monkeypatch, axis):
    right = shell.near_faces

    def without(runs, box, shape, reach):
        cut = list(shape)
        cut[axis] = box[axis + 3]  # the upper face is taken for the volume's own
        return right(runs, box, cut, reach)

    monkeypatch.setattr(shell, "near_faces", without)
    assert any(split_grid(mask, (8, 8, 8), 3.0).max() == 2 for _, mask in pairs_across(3.0))


@pytest.mark.parametrize("missing", range(14))
def test_a_missing_row_offset_is_noticed(monkeypatch, missing):
    offsets = np.delete(Ball(3.0).row_offsets(), missing, axis=0)
    monkeypatch.setattr(Ball, "row_offsets", lambda ball: offsets)
    count = 0
    for dz, dy, dx in product(range(4), range(-3, 4), range(-3, 4)):
        mask = np.zeros((4, 7, 7), bool)
        mask[0, 3, 3] = mask[dz, 3 + dy, 3 + dx] = True
        count += (dz, dy, dx) != (0, 0, 0) and dz**2 + dy**2 + dx**2 <= 9 and merge_regions(mask, 3.0)[1] == 2
    assert count > 0


# -------------------------------------------------------------------------------------------------- order of joins


@pytest.mark.parametrize("seed", range(8))
def test_joins_in_any_order_give_the_same_numbers(seed):
    """2 x 2 x 2 blocks joined two at a time along the three axes in random order, then handed down."""
    rng = np.random.default_rng(seed)
    mask, ball, edge = shells(seed, (12, 10, 14), thickness=1.0), Ball(2.5), (6, 5, 7)
    origins = [(z, y, x) for z in (0, 6) for y in (0, 5) for x in (0, 7)]
    blocks = [mask[tuple(slice(o, o + e) for o, e in zip(origin, edge, strict=True))] for origin in origins]
    boxes = [block_box(block, origin, mask.shape, ball)[0] for origin, block in zip(origins, blocks, strict=True)]
    members, level = [() for _ in boxes], list(range(8))
    for axis in rng.permutation(3):
        joined, waiting = [], list(rng.permutation(level))
        while waiting:
            i = waiting.pop()
            j = next(k for k in waiting if along(boxes[i].shell.box, boxes[k].shell.box, axis))
            waiting.remove(j)
            pair = sorted((i, j), key=lambda k: boxes[k].shell.box[axis])
            grid = np.empty(2, object)
            grid[:] = [boxes[k].shell for k in pair]
            grid = grid.reshape([2 if k == axis else 1 for k in range(3)])
            boxes.append(join_boxes(grid, [boxes[k].growing for k in pair], mask.shape, ball))
            members.append(pair)
            joined.append(len(boxes) - 1)
        level = joined
    rank, start, _ = rank_tables([box.closed for box in boxes])
    numbers = {len(boxes) - 1: np.empty(0, np.int32)}
    labels, count = merge_regions(mask, 2.5)
    assert len(rank) == count
    for k in reversed(range(len(boxes))):
        below = hand_down(boxes[k].code, numbers[k], rank[start[k] : start[k + 1]])
        if k >= 8:
            first, second = members[k]
            numbers[first], numbers[second] = np.split(below, [len(boxes[first].growing)])
        else:
            where = tuple(slice(o, o + e) for o, e in zip(origins[k], edge, strict=True))
            np.testing.assert_array_equal(paint_block(blocks[k], ball, below), labels[where])


def along(a, b, axis):
    others = [k for k in range(3) if k != axis]
    return all(a[k] == b[k] for k in others)


# ------------------------------------------------------------------------------------------------------- bad input


def test_boxes_that_do_not_touch_are_refused():
    parts = [block_box(np.ones((2, 2, 2), bool), (0, 0, x), (2, 2, 9), Ball(1.0))[0].shell for x in (0, 4)]
    with pytest.raises(ValueError, match=r"\(0, 0, 0, 2, 2, 2\).*\(0, 0, 4, 2, 2, 6\).*whole face"):
        shell.join_pair(*parts, (2, 2, 9), Ball(1.0))


def test_a_mask_that_changed_between_the_passes_is_refused():
    with pytest.raises(ValueError, match=r"1 pieces.* for 2"):
        paint_block(np.ones((2, 2, 2), bool), Ball(1.0), np.ones(2, np.int32))


@pytest.mark.parametrize("chunk", [(0, 4, 4), (4, 4), (4, -1, 4)])
def test_chunks_must_be_three_positive_numbers(chunk):
    with pytest.raises(ValueError, match="chunks are"):
        merge_regions_in_blocks(np.ones((4, 4, 4), bool), chunk)


def test_two_dimensions_are_for_the_whole_only():
    with pytest.raises(ValueError, match=r"2 axes.*must have 3"):
        merge_regions_in_blocks(np.ones((4, 4), bool), (1, 2, 2))
