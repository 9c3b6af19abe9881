"""Peaks fitted to profiles: against Gaussians, the transform that filters them, and the scatter of many fits."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from cryoscale.measure.descent import descend
from cryoscale.measure.peaks import _Waves, fit_peaks, transfer_at
from cryoscale.transfer import contrast_transfer, wavelength_angstrom

OFFSETS = np.arange(-14, 15) * 0.5
SAME = transfer_at(0.0, 300.0)


def test_without_a_microscope_peaks_are_gaussians():
    values = np.array([[0.3, 0.02, 1.0, 0.7, 3.6, 0.4, 0.8], [0, 0, -2, -1, 9.0, -2.5, 0.4], [1, 0, 1, 2, 4.0, 1, 3.0]])
    b0, b1, a1, a2, t, c, w = values.T[:, :, None]
    true = b0 + b1 * OFFSETS
    for side, height in ((1, a1), (-1, a2)):
        true = true + height * np.exp(-0.5 * ((OFFSETS - c - side * t / 2) / w) ** 2)
    np.testing.assert_allclose(_Waves(OFFSETS, SAME).model(values)[0], true, atol=1e-4)


def test_peaks_through_a_microscope_are_filtered_ones():
    fine = (np.arange(4096) - 2048) * 0.05
    layers = sum(np.exp(-0.5 * ((fine - side * 1.9 - 0.3) / 0.8) ** 2) for side in (-1, 1))
    keys = {"defocus_um": 3.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "phase_flip": True}
    transfer = -contrast_transfer(np.fft.rfftfreq(4096, 0.5), **keys)
    seen = np.fft.irfft(np.fft.rfft(layers) * transfer, 4096)
    model, _ = _Waves(OFFSETS, transfer_at(3.0, 300.0)).model(np.array([[0, 0, 1, 1, 3.8, 0.3, 0.8]]))
    np.testing.assert_allclose(model[0], np.interp(OFFSETS, fine, seen), atol=2e-3)


def test_voltage_counts_as_its_wavelength():
    alike = 3.0 * wavelength_angstrom(120) / wavelength_angstrom(300)
    np.testing.assert_allclose(transfer_at(3.0, 120.0)[:26], transfer_at(alike, 300.0)[:26], atol=0.02)
    assert np.abs(transfer_at(3.0, 120.0) - transfer_at(3.0, 300.0)).max() > 0.5


@pytest.mark.parametrize("defocus", [0.0, 3.0])
def test_derivatives_are_those_of_the_model(defocus):
    waves, values = _Waves(OFFSETS, transfer_at(defocus, 300.0)), np.array([[0.1, 0.2, 1.1, 0.8, 3.7, 0.3, 0.9]])
    _, slopes = waves.model(values)
    for k in range(7):
        step = 1e-6 * np.eye(7)[k]
        found = (waves.model(values + step)[0] - waves.model(values - step)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, :, k], found, atol=1e-6)


def test_offset_and_scale_of_the_density_do_not_matter():
    lines = np.random.default_rng(0).normal(size=(3, len(OFFSETS))) + np.exp(-0.5 * (np.abs(OFFSETS) - 2) ** 2) * 9
    spread = np.tile(np.eye(len(OFFSETS)), (3, 1, 1))
    one, two = fit_peaks(lines, spread, OFFSETS, SAME), fit_peaks(100 * lines + 7, 1e4 * spread, OFFSETS, SAME)
    np.testing.assert_allclose(two.values[:, 4:], one.values[:, 4:], rtol=1e-5)
    np.testing.assert_allclose(two.errors[:, 4:], one.errors[:, 4:], rtol=1e-5)
    np.testing.assert_allclose(two.values[:, 2], 100 * one.values[:, 2], rtol=1e-5)


def test_errors_are_the_scatter_of_fits():
    truth = np.exp(-0.5 * ((OFFSETS - 1.7) / 0.9) ** 2) + np.exp(-0.5 * ((OFFSETS + 1.7) / 0.9) ** 2)
    correlation = 0.05**2 * np.exp(-np.abs(OFFSETS[:, None] - OFFSETS) / 0.7)
    draws = np.random.default_rng(3).multivariate_normal(truth, correlation, 400)
    found = fit_peaks(draws, np.tile(correlation, (400, 1, 1)), OFFSETS, SAME)
    assert found.values[:, 4].mean() == pytest.approx(3.4, abs=0.02)
    assert np.median(found.errors[:, 4]) == pytest.approx(found.values[:, 4].std(), rel=0.2)
    # Mutant: taking the points for independent makes the error too small.
    alone = fit_peaks(draws, np.tile(np.diag(np.diag(correlation)), (400, 1, 1)), OFFSETS, SAME)
    assert np.median(alone.errors[:, 4]) < 0.8 * found.values[:, 4].std()


def test_widths_that_scatter_are_part_of_the_fit():
    rng = np.random.default_rng(5)
    width, noise = rng.normal(1.1, 0.12, 400), 0.03**2 * np.exp(-np.abs(OFFSETS[:, None] - OFFSETS) / 0.7)
    lines = sum(np.exp(-0.5 * ((OFFSETS - side * 1.5) / width[:, None]) ** 2) for side in (-1, 1))
    lines = lines + rng.multivariate_normal(np.zeros(len(OFFSETS)), noise, 400)
    spread = np.tile(noise, (400, 1, 1))
    drawn = fit_peaks(lines, spread, OFFSETS, SAME, width=1.1, width_sd=0.12)
    held = fit_peaks(lines, spread, OFFSETS, SAME, width=1.1)
    free = fit_peaks(lines, spread, OFFSETS, SAME)
    off = {name: found.values[:, 4] - 3.0 for name, found in (("drawn", drawn), ("held", held), ("free", free))}
    assert np.sqrt(np.mean((off["drawn"] / drawn.errors[:, 4]) ** 2)) == pytest.approx(1, abs=0.15)
    assert off["drawn"].std() < 0.7 * off["held"].std()
    assert off["drawn"].std() < 1.02 * off["free"].std()
    assert held.wider.std() == pytest.approx(np.hypot(0.12, np.median(held.wider_error)), rel=0.2)
    assert np.median(drawn.excess) == pytest.approx(1, abs=0.2)
    # Mutant: one width for all.
    assert np.sqrt(np.mean((off["held"] / held.errors[:, 4]) ** 2)) > 1.6


@pytest.mark.parametrize(("free", "pull", "defocus"), [(7, 0.0, 0.0), (7, 0.6, 3.0), (6, 0.0, 3.0)])
def test_the_descent_ends_where_scipys_does(free, pull, defocus):
    rng, waves = np.random.default_rng(11), _Waves(OFFSETS, transfer_at(defocus, 300.0))
    truth = np.column_stack(
        [rng.normal(size=(40, 2)) * [0.2, 0.02], rng.uniform(0.4, 1.2, (40, 2)), rng.uniform(2.5, 6, 40),
         rng.uniform(-2, 2, 40), rng.uniform(0.5, 1.5, 40)]
    )  # fmt: skip
    lines = waves.model(truth)[0] + rng.normal(0, 0.05, (40, len(OFFSETS)))
    low = np.array([-np.inf] * 4 + [0.5, -2.5, 0.4])
    high = np.array([np.inf] * 4 + [9.0, 2.5, 3.0])
    starts = truth * [1, 1, 1, 1, 1.1, 1, 1] + [0, 0, 0.1, 0, 0, 0.2, 0]
    starts[:, 4:] = np.clip(starts[:, 4:], low[4:], high[4:])
    pulls = np.full(40, pull)
    found, cost = descend(lines, starts, free, pulls, 1.0, low, high, *waves.tables(40))
    for row in range(40):

        def left(x, row=row):
            values = np.append(x, starts[row, free:])
            return np.append(waves.model(values[None])[0][0] - lines[row], np.sqrt(pull) * (values[6] - 1.0))

        # `trf` does not begin on a bound.
        begin = np.clip(starts[row], low + 1e-9, high - 1e-9)[:free]
        best = least_squares(left, begin, bounds=(low[:free], high[:free]), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert cost[row] == pytest.approx((left(found[row, :free]) ** 2).sum())
        assert cost[row] <= 2 * best.cost * (1 + 1e-4)
        np.testing.assert_array_equal(found[row, free:], starts[row, free:])
        assert (found[row] >= low).all() and (found[row] <= high).all()
    far = np.abs(found[:, 4:6] - truth[:, 4:6])
    assert np.median(far) < 0.1
