"""All groups of a volume in memory: numbers in raster order, whatever the groups are called; memory of one group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.separate import separate_groups, separate_membranes
from cryoscale.separate.groups import number_parts, part_group, projected_bytes
from cryoscale.separate.parts import parts_table
from cryoscale.separate.plan import _ELEMENT_BYTES
from tests.plans import traced_peak
from tests.separate.test_separate import Ints, shells


def scene() -> Ints:
    """Two membranes that touch and one far away that begins between them, then a speck."""
    groups = np.zeros((44, 40, 130), np.int32)
    groups[4:, :, :72] = shells(((20, 20, 20), 15), ((20, 20, 52), 13), shape=(40, 40, 72)) > 0
    groups[5:40, :, 80:120] = 2 * (shells(((18, 20, 20), 13), shape=(35, 40, 40)) > 0)
    groups[42, 2, 2:5] = 3
    return groups


def in_raster_order(labels: NDArray[np.int32]) -> bool:
    numbers, first = np.unique(labels[labels > 0], return_index=True)
    return numbers.tolist() == list(range(1, numbers.size + 1)) and bool((np.diff(first) > 0).all())


def test_each_group_is_separated_by_itself_and_numbers_follow_the_volume() -> None:
    groups = scene()
    labels, count = separate_groups(groups)
    assert (labels.dtype, count, labels.max()) == (np.int32, 4, 4)
    assert in_raster_order(labels)
    assert not labels[groups == 0].any()
    for number, membranes in ((1, 2), (2, 1), (3, 1)):
        there = groups == number
        alone = separate_membranes(np.argwhere(there).astype(np.int32))
        pairs = np.unique(np.stack([alone, labels[there]]), axis=1)
        assert len(set(pairs[0].tolist())) == len(set(pairs[1].tolist())) == pairs.shape[1] == membranes


def test_names_and_type_of_the_groups_do_not_matter() -> None:
    groups = scene()
    labels, count = separate_groups(groups)
    renamed = np.array([0, 7, 2, 5], np.uint16)[groups]  # others, in another order, with numbers that do not occur
    again, same = separate_groups(renamed)
    assert same == count
    np.testing.assert_array_equal(again, labels)


def test_small_membranes_are_dropped_and_the_others_numbered_without_gaps() -> None:
    groups = scene()
    labels, count = separate_groups(groups)
    sizes = np.bincount(labels.ravel())[1:]
    for minimum in (4, int(np.sort(sizes)[1]) + 1):
        kept, left = separate_groups(groups, minimum)
        assert left == (sizes >= minimum).sum() < count
        assert in_raster_order(kept)
        np.testing.assert_array_equal(kept > 0, np.append(False, sizes >= minimum)[labels])


def test_nothing_gives_nothing() -> None:
    labels, count = separate_groups(np.zeros((3, 4, 5), np.uint8))
    assert (labels.shape, count, labels.any()) == ((3, 4, 5), 0, False)
    labels, count = separate_groups(np.zeros((0, 4, 5), np.int64))
    assert (labels.shape, count) == ((0, 4, 5), 0)


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        (np.zeros((3, 3, 3)), TypeError),
        (np.zeros((3, 3, 3), np.bool_), TypeError),
        (np.zeros((3, 3), np.int32), ValueError),
        (np.full((3, 3, 3), -1), ValueError),
    ],
)
def test_bad_groups_are_refused(groups: NDArray[np.generic], error: type[Exception]) -> None:
    with pytest.raises(error, match="groups have"):
        separate_groups(groups)  # type: ignore[arg-type]


def sheet(height: Callable[..., NDArray[np.float64]], shape: tuple[int, int, int], half: float) -> Ints:
    """Voxels of a box where a function of z, y, x is within `half` of 0."""
    z, y, x = (axis.astype(np.float64) for axis in np.indices(shape))
    return np.argwhere(np.abs(height(z, y, x)) < half).astype(np.int32)


SHAPES = {
    "plane": lambda: sheet(lambda z, y, x: z - 6.0 + 0 * y * x, (13, 180, 180), 2.0),
    "upright": lambda: sheet(lambda z, y, x: x - 6.0 + 0 * y * z, (180, 180, 13), 2.0),
    "shell": lambda: sheet(lambda z, y, x: np.sqrt((z - 49) ** 2 + (y - 49) ** 2 + (x - 49) ** 2) - 42, (99,) * 3, 2.0),
    "crumpled": lambda: sheet(lambda z, y, x: z - 30 - 10 * np.sin(y / 8) - 8 * np.cos(x / 6), (60, 140, 140), 2.5),
    "tilted": lambda: sheet(lambda z, y, x: (z + y + x - 180) / np.sqrt(3), (121,) * 3, 2.0),
    "one voxel thin": lambda: sheet(lambda z, y, x: (z + y + x - 250) / np.sqrt(3), (167,) * 3, 0.5),
}


def peak_of_one_group(points: Ints) -> int:
    """Bytes at the peak of what a unit does with the voxels of one group."""
    return traced_peak(lambda: part_group(points, 1))[1]


@pytest.mark.parametrize("name", SHAPES)
def test_projected_bytes_hold_and_are_not_far_above(name: str) -> None:
    points = SHAPES[name]()
    peak = peak_of_one_group(points)
    assert peak < projected_bytes(len(points)) < 3.5 * peak


def test_the_thinnest_sheet_needs_nearly_what_is_projected() -> None:
    """Half of what is projected for a voxel would be too little."""
    points = SHAPES["one voxel thin"]()
    assert peak_of_one_group(points) > 0.5 * (projected_bytes(len(points)) - projected_bytes(0))


def test_joining_over_gaps_needs_less_than_is_projected_for_an_element() -> None:
    points = SHAPES["shell"]()
    points = points[np.abs(points[:, 0] - 49) > 10]
    part, surfels = part_group(points, 1)
    table = parts_table(points, part, 2, (99, 99, 99))
    (final, membranes), peak = traced_peak(lambda: number_parts(table, surfels, 1))
    assert (final.tolist(), len(membranes)) == ([1, 1], 1)
    assert peak < _ELEMENT_BYTES * len(surfels.patch)
