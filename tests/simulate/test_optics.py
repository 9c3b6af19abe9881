"""The microscope's filters against tabulated values."""

import numpy as np
import pytest

from cryoscale.simulate.optics import interaction_per_volt_angstrom, ramp_weights


def test_interaction():
    assert interaction_per_volt_angstrom(300) == pytest.approx(6.526e-4, rel=1e-3)
    assert interaction_per_volt_angstrom(100) == pytest.approx(9.244e-4, rel=1e-3)


def test_ramp_follows_frequency_and_rolls_off():
    weights = ramp_weights(256)
    frequency = np.fft.rfftfreq(256)
    np.testing.assert_allclose(
        weights[5:30], frequency[5:30] * (0.54 + 0.46 * np.cos(2 * np.pi * frequency[5:30])), rtol=0.02
    )
    assert weights[-1] == pytest.approx(0.5 * 0.08, rel=0.02)
    assert 0 < weights[0] < frequency[1]
