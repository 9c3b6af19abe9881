"""Wide gaps: pieces of one surface join, different surfaces do not, and each safeguard is needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import cryoscale.separate.gaps as gaps
from cryoscale.separate.gaps import join_over_gaps, log_ratio
from cryoscale.separate.surfels import Surfels

Floats = NDArray[np.float64]


def ellipsoid(
    axes: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)
) -> tuple[Floats, Floats]:
    """Positions about two voxels apart, 0.15 voxels rough, and normals."""
    count = int(np.prod(axes) ** (2 / 3) * np.pi)
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    unit = np.stack([z, np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn)], 1)
    normal = unit / np.array(axes)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rough = np.random.default_rng(count).normal(0.0, 0.15, (count, 1))
    return unit * np.array(axes) + rough * normal + np.array(centre), normal


def plane(
    low: float, high: float, height: float = 0.0, tilt: float = 0.0, width: float = 60.0
) -> tuple[Floats, Floats]:
    """z = height + tan(tilt) (x - low) over x from low to high."""
    y, x = (grid.ravel() for grid in np.meshgrid(np.arange(0.0, width, 2.0), np.arange(low, high, 2.0)))
    slope = np.tan(np.deg2rad(tilt))
    rough = np.random.default_rng(int(low) + 1000).normal(0.0, 0.15, x.size)
    normal = np.array([1.0, 0.0, -slope]) / np.hypot(1.0, slope)
    return np.stack([height + slope * (x - low) + rough, y, x], 1), np.tile(normal, (x.size, 1))


def membranes(*pieces: tuple[Floats, Floats]) -> Surfels:
    patch = np.repeat(np.arange(len(pieces)), [len(position) for position, _ in pieces])
    return Surfels(np.concatenate([p for p, _ in pieces]), np.concatenate([n for _, n in pieces]), patch)


def kept(surface: tuple[Floats, Floats], where: Callable[[Floats], NDArray[np.bool_]]) -> tuple[Floats, Floats]:
    rows = where(surface[0])
    return surface[0][rows], surface[1][rows]


def halves(axes: tuple[float, float, float], gap: float) -> Surfels:
    whole = ellipsoid(axes)
    return membranes(kept(whole, lambda p: p[:, 0] < -gap / 2), kept(whole, lambda p: p[:, 0] > gap / 2))


def joined(surfels: Surfels) -> list[int]:
    return join_over_gaps(surfels, int(surfels.patch.max()) + 1).tolist()


@pytest.mark.parametrize("axes", [(45.0, 45.0, 45.0), (60.0, 40.0, 50.0)])
def test_halves_of_one_surface_join_over_25_voxels(axes: tuple[float, float, float]) -> None:
    assert joined(halves(axes, 25.0)) == [0, 0]


def test_a_gap_over_which_the_halves_foretell_nothing_stays() -> None:
    assert joined(halves((20.0, 20.0, 20.0), 25.0)) == [0, 1]


def test_vesicles_on_one_axis_whose_caps_are_missing_stay_two() -> None:
    low = kept(ellipsoid((32.0, 32.0, 32.0)), lambda p: p[:, 0] < 18)
    high = kept(ellipsoid((26.0, 26.0, 26.0), (62, 0, 0)), lambda p: p[:, 0] > 48)
    assert joined(membranes(low, high)) == [0, 1]


SAME = plane(0, 60), plane(84, 144)
STEP = plane(0, 60), plane(84, 144, height=6.0)
TILT = plane(0, 60), plane(84, 144, tilt=25.0)


def test_a_sheet_goes_on_but_not_with_a_step_or_a_tilt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined(membranes(*SAME)) == [0, 0]
    assert joined(membranes(*STEP)) == [0, 1]
    assert joined(membranes(*TILT)) == [0, 1]
    monkeypatch.setattr(gaps, "RATIO", -1e9)
    assert joined(membranes(*STEP)) == joined(membranes(*TILT)) == [0, 0]


def test_edges_that_run_away_from_each_other_do_not_join(monkeypatch: pytest.MonkeyPatch) -> None:
    askew = kept(plane(70, 190, width=100.0), lambda p: p[:, 2] - p[:, 1] > 75)
    surfels = membranes(plane(0, 60), askew)
    assert joined(surfels) == [0, 1]
    monkeypatch.setattr(gaps, "NARROW", 0.0)
    assert joined(surfels) == [0, 0]


def test_what_stands_between_keeps_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    position, normal = plane(42, 102)
    wall = position[:, [2, 1, 0]] + np.array([-72.0, 0.0, 72.0]), normal[:, [2, 1, 0]]
    surfels = membranes(*SAME, wall)
    assert joined(surfels) == [0, 1, 2]
    monkeypatch.setattr(gaps, "BLOCKED", 1.0)
    assert joined(surfels) == [0, 0, 2]


def test_who_cannot_say_which_of_two_sheets_goes_on_joins_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    surfels = membranes(plane(0, 60), plane(84, 144, height=-1.5), plane(84, 144, height=1.5))
    double = membranes(plane(0, 60), plane(0, 60, height=6.0), plane(84, 144), plane(84, 144, height=6.0))
    assert joined(surfels) == [0, 1, 2]
    assert joined(double) == [0, 1, 0, 1]
    monkeypatch.setattr(gaps, "RIVAL", -1e9)
    assert joined(surfels) in ([0, 0, 2], [0, 1, 0])


def test_sheets_that_face_each_other_never_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle one continues both, which face each other: at most one of them joins."""
    surfels = membranes(plane(0, 60), plane(84, 144, height=-1.5), plane(84, 144, height=1.5))
    monkeypatch.setattr(gaps, "RIVAL", -1e9)
    assert len(set(joined(surfels))) == 2


def test_the_ratio_falls_with_the_excess_and_knows_when_it_knows_nothing() -> None:
    gap, excess = np.full(5, 20.0), np.linspace(0.0, 2.0, 5)
    ratio = log_ratio(gap, excess, np.full((5, 2), 0.3))
    assert (np.diff(ratio) < 0).all()
    assert ratio[0] > gaps.RATIO > ratio[-1]
    assert log_ratio(gap[:1], excess[:1], np.array([[5.0, np.nan]]))[0] < gaps.RATIO
    assert log_ratio(gap[:1], excess[:1], np.full((1, 2), np.nan))[0] == -np.inf


def test_order_and_place_of_the_membranes_do_not_matter() -> None:
    surfels = halves((45.0, 45.0, 45.0), 25.0)
    turned = Surfels(surfels.position[::-1] + 128.0, -surfels.normal[::-1], 1 - surfels.patch[::-1])
    assert joined(turned) == joined(surfels)


def test_nothing_and_one() -> None:
    nothing = Surfels(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64))
    assert join_over_gaps(nothing, 3).tolist() == [0, 1, 2]
    assert joined(membranes(plane(0, 60))) == [0]
