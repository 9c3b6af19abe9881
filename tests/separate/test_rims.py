"""Folds cut into their faces are one again; membranes that touch or are bridged stay two."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import cryoscale.separate.rims as rims
from cryoscale.separate.rims import join_rims
from cryoscale.separate.surfels import Surfels


def faces(bridge: float, spread: float) -> tuple[Surfels, NDArray[np.int64]]:
    """Two parallel faces 5 apart, x from 0 to 60, and half a tube across between them at x = `bridge`.

    The pieces are 0 and 1 beyond `spread` from the tube's axis; what lies nearer, and the tube, is cut away.
    """
    y, x = (grid.ravel() for grid in np.meshgrid(np.arange(0, 14, 2.0), np.arange(0, 61, 2.0)))
    flat = [np.stack([np.full(y.size, z), y, x], 1) for z in (-2.5, 2.5)]
    turn, along = (grid.ravel() for grid in np.meshgrid(np.linspace(-1.1, 1.1, 5), np.arange(0, 14, 2.0)))
    tube = np.stack([2.5 * np.sin(turn), along, bridge - 2.5 * np.cos(turn)], 1)
    up = np.tile([1.0, 0.0, 0.0], (2 * y.size, 1))
    around = np.stack([np.sin(turn), np.zeros(turn.size), -np.cos(turn)], 1)
    piece = np.concatenate([np.where(abs(x - bridge) > spread, k, -1) for k in (0, 1)] + [np.full(turn.size, -1)])
    position, normal = np.concatenate([*flat, tube]), np.concatenate([up, around])
    return Surfels(position, normal, np.zeros(len(position), np.int64)), piece.astype(np.int64)


def test_the_faces_of_a_fold_are_one() -> None:
    surfels, piece = faces(0.0, 5.0)
    np.testing.assert_array_equal(join_rims(surfels, piece), np.where(piece >= 0, 0, -1))


@pytest.mark.parametrize("bridge", [10.0, 30.0])
def test_sheets_that_go_on_behind_a_bridge_stay_two(bridge: float) -> None:
    surfels, piece = faces(bridge, 5.0)
    np.testing.assert_array_equal(join_rims(surfels, piece), piece)


def test_without_the_look_behind_a_bridge_would_join(monkeypatch: pytest.MonkeyPatch) -> None:
    surfels, piece = faces(30.0, 5.0)
    monkeypatch.setattr(rims, "SHARE", 1.0)
    assert join_rims(surfels, piece).max() == 0


def test_pieces_of_different_patches_never_meet() -> None:
    surfels, piece = faces(0.0, 5.0)
    apart = Surfels(surfels.position, surfels.normal, (surfels.position[:, 0] > 0).astype(np.int64))
    np.testing.assert_array_equal(join_rims(apart, piece), piece)


def test_nothing_stays_nothing() -> None:
    surfels, piece = faces(0.0, 5.0)
    np.testing.assert_array_equal(join_rims(surfels, np.full_like(piece, -1)), np.full_like(piece, -1))
