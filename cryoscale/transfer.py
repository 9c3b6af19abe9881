r"""Contrast transfer: how much of each spatial frequency of a thin object an electron microscope shows.

.. math::
    \mathrm{CTF}(k) = -\sin\bigl(\chi(k) + \arcsin A\bigr), \qquad
    \chi(k) = \pi \lambda \Delta f k^2 - \tfrac{\pi}{2} C_s \lambda^3 k^4,

:math:`\Delta f > 0` for underfocus and :math:`A` the amplitude contrast: dense matter comes out dark. The sign of the
CTF alternates; phase flipping multiplies by that sign, so that every frequency comes out dark.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["ELECTRON_REST_VOLTS", "contrast_transfer", "wavelength_angstrom"]

ELECTRON_REST_VOLTS = 510_998.95


def wavelength_angstrom(voltage_kv: float) -> float:
    """Relativistic wavelength of the electron in ångström: 0.0197 at 300 kV."""
    volts = voltage_kv * 1e3
    return 12.264_26 / float(np.sqrt(volts * (1.0 + volts / (2.0 * ELECTRON_REST_VOLTS))))


def contrast_transfer(
    frequency_per_angstrom: npt.NDArray[np.float64],
    *,
    defocus_um: float,
    voltage_kv: float,
    cs_mm: float,
    amplitude_contrast: float,
    phase_flip: bool,
) -> npt.NDArray[np.float64]:
    """Contrast transfer function at the given spatial frequencies, of their shape; -1 to 1."""
    wavelength = wavelength_angstrom(voltage_kv)
    k2 = frequency_per_angstrom**2
    chi = np.pi * wavelength * defocus_um * 1e4 * k2 - 0.5 * np.pi * cs_mm * 1e7 * wavelength**3 * k2**2
    transfer: npt.NDArray[np.float64] = -np.sin(chi + np.arcsin(amplitude_contrast))
    return -np.abs(transfer) if phase_flip else transfer
