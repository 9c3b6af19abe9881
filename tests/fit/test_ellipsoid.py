"""The robust ellipsoid against known ones, and its gradient against differences."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoscale.fit.ellipsoid import Ellipsoid, _matrix, fit_ellipsoid
from tests.fit.shapes import SHAPES, degrade, sphere_points


def test_axes_and_centre_are_recovered_with_outliers_and_caps_missing() -> None:
    cloud, _ = degrade(SHAPES["ellipsoid"], seed=0, cap=0.87, noise=0.5)
    ellipsoid, spread = fit_ellipsoid(cloud + 100)
    assert np.allclose(np.sort(ellipsoid.axes), [28, 32, 40], atol=1.5)
    assert np.allclose(ellipsoid.centre, 100, atol=1.0)
    assert spread < 1.0


def test_distance_is_exact_on_spheres() -> None:
    sphere = Ellipsoid(np.zeros(3), np.eye(3) / 100, np.full(3, 10.0))
    q = sphere_points(13.0, 50, seed=1)
    assert np.allclose(sphere.distance(q), 3.0)
    assert np.allclose(sphere.distance(q / 2), -3.5)


@pytest.mark.parametrize("depth", [np.inf, 10.0])
def test_gradient_and_hessian_against_differences(depth: float) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    axes = np.array([10.0, 14.0, 20.0])
    e = Ellipsoid(np.ones(3), (turn / axes**2) @ turn.T, axes, depth)
    q = np.random.default_rng(1).normal(scale=15, size=(80, 3))
    value, gradient = e.distance_gradient(q)
    step = 1e-5 * np.eye(3)
    numeric = np.stack([(e.distance(q + step[a]) - e.distance(q - step[a])) / 2e-5 for a in range(3)], 1)
    assert np.allclose(gradient, numeric, atol=1e-5)
    bent = [e.distance_gradient(q + step[a])[1] - e.distance_gradient(q - step[a])[1] for a in range(3)]
    assert np.allclose(e.distance_hessian(q), np.stack(bent, 2) / 2e-5, atol=1e-4)
    assert np.isfinite(e.distance(np.ones((1, 3)))).all()
    assert value.shape == (80,)


def test_the_gradient_of_the_trend_against_the_change_of_the_gradient() -> None:
    ellipsoid = fit_ellipsoid(sphere_points(20.0, 300, seed=0) * [1.0, 1.3, 0.8])[0]
    q = sphere_points(24.0, 60, seed=1)
    trend, slope = ellipsoid.trend_gradient(q)
    assert np.allclose(trend, ellipsoid.trend(q))
    for column, change in enumerate(1e-4 * np.eye(9)):
        ahead, behind = (ellipsoid.moved(side * change).distance_gradient(q)[1] for side in (1.0, -1.0))
        assert np.allclose(slope[:, column], (ahead - behind) / 2e-4, atol=1e-4)


def test_the_matrix_against_scipys_rotation() -> None:
    rng = np.random.default_rng(3)
    for turn in (np.zeros(3), 1e-6 * rng.normal(size=3), rng.normal(size=3), 3 * rng.normal(size=3)):
        log_axes, rotation = rng.normal(size=3), Rotation.from_rotvec(turn).as_matrix()
        want = (rotation / np.exp(2 * log_axes)) @ rotation.T
        assert np.allclose(_matrix(np.concatenate([np.zeros(3), log_axes, turn])), want, atol=1e-12)


def test_the_distance_is_level_between_the_foci_and_plain_near_the_surface() -> None:
    axes = np.array([15.0, 15.0, 75.0])
    plain = Ellipsoid(np.zeros(3), np.diag(axes**-2.0), axes)
    level = Ellipsoid(np.zeros(3), np.diag(axes**-2.0), axes, 15.0)
    near, deep = sphere_points(1.0, 200, seed=0) * axes, sphere_points(0.5, 200, seed=1)
    assert np.array_equal(level.distance(0.9 * near), plain.distance(0.9 * near))
    assert np.ptp(plain.distance(deep)) > 30
    assert np.ptp(level.distance(deep)) < 1e-9
    assert np.abs(level.trend(deep)).max() < 1e-6 < np.abs(plain.trend(deep)).max()
