"""Contrast transfer against tabulated values."""

import numpy as np
import pytest

from cryoscale.transfer import contrast_transfer, wavelength_angstrom

MICROSCOPE = {"defocus_um": 3.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}


@pytest.mark.parametrize(("kv", "angstrom"), [(100, 0.03701), (200, 0.02508), (300, 0.01969)])
def test_wavelength(kv, angstrom):
    assert wavelength_angstrom(kv) == pytest.approx(angstrom, abs=1e-5)


def test_contrast_is_dark_and_oscillates_unless_flipped():
    k = np.linspace(0, 0.05, 500)
    plain = contrast_transfer(k, **MICROSCOPE, phase_flip=False)
    assert plain[0] == pytest.approx(-0.1)
    # First zero where pi lambda df k^2 + asin A = pi, Cs being negligible there.
    zero = np.sqrt((1 - np.arcsin(0.1) / np.pi) / (wavelength_angstrom(300) * 3e4))
    assert k[np.flatnonzero(plain > 0)[0]] == pytest.approx(zero, abs=2e-4)
    flipped = contrast_transfer(k, **MICROSCOPE, phase_flip=True)
    assert (flipped <= 0).all()
    np.testing.assert_allclose(np.abs(flipped), np.abs(plain))
