"""Patches: what hangs together along a sheet, cut at junctions and necks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.separate.rows import rows_of
from cryoscale.separate.sheets import settle
from cryoscale.separate.split import cut_junctions, cut_necks, link_voxels
from cryoscale.separate.surfels import Surfels


def elements(*sheets: NDArray[np.float64]) -> Surfels:
    """Flat sheets (n, 3) across z in one patch."""
    position = np.concatenate(sheets)
    normal = np.tile([1.0, 0.0, 0.0], (len(position), 1))
    return Surfels(position, normal, np.zeros(len(position), np.int64))


def sheet(z: float, y: tuple[float, float], x: tuple[float, float]) -> NDArray[np.float64]:
    ys, xs = (grid.ravel() for grid in np.meshgrid(np.arange(*y, 2.0), np.arange(*x, 2.0), indexing="ij"))
    return np.stack([np.full(ys.size, z), ys, xs], 1)


def ramp(z: tuple[float, float], y: tuple[float, float], x: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A strip that climbs from one height to the other over 12 voxels along x; and its normals."""
    s, ys = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, 9), np.arange(*y, 2.0)))
    position = np.stack([z[0] + (z[1] - z[0]) * (1 - np.cos(np.pi * s)) / 2, ys, x + 12.0 * s], 1)
    slope = (z[1] - z[0]) * np.pi / 24.0 * np.sin(np.pi * s)
    normal = np.stack([np.ones(s.size), np.zeros(s.size), -slope], 1)
    return position, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def test_voxels_of_two_slabs_are_two_patches_and_crumbs_none() -> None:
    mask = np.zeros((24, 30, 30), bool)
    mask[2:6], mask[8:12] = True, True
    mask[18:20, 4:8, 4:8] = True
    rows = rows_of(np.argwhere(mask).astype(np.int32))
    patch = link_voxels(rows, settle(rows))
    inner = (rows.points[:, 1:] > 4).all(1) & (rows.points[:, 1:] < 25).all(1)
    first, second = patch[inner & (rows.points[:, 0] < 4)], patch[inner & (rows.points[:, 0] >= 6)]
    assert (first == 0).all()
    assert set(np.unique(second)) <= {1, -1}
    assert (patch[rows.points[:, 0] > 14] == -1).all()


def test_a_smooth_sheet_is_not_cut() -> None:
    """Not even where it is bent: a paraboloid over 40 voxels."""
    flat = sheet(0.0, (0, 60), (0, 60))
    bent = flat.copy()
    bent[:, 0] = 0.01 * ((flat[:, 1] - 30) ** 2 + (flat[:, 2] - 30) ** 2)
    normal = np.stack([np.ones(len(bent)), -0.02 * (bent[:, 1] - 30), -0.02 * (bent[:, 2] - 30)], 1)
    surfels = Surfels(bent, normal / np.linalg.norm(normal, axis=1, keepdims=True), np.zeros(len(bent), np.int64))
    assert (cut_junctions(surfels) == 0).all()
    assert (cut_necks(surfels) == 0).all()


def test_a_sheet_that_forks_is_cut_at_the_fork() -> None:
    """A sheet from which a second one climbs away; the mutant that forgives every residual keeps them together."""
    position, normal = ramp((0.0, 6.0), (0, 60), 30.0)
    surfels = elements(sheet(0.0, (0, 60), (0, 80)), sheet(6.0, (0, 60), (44, 80)))
    surfels = Surfels(
        np.concatenate([surfels.position, position]),
        np.concatenate([surfels.normal, normal]),
        np.zeros(len(surfels.patch) + len(position), np.int64),
    )
    piece = cut_junctions(surfels)
    low = (surfels.position[:, 0] == 0.0) & (surfels.position[:, 2] > 60)
    high = (surfels.position[:, 0] == 6.0) & (surfels.position[:, 2] > 60)
    assert piece[low].min() >= 0
    assert piece[high].min() >= 0
    assert not np.intersect1d(piece[low], piece[high]).size
    assert (cut_junctions(surfels, rough=np.inf) == 0).all()


def test_a_narrow_neck_between_facing_sheets_is_cut_and_one_in_a_plane_is_not() -> None:
    """An S: two sheets 6 apart, the one's end joined to the other's beginning by a strip 6 wide."""
    position, normal = ramp((0.0, 6.0), (26, 32), 30.0)
    wide = elements(sheet(0.0, (0, 60), (-30, 30)), sheet(6.0, (0, 60), (10, 80)))
    keep = ~((wide.position[:, 0] == 6.0) & (abs(wide.position[:, 1] - 28) < 9) & (wide.position[:, 2] < 42))
    surfels = Surfels(
        np.concatenate([wide.position[keep], position]),
        np.concatenate([wide.normal[keep], normal]),
        np.zeros(int(keep.sum()) + len(position), np.int64),
    )
    piece = cut_necks(surfels)
    low = (surfels.position[:, 0] == 0.0) & (surfels.position[:, 2] < 10)
    high = (surfels.position[:, 0] == 6.0) & (surfels.position[:, 2] > 60)
    assert not np.intersect1d(piece[low & (piece >= 0)], piece[high & (piece >= 0)]).size
    dumbbell = elements(sheet(0.0, (0, 40), (0, 40)), sheet(0.0, (16, 22), (40, 52)), sheet(0.0, (0, 40), (52, 92)))
    assert (cut_necks(dumbbell) == 0).all()
