"""The paper's images: rings of the thickness asked, discs that touch, Gaussians recovered from a histogram."""

import numpy as np
import pytest
from scipy import ndimage

from cryoscale.simulate.slices import (
    MEMBRANE,
    PROTEIN,
    Intensities,
    fit_intensities,
    paper_slice,
    paper_slices,
    ring_distance,
)

CLEAR = Intensities(10.0, 1.0, 2.0, 0.5)


def test_a_mixture_is_recovered_from_its_histogram():
    rng = np.random.default_rng(0)
    grey = np.concatenate([rng.normal(100, 10, 93_000), rng.normal(60, 6, 7_000)])
    found = fit_intensities(rng.permutation(grey))
    assert found.background_mean == pytest.approx(100, abs=0.3)
    assert found.background_sd == pytest.approx(10, rel=0.03)
    assert found.membrane_mean == pytest.approx(60, abs=1.5)
    assert found.membrane_sd == pytest.approx(6, rel=0.15)


def test_marks_give_their_own_mean_and_spread():
    grey = np.array([1.0, 2, 3, 10, 14])
    found = fit_intensities(grey, grey < 5)
    assert found == Intensities(12.0, 2.0, 2.0, pytest.approx(np.sqrt(2 / 3)))
    for marks in (np.ones(5, bool), np.zeros(5, bool), np.ones(4, bool)):
        with pytest.raises(ValueError, match="marks must be as many"):
            fit_intensities(grey, marks)
    with pytest.raises(ValueError, match="do not differ"):
        fit_intensities(np.ones(100))
    with pytest.raises(ValueError, match="values of the background do not differ"):
        fit_intensities(grey >= 10, grey < 5)


def test_a_circle_has_its_distance():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    distance = ring_distance(64, np.array([30.0, 33.0]), np.full(2, 20.0), turn)
    y, x = np.mgrid[:64, :64]
    np.testing.assert_allclose(distance, np.hypot(y - 30, x - 33) - 20, atol=1e-4)


def test_the_ring_of_an_ellipse_is_as_wide_everywhere():
    """The distance transform of the ellipse's own inside, by another way."""
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    distance = ring_distance(200, np.array([100.0, 98.0]), np.array([70.0, 40.0]), turn)
    exact = ndimage.distance_transform_edt(distance > 0) - ndimage.distance_transform_edt(distance <= 0)
    near = np.abs(exact) < 4
    assert np.abs(distance - exact)[near].max() < 1.0
    assert np.abs(np.mean((distance - exact)[near])) < 0.1


def test_images_follow_their_classes():
    stack = [paper_slice(3, n, CLEAR) for n in range(8)]
    image, classes = (np.stack(part) for part in zip(*stack, strict=True))
    for value, mean, sd in ((0, 10, 1), (PROTEIN, 2, 0.5), (MEMBRANE, 2, 0.5)):
        own = image[classes == value]
        assert own.mean() == pytest.approx(mean, abs=0.02)
        assert own.std() == pytest.approx(sd, rel=0.02)
    assert 0.02 < (classes == MEMBRANE).mean() < 0.2
    assert 0.001 < (classes == PROTEIN).mean() < 0.02


def test_discs_touch_membranes():
    touching = total = 0
    for n in range(12):
        _, classes = paper_slice(1, n, CLEAR)
        near = ndimage.binary_dilation(classes == MEMBRANE, iterations=2)
        discs, count = ndimage.label(classes == PROTEIN)
        edge = np.zeros(classes.shape, bool)
        edge[2:-2, 2:-2] = True
        for disc in range(1, count + 1):
            own = discs == disc
            # One cut by the image's border, or by another ring, may touch beyond it.
            if edge[own].all() and own.sum() > 25:
                total += 1
                touching += bool(near[own].any())
    assert total > 12
    assert touching == total


def test_one_seed_one_stack():
    images, classes = paper_slices(5, 2, 3, CLEAR, size=64)
    again = paper_slice(5, 3, CLEAR, size=64)
    np.testing.assert_array_equal(classes[1], again[1])
    np.testing.assert_allclose(images[1], again[0] - 10, atol=0.02)
    assert (paper_slice(6, 3, CLEAR, size=64)[0] != again[0]).any()
