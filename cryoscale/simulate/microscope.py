r"""A tilt series of a phantom, and the tomogram reconstructed from it.

.. math:: \text{tomogram} = W\bigl[\mathrm{CTF} * P\,v\bigr]\,/\,(2\sigma a) \;+\; c\, W[\text{Poisson noise}]

with :math:`P` the projections at all tilts, :math:`W` the ramp-weighted back-projection and :math:`a` the voxel size.
Everything is linear in the density but the noise, so the noise is reconstructed by itself and scaled by the one
number :math:`c` that makes the signal-to-noise ratio exactly the one asked. The limited tilt range leaves a missing
wedge: membranes whose normal lies along the beam all but vanish, those seen edge-on stay clear.
"""

import math

import numpy as np
import numpy.typing as npt
import scipy.fft

from cryoscale.simulate.optics import (
    detector_response,
    interaction_per_volt_angstrom,
    ramp_weights,
    sirt_weights,
)
from cryoscale.simulate.tilt import back_project, project
from cryoscale.transfer import contrast_transfer

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

#: Inelastic mean free path in ice at 300 kV: what is left of the beam after the slab.
MEAN_FREE_PATH_NM = 300.0
#: Below it nothing of the signal can be found again, and far below it the noise is no number.
LEAST_SNR = 1e-6
#: Detector columns and rows beyond the object's shadow, where images fade out before they are filtered.
FRINGE_VOXELS = 24


def image_phantom(
    density: Floats,
    *,
    seed: int,
    snr: float,
    voxel_size_angstrom: float = 10.0,
    tilt_range_degrees: float = 60.0,
    tilt_step_degrees: float = 2.0,
    defocus_um: float = 3.0,
    voltage_kv: float = 300.0,
    cs_mm: float = 2.7,
    amplitude_contrast: float = 0.1,
    dose_per_angstrom2: float = 110.0,
    shift_sd_nm: float = 0.5,
    phase_flip: bool = True,
    detector_at_nyquist: float = 1.0,
    sirt_iterations: int = 0,
) -> Floats:
    """Simulate the tomogram of a density (Gubins et al. 2021 have the same chain, and these numbers).

    The signal-to-noise ratio is the variance of the noise-free reconstruction (missing wedge, CTF and shifts
    included) over the variance of the noise in the reconstruction, both over the whole returned volume. With one seed
    the noise-free part is the same at every ``snr``.

    Parameters
    ----------
    density : ndarray (z, y, x)
        Excess potential over ice in volts; the specimen ends at the first and last z plane and goes on, mirrored,
        beyond the x faces.
    seed : int
        Decides shifts and noise.
    snr : float
        At least :data:`LEAST_SNR`; ``inf`` for no noise.
    voxel_size_angstrom : float
    tilt_range_degrees, tilt_step_degrees : float
        Tilts from minus to plus the range about the y axis.
    defocus_um : float
        Underfocus is positive.
    voltage_kv, cs_mm, amplitude_contrast : float
        Of the microscope.
    dose_per_angstrom2 : float
        Electrons for the whole series, shared equally. They decide only of what kind the noise is (few counts
        are skewed, many all but Gaussian): it is scaled to ``snr``, which alone says how much of it there is.
    shift_sd_nm : float
        Standard deviation of the error of alignment, per image and axis.
    phase_flip : bool
        Correct the alternating sign of the CTF.
    detector_at_nyquist : float
        What the detector keeps of the signal's highest frequency (`optics.detector_response`).
    sirt_iterations : int
        Above 0: weight as so many steps of SIRT would instead of by the ramp (`optics.sirt_weights`).

    Returns
    -------
    ndarray (z, y, x) float32
        Volts, dense matter dark (negative).

    Raises
    ------
    ValueError
        When the density is not a volume, or a number lies outside its range.
    """
    _check(density, snr, voxel_size_angstrom, tilt_range_degrees, tilt_step_degrees, dose_per_angstrom2)
    _check_filters(detector_at_nyquist, sirt_iterations)
    rng = np.random.default_rng(seed)
    tilts = tilt_angles(tilt_range_degrees, tilt_step_degrees)
    shifts_voxels = rng.normal(0.0, shift_sd_nm * 10.0 / voxel_size_angstrom, (len(tilts), 2))
    volts = 2.0 * interaction_per_volt_angstrom(voltage_kv) * voxel_size_angstrom
    shape = (density.shape[0], density.shape[1], density.shape[2])
    images = np.float32(volts) * _project_slab(density, tilts)
    frequency = np.hypot(*_frequencies(images.shape[1:]))
    transfer = contrast_transfer(
        frequency / voxel_size_angstrom,
        defocus_um=defocus_um,
        voltage_kv=voltage_kv,
        cs_mm=cs_mm,
        amplitude_contrast=amplitude_contrast,
        phase_flip=phase_flip,
    )
    _image(images, transfer * detector_response(frequency, detector_at_nyquist), shifts_voxels)
    signal = reconstruct(images, tilts, shape, sirt_iterations) / np.float32(volts)
    if math.isinf(snr):
        return signal
    electrons = dose_per_angstrom2 / len(tilts) * voxel_size_angstrom**2
    _count(images, tilts, electrons, density.shape[0] * voxel_size_angstrom / 10.0, rng)
    noise = reconstruct(images, tilts, shape, sirt_iterations)
    signal += noise * np.float32(math.sqrt(_variance(signal) / (snr * _variance(noise))))
    return signal


