"""Tables of parts and the order by block, against loops over voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cryoscale.regions import concatenate_regions, rank_regions
from cryoscale.separate.parts import drop_scraps, order_by_block, parts_table
from tests.plans import traced_peak

SHAPE = (13, 11, 17)


def cloud(seed: int, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flat = np.sort(rng.choice(np.prod(SHAPE), n, replace=False))
    return np.stack(np.unravel_index(flat, SHAPE), axis=1).astype(np.int32)


@pytest.mark.parametrize("edge", [(4, 4, 4), (5, 11, 3), (13, 11, 17), (1, 1, 1), (20, 2, 20)])
def test_blocks_hold_their_voxels_in_their_own_raster_order(edge: tuple[int, int, int]) -> None:
    points = cloud(1)
    order, block, held = order_by_block(points, SHAPE, edge)
    grid = [-(-n // e) for n, e in zip(SHAPE, edge, strict=True)]
    expected = sorted(
        range(len(points)),
        key=lambda k: (np.ravel_multi_index(tuple(points[k] // edge), grid), tuple(points[k] % edge)),
    )
    assert order.tolist() == expected
    numbers = [int(np.ravel_multi_index(tuple(point // edge), grid)) for point in points]
    assert dict(zip(block.tolist(), held.tolist(), strict=True)) == {n: numbers.count(n) for n in sorted(set(numbers))}


def test_an_empty_part_list_is_an_empty_table() -> None:
    points = cloud(2, 10)
    assert len(parts_table(points, np.zeros(10, np.int32), 0, SHAPE)) == 0
    assert len(concatenate_regions([])) == 0


def test_ranks_follow_first_voxels_and_drop_the_small() -> None:
    points = cloud(3)
    part = np.random.default_rng(3).integers(0, 9, len(points)).astype(np.int32)
    table = parts_table(points, part, 8, SHAPE)
    final, membranes = rank_regions(table, 45)
    kept = [k for k in range(8) if (part == k + 1).sum() >= 45]
    assert 0 < len(kept) < 8
    by_first = sorted(kept, key=lambda k: int(np.flatnonzero(part == k + 1)[0]))
    assert [int(final[k]) for k in by_first] == list(range(1, len(kept) + 1))
    assert sorted(np.flatnonzero(final).tolist()) == kept
    assert membranes.voxels.tolist() == [(part == k + 1).sum() for k in by_first]


def test_scraps_make_no_membrane_however_many() -> None:
    scraps = [(0, 0, x) for x in range(0, 16, 2)]
    piece = [(4, 0, x) for x in range(5)]
    points = np.array(scraps + piece + [(4, 4, 0)], np.int32)
    part = np.array([1] * 8 + [2] * 5 + [2], np.int32)
    assert drop_scraps(points, part, 5).tolist() == [0] * 8 + [1] * 6
    assert drop_scraps(points, part, 1).tolist() == part.tolist()
    assert not drop_scraps(points, part, 6).any()


def largest(points: np.ndarray) -> int:
    """Size of the largest 26-connected piece, by its mask."""
    mask = np.zeros(points.max(axis=0) + 1, np.bool_)
    mask[tuple(points.T)] = True
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return int(np.bincount(labels.ravel())[1:].max())


@pytest.mark.parametrize("share", [0.02, 0.05, 0.08, 0.12, 0.3])
@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 20, 30), (30, 1, 20), (20, 30, 1), (1, 1, 60), (2, 2, 90)])
def test_the_largest_piece_decides_at_its_very_size(shape: tuple[int, int, int], share: float) -> None:
    for seed in range(5):
        points = np.argwhere(np.random.default_rng(seed).random(shape) < share).astype(np.int32)
        if not len(points):
            continue
        one, size = np.ones(len(points), np.int32), largest(points)
        assert drop_scraps(points, one, size).all()
        assert not drop_scraps(points, one, size + 1).any()


def test_a_piece_does_not_go_on_across_the_edge_of_its_box() -> None:
    z, y, x = np.meshgrid([0, 1], [0, 4], [0, 4], indexing="ij")
    corners = np.stack((z.ravel(), y.ravel(), x.ravel()), axis=1).astype(np.int32)
    assert largest(corners) == 2
    assert drop_scraps(corners, np.ones(8, np.int32), 2).all()
    assert not drop_scraps(corners, np.ones(8, np.int32), 3).any()


def test_memory_follows_voxels_not_the_box_around_them() -> None:
    near = np.argwhere(np.ones((3, 20, 20), np.bool_)).astype(np.int32)
    points = np.concatenate((near, near + np.int32(2_000_000)))
    part = np.ones(len(points), np.int32)
    drop_scraps(points[:3], part[:3], 1)
    kept, peak = traced_peak(lambda: drop_scraps(points, part, len(near)))
    assert kept.all() and not drop_scraps(points, part, len(near) + 1).any()
    assert peak < 200 * len(points)
