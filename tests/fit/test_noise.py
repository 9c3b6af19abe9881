"""Noise measured from the scatter of points whose noise is known."""

from functools import cache

import numpy as np
import pytest

from cryoscale.fit import noise
from cryoscale.fit.noise import point_noise
from cryoscale.fit.normals import centre_line, local_planes
from tests.fit.shapes import sphere_points


@cache
def ridge_like(own: float, common: float, seed: int) -> np.ndarray:
    """Points of a sphere whose radii err by ``own`` each and by ``common`` together over 5 voxels."""
    rng = np.random.default_rng(seed)
    q = sphere_points(20.0, 1800, seed=seed)
    r = np.linalg.norm(q[:, None] - q[None], axis=2)
    shared = np.linalg.cholesky(np.exp(-r / 5.0) + 1e-9 * np.eye(len(q))) @ rng.normal(size=len(q))
    return np.asarray(q * (1 + (own * rng.normal(size=len(q)) + common * shared)[:, None] / 20))


@pytest.mark.parametrize("own", [0.5, 1.0])
def test_points_that_err_alone(own: float) -> None:
    cloud = sphere_points(30.0, 5000, seed=1, noise=own)
    moved, _, found = centre_line(cloud[::20], cloud, np.ones(len(cloud)), radius=8.4)
    true = np.sqrt(np.mean((np.linalg.norm(moved, axis=1) - 30) ** 2))
    assert np.isclose(np.sqrt(np.mean(found.sd**2)), true, rtol=0.35)
    assert found.common_share < 0.1


def test_points_that_err_together() -> None:
    cloud = ridge_like(0.15, 0.5, 2)
    moved, _, found = centre_line(cloud[::12], cloud, np.ones(len(cloud)), radius=8.4)
    true = np.sqrt(np.mean((np.linalg.norm(moved, axis=1) - 20) ** 2))
    assert np.isclose(np.sqrt(np.mean(found.sd**2)), true, rtol=0.4)
    assert found.common_share > 0.6


def test_taken_as_independent_they_seem_better_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = ridge_like(0.15, 0.5, 2)
    fit = local_planes(cloud[::12], cloud, np.ones(len(cloud)), radius=8.4)
    honest = point_noise(fit).sd
    monkeypatch.setattr(noise, "BLUR", 1e9)
    assert np.median(honest / point_noise(fit).sd) > 1.8


def test_exact_points_have_neither_noise_nor_anything_in_common() -> None:
    cloud = sphere_points(20.0, 2500, seed=0)
    found = centre_line(cloud[::10], cloud, np.ones(len(cloud)), radius=7.0)[2]
    assert found.sd.max() < 0.1 and found.common_share < 0.03


def test_four_points_get_the_usual_noise() -> None:
    q = np.array([[0.0, 0, 0], [0, 5, 0], [0, 0, 5], [0.1, 5, 5]])
    found = centre_line(q, q, np.ones(4), radius=8.0)[2]
    assert (found.sd > 0.1).all() and found.common_share == 0
