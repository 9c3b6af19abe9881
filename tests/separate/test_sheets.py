"""Voxels on the middle of their sheet: slabs, a sphere, slabs that touch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.separate.sheets import Rows, rows_of, settle


def rows(mask: NDArray[np.bool_]) -> Rows:
    return rows_of(np.argwhere(mask).astype(np.int32))


def test_rows_hold_their_voxels() -> None:
    mask = np.random.default_rng(1).random((5, 6, 7)) < 0.3
    mask[0, 0, 0] = mask[4, 5, 6] = True
    found = rows(mask)
    for z in range(5):
        for y in range(6):
            row = z * found.ny + y
            expected = np.flatnonzero(mask[z, y])
            np.testing.assert_array_equal(found.x[found.start[row] : found.start[row + 1]], expected)


@pytest.mark.parametrize("thick", [1, 2, 3, 4, 5, 6])
def test_a_slab_falls_onto_its_middle(thick: int) -> None:
    mask = np.zeros((8, 24, 24), bool)
    mask[1 : 1 + thick] = True
    points = rows(mask)
    found = settle(points)
    inner = (points.points[:, 1:] > 5).all(1) & (points.points[:, 1:] < 18).all(1)
    np.testing.assert_allclose(found.middle[inner, 0], (thick - 1) / 2, atol=0.2)
    np.testing.assert_allclose(abs(found.normal[inner, 0]), 1.0, atol=1e-3)


def test_a_shell_falls_onto_its_sphere() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(41) - 20.0] * 3, indexing="ij"), -1)
    radius = np.linalg.norm(grid, axis=-1)
    points = rows(abs(radius - 16) <= 2)
    found = settle(points)
    centre = found.middle - (20.0 - np.argwhere(abs(radius - 16) <= 2).min(0))
    away = np.linalg.norm(centre, axis=1)
    assert abs(np.median(away) - 16.0) < 0.3
    assert away.std() < 0.3
    assert np.median(abs((centre / away[:, None] * found.normal).sum(1))) > 0.99


def test_slabs_that_touch_come_apart() -> None:
    """Two slabs of 4 with a seam that is full for half of its voxels."""
    mask = np.zeros((13, 30, 30), bool)
    mask[2:6], mask[7:11] = True, True
    mask[6] = np.random.default_rng(2).random((30, 30)) < 0.5
    points = rows(mask)
    found = settle(points)
    height = points.points[:, 0] + 2
    inner = (points.points[:, 1:] > 5).all(1) & (points.points[:, 1:] < 24).all(1)
    middle = found.middle[:, 0] + 2
    assert abs(np.median(middle[inner & (height < 6)]) - 3.5) < 0.6
    assert abs(np.median(middle[inner & (height > 6)]) - 8.5) < 0.6
    seam = inner & (height == 6)
    assert found.purity[inner & ~seam].mean() > found.purity[seam].mean()