def projected_bytes(shape: tuple[int, int, int], tilt_range_degrees: float, tilt_step_degrees: float) -> int:
    """Memory that it takes to make a phantom and image it, in bytes: about, as it was measured.

    Parameters
    ----------
    shape : (z, y, x)
    tilt_range_degrees, tilt_step_degrees : float
        As `image_phantom` takes them.
    """
    depth, height, breadth = shape
    tilts = 2 * math.floor(tilt_range_degrees / tilt_step_degrees + 1e-9) + 1
    width = math.ceil(math.hypot(depth, breadth)) + 2 * FRINGE_VOXELS
    # Truth, density and what it is projected from; images, as they are made and as they are filtered.
    return 25 * depth * height * breadth + 10 * tilts * (height + 2 * FRINGE_VOXELS) * width


def _image(images: Floats, transfer: Doubles, shifts_voxels: Doubles) -> None:
    """Turn projections (t, y, x) into what the microscope makes of them, each moved by its error of alignment."""
    y, x = _frequencies(images.shape[1:])
    for image, shift in zip(images, shifts_voxels, strict=True):
        image[:] = _filtered(image, transfer * np.exp(-2j * np.pi * (y * shift[0] + x * shift[1])))


def _count(images: Floats, tilts: Doubles, electrons: float, thickness_nm: float, rng: np.random.Generator) -> None:
    """Turn images into the noise of counting so many electrons a pixel, fewer where the specimen is thicker."""
    for image, tilt in zip(images, np.radians(tilts), strict=True):
        left = electrons * math.exp(-thickness_nm / (MEAN_FREE_PATH_NM * math.cos(tilt)))
        # Gold may drive the weak-phase image below zero, where no detector follows.
        expected = left * np.maximum(1.0 + image, 0.05)
        image[:] = (rng.poisson(expected) - expected) / left


def tilt_angles(tilt_range_degrees: float, tilt_step_degrees: float) -> Doubles:
    """Tilts of a symmetric series in degrees, always with 0 among them."""
    steps = math.floor(tilt_range_degrees / tilt_step_degrees + 1e-9)
    return np.arange(-steps, steps + 1, dtype=np.float64) * tilt_step_degrees


