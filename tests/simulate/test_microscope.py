"""The tomogram: its noise as asked, its wedge where physics puts it, dark membranes, and seeds."""

import tracemalloc

import numpy as np
import pytest
from scipy.fft import next_fast_len

from cryoscale.simulate import image_phantom, make_phantom, projected_bytes, training_volume
from cryoscale.simulate.microscope import reconstruct, tilt_angles
from cryoscale.simulate.optics import ramp_weights
from cryoscale.simulate.tilt import back_project, project


@pytest.fixture(scope="module")
def phantom():
    return make_phantom((80, 112, 128), seed=3)


@pytest.fixture(scope="module")
def clean(phantom):
    return image_phantom(phantom.density, seed=1, snr=float("inf"))


@pytest.mark.parametrize("snr", [0.05, 0.3])
def test_snr_is_the_ratio_of_variances(phantom, clean, snr):
    noise = image_phantom(phantom.density, seed=1, snr=snr) - clean
    assert np.var(clean, dtype=float) / np.var(noise, dtype=float) == pytest.approx(snr, rel=1e-3)
    assert abs(np.corrcoef(noise.ravel(), clean.ravel())[0, 1]) < 0.02


def test_one_seed_one_tomogram(phantom):
    density = phantom.density[20:60, 30:70, 30:78]
    one, same, other = (image_phantom(density, seed=s, snr=0.2) for s in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.9


def test_membranes_and_proteins_are_dark(phantom, clean):
    side = phantom.beam_angle > 60
    assert clean.dtype == np.float32
    assert clean.shape == phantom.density.shape
    assert clean[side].mean() < clean.mean() - 2 * clean[phantom.instances == 0].std()
    assert clean[phantom.density > 6].mean() < clean[side].mean()


def test_caps_vanish_in_the_wedge(phantom, clean):
    """Correlation with the density: high for side walls, low for caps; with all tilts the difference is gone."""
    caps, sides = agreement(phantom, clean)
    assert sides > 0.6
    assert caps < 0.3
    assert sides > caps + 0.4
    full = image_phantom(
        phantom.density, seed=1, snr=float("inf"), tilt_range_degrees=88.5, tilt_step_degrees=1.5, shift_sd_nm=0.0
    )
    caps, sides = agreement(phantom, full)
    assert caps > 0.6


def agreement(phantom, tomogram):
    """Correlation with the truth where normals are within 25 degrees of the beam, and beyond 65."""
    from scipy import ndimage

    index = ndimage.distance_transform_edt(phantom.instances == 0, return_distances=False, return_indices=True)
    angle = phantom.beam_angle[tuple(index)]
    near = ndimage.binary_dilation(phantom.instances > 0, iterations=4)
    return [
        -np.corrcoef(tomogram[near & where], phantom.density[near & where])[0, 1] for where in (angle < 25, angle > 65)
    ]


def test_stopping_early_is_what_landweber_iterations_do():
    """SIRT-like weights against the iteration itself, with the projector and its adjoint, from all sides."""
    z, _, x = np.mgrid[:48, :1, :48] - 23.5
    body = (np.exp(-((z - 5) ** 2 + (x + 6) ** 2) / 20) - 0.5 * np.exp(-((z + 8) ** 2 + x**2) / 8)).astype(np.float32)
    tilts, width = np.arange(-90.0, 90.0, 2.0), 72
    images = project(body, tilts, width)
    step = ramp_weights(next_fast_len(2 * width, real=True), window=False)[1] * np.radians(2.0)
    steps, iterated = 12, np.zeros_like(body)
    for _ in range(steps):
        left = images - project(iterated, tilts, width)
        iterated += np.float32(step) * back_project(left, tilts, body.shape)
    direct = reconstruct(images, tilts, body.shape, steps)
    inner = np.s_[8:40, :, 8:40]
    assert np.corrcoef(direct[inner].ravel(), iterated[inner].ravel())[0, 1] > 0.999
    assert np.abs(direct - iterated)[inner].max() < 0.05 * np.abs(iterated).max()
    ramp = reconstruct(images, tilts, body.shape)
    assert np.abs(ramp - iterated)[inner].max() > 0.2 * np.abs(iterated).max()


def test_a_detector_takes_from_the_fine_and_leaves_the_coarse(phantom, clean):
    soft = image_phantom(phantom.density, seed=1, snr=float("inf"), detector_at_nyquist=0.5)
    ratio = np.abs(np.fft.fftn(soft)) / np.maximum(np.abs(np.fft.fftn(clean)), 1e-3)
    y, x = (np.fft.fftfreq(n) for n in clean.shape[1:])
    radius = np.hypot(y[:, None], x[None])
    strong = np.abs(np.fft.fftn(clean))[0] > 1.0
    for k in (0.1, 0.2, 0.3):
        ring = strong & (np.abs(radius - k) < 0.02)
        assert np.median(ratio[0][ring]) == pytest.approx(0.5 ** ((2 * k) ** 2), rel=0.05)


def test_contrast_without_flipping_has_more_fringes(phantom, clean):
    plain = image_phantom(phantom.density, seed=1, snr=float("inf"), phase_flip=False)
    side = phantom.beam_angle > 60
    assert plain[side].mean() < 0
    assert (
        np.corrcoef(-plain[side], phantom.density[side])[0, 1] < np.corrcoef(-clean[side], phantom.density[side])[0, 1]
    )


def test_surroundings_leave_no_edge():
    """A uniform slab must come out flat: nothing in it tells where the box ends sideways."""
    slab = image_phantom(np.ones((40, 48, 160), np.float32), seed=0, snr=float("inf"), shift_sd_nm=0.0)
    middle = slab[15:25]
    assert np.abs(middle - middle.mean()).max() < 0.05


def test_tilts_hold_zero():
    np.testing.assert_allclose(tilt_angles(60.0, 3.0), np.arange(-60, 61, 3))
    assert len(tilt_angles(50.5, 2.0)) == 51


def test_training_volume():
    tomogram, classes = training_volume(6, (32, 64, 96))
    assert tomogram.shape == classes.shape == (32, 64, 96)
    assert tomogram.dtype == np.float32
    assert classes.dtype == np.uint8
    assert np.isfinite(tomogram).all()
    again, truth = training_volume(6, (32, 64, 96))
    np.testing.assert_array_equal(tomogram, again)
    np.testing.assert_array_equal(classes, truth)
    assert (training_volume(7, (32, 64, 96))[0] != tomogram).any()


@pytest.mark.parametrize(
    "bad",
    [
        {"snr": 0.0},
        {"snr": float("nan")},
        {"snr": 1e-300},
        {"density": np.zeros((4, 4), np.float32)},
        {"voxel_size_angstrom": 0.0},
        {"voxel_size_angstrom": float("inf")},
        {"tilt_range_degrees": 90.0},
        {"tilt_step_degrees": 0.0},
        {"dose_per_angstrom2": 0.0},
        {"detector_at_nyquist": 0.0},
        {"sirt_iterations": -1},
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=rf"^{next(iter(bad))} must be"):
        image_phantom(**({"density": np.zeros((4, 4, 4), np.float32), "seed": 0, "snr": 1.0} | bad))


@pytest.mark.parametrize(("shape", "step"), [((64, 96, 128), 3.0), ((32, 96, 160), 0.5)])
def test_the_memory_it_takes_is_foretold(shape, step):
    image_phantom(make_phantom((32, 32, 32), seed=0).density, seed=0, snr=0.3)  # what is compiled is not counted
    tracemalloc.start()
    density = make_phantom(shape, seed=1).density
    image_phantom(density, seed=1, snr=0.3, tilt_step_degrees=step)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.7 < peak / projected_bytes(shape, 60.0, step) < 1.3


def test_the_dose_decides_only_the_kind_of_noise(phantom, clean):
    variances = []
    for dose in (5.0, 500.0):
        noise = image_phantom(phantom.density, seed=1, snr=0.3, dose_per_angstrom2=dose) - clean
        variances.append(noise.var(dtype=float))
    assert variances[0] == pytest.approx(variances[1], rel=1e-3)
