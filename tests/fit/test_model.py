"""Patches of one large membrane: the blend, its gradient, and that no seam shows."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.band import band_mesh, is_closed
from cryoscale.fit import Surface, fit_surface, fitting, patches, prepare
from cryoscale.fit.select import thin
from tests.fit.shapes import SHAPES, degrade, sphere_points


@pytest.fixture
def small_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make patches of a membrane that one matrix could hold."""
    monkeypatch.setattr(prepare, "LARGE", 60)
    monkeypatch.setattr(patches, "CORE_POINTS", 120)
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)


@pytest.mark.usefixtures("small_patches")
def test_no_seam_shows_on_a_sphere() -> None:
    surface = fit_surface(sphere_points(30, 5000, seed=0, noise=0.5), spacing=1.0)
    assert surface.choice["patches"] > 2
    assert surface.closed
    q = sphere_points(30, 1500, seed=1)
    d = surface.distance(q)
    assert np.abs(d).mean() < 0.2 and np.abs(d).max() < 0.7
    step = 2e-3 * np.eye(3)
    some = q[::30] * 1.03
    numeric = np.stack([(surface.mean(some + step[a]) - surface.mean(some - step[a])) / 4e-3 for a in range(3)], 1)
    assert np.allclose(surface.gradient(some), numeric, atol=2e-5)
    assert is_closed(band_mesh(surface.band(2.5)))


def _apart(surface: Surface, q: np.ndarray) -> float:
    """Largest distance between the surfaces of two patches at places q, where both have a tenth of the say."""
    shares = list(surface.model.shares(q))
    total = sum(np.bincount(rows, w, len(q)) for _, rows, w, _ in shares)
    low, high = np.full(len(q), np.inf), np.full(len(q), -np.inf)
    for patch, rows, w, _ in shares:
        rows = rows[w > 0.1 * total[rows]]
        value, slope = patch.value_gradient(q[rows])
        distance = value / np.linalg.norm(slope, axis=1)
        low[rows], high[rows] = np.minimum(low[rows], distance), np.maximum(high[rows], distance)
    several = high > low
    assert several.sum() > 200
    return float((high - low)[several].max())


def test_seams_of_a_membrane_of_2000_control_points_are_within_a_tenth_of_a_voxel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale = 2.6
    cloud, clean = degrade(SHAPES["bumpy"], seed=3, cap=0.7, noise=0.5 / scale, density=4.0)
    surface = fit_surface(cloud * scale, spacing=1.0)
    assert surface.choice["control_points"] > 1800 and surface.choice["patches"] >= 8
    q = clean[::60] * scale
    assert _apart(surface, q) < 0.1
    assert np.abs(surface.distance(q)).max() < 0.3
    monkeypatch.setattr(patches, "DATA_REACH", 0.2)
    assert _apart(fit_surface(cloud * scale, spacing=1.0), q) > 0.2


def test_patches_agree_with_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, clean = degrade(SHAPES["bumpy"], seed=0, cap=2.0, noise=0.5)
    whole = fit_surface(cloud, spacing=1.0)
    monkeypatch.setattr(prepare, "LARGE", 60)
    monkeypatch.setattr(patches, "CORE_POINTS", 150)
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)
    pieces = fit_surface(cloud, spacing=1.0)
    assert pieces.choice["patches"] > 1 == whole.choice["patches"]
    q = clean[::5]
    assert np.abs(whole.distance(q) - pieces.distance(q)).mean() < 0.1
    assert (pieces.variance(q) >= 0).all()


def test_a_large_vesicle_is_closed_over_caps_that_nobody_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, truth = sphere_points(80, 40_000, seed=0, cap=0.7, noise=0.5), sphere_points(80, 3000, seed=1)
    surface = fit_surface(cloud, spacing=1.0)
    assert surface.choice["patches"] > 2 and surface.closed
    assert 0.2 < surface.choice["inferred_share"] < 0.35
    mesh = band_mesh(surface.band(2.5))
    assert is_closed(mesh)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 80).max() < 1.0
    cap = truth[np.abs(truth[:, 0]) > 0.75 * 80]
    assert np.abs(surface.distance(cap)).max() < 1.0
    assert (np.abs(surface.distance(cap)) <= 2 * surface.distance_sd(cap)).mean() > 0.9
    # Between what patches and what the whole tell: its derivatives there.
    middle = cap[:: len(cap) // 60] * 1.01
    weights = [w for patch, _, w, _ in surface.model.shares(middle) if patch is surface.model.ground]
    assert weights[0].min() < 0.5 < weights[0].max()
    step = 1e-2 * np.eye(3)
    slope = np.stack([(surface.mean(middle + step[a]) - surface.mean(middle - step[a])) / 2e-2 for a in range(3)], 1)
    assert np.allclose(surface.gradient(middle), slope, atol=2e-4)
    bend = [(surface.gradient(middle + step[a]) - surface.gradient(middle - step[a])) / 2e-2 for a in range(3)]
    assert np.allclose(surface.hessian(middle), np.stack(bend, 2), atol=2e-4)
    monkeypatch.setattr(fitting, "_grounded", lambda prepared, models: models[:1])
    assert not is_closed(band_mesh(fit_surface(cloud, spacing=1.0).band(2.5)))


def test_the_whole_has_the_sides_of_its_patches() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-140, 140, (2, 40_000))
    sheet = np.column_stack([20 * np.sin(x / 50) + rng.normal(0, 0.5, len(x)), y, x])
    fine = prepare.prepare(sheet, spacing=1.0)
    assert fine.whole is not None and fine.large
    for sign in (1.0, -1.0):
        few = (*thin(fine.selection.points, fine.selection.weights, cap=500), False)
        turned = dataclasses.replace(fine, normals=sign * fine.normals)
        whole = prepare._prepared(fine.selection, few, unit=1.0, limit=3.0, seed=0, like=turned)
        near = cKDTree(fine.constraints.points[: fine.constraints.surface]).query(
            whole.constraints.points[: whole.constraints.surface]
        )[1]
        assert ((whole.normals * turned.normals[near]).sum(1) > 0).mean() > 0.99
