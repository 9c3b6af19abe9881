"""Voxels on the middle of their sheet: slabs, a sphere, slabs that touch; every walk against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.separate import shift
from cryoscale.separate.rows import Rows, rows_of
from cryoscale.separate.sheets import settle


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


def walked(points: NDArray[np.int32], weight: NDArray[np.float32], start: NDArray[np.int32]) -> NDArray[np.float64]:
    """Middle of one voxel's sheet: the formulas of `sheets` over all voxels, with NumPy's eigenvectors."""
    m, normal = start.astype(np.float64), np.zeros(3)
    for turn in range(shift.STEPS + 1):
        d = points - m
        w = weight * np.maximum(1 - (d**2).sum(1) / (shift.REACH if turn else shift.FIRST_REACH) ** 2, 0)
        if turn:
            w = w * np.maximum(1 - (d @ normal / shift.HALF_WIDTH) ** 2, 0)
        mean = w @ d / w.sum()
        normal = np.linalg.eigh((d - mean).T @ ((d - mean) * w[:, None]))[1][:, 0]
        m = m + normal * (normal @ mean)
        if turn > 1 and abs(normal @ mean) < shift.STILL:
            break
    return m


def test_every_walk_is_that_of_all_voxels() -> None:
    """Also of voxels that walk further than their neighbours were gathered for: in a slab of 9 they go up to 3.5."""
    mask = np.zeros((16, 40, 44), bool)
    mask[2:11, 3:37, 2:42] = True
    mask[np.random.default_rng(3).random(mask.shape) < 0.15] = False
    mask[13, 5:30, 5:30] = True
    points = rows(mask)
    # From 1 to 36, as depths squared are; heaviest in the slab's middle, so that all walk there.
    weight = 1 + 34 * np.exp(-0.5 * ((points.points[:, 0] - 4.0) / 1.5) ** 2)
    weight = (weight * np.random.default_rng(4).uniform(0.97, 1.03, len(weight))).astype(np.float32)
    middle, _, _ = shift.to_middles(points.points, points.x, points.start, points.nz, points.ny, weight)
    # The first voxels of rows, and any.
    some = np.random.default_rng(5).choice(len(points.points), 150, replace=False)
    chosen = np.concatenate([points.start[:-1][np.diff(points.start) > 0][:150], some])
    expected = np.array([walked(points.points, weight, points.points[k]) for k in chosen])
    moved = np.linalg.norm(expected - points.points[chosen], axis=1)
    assert (moved > shift.FREE).sum() > 20
    apart = np.linalg.norm(middle[chosen] - expected, axis=1)
    assert np.median(apart) < 1e-4 and (apart < 1e-3).mean() > 0.99
