"""Tables of parts and the order by block, against loops over voxels."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.separate.parts import concatenate_parts, drop_scraps, order_by_block, parts_table, rank_parts

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
    assert len(concatenate_parts([])) == 0


def test_ranks_follow_first_voxels_and_drop_the_small() -> None:
    points = cloud(3)
    part = np.random.default_rng(3).integers(0, 9, len(points)).astype(np.int32)
    table = parts_table(points, part, 8, SHAPE)
    final, membranes = rank_parts(table, 45)
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
