"""Lists cut where others meet them; rings; the middle of the membrane."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.connect.segments import closes, middle_lines, split_lists
from cryoscale.connect.trace import trace_lists
from tests.connect.scenes import Curve, broken, draw, ellipse, line


def split(curves: list[Curve], thickness: float = 3.0, minimum: int = 7) -> tuple[list[NDArray[np.int32]], list[bool]]:
    mask = draw(curves, (120, 120), thickness) > 0
    return split_lists(mask, trace_lists(mask, 5), 5, minimum)


def straight(pixels: NDArray[np.int32]) -> bool:
    """Whether no pixel is far from the line between the ends."""
    a, b = pixels[0].astype(float), pixels[-1].astype(float)
    along = (b - a) / np.hypot(*(b - a))
    offset = pixels - a
    return bool(np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0]).max() < 4)


@pytest.mark.parametrize("degrees", [60, 75, 90])
def test_a_crossing_leaves_four_straight_arms(degrees: int) -> None:
    t = np.radians(degrees)
    second = line((60 - 50 * np.sin(t), 60 - 50 * np.cos(t)), (60 + 50 * np.sin(t), 60 + 50 * np.cos(t)))
    segments, ring = split([line((60, 8), (60, 112)), second])
    assert len(segments) == 4
    assert ring == [False] * 4
    assert all(straight(pixels) for pixels in segments)
    assert all(np.hypot(*(pixels - 60).T).min() > 3 for pixels in segments)


def test_a_branch_cuts_what_it_branches_from() -> None:
    segments, _ = split([line((60, 8), (60, 112)), line((60, 60), (8, 60))])
    assert len(segments) == 3
    assert all(straight(pixels) for pixels in segments)


def test_a_whole_ring_is_one_closed_segment() -> None:
    segments, ring = split([ellipse((60, 60), (40, 25))])
    assert ring == [True]
    steps = np.abs(np.diff(np.concatenate([segments[0], segments[0][:1]]), axis=0)).max(1)
    assert steps.max() == 1
    assert len(segments[0]) > 150


def test_a_broken_ring_and_a_list_folded_back_are_none() -> None:
    curve = ellipse((60, 60), (40, 25))
    _, ring = split([broken(curve, [(10.0, 15.0)])])
    assert ring == [False]
    there = np.array([[50, x] for x in range(20, 80)], np.int32)
    folded = np.concatenate([there, there[::-1] + np.array([1, 0], np.int32)])
    mask = np.zeros((100, 100), bool)
    mask[tuple(folded.T)] = True
    assert not closes(mask, folded, 5)


def test_an_arm_opens_the_ring_it_ends_at() -> None:
    segments, ring = split([ellipse((60, 60), (30, 30)), line((60, 90), (60, 118))])
    assert ring == [False, False]
    assert sorted(len(pixels) > 100 for pixels in segments) == [False, True]


def test_short_lists_are_dropped() -> None:
    curves = [line((30, 10), (30, 60)), line((60, 10), (60, 22)), line((90, 10), (90, 14))]
    for minimum, count in ((4, 3), (9, 2), (20, 1)):
        assert len(split(curves, minimum=minimum)[0]) == count


def test_the_middle_line_reaches_as_far_as_the_pixels() -> None:
    mask = np.zeros((20, 80), bool)
    mask[8:13, 10:70] = True
    pixels = np.array([[9, x] for x in range(10, 70)], np.int32)
    (middle,) = middle_lines(mask, [pixels], 5)
    assert middle.shape == (62, 2)
    assert np.abs(middle[5:-5, 0] - 10).max() <= 0.5
    assert np.allclose(middle[[0, -1], 1], [10, 69], atol=0.6)
    assert middle_lines(mask, [], 5) == []
