"""Thickness of simulated bilayers of known thickness, at several signal-to-noise ratios; what is not good says so."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from cryoscale.measure.bend import vertex_normals
from cryoscale.measure.peaks import fit_peaks, transfer_at
from cryoscale.measure.thickness import QUALITIES, geodesic_patches, measure_thickness, profiles_at
from cryoscale.simulate import image_phantom

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


def from_profiles(lines, **microscope):
    _, vertices, _, normals, patch = surface()
    key = np.column_stack([patch, np.floor(vertices / 5).astype(int)])
    cells, owner, counts = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(cells), len(OFFSETS)))
    np.add.at(sums, owner.ravel(), lines)
    up = np.bincount(patch, np.abs(normals[:, 0])) / np.bincount(patch)
    angle = np.degrees(np.arccos(up))
    return measure_thickness(sums / counts[:, None], counts, cells[:, 0], angle, OFFSETS, **microscope)


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


@functools.cache
def through_the_microscope(thickness, defocus_um, snr=0.3):
    """Profiles of a bilayer in a reconstructed tilt series: contrast transfer, missing wedge, shot noise."""
    distance, vertices, _, normals, _ = surface()
    layers = sum(np.exp(-0.5 * ((distance - side * thickness / 2) / 0.7) ** 2) for side in (-1, 1))
    seen = image_phantom(
        layers.astype(np.float32), seed=4, snr=snr, defocus_um=defocus_um, tilt_step_degrees=4.0, shift_sd_nm=0.3
    )
    return profiles_at(seen, vertices, normals, OFFSETS)


@pytest.mark.parametrize(("thickness", "defocus"), [(3.2, 2.4), (4.0, 5.0)])
def test_defocus_is_undone_stated_or_not(thickness, defocus):
    lines = through_the_microscope(thickness, defocus)
    stated, found = from_profiles(lines, defocus_um=defocus), from_profiles(lines)
    assert stated.defocus_um == defocus
    assert found.defocus_um == pytest.approx(defocus, abs=0.5)
    assert stated.whole == pytest.approx(thickness, abs=0.08)
    assert found.whole == pytest.approx(thickness, abs=0.08)
    assert (stated.quality == 0).mean() > 0.5
    assert stated.patch[stated.quality == 0].mean() == pytest.approx(thickness, abs=0.08)
    # What is not known of the defocus is part of the error.
    assert found.whole_error > stated.whole_error


def off_by_errors(thickness, defocus, snr):
    found = from_profiles(through_the_microscope(thickness, defocus, snr), defocus_um=defocus)
    good = found.quality == 0
    assert good.sum() > 10
    return np.sqrt(np.mean(((found.patch[good] - thickness) / found.error[good]) ** 2))


def test_errors_of_patches_are_what_they_are_off_by(monkeypatch):
    for snr in (1.0, 0.3, 0.1):
        assert 0.8 < off_by_errors(3.2, 2.4, snr) < 1.3
        assert 0.6 < off_by_errors(4.0, 5.0, snr) < 1.3
    assert 0.8 < off_by_errors(3.0, 2.4, 1.0) < 1.3
    # Mutant: one width for all patches, and the errors that the cells alone tell.
    monkeypatch.setattr(
        "cryoscale.measure.thickness._patches",
        lambda mean, covariance, offsets, transfer, width, rows, _: fit_peaks(
            mean[rows], covariance[rows], offsets, transfer, width=width
        ),
    )
    assert off_by_errors(3.0, 2.4, 1.0) > 1.5


def test_without_undoing_it_a_bilayer_is_too_thick(monkeypatch):
    """Mutant: transfer of 1 at every frequency."""
    monkeypatch.setattr("cryoscale.measure.thickness.transfer_at", lambda *_: transfer_at(0.0, 300.0))
    assert from_profiles(through_the_microscope(4.0, 5.0), defocus_um=5.0).whole > 4.0 + 0.3


def test_without_fringes_no_defocus_is_undone():
    assert measured(3.5, 0.3).defocus_um is None


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
