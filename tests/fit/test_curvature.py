"""Curvature of fitted surfaces against analytic ones, and its errors against what they are errors of."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscale.fit import Surface, fit_surface, patches, prepare
from cryoscale.fit.curvature import STENCIL, curvature, curvature_errors, difference_weights
from cryoscale.fit.hessian import PAIRS, symmetric
from tests.fit.shapes import sphere_points

Array = NDArray[np.float64]
Truth = tuple[Array, Array, Array]
"""Points (n, 3), their principal curvatures (n, 2), the larger first, and their normals (n, 3)."""


def sphere() -> Truth:
    q = sphere_points(20.0, 3000, seed=0)
    return q, np.full((len(q), 2), 1 / 20), q / 20


def cylinder() -> Truth:
    rng = np.random.default_rng(1)
    turn, along = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(-40, 40, 4000)
    n = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    q = 15 * n + along[:, None] * [0, 0, 1]
    return q, np.tile([1 / 15, 0.0], (len(q), 1)), n


def torus() -> Truth:
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0, 2 * np.pi, (2, 12000))
    keep = rng.random(len(b)) < (40 + 15 * np.cos(b)) / 55
    a, b = a[keep], b[keep]
    ring = np.stack([0 * a, np.cos(a), np.sin(a)], 1)
    n = np.cos(b)[:, None] * ring + np.sin(b)[:, None] * [1, 0, 0]
    second = np.cos(b) / (40 + 15 * np.cos(b))
    return 40 * ring + 15 * n, np.stack([np.full(len(a), 1 / 15), second], 1), n


def ellipsoid() -> Truth:
    axes = np.array([22.0, 25.0, 30.0])
    q = sphere_points(1.0, 5000, seed=3) * axes
    g, h = q / axes**2, np.tile(np.diag(1 / axes**2), (len(q), 1, 1))
    n = g / np.linalg.norm(g, axis=1, keepdims=True)
    return q, _principal(n, h / np.linalg.norm(g, axis=1)[:, None, None]), n


def saddle() -> Truth:
    rng = np.random.default_rng(4)
    y, x = rng.uniform(-30, 30, (2, 4000))
    q = np.stack([(x * x - y * y) / 50, y, x], 1)
    g = np.stack([np.ones_like(x), 2 * y / 50, -2 * x / 50], 1)
    size = np.linalg.norm(g, axis=1)
    h = np.tile(np.diag([0, 2 / 50, -2 / 50]), (len(q), 1, 1))
    return q, _principal(g / size[:, None], h / size[:, None, None]), g / size[:, None]


def _principal(n: Array, h: Array) -> Array:
    """Eigenvalues of h in the tangent plane, by an explicit basis: another way than the code's."""
    first = np.cross(n, np.where(np.abs(n[:, :1]) < 0.6, [[1.0, 0, 0]], [[0, 1.0, 0]]))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    basis = np.stack([first, np.cross(n, first)], 1)
    return np.linalg.eigvalsh(basis @ h @ np.swapaxes(basis, 1, 2))[:, ::-1]


def _inside(q: Array, name: str) -> NDArray[np.bool_]:
    """Return the places away from the rim of an open surface."""
    reach = {"cylinder": np.abs(q[:, 2]) < 28, "saddle": np.abs(q[:, 1:]).max(1) < 18}
    return reach.get(name, np.ones(len(q), bool))


@pytest.mark.parametrize("shape", [sphere, ellipsoid, torus, cylinder, saddle], ids=lambda f: f.__name__)
def test_curvatures_within_two_percent(shape: Callable[[], Truth]) -> None:
    points, principal, normals = shape()
    surface = fit_surface(points, spacing=1.0)
    rows = np.flatnonzero(_inside(points, shape.__name__))[::9]
    q, want, n = points[rows], principal[rows], normals[rows]
    sign = np.sign((surface.normals(q) * n).sum(1))
    assert abs(sign.mean()) == 1
    both = np.sort(sign[:, None] * surface.curvature(q).principal, 1)[:, ::-1]
    scale = np.abs(want).max(1)
    error = np.abs(both - want).max(1) / scale
    assert error.max() < 0.02
    assert np.quantile(np.abs(sign * surface.mean_curvature(q) - want.mean(1)) / scale, 0.95) < 0.02
    assert np.quantile(np.abs(surface.gaussian_curvature(q) - want.prod(1)) / scale**2, 0.95) < 0.02
    assert np.abs((surface.normals(q) * n).sum(1)).min() > 0.9998


