r"""The electron microscope as linear filters: the phase a volt makes, the detector, the weighting of back-projection.

A thin object of projected potential :math:`v` (volt ångström) turns the electron wave by the phase
:math:`\sigma v`. In the weak-phase approximation the recorded intensity, per incident electron, is
:math:`1 + 2 \sigma\, \mathrm{CTF} * v` with the CTF of `cryoscale.transfer`.
"""

import numpy as np
import numpy.typing as npt

from cryoscale.transfer import ELECTRON_REST_VOLTS, wavelength_angstrom


def interaction_per_volt_angstrom(voltage_kv: float) -> float:
    """Phase in radians by which one volt over one ångström turns the wave: 0.00065 at 300 kV."""
    volts = voltage_kv * 1e3
    relativity = (ELECTRON_REST_VOLTS + volts) / (2.0 * ELECTRON_REST_VOLTS + volts)
    return 2.0 * np.pi / (wavelength_angstrom(voltage_kv) * volts) * relativity


def detector_response(frequency_per_voxel: npt.NDArray[np.float64], at_nyquist: float) -> npt.NDArray[np.float64]:
    """Return the share of the signal that a counting detector keeps, at frequencies in cycles per voxel: a Gaussian.

    The noise of single electrons stays white, so that this is the square root of DQE(k) / DQE(0).
    """
    response: npt.NDArray[np.float64] = at_nyquist ** ((2.0 * frequency_per_voxel) ** 2)
    return response


def sirt_weights(length: int, iterations: int) -> npt.NDArray[np.float64]:
    r"""Weights that stop where so many steps of SIRT would, for a real FFT of ``length`` samples.

    Back-projection has the transfer :math:`1 / w` where w is the ramp; n steps :math:`x \leftarrow x + a B (y - P x)`
    from 0 come to :math:`w (1 - (1 - a / w)^n)`. The step a is the ramp's lowest frequency that ``length`` tells apart
    from 0, which one step then settles.
    """
    ramp = ramp_weights(length, window=False)
    left: npt.NDArray[np.float64] = np.maximum(1.0 - ramp[1] / ramp, 0.0) ** iterations
    return ramp * (1.0 - left)


def ramp_weights(length: int, *, window: bool = True) -> npt.NDArray[np.float64]:
    r"""Weights of filtered back-projection for a real FFT of ``length`` samples.

    The transform of the sampled ramp :math:`h_0 = 1/4,\ h_n = -1/(\pi n)^2` for odd n (Kak and Slaney, 1988, eq. 3.61:
    it keeps the mean of the object, which the sampled :math:`|k|` does not), rolled off by a Hamming ``window``.
    """
    n = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.where(n % 2 == 1, -1.0 / (np.pi * np.maximum(n, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    frequency = np.fft.rfftfreq(length)
    weights: npt.NDArray[np.float64] = np.fft.rfft(kernel).real
    return weights * (0.54 + 0.46 * np.cos(2.0 * np.pi * frequency)) if window else weights
