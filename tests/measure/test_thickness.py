"""Thickness of simulated bilayers of known thickness, at several signal-to-noise ratios; what is not good says so."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from cryoscale.measure.bend import vertex_normals
from cryoscale.measure.thickness import (
    QUALITIES,
    fit_peaks,
    geodesic_patches,
    measure_thickness,
    profiles_at,
)

RADIUS, SIZE = 24.0, 66
OFFSETS = np.arange(-14, 15) * 0.5


@functools.cache
def surface():
    """A sphere whose surface is known to about half a voxel, as a fit knows it; voxels of 1 nm."""
    places = np.moveaxis(np.indices((SIZE,) * 3, dtype=np.float32), 0, -1)
    distance = np.linalg.norm(places - SIZE / 2 + 0.3, axis=-1) - RADIUS
    error = gaussian_filter(np.random.default_rng(0).normal(size=distance.shape), 6)
    vertices, faces, _, _ = marching_cubes(distance + 0.4 * error / error.std(), 0.0)
    normals = vertex_normals(vertices, faces)
    outward = np.sign((normals * (vertices - SIZE / 2)).sum())
    return distance, vertices.astype(float), faces, normals * outward, geodesic_patches(vertices, faces, 16.0)


def measured(thickness, snr, seed=0, width=0.9, sign=-1.0):
    distance, vertices, _, normals, _ = surface()
    layers = sum(np.exp(-0.5 * ((distance - side * thickness / 2) / width) ** 2) for side in (-1, 1))
    noise = 0.0
    if snr:
        sd = layers[np.abs(distance) < 4].std() / np.sqrt(snr)
        noise = np.random.default_rng(seed).normal(0, sd, distance.shape)
    lines = profiles_at(sign * layers + noise, vertices, normals, OFFSETS)
    return from_profiles(lines)


def from_profiles(lines):
    _, vertices, _, normals, patch = surface()
    key = np.column_stack([patch, np.floor(vertices / 5).astype(int)])
    cells, owner, counts = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(cells), len(OFFSETS)))
    np.add.at(sums, owner.ravel(), lines)
    up = np.bincount(patch, np.abs(normals[:, 0])) / np.bincount(patch)
    return measure_thickness(sums / counts[:, None], counts, cells[:, 0], np.degrees(np.arccos(up)), OFFSETS)


@pytest.mark.parametrize("snr", [0, 0.3, 0.1])
@pytest.mark.parametrize("thickness", [2.8, 3.5, 4.5])
def test_known_thickness(thickness, snr):
    found = measured(thickness, snr)
    assert found.whole == pytest.approx(thickness, abs=max(0.05, 3 * found.whole_error))
    good = found.quality == 0
    assert good.mean() > 0.6
    off = found.patch[good] - thickness
    assert np.abs(off.mean()) < 0.06
    if snr:
        # Noise of single voxels: the stated errors are about the scatter.
        assert 0.6 < np.sqrt(np.mean((off / found.error[good]) ** 2)) < 1.6


def test_sign_and_scale_of_the_density_do_not_matter():
    dark, bright = measured(3.5, 0.3), measured(3.5, 0.3, sign=1.0, seed=1)
    assert bright.whole == pytest.approx(dark.whole, abs=0.1)
    lines = np.random.default_rng(0).normal(size=(3, len(OFFSETS))) + np.exp(-0.5 * (np.abs(OFFSETS) - 2) ** 2) * 9
    spread = np.tile(np.eye(len(OFFSETS)), (3, 1, 1))
    one, two = fit_peaks(lines, spread, OFFSETS), fit_peaks(100 * lines + 7, 1e4 * spread, OFFSETS)
    np.testing.assert_allclose(two.values[:, 4:], one.values[:, 4:], rtol=1e-5)
    np.testing.assert_allclose(two.errors[:, 4:], one.errors[:, 4:], rtol=1e-5)
    np.testing.assert_allclose(two.values[:, 2], 100 * one.values[:, 2], rtol=1e-5)


def test_errors_are_the_scatter_of_fits():
    truth = np.exp(-0.5 * ((OFFSETS - 1.7) / 0.9) ** 2) + np.exp(-0.5 * ((OFFSETS + 1.7) / 0.9) ** 2)
    correlation = 0.05**2 * np.exp(-np.abs(OFFSETS[:, None] - OFFSETS) / 0.7)
    draws = np.random.default_rng(3).multivariate_normal(truth, correlation, 400)
    found = fit_peaks(draws, np.tile(correlation, (400, 1, 1)), OFFSETS)
    assert found.values[:, 4].mean() == pytest.approx(3.4, abs=0.02)
    assert np.median(found.errors[:, 4]) == pytest.approx(found.values[:, 4].std(), rel=0.2)
    # Mutant: taking the points for independent makes the error too small.
    alone = fit_peaks(draws, np.tile(np.diag(np.diag(correlation)), (400, 1, 1)), OFFSETS)
    assert np.median(alone.errors[:, 4]) < 0.8 * found.values[:, 4].std()


def test_no_membrane_is_not_good():
    noise = np.random.default_rng(0).normal(size=(SIZE,) * 3)
    _, vertices, _, normals, _ = surface()
    found = from_profiles(profiles_at(noise, vertices, normals, OFFSETS))
    assert (found.quality == 0).mean() < 0.05
    assert found.whole is None or found.whole_error > 0.2


def test_two_layers_that_cannot_be_told_apart_are_unresolved():
    found = measured(1.6, 0.3, width=1.4)
    assert found.whole is None and found.whole_error is None
    assert not (found.quality == 0).any()


def test_caps_are_flagged():
    found = measured(3.5, 0)
    _, _, _, normals, patch = surface()
    up = np.bincount(patch, np.abs(normals[:, 0])) / np.bincount(patch)
    np.testing.assert_array_equal(found.quality == QUALITIES.index("beam"), np.degrees(np.arccos(up)) < 30)


def test_patches_follow_the_surface_not_space():
    """Mutant: cubes in space would put both sheets of a pair into one patch."""
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0), indexing="ij"), -1).reshape(-1, 2)
    corner = np.arange(900).reshape(30, 30)
    a, b, c, d = corner[:-1, :-1].ravel(), corner[1:, :-1].ravel(), corner[1:, 1:].ravel(), corner[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    both = np.concatenate([np.column_stack([np.full(900, h), grid]) for h in (0.0, 8.0)])
    patch = geodesic_patches(both, np.concatenate([faces, faces + 900]), 7.0)
    assert not set(patch[:900]) & set(patch[900:])
    assert (np.floor(both / 10)[:, 0] == 0).all()
    assert 5 < np.bincount(patch).mean() < 100


def test_constant_density_has_no_thickness():
    _, vertices, _, _, _ = surface()
    found = from_profiles(np.ones((len(vertices), len(OFFSETS))))
    assert found.whole is None and np.isnan(found.patch).all() and not (found.quality == 0).any()


def test_beyond_the_block_is_not_known():
    line = profiles_at(np.ones((5, 5, 5)), np.array([[2.0, 2, 2]]), np.array([[1.0, 0, 0]]), np.array([-3.0, 0, 2]))
    assert np.isnan(line[0, 0]) and line[0, 1] == 1 and line[0, 2] == 1
