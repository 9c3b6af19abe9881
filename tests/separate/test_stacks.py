"""Two membranes on each other go on as two over gaps too wide for one, in their order, and each condition is needed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import cryoscale.separate.gaps as gaps
import cryoscale.separate.stacks as stacks
from cryoscale.separate.surfels import Surfels
from tests.separate.test_gaps import ellipsoid, joined, kept, membranes, plane

Floats = NDArray[np.float64]
Piece = tuple[Floats, Floats]


def double(gap: float, radius: float, spacing: float = 8.0) -> list[Piece]:
    """Two shells, one in the other, without a band: outer, inner on one side, then outer, inner on the other."""
    sides: list[list[Piece]] = [[], []]
    for r in (radius, radius - spacing):
        shell = ellipsoid((r, r, r))
        for side, pieces in zip((-1, 1), sides, strict=True):
            pieces.append(kept(shell, lambda p, side=side: (side * p[:, 0] > gap / 2) & (np.abs(p[:, 1]) < 70)))
    return [*sides[0], *sides[1]]


def flat(gap: float, *, step: float = 0.0, tilt: float = 0.0, spacing: float = 8.0) -> list[Piece]:
    """Two sheets 8 voxels apart, and two beyond a gap."""
    there = [plane(200 + gap, 400 + gap, height=step + h, tilt=tilt, width=100.0) for h in (0.0, spacing)]
    return [plane(0, 200, width=100.0), plane(0, 200, height=8.0, width=100.0), *there]


PAIRS = [0, 1, 0, 1]
APART = [0, 1, 2, 3]


@pytest.mark.parametrize("pieces", [double(90, 140), flat(90)])
def test_a_double_membrane_goes_on_in_its_order(pieces: list[Piece], monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined(membranes(*pieces)) == PAIRS
    monkeypatch.setattr(stacks, "AGREE", 0.0)  # any order will do: each way contradicts the other
    assert joined(membranes(*pieces)) == APART


def test_one_of_the_two_alone_does_not() -> None:
    outer, _, beyond, inner = flat(90)
    assert joined(membranes(outer, beyond, inner)) == [0, 1, 2]


def test_it_takes_more_than_a_single_sheet_over_a_short_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    surfels = membranes(*flat(60))
    monkeypatch.setattr(gaps, "SURE", 1e9)
    assert joined(surfels) == APART


def test_double_membranes_out_of_line_do_not_join() -> None:
    assert joined(membranes(*flat(60, tilt=30.0))) == APART


def test_the_spacing_must_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    surfels = membranes(*flat(60, step=1.0, spacing=5.0))
    assert joined(surfels) == APART
    monkeypatch.setattr(stacks, "SPREADS", 1e9)
    assert joined(surfels) == PAIRS


def test_the_direction_of_normals_and_the_numbers_do_not_matter() -> None:
    surfels = membranes(*flat(60))
    turn = np.random.default_rng(0).choice([-1.0, 1.0], (surfels.patch.size, 1))
    other = Surfels(surfels.position, surfels.normal * turn, np.array([3, 0, 1, 2])[surfels.patch])
    assert joined(surfels) == PAIRS
    assert joined(other) == [0, 1, 0, 1]