def reconstruct(
    images: Floats, tilts_degrees: npt.NDArray[np.float64], shape: tuple[int, int, int], sirt_iterations: int = 0
) -> Floats:
    """Weighted back-projection of evenly spaced tilts.

    Parameters
    ----------
    images : ndarray (t, y, width)
        Projections, centred like those of :func:`cryoscale.simulate.tilt.project`; rows beyond ``shape[1]`` are a
        fringe of equal width on both sides and are left out.
    tilts_degrees : ndarray (t,)
    shape : (z, y, x)
    sirt_iterations : int
        0 for the ramp.

    Returns
    -------
    ndarray (z, y, x) float32
        With 180 degrees of tilts this inverts the projection; with fewer, up to the missing wedge.
    """
    fringe = (images.shape[1] - shape[1]) // 2
    width = images.shape[2]
    # Twice the width, so that the ramp's long tails do not wrap round.
    length = scipy.fft.next_fast_len(2 * width, real=True)
    spacing = np.radians(abs(tilts_degrees[1] - tilts_degrees[0])) if len(tilts_degrees) > 1 else np.pi
    ramp = sirt_weights(length, sirt_iterations) if sirt_iterations else ramp_weights(length)
    weights = (ramp * spacing).astype(np.float32)
    weighted = np.empty((len(images), shape[1], width), np.float32)
    for image, out in zip(images, weighted, strict=True):
        spectrum = scipy.fft.rfft(image[fringe : fringe + shape[1]], length, axis=1) * weights
        out[:] = scipy.fft.irfft(spectrum, length, axis=1)[:, :width]
    return back_project(weighted, tilts_degrees, shape)


def _project_slab(density: Floats, tilts: npt.NDArray[np.float64]) -> Floats:
    """Project with the lateral surroundings mirrored, fading to the mean at the detector's own edges."""
    depth, _, breadth = density.shape
    reach = math.ceil(0.5 * depth * math.tan(math.radians(min(float(tilts.max()), 70.0)))) + FRINGE_VOXELS
    pad = min(breadth - 1, reach)
    width = math.ceil(math.hypot(depth, breadth)) + 2 * FRINGE_VOXELS
    rows = np.pad(density, ((0, 0), (0, 0), (pad, pad)), mode="reflect") if pad else density
    images = project(rows, tilts, width)
    images -= images.mean(axis=(1, 2), keepdims=True)
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(FRINGE_VOXELS) + 0.5) / FRINGE_VOXELS)
    images[:, :, :FRINGE_VOXELS] *= fade.astype(np.float32)
    images[:, :, -FRINGE_VOXELS:] *= fade[::-1].astype(np.float32)
    fringe = min(FRINGE_VOXELS, images.shape[1] - 1)
    return np.pad(images, ((0, 0), (fringe, fringe), (0, 0)), mode="reflect")


def _frequencies(shape: tuple[int, ...]) -> tuple[Doubles, Doubles]:
    """Frequencies in cycles per voxel for a real FFT of images (y, x), ready to broadcast."""
    y: Doubles = np.fft.fftfreq(shape[0]).astype(np.float64)
    x: Doubles = np.fft.rfftfreq(shape[1]).astype(np.float64)
    return y[:, None], x[None, :]


def _filtered(image: Floats, transfer: npt.NDArray[np.complex128]) -> Floats:
    spectrum = scipy.fft.rfft2(image) * transfer.astype(np.complex64)
    filtered: Floats = scipy.fft.irfft2(spectrum, image.shape)
    return filtered


def _variance(volume: Floats) -> float:
    return float(np.var(volume, dtype=np.float64))


def _check(density: Floats, snr: float, voxel_size: float, tilt_range: float, step: float, dose: float) -> None:
    if density.ndim != 3 or min(density.shape) < 2:
        msg = f"density must be a volume (z, y, x) of at least 2 voxels a side, got shape {density.shape}"
        raise ValueError(msg)
    for name, value, sound, allowed in (
        ("snr", snr, snr >= LEAST_SNR, f"at least {LEAST_SNR:g} (inf for no noise)"),
        ("voxel_size_angstrom", voxel_size, 0 < voxel_size < math.inf, "above 0"),
        ("dose_per_angstrom2", dose, 0 < dose < math.inf, "above 0"),
        ("tilt_range_degrees", tilt_range, 0 < tilt_range < 90, "above 0 and below 90"),
        ("tilt_step_degrees", step, 0 < step <= tilt_range, "above 0 and at most tilt_range_degrees"),
    ):
        if not sound:
            msg = f"{name} must be {allowed}, got {value}"
            raise ValueError(msg)


def _check_filters(detector_at_nyquist: float, sirt_iterations: int) -> None:
    if not 0 < detector_at_nyquist <= 1:
        msg = f"detector_at_nyquist must be above 0, at most 1, got {detector_at_nyquist}"
        raise ValueError(msg)
    if sirt_iterations < 0:
        msg = f"sirt_iterations must be 0 or more, got {sirt_iterations}"
        raise ValueError(msg)
