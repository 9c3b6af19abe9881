"""Noise measured from the scatter of points whose noise is known."""

import itertools
from functools import cache

import numpy as np
import pytest

from cryoscale.fit import fit_surface, noise, normals
from cryoscale.fit.noise import point_noise
from cryoscale.fit.normals import centre_line, local_planes
from cryoscale.fit.prepare import prepare
from cryoscale.fit.select import merge_cells
from tests.fit.shapes import SHAPES, degrade, sphere_points, surface_points


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


def test_control_points_count_by_the_points_they_stand_for() -> None:
    """A quarter of the points on one half of a sphere: what is said of both halves is true of both."""
    rng = np.random.default_rng(51)
    q = sphere_points(30.0, 12_000, seed=1, noise=1.0)
    constraints = prepare(q[(q[:, 2] > 0) | (rng.random(len(q)) < 0.25)], spacing=1.0).constraints
    on = constraints.points[: constraints.surface]
    off, said = np.linalg.norm(on, axis=1) - 30, constraints.noise[: constraints.surface]
    dense, sparse = on[:, 2] > 5, on[:, 2] < -5
    ratios = [np.sqrt(np.mean(said[part] ** 2)) / off[part].std() for part in (dense, sparse)]
    assert all(0.75 < ratio < 1.4 for ratio in ratios)
    assert np.median(said[sparse]) > 1.5 * np.median(said[dense])
    # One noise for all, were they not counted, would be wrong of the sparse half.
    assert np.median(said) / off[sparse].std() < 0.75


ALONG_Z = (1.5, 0.5, 0.5)


def test_points_that_are_worse_along_the_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(100)
    cloud = sphere_points(30.0, 5000, seed=1) + rng.normal(0, ALONG_Z, (5000, 3))
    means = merge_cells(cloud, np.ones(len(cloud)), 7.0)[0]

    def ratios() -> tuple[float, float]:
        """Stated over true noise at the poles and at the equator."""
        moved, n, found = centre_line(means, cloud, np.ones(len(cloud)), radius=8.4)
        off, beam = np.linalg.norm(moved, axis=1) - 30, np.abs(n[:, 0])
        parts = (beam > 0.8, beam < 0.3)
        top, side = (float(np.sqrt(np.mean(found.sd[m] ** 2) / np.mean(off[m] ** 2))) for m in parts)
        return top, side

    assert all(0.7 < ratio < 1.4 for ratio in ratios())
    monkeypatch.setattr(normals, "MOST_STRETCH", 1.0)
    top, side = ratios()
    assert top < 0.7 and side > 1.4


@pytest.mark.parametrize("noise_sd", [0.5, 1.0])
def test_points_that_are_not_are_left_as_they_are(noise_sd: float) -> None:
    cloud = sphere_points(30.0, 5000, seed=1, noise=noise_sd)
    moved, found, shown = centre_line(cloud[::20], cloud, np.ones(len(cloud)), radius=8.4)
    assert abs(shown.ratio_shows) < noise.BEAM_DOUBT and 0.7 < shown.ratio < 1.4
    plain = local_planes(cloud[::20], cloud, np.ones(len(cloud)), radius=8.4)
    np.testing.assert_array_equal(moved, cloud[::20] + plain.heights[:, None] * plain.normals)
    np.testing.assert_array_equal(found, plain.normals)
    np.testing.assert_array_equal(shown.sd, point_noise(plain).sd)
    assert shown.whole.all()


def test_noise_that_planes_hide_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only steep sides are left, planes tilt until noise along the beam hardly shows."""

    def unseen() -> int:
        """Of clouds with that noise, those taken as noisy alike: no control point is left out."""
        return sum(
            bool(centre_line(means, cloud, np.ones(len(cloud)), radius=6.0)[2].whole.all()) for means, cloud in clouds
        )

    clouds = []
    for seed in range(3000, 3004):
        cloud = degrade(SHAPES["banana"], seed=seed, cap=0.5, noise=ALONG_Z, outliers=0)[0]
        clouds.append((merge_cells(cloud, np.ones(len(cloud)), 5.0)[0], cloud))
    assert unseen() <= 1
    monkeypatch.setattr(normals, "LIKELY", noise.BEAM_DOUBT)
    assert unseen() >= 3


def test_a_trial_is_believed_only_where_it_explains_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the noise along the beam, hidden by planes, is told from noise that is alike in all axes."""
    clouds = list(itertools.product(("ellipsoid", "banana"), range(3100, 3106)))

    def taken_as_worse(noise_sd: float | tuple[float, float, float]) -> int:
        count = 0
        for name, seed in clouds:
            cloud = degrade(SHAPES[name], seed=seed, cap=0.5, noise=noise_sd, outliers=0)[0]
            means = merge_cells(cloud, np.ones(len(cloud)), 7.0)[0]
            count += not centre_line(means, cloud, np.ones(len(cloud)), radius=8.4)[2].whole.all()
        return count

    assert taken_as_worse((1.0, 0.5, 0.5)) >= 10 and taken_as_worse(0.5) + taken_as_worse(1.0) <= 4
    # Were whatever shows believed, and were nothing tried:
    with monkeypatch.context() as mutant:
        mutant.setattr(normals, "TRIAL_STRETCH", 1.0)
        assert taken_as_worse(0.5) + taken_as_worse(1.0) > 8
    monkeypatch.setattr(normals, "LIKELY", noise.BEAM_DOUBT)
    assert taken_as_worse((1.0, 0.5, 0.5)) < 8


