"""Robust centre and scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from cryoscale.segment.normalise import CLIP, centre_and_scale, normalised, sampled_slices


def test_centre_and_scale_are_the_median_and_the_scaled_mad() -> None:
    values = np.random.default_rng(0).normal(50.0, 7.0, (4, 50, 50)).astype(np.float32)
    values[0, :3] = 1e6  # gold
    centre, scale = centre_and_scale(values)
    assert centre == np.median(values.astype(np.float64))
    assert scale == pytest.approx(1.4826 * median_abs_deviation(values.astype(np.float64), axis=None))
    assert scale == pytest.approx(7.0, rel=0.03)


def test_an_empty_border_does_not_count() -> None:
    values = np.zeros(1000)
    values[:300] = np.random.default_rng(0).normal(50.0, 7.0, 300)
    centre, scale = centre_and_scale(values)
    assert centre == pytest.approx(50.0, abs=1.5)
    assert scale == pytest.approx(7.0, rel=0.2)


def test_voxels_that_are_not_finite_do_not_count() -> None:
    assert centre_and_scale(np.array([1.0, 2.0, 3.0, np.nan, np.inf])) == (2.0, 1.4826)


@pytest.mark.parametrize("values", [np.full(9, np.nan), np.full(9, 3.0), np.empty(0)])
def test_nothing_to_measure_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"finite|the same"):
        centre_and_scale(values)


def test_normalised_is_clipped_and_leaves_its_input_alone() -> None:
    values = np.array([-1000, 8, 10, 12, 1000], dtype=np.int16)
    values.flags.writeable = False
    np.testing.assert_array_equal(normalised(values, 10.0, 2.0), np.float32([-CLIP, -1, 0, 1, CLIP]))


@pytest.mark.parametrize(("centre", "scale"), [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_unusable_scale_is_refused(centre: float, scale: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        normalised(np.zeros(3), centre, scale)


def test_labels_do_not_depend_on_the_units_of_intensity() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 1001)
    for factor, shift in ((4.0, 0.0), (0.5, 64.0)):
        changed = values * factor + shift
        np.testing.assert_allclose(
            normalised(changed, *centre_and_scale(changed)), normalised(values, *centre_and_scale(values)), atol=2e-5
        )


def test_sampled_slices_are_spread_evenly() -> None:
    assert sampled_slices(100, 4) == [12, 37, 62, 87]
    assert sampled_slices(3, 16) == [0, 1, 2]
