"""The table of regions: rows from pieces in any order equal those of one go; ranks in raster order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cryoscale.regions import BYTES_PER_REGION, Regions, combine_regions, concatenate_regions, rank_regions


def from_voxels(labels: NDArray[np.integer], count: int, value: NDArray[np.integer] | None = None) -> Regions:
    """The table, from a list of all voxels."""
    rows = []
    for k in range(1, count + 1):
        points = np.argwhere(labels == k)
        first = np.ravel_multi_index(tuple(points[0]), labels.shape)
        box = [*points.min(axis=0), *(points.max(axis=0) + 1)]
        rows.append((len(points), box, points.sum(axis=0), first, 1 if value is None else value.ravel()[first]))
    return Regions(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))


def assert_equal_tables(found: Regions, wanted: Regions) -> None:
    for name, column in wanted.columns().items():
        np.testing.assert_array_equal(found.columns()[name], column, err_msg=name)


@pytest.fixture
def pieces() -> tuple[NDArray[np.int32], int]:
    labels, count = ndimage.label(np.random.default_rng(1).random((9, 10, 11)) < 0.1, np.ones((3, 3, 3)))
    return labels, count


def test_groups_of_pieces_are_measured_as_in_one_go(pieces: tuple[NDArray[np.int32], int]) -> None:
    labels, count = pieces
    rng = np.random.default_rng(4)
    group, order = np.arange(count) % 5, rng.permutation(count)
    wanted = from_voxels(np.append(0, group + 1)[labels], 5)
    assert count > 10
    assert_equal_tables(combine_regions(from_voxels(labels, count).take(order), group[order], 5), wanted)


def test_sums_beyond_32_bits_stay_exact() -> None:
    huge = Regions(
        np.full(2, 2**40),
        np.array([[0, 0, 0, 9, 9, 9]] * 2),
        np.full((2, 3), 2**61),
        np.array([2**50, 7]),
        np.ones(2, np.int64),
    )
    regions = combine_regions(huge, np.zeros(2, np.int64), 1)
    assert regions.voxels.tolist() == [2**41] and regions.first_voxel.tolist() == [7]
    assert regions.coordinate_sum.tolist() == [[2**62] * 3]


def test_no_pieces_at_all() -> None:
    none = concatenate_regions([])
    assert len(none) == 0 and none.box.shape == (0, 6)
    assert len(combine_regions(none, np.empty(0, np.int64), 0)) == 0
    rank, kept = rank_regions(none)
    assert rank.size == len(kept) == 0


@pytest.mark.parametrize("minimum", [0, 1, 3, 1000])
def test_ranks_are_raster_order_without_gaps(pieces: tuple[NDArray[np.int32], int], minimum: int) -> None:
    labels, count = pieces
    shuffled = np.append(0, np.random.default_rng(2).permutation(count) + 1)[labels]
    table = concatenate_regions([from_voxels(shuffled, count), Regions.blank(1)])  # the last one has no voxels
    rank, kept = rank_regions(table, minimum)
    final = np.append(0, rank)[shuffled]
    large = np.append(False, np.bincount(labels.ravel())[1:] >= minimum)
    # `labels` are in raster order already: what is left of them keeps its order.
    np.testing.assert_array_equal(final, np.where(large, np.cumsum(large), 0)[labels])
    assert len(kept) == large.sum() and rank[-1] == 0
    if len(kept):
        assert_equal_tables(kept, from_voxels(final, len(kept)))


def test_rows_side_by_side_and_back(pieces: tuple[NDArray[np.int32], int]) -> None:
    table = from_voxels(*pieces)
    assert table.rows().shape == (len(table), BYTES_PER_REGION // 8)
    assert_equal_tables(Regions.from_rows(table.rows()), table)
