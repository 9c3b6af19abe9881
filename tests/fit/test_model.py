"""Patches of one large membrane: the blend, its gradient, and that no seam shows."""

import numpy as np
import pytest

from cryoscale.band import band_mesh, is_closed
from cryoscale.fit import Surface, fit_surface, fitting, patches, prepare
from cryoscale.fit.model import _weights
from tests.fit.shapes import SHAPES, degrade, sphere_points


def test_weights_and_their_gradient() -> None:
    low, high = np.zeros(3), np.full(3, 10.0)
    q = np.array([[5.0, 5, 5], [-3, 5, 5], [-3, 12, 5], [40, 5, 5]])
    w, dw = _weights(q, low, high, 8.0)
    assert w[0] == 1 and 0 < w[2] < w[1] < 1 and w[3] < 1e-6
    step = 1e-6 * np.eye(3)
    for a in range(3):
        numeric = (_weights(q + step[a], low, high, 8.0)[0] - _weights(q - step[a], low, high, 8.0)[0]) / 2e-6
        assert np.allclose(dw[:3, a], numeric[:3], atol=1e-6)


@pytest.fixture
def small_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make patches of a membrane that one matrix could hold."""
    monkeypatch.setattr(prepare, "LARGE", 60)
    monkeypatch.setattr(patches, "CORE_POINTS", 120)


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
    shares = surface.model.shares(q)
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
    pieces = fit_surface(cloud, spacing=1.0)
    assert pieces.choice["patches"] > 1 == whole.choice["patches"]
    q = clean[::5]
    assert np.abs(whole.distance(q) - pieces.distance(q)).mean() < 0.1
    assert (pieces.variance(q) >= 0).all()
    assert fitting.OVERLAP == patches.OVERLAP