def _noisy_sphere(seed: int) -> Surface:
    return fit_surface(sphere_points(20.0, 2500, seed=seed, noise=0.7), spacing=1.0)


def test_errors_cover_what_noise_does() -> None:
    q = sphere_points(20.0, 60, seed=9)
    z, turn = [], []
    for seed in range(3):
        surface = _noisy_sphere(seed)
        errors = surface.curvature_errors(q)
        z.append((surface.mean_curvature(q) - 1 / 20) / errors.mean)
        turn.append(np.linalg.norm(surface.normals(q) - q / 20, axis=1) / errors.normal)
        assert (errors.gaussian > 0).all() and errors.principal.shape == (60, 2)
        assert np.median(errors.mean) < 0.1 / 20
    assert 0.2 < np.sqrt(np.mean(np.square(z))) < 1.3
    assert 0.3 < np.sqrt(np.mean(np.square(turn))) < 1.3


def test_linearisation_against_samples() -> None:
    """Errors of every quantity against those of random derivatives with the same covariance."""
    rng = np.random.default_rng(0)
    g, h = np.array([0.3, -0.2, 0.9]), symmetric(np.array([0.05, 0.01, -0.02, 0.03, 0.0, 0.08]))
    root = rng.normal(size=(9, 9)) * np.repeat([3e-3, 3e-4], [3, 6])[:, None]
    found = curvature_errors(g[None], h[None], (root @ root.T)[None])
    draws = rng.normal(size=(20_000, 9)) @ root.T
    sample = curvature(g + draws[:, :3], h + symmetric(draws[:, 3:]))
    n = (g + draws[:, :3]) / np.linalg.norm(g + draws[:, :3], axis=1, keepdims=True)
    assert np.isclose(found.mean[0], sample.mean.std(), rtol=0.03)
    assert np.isclose(found.gaussian[0], sample.gaussian.std(), rtol=0.03)
    assert np.allclose(found.principal[0], sample.principal.std(0), rtol=0.03)
    assert np.isclose(found.normal[0], np.sqrt(((n - g / np.linalg.norm(g)) ** 2).sum(1).mean()), rtol=0.03)


def test_differences_are_exact_on_a_quadric() -> None:
    h = symmetric(np.arange(1.0, 7.0))
    values = STENCIL @ [1.0, 2.0, 3.0] + 0.5 * np.einsum("si,ij,sj->s", STENCIL, h, STENCIL)
    found = difference_weights() @ values
    assert np.allclose(found[:3], [1, 2, 3]) and np.allclose(found[3:], [h[a, b] for a, b in PAIRS])


def test_unit_scales_curvature() -> None:
    q = sphere_points(20.0, 40, seed=9)
    cloud = sphere_points(20.0, 1200, seed=0, noise=0.7)
    one, two = fit_surface(cloud, spacing=1.0), fit_surface(cloud * 3.0, spacing=3.0)
    assert np.allclose(two.mean_curvature(q * 3), one.mean_curvature(q) / 3, rtol=0.02)
    assert np.allclose(two.curvature_errors(q * 3).gaussian, one.curvature_errors(q).gaussian / 9, rtol=0.1)


def test_patches_of_a_large_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "LARGE", 60)
    monkeypatch.setattr(patches, "CORE_POINTS", 120)
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)
    surface = fit_surface(sphere_points(30.0, 5000, seed=0, noise=0.5), spacing=1.0)
    assert surface.choice["patches"] > 2
    q = sphere_points(30.0, 60, seed=3) * 1.02
    step = 1e-3 * np.eye(3)
    numeric = np.stack([(surface.gradient(q + s) - surface.gradient(q - s)) / 2e-3 for s in step], 1)
    assert np.abs(surface.hessian(q) - numeric).max() < 1e-6
    assert np.abs(30.6 * surface.mean_curvature(q) - 1).max() < 0.15
    assert (surface.curvature_errors(q).mean > 0).all()
