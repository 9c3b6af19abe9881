"""The walker: every step the best one, every pixel seen, both sides of a narrow gap traced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, label

from cryoscale.connect.trace import centred_positions, nearest_list, pixels_in_view, trace_lists
from tests.connect.scenes import draw, ellipse, line

EIGHT = np.ones((3, 3), int)


def view(mask: NDArray[np.bool_], y: int, x: int, half: int) -> set[tuple[int, int]]:
    """Pixels in view, by SciPy's labels of the window."""
    y0, x0 = max(y - half, 0), max(x - half, 0)
    window = mask[y0 : y + half + 1, x0 : x + half + 1]
    labels, _ = label(window, EIGHT)
    return {(int(a) + y0, int(b) + x0) for a, b in np.argwhere(labels == labels[y - y0, x - x0])}


def wrong_steps(mask: NDArray[np.bool_], pixels: NDArray[np.int32], half: int, count_again: bool = False) -> int:
    """Steps of the first list, from its start towards its last pixel, that a better-paid step would have beaten."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    inside = np.argwhere(mask)
    start = inside[np.argmax(depth[tuple(inside.T)])]
    place = int(np.flatnonzero((pixels == start).all(1))[0])
    seen = view(mask, *map(int, pixels[place]), half)
    wrong = 0
    for here, there in zip(pixels[place:], pixels[place + 1 :], strict=False):
        rewards = {}
        for dy, dx in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            y, x = int(here[0]) + dy, int(here[1]) + dx
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
                found = view(mask, y, x, half)
                rewards[y, x] = len(found if count_again else found - seen)
        step = (int(there[0]), int(there[1]))
        if max(rewards.values()) > 0:
            best = [p for p, reward in rewards.items() if reward == max(rewards.values())]
            wrong += step not in best or depth[step] < max(depth[p] for p in best)
        seen |= view(mask, *step, half)
    return wrong


def wavy(seed: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    return draw([line((20, 5), (45, 95), rng.uniform(-15, 15))], (64, 100), rng.uniform(1, 5)) > 0


def test_a_bar_is_traced_along_its_middle_from_edge_to_edge() -> None:
    mask = np.zeros((9, 60), bool)
    mask[3:6, 5:55] = True
    (pixels,) = trace_lists(mask, 5)
    assert (pixels[:, 0] == 4).all()
    assert sorted(pixels[[0, -1], 1]) == [5, 54]


@pytest.mark.parametrize("seed", range(4))
def test_every_step_brings_most_new_pixels_into_view(seed: int) -> None:
    mask = wavy(seed)
    pixels = trace_lists(mask, 5)[0]
    assert len(pixels) > 80
    assert wrong_steps(mask, pixels, 5) == 0
    # A reward that counted seen pixels again would have had the walker elsewhere.
    assert wrong_steps(mask, pixels, 5, count_again=True) > 5


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.02, 0.9), st.integers(1, 6))
def test_every_pixel_is_seen_and_lists_are_connected(seed: int, fill: float, half: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 30, 2))) < fill
    lists = trace_lists(mask, half)
    seen = set().union(*(view(mask, int(y), int(x), half) for pixels in lists for y, x in pixels))
    assert seen == {(int(y), int(x)) for y, x in np.argwhere(mask)}
    for pixels in lists:
        assert mask[tuple(pixels.T)].all()
        assert np.abs(np.diff(pixels, axis=0)).max(initial=1) == 1


def test_a_membrane_beside_its_own_is_traced_too() -> None:
    mask = np.zeros((11, 80), bool)
    mask[3, 5:75] = mask[6, 5:75] = True
    mask[3:7, 74] = True
    covered = np.zeros(mask.shape, bool)
    for pixels in trace_lists(mask, 5):
        covered[tuple(pixels.T)] = True
    assert covered[3, 5:72].all()
    assert covered[6, 5:72].all()


def test_branches_become_further_lists() -> None:
    mask = draw([line((50, 5), (50, 95)), line((50, 50), (5, 50))], (100, 100), 3) > 0
    long = [pixels for pixels in trace_lists(mask, 5) if len(pixels) > 20]
    assert len(long) == 2
    middle = np.concatenate(long)
    near = np.zeros(mask.shape, bool)
    near[tuple(middle.T)] = True
    assert (mask & ~binary_dilation(near, EIGHT, 6)).sum() == 0


def test_a_ring_comes_back_to_where_it_began() -> None:
    mask = draw([ellipse((50, 50), (35, 25))], (100, 100), 3) > 0
    pixels = max(trace_lists(mask, 5), key=len)
    assert len(pixels) > 120
    assert np.abs(pixels[0] - pixels[-1]).max() <= 10


def test_the_same_mask_gives_the_same_lists_and_stays_untouched() -> None:
    mask = wavy(9)
    mask.setflags(write=False)
    for a, b in zip(trace_lists(mask, 4), trace_lists(mask[:, ::1].copy(), 4), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 40), (40, 1)])
def test_thin_and_empty_slices(shape: tuple[int, int]) -> None:
    assert trace_lists(np.zeros(shape, bool), 5) == []
    lists = trace_lists(np.ones(shape, bool), 5)
    assert len(lists) == (min(shape) > 0)
    assert all(len(pixels) == max(shape) for pixels in lists)


@pytest.mark.parametrize(
    ("mask", "half", "says"),
    [
        (np.zeros((4, 4, 4), bool), 5, "two-dimensional"),
        (np.zeros((4, 4), np.uint8), 5, "bool"),
        (np.zeros((4, 4), bool), 0, "half_view_voxels=0"),
    ],
)
def test_wrong_arguments_are_named(mask: NDArray[np.bool_], half: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        trace_lists(mask, half)


def test_pixels_in_view_hang_together_and_come_nearest_first() -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((30, 30)) < 0.5
    y, x = np.argwhere(mask)[200]
    found = pixels_in_view(mask, int(y), int(x), 6)
    assert tuple(found[0]) == (y, x)
    assert {(int(a), int(b)) for a, b in found} == view(mask, int(y), int(x), 6)


def test_pixels_go_to_the_nearest_list_of_their_component() -> None:
    mask = np.zeros((20, 40), bool)
    mask[4:7, 2:30] = True
    mask[9:12, 2:30] = True
    mask[15, 2:5] = True
    lists = [np.array([[5, x] for x in range(2, 12)], np.int32), np.array([[5, x] for x in range(18, 30)], np.int32)]
    nearest = nearest_list(mask, [*lists, np.array([[10, 3]], np.int32)])
    assert (nearest[4:7, 2:14] == 1).all()
    assert (nearest[4:7, 16:30] == 2).all()
    assert (nearest[9:12, 2:30] == 3).all()
    assert (nearest[15] == 0).all()
    assert ((nearest > 0) <= mask).all()


def test_the_middle_of_a_bar_is_found_from_its_rim() -> None:
    mask = np.zeros((11, 60), bool)
    mask[3:8, 5:55] = True
    rim = np.array([[3, x] for x in range(15, 45)], np.int32)
    assert np.abs(centred_positions(mask, rim, 8)[:, 0] - 5).max() <= 0.5