def _bias_in_caps(seed: int) -> tuple[float, float]:
    """Mean distance of the true surface, and the share within two standard deviations."""
    shape, cap = SHAPES["ellipsoid"], 0.7
    surface = fit_surface(degrade(shape, seed=seed, cap=cap, noise=ALONG_Z)[0], spacing=1.0)
    q = surface_points(shape, 0.05, np.random.default_rng(seed))
    g = shape.gradient(q)
    q = q[np.abs(g[:, 0]) >= cap * np.linalg.norm(g, axis=1)]
    d = surface.distance(q)
    return float(np.mean(d)), float(np.mean(np.abs(d) <= 2 * surface.distance_sd(q)))


def test_caps_of_points_worse_along_the_beam_are_where_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as noisy alike, control points at the rim of what was seen lie outward, and caps come out too tall."""
    off, within = np.transpose([_bias_in_caps(seed) for seed in range(40, 43)])
    assert abs(off.mean()) < 0.15 and within.mean() > 0.8
    monkeypatch.setattr(normals, "MOST_STRETCH", 1.0)
    off, within = np.transpose([_bias_in_caps(seed) for seed in range(40, 43)])
    assert off.mean() < -0.3 and within.mean() < 0.6


def test_exact_points_have_neither_noise_nor_anything_in_common() -> None:
    cloud = sphere_points(20.0, 2500, seed=0)
    found = centre_line(cloud[::10], cloud, np.ones(len(cloud)), radius=7.0)[2]
    assert found.sd.max() < 0.1 and found.common_share < 0.03


def test_four_points_get_the_usual_noise() -> None:
    q = np.array([[0.0, 0, 0], [0, 5, 0], [0, 0, 5], [0.1, 5, 5]])
    found = centre_line(q, q, np.ones(4), radius=8.0)[2]
    assert (found.sd > 0.1).all() and found.common_share == 0


def test_moments_are_those_of_whole_matrices() -> None:
    """(I - H) (..) (I - H)^T written out for every neighbourhood."""
    cloud = sphere_points(25.0, 2500, seed=3, noise=0.6)
    fit = local_planes(cloud[::50], cloud, np.ones(len(cloud)), radius=7.0)
    expected, found = noise._moments(fit, np.arange(len(fit.terms)))
    residuals, wanted, seen = [], np.zeros_like(expected), np.zeros_like(found)
    for terms, inverse, weights, above in zip(fit.terms, fit.inverse, fit.weights, fit.above, strict=True):
        rest = np.eye(len(weights)) - terms @ inverse @ (terms.T * weights)
        residuals.append(rest @ above)
    live = fit.weights > noise.LEAST_WEIGHT
    edge = 3 * 1.4826 * np.median(np.abs(np.array(residuals)[live]))
    for row, (terms, inverse, weights) in enumerate(zip(fit.terms, fit.inverse, fit.weights, strict=True)):
        rest = np.eye(len(weights)) - terms @ inverse @ (terms.T * weights)
        apart = np.linalg.norm(fit.along[row][:, None] - fit.along[row], axis=2)
        e = np.clip(residuals[row], -edge, edge)
        for moment, pairs in ((0, np.diag(weights)), (1, (apart > 0) & (apart < noise.NEAR))):
            share = pairs * np.sqrt(np.outer(weights, weights)) if moment else pairs
            share = share * np.outer(live[row], live[row])
            for kind, of in ((0, np.eye(len(e))), (1, np.exp(-apart / noise.COMMON_REACH))):
                wanted[row, moment, kind] = (share * (rest @ of @ rest.T)).sum()
            seen[row, moment] = (share * np.outer(e, e)).sum()
    np.testing.assert_allclose(expected, wanted, atol=1e-5)
    np.testing.assert_allclose(found, seen, atol=1e-6)
