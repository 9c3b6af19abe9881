"""Evidence between patches: excess, fronts, contacts and looks, against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscale.separate.evidence import facing, weigh
from cryoscale.separate.surfels import Surfels


def surface(height: float, slope: float, low: float, high: float, width: float = 40.0) -> np.ndarray:
    """Elements of z = height + slope * (x - 30) over x from low to high."""
    y, x = (grid.ravel() for grid in np.meshgrid(np.arange(0, width, 2.0), np.arange(low, high, 2.0)))
    return np.stack([height + slope * (x - 30.0), y, x], 1)


def two(one: np.ndarray, other: np.ndarray, slope: float = 0.0) -> Surfels:
    normal = np.tile([1.0, 0.0, 0.0], (len(one) + len(other), 1))
    normal[len(one) :] = np.array([1.0, 0.0, -slope]) / np.hypot(1.0, slope)
    patch = np.repeat([0, 1], [len(one), len(other)])
    return Surfels(np.concatenate([one, other]), normal, patch)


def test_pieces_of_a_plane_fit_together_along_their_whole_front() -> None:
    found = weigh(two(surface(0.0, 0.0, 0, 30), surface(0.0, 0.0, 37, 70)))
    assert found.pair.tolist() == [[0, 1]]
    assert found.excess[0] < 0.05
    assert found.step[0] == pytest.approx(9.0)
    assert found.front[0] == pytest.approx(40.0, rel=0.1)
    assert not found.looks.size


def test_a_step_between_the_pieces_is_an_excess() -> None:
    excess = [
        weigh(two(surface(0.0, 0.0, 0, 30), surface(height, 0.0, 37, 70))).excess[0] for height in (0.0, 2.0, 4.0)
    ]
    assert excess[0] < excess[1] < excess[2]
    assert excess[2] > 0.4


def test_the_front_of_a_tongue_is_as_short_as_the_tongue() -> None:
    tongue = surface(0.0, 0.0, 37, 70, width=8.0)
    tongue[:, 1] += 16.0
    found = weigh(two(surface(0.0, 0.0, 0, 30), tongue))
    assert found.front[0] < 20.0


def test_beyond_the_gap_there_is_no_contact() -> None:
    surfels = two(surface(0.0, 0.0, 0, 30), surface(0.0, 0.0, 37, 70))
    assert not weigh(surfels, gap=8.0).pair.size
    assert weigh(surfels, gap=9.5).pair.size


@pytest.mark.parametrize(("distance", "seen"), [(2.0, False), (4.0, True), (9.0, True), (11.0, False)])
def test_parallel_sheets_face_each_other_from_2_to_10_voxels(distance: float, seen: bool) -> None:
    surfels = two(surface(0.0, 0.0, 0, 40), surface(distance, 0.0, 0, 40))
    element, patch = facing(surfels)
    assert (element.size == surfels.patch.size) == seen
    assert (element.size == 0) == (not seen)
    assert (patch != surfels.patch[element]).all()
    found = weigh(surfels)
    assert found.looks.tolist() == ([[0, 1], [1, 0]] if seen else [])


def test_one_patch_has_no_evidence() -> None:
    found = weigh(Surfels(surface(0.0, 0.0, 0, 30), np.tile([1.0, 0.0, 0.0], (300, 1)), np.zeros(300, np.int64)))
    assert not found.pair.size
    assert not found.looks.size
