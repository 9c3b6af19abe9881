"""What a microscope and its user choose: fixed, or drawn from ranges for each tomogram.

The defaults are those of SHREC 2021 (Gubins et al., 2021): 61 tilts over +-60 degrees, defocus 2-5 um, 300 kV,
Cs 2.7 mm, 100-120 electrons per square ångström in all, voxels of 10 Å, SNR 0.12-0.58, weighted back-projection.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Conditions:
    """Ranges, their ends included, of what :func:`cryoscale.simulate.microscope.image_phantom` takes."""

    voxel_size_angstrom: Range = (10.0, 10.0)
    snr: Range = (0.12, 0.58)
    """Equally likely per octave."""
    noise_free: float = 0.0
    """Share of tomograms without noise."""
    tilt_range_degrees: Range = (60.0, 60.0)
    tilt_steps_degrees: tuple[float, ...] = (2.0,)
    defocus_um: Range = (2.0, 5.0)
    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: Range = (0.07, 0.1)
    dose_per_angstrom2: Range = (100.0, 120.0)
    """Decides only of what kind the noise is: `snr` says how much of it there is."""
    shift_sd_nm: Range = (0.0, 1.0)
    phase_flipped: float = 1.0
    """Share of tomograms with the CTF's sign corrected."""
    detector_at_nyquist: Range = (0.6, 0.95)
    sirt: float = 0.0
    """Share of tomograms weighted like SIRT."""
    sirt_iterations: tuple[int, ...] = (8, 15, 30)

    def drawn(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw one value of each, as arguments of `image_phantom` by their names."""
        noisy = rng.random() >= self.noise_free
        snr = float(np.exp(rng.uniform(*np.log(self.snr))))
        return {
            "voxel_size_angstrom": rng.uniform(*self.voxel_size_angstrom),
            "snr": snr if noisy else float("inf"),
            "tilt_range_degrees": rng.uniform(*self.tilt_range_degrees),
            "tilt_step_degrees": float(rng.choice(self.tilt_steps_degrees)),
            "defocus_um": rng.uniform(*self.defocus_um),
            "voltage_kv": self.voltage_kv,
            "cs_mm": self.cs_mm,
            "amplitude_contrast": rng.uniform(*self.amplitude_contrast),
            "dose_per_angstrom2": rng.uniform(*self.dose_per_angstrom2),
            "shift_sd_nm": rng.uniform(*self.shift_sd_nm),
            "phase_flip": bool(rng.random() < self.phase_flipped),
            "detector_at_nyquist": rng.uniform(*self.detector_at_nyquist),
            "sirt_iterations": int(rng.choice(self.sirt_iterations)) if rng.random() < self.sirt else 0,
        }


#: The whole of what real collections look like.
WIDE = Conditions(
    voxel_size_angstrom=(8.0, 20.0),
    snr=(0.05, 0.6),
    noise_free=0.1,
    tilt_range_degrees=(40.0, 70.0),
    tilt_steps_degrees=(1.0, 2.0, 3.0),
    amplitude_contrast=(0.07, 0.14),
    dose_per_angstrom2=(60.0, 140.0),
    phase_flipped=2 / 3,
    sirt=0.3,
)
#: Of the preset training; for training itself, `training.training_volume` draws about the same by itself.
TRAINING = Conditions(
    voxel_size_angstrom=(8.0, 16.0),
    snr=(0.05, 0.6),
    noise_free=0.1,
    tilt_range_degrees=(50.0, 66.0),
    tilt_steps_degrees=(2.0, 3.0),
    amplitude_contrast=(0.07, 0.14),
    phase_flipped=2 / 3,
    detector_at_nyquist=(0.6, 1.0),
)
#: Of the demo: a plain series of 41 tilts.
DEMO = Conditions(
    snr=(0.3, 0.3),
    tilt_steps_degrees=(3.0,),
    defocus_um=(3.0, 3.0),
    amplitude_contrast=(0.1, 0.1),
    dose_per_angstrom2=(110.0, 110.0),
    shift_sd_nm=(0.5, 0.5),
    detector_at_nyquist=(1.0, 1.0),
)
