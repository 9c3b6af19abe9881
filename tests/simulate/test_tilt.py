"""Projection and back-projection against SciPy's rotation, exact spectra, plain sums and the inverse of a disc."""

from contextlib import nullcontext

import numpy as np
import pytest
from scipy import ndimage
from threadpoolctl import threadpool_info, threadpool_limits

from cryoscale.simulate.microscope import reconstruct
from cryoscale.simulate.tilt import _sheared, back_project, project


@pytest.mark.parametrize("tilt", [-60.0, -20.0, 0.0, 35.0, 90.0])
def test_project_is_rotate_and_sum(tilt):
    volume = np.zeros((40, 3, 40), np.float32)
    volume[12:22, :, 20:31] = np.random.default_rng(0).uniform(1, 2, (10, 3, 11))
    volume = ndimage.gaussian_filter(volume, (2, 0, 2))
    # The rotation in the (z, x) plane that brings the beam at this tilt onto z.
    rotated = ndimage.rotate(volume, tilt, axes=(0, 2), reshape=False, order=3)
    np.testing.assert_allclose(
        project(volume, [tilt], 40)[0], rotated.sum(axis=0), atol=0.01 * rotated.sum(axis=0).max()
    )
    if tilt not in (0.0, 90.0):
        mirrored = project(volume, [-tilt], 40)[0]
        assert np.abs(mirrored - rotated.sum(axis=0)).max() > 0.2 * rotated.sum(axis=0).max()


def test_back_projection_reads_between_two_columns():
    rng = np.random.default_rng(1)
    tilts = np.linspace(-70, 65, 9)
    projections = rng.normal(size=(9, 4, 19)).astype(np.float32)
    z, x = (np.arange(n) - 0.5 * (n - 1) for n in (11, 17))
    expected = np.zeros((11, 4, 17))
    for images, tilt in zip(projections, np.radians(tilts), strict=True):
        column = x * np.cos(tilt) + z[:, None] * np.sin(tilt) + 9.0
        for y, image in enumerate(images):
            expected[:, y] += np.interp(column, np.arange(19), image, left=0.0, right=0.0)
    np.testing.assert_allclose(back_project(projections, tilts, (11, 4, 17)), expected, atol=1e-5)


def test_point_comes_back_to_its_voxel_at_full_range():
    volume = np.zeros((31, 5, 41), np.float32)
    volume[9, 2, 28] = 1
    tilts = np.arange(-90, 90, 3.0)
    image = reconstruct(project(volume, tilts, 64), tilts, volume.shape)
    assert np.unravel_index(image.argmax(), image.shape) == (9, 2, 28)
    image[9, 2, 28] = 0
    assert image.max() < 0.5 * 1.0


def test_full_range_inverts_the_projection_and_a_wedge_does_not():
    z, x = np.mgrid[:64, :64] - 31.5
    disc = ndimage.gaussian_filter((np.hypot(z - 4, x + 6) < 15).astype(np.float32), 1.5)[:, None]
    tilts = np.arange(-90, 90, 1.5)
    image = reconstruct(project(disc, tilts, 100), tilts, disc.shape)
    assert np.abs(image - disc).max() < 0.05
    tilts = np.arange(-60, 60.1, 1.5)
    wedge = reconstruct(project(disc, tilts, 100), tilts, disc.shape)
    assert np.abs(wedge - disc).max() > 0.2


def test_read_only_input_and_bad_arguments():
    volume = np.zeros((4, 5, 6), np.float32)
    volume.flags.writeable = False
    assert project(volume, 0, 8).shape == (1, 5, 8)
    with pytest.raises(ValueError, match="z, y, x"):
        project(volume[0], 0, 8)
    with pytest.raises(ValueError, match="projections must be"):
        back_project(np.zeros((2, 5, 8), np.float32), [0], (4, 5, 6))


def blob(shape=(30, 1, 34)):
    volume = np.zeros(shape, np.float32)
    volume[8:20, :, 9:24] = np.random.default_rng(0).uniform(0.5, 1.5, (12, 1, 15))
    return ndimage.gaussian_filter(volume, (1.2, 0, 1.2))


@pytest.mark.parametrize("tilt", [-80.0, -60.0, -20.0, 0.0, 35.0, 70.0, 90.0])
def test_a_projection_is_the_central_slice_of_the_spectrum(tilt):
    """Against the exact spectrum on the slanted line, to the highest frequency that the detector has."""
    volume, width = blob(), 64
    found = np.fft.fft(np.fft.ifftshift(project(volume, [tilt], width)[0, 0]))
    frequency = np.fft.fftfreq(width)
    z, x = np.indices((30, 34)) - np.array([14.5, 16.5])[:, None, None]
    place = x * np.cos(np.radians(tilt)) + z * np.sin(np.radians(tilt)) - 0.5
    wave = np.exp(-2j * np.pi * frequency[:, None, None] * place)
    exact = (volume[:, 0] * wave).sum(axis=(1, 2))
    # The highest frequency is one with its negative: a detector cannot tell its phase.
    told = frequency != -0.5
    assert np.abs(found - exact)[told].max() < 1e-4 * np.abs(exact).max()
    turned = (volume[:, 0] * wave * np.exp(2j * np.pi * frequency[:, None, None])).sum(axis=(1, 2))
    assert np.abs(found - turned)[told].max() > 0.1 * np.abs(exact).max()


def test_what_the_detector_does_not_reach_is_not_folded_in(monkeypatch):
    """A detector narrower than the volume has the middle of what a wide one has."""
    volume = ndimage.zoom(blob(), (1, 1, 8), order=1)
    tilts = [-80.0, -66.0, -30.0, 0.0, 45.0, 60.0]
    wide = project(volume, tilts, 600)
    for narrow in (40, 240):
        middle = wide[:, :, 300 - narrow // 2 : 300 + narrow // 2]
        np.testing.assert_allclose(project(volume, tilts, narrow), middle, atol=1e-4 * wide.max())
    # Mutant: spectra no longer than the volume is wide.
    monkeypatch.setattr("cryoscale.simulate.tilt._period", lambda *_: volume.shape[2])
    assert np.abs(project(volume, tilts, narrow) - middle).max() > 0.1 * wide.max()


def test_bits_do_not_depend_on_threads(monkeypatch):
    volume, tilts = np.random.default_rng(0).normal(size=(64, 96, 128)).astype(np.float32), np.arange(-60.0, 61, 3)
    threads = set()

    def noted(*arguments):
        threads.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return _sheared(*arguments)

    def projected(count):
        threads.clear()
        with threadpool_limits(count):
            return project(volume, tilts, 190)

    monkeypatch.setattr("cryoscale.simulate.tilt._sheared", noted)
    alone = projected(1)
    np.testing.assert_array_equal(projected(2), alone)
    assert threads == {1}
    # Mutant: as many threads as there are. Whether that changes a bit is chance; how many there are is not.
    monkeypatch.setattr("cryoscale.simulate.tilt.on_one_thread", nullcontext)
    projected(2)
    assert 2 in threads
