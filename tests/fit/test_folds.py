"""Facing sheets: told from one sheet of any thickness, noise and bend, and fitted as two."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.band import band_mesh, is_closed
from cryoscale.fit import fit_surface, prepare
from cryoscale.fit.folds import folded
from tests.fit.shapes import SHAPES, degrade, sphere_points

REACH = 8.4


def _sheets(gap: float, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(-40, 40, (2, 8000))
    return np.column_stack([np.where(np.arange(8000) % 2, gap, 0.0) + rng.normal(0, noise, 8000), y, x])


@pytest.mark.parametrize("gap", [5.0, 6.0, 8.0])
def test_facing_sheets_are_folded_within_their_distance_alone(gap: float) -> None:
    assert folded(_sheets(gap, 0.5), 1.5 * gap)
    assert not folded(_sheets(gap, 0.5), 0.6 * gap)
    stack = np.concatenate([_sheets(gap, 0.4) + np.array([2 * gap * layer, 0, 0]) for layer in range(4)])
    assert folded(stack, 1.8 * gap)


def test_one_sheet_is_not_folded_however_thick_noisy_or_bent() -> None:
    rng = np.random.default_rng(1)
    slab = np.column_stack([rng.uniform(0, 9, 8000), *rng.uniform(-40, 40, (2, 8000))])
    for points in (slab, _sheets(0.0, 2.5), sphere_points(12.0, 2000, seed=0, noise=0.5)):
        assert not folded(points, REACH)
    for name, shape in SHAPES.items():
        assert not folded(degrade(shape, seed=0, cap=0.7, noise=1.0)[0], 1.2 * 7.0), name


@pytest.mark.parametrize(("radius", "gap"), [(80.0, 8.0)])
def test_a_flat_sac_keeps_both_of_its_faces(radius: float, gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, half = np.random.default_rng(0), gap / 2
    r, t = radius * np.sqrt(rng.random((2, int(1.6 * radius**2)))), rng.uniform(0, 2 * np.pi, int(1.6 * radius**2))
    faces = [
        np.column_stack([r[k] * np.cos(t), np.full(len(t), y), r[k] * np.sin(t)]) for k, y in enumerate((-half, half))
    ]
    turn, around = (
        rng.uniform(-np.pi / 2, np.pi / 2, int(10 * gap * radius / 2)),
        rng.uniform(0, 2 * np.pi, int(10 * gap * radius / 2)),
    )
    wide = radius + half * np.cos(turn)
    rim = np.column_stack([wide * np.cos(around), half * np.sin(turn), wide * np.sin(around)])
    truth = np.concatenate([*faces, rim])
    cloud = truth + rng.normal(0, 0.3, truth.shape)
    surface = fit_surface(cloud, spacing=1.0)
    mesh = band_mesh(surface.band(2.5))
    assert surface.closed and is_closed(mesh)
    assert cKDTree(mesh.vertices).query(truth)[0].max() < 2.0
    monkeypatch.setattr(prepare, "folded", lambda *_: False)
    one = band_mesh(fit_surface(cloud, spacing=1.0).band(2.5))
    assert not is_closed(one) or (cKDTree(one.vertices).query(truth)[0] > 2.0).mean() > 0.2
