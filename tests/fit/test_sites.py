"""Curvatures and errors that the fit hands on: against the surface itself, and against the scatter of repeated fits."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.fit import fit_surface, patches, prepare
from cryoscale.fit.sites import SITES, surface_sites
from cryoscale.measure.errors import Sites

RADIUS, CENTRE = 16.0, np.array([20.0, 21.0, 22.0])


def cloud(seed, noise=0.7, count=2500, caps=1.0):
    rng = np.random.default_rng(seed)
    ways = rng.normal(size=(count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    points = CENTRE + RADIUS * ways + rng.normal(0, noise, (count, 3))
    return points[np.abs(ways[:, 0]) <= caps]


@pytest.fixture(scope="module")
def surface():
    return fit_surface(cloud(0), spacing=1.0)


def test_curvatures_and_errors_are_the_surface_s_own(surface):
    found = surface_sites(surface)
    assert all(values.dtype == np.float32 for values in found.values())
    bend = surface.curvature(found["bend_places"])
    np.testing.assert_allclose(found["bend"][:, 0], bend.mean, atol=1e-4)
    np.testing.assert_allclose(found["bend"][:, 1], bend.gaussian, atol=1e-4)
    assert found["bend"][:, 0].mean() == pytest.approx(1 / RADIUS, rel=0.03)
    places = found["site_places"].astype(float)
    assert SITES[0] <= len(places) <= SITES[1]
    np.testing.assert_allclose(np.diag(found["site_covariance"]), surface.distance_sd(places) ** 2, rtol=1e-3)
    errors = surface.curvature_errors(places)
    stated = np.column_stack([errors.normal, errors.mean, errors.gaussian, errors.principal])
    np.testing.assert_allclose(found["site_errors"], stated, rtol=1e-3)


def test_covariance_is_one(surface):
    covariance = surface_sites(surface)["site_covariance"].astype(float)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-7)
    assert np.linalg.eigvalsh(covariance)[0] > -1e-6 * np.trace(covariance)


def test_unit_of_the_points(surface):
    # The same field: of two fits, rounding alone may make other samples the sites.
    scaled = surface_sites(replace(surface, unit=2.5))
    found = surface_sites(surface)
    np.testing.assert_allclose(scaled["site_places"], 2.5 * found["site_places"], rtol=1e-5)
    np.testing.assert_allclose(scaled["bend"], found["bend"] / [2.5, 2.5**2], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(scaled["site_covariance"], 2.5**2 * found["site_covariance"], atol=1e-5)
    np.testing.assert_allclose(scaled["site_errors"][:, 2], found["site_errors"][:, 2] / 2.5**2, rtol=1e-4)


def test_patches_share_a_surface(monkeypatch):
    """A membrane in several patches: the diagonal is the blended variance, and seams leave no break."""
    monkeypatch.setattr(prepare, "LARGE", 60)
    monkeypatch.setattr(patches, "CORE_POINTS", 60)
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)
    whole = fit_surface(cloud(1, count=4000), spacing=1.0)
    assert len(whole.model.patches) > 1
    found = surface_sites(whole)
    places = found["site_places"].astype(float)
    np.testing.assert_allclose(np.diag(found["site_covariance"]), whole.distance_sd(places) ** 2, rtol=1e-3)
    covariance = found["site_covariance"].astype(float)
    assert np.linalg.eigvalsh(covariance)[0] > -1e-6 * np.trace(covariance)


@pytest.mark.slow
def test_stated_error_of_the_volume_is_the_scatter_of_fits():
    found, stated = [], []
    for seed in range(16):
        surface = fit_surface(cloud(seed, caps=0.8), spacing=1.0)
        vertices, faces = surface.mesh()
        a, b, c = (vertices[faces[:, k]].astype(float) - CENTRE for k in range(3))
        found.append(abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6)
        site = surface_sites(surface)
        sites = Sites(*(site[name].astype(float) for name in ("site_places", "site_covariance", "site_errors")))
        area = np.bincount(faces.ravel(), np.repeat(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6, 3))
        stated.append(sites.standard_error(area, sites.owner(vertices)))
    # The scatter alone: noise in three dimensions also moves a sphere's points outward by its variance over the radius.
    assert 0.6 < np.std(found, ddof=1) / np.mean(stated) < 1.5, (np.std(found), np.mean(stated))
