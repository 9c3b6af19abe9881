"""Pairs of a tomogram and its truth to train a network on, as varied as real data are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cryoscale.simulate.conditions import TRAINING, Conditions
from cryoscale.simulate.family import CONDITIONS, posed_scene
from cryoscale.simulate.labels import Drawn
from cryoscale.simulate.microscope import image_phantom
from cryoscale.simulate.phantom import draw, make_phantom

#: Planes imaged above and below what is returned: whole specimens go on beyond what a network is shown.
SURROUND_VOXELS = 24


def training_conditions(preset: str) -> Conditions:
    """Ranges that tomograms of a preset are simulated in to be trained on: real shapes in those of training."""
    return TRAINING if preset == "real" else CONDITIONS[preset]


def training_volume(
    seed: int,
    shape: tuple[int, int, int] = (64, 256, 256),
    preset: str = "training",
    volumes: Sequence[Sequence[Drawn]] = (),
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Simulate one tomogram of a training scene, with the microscope and the noise drawn at random.

    Of the preset training: voxel size 8-16 Å, tilts to 50-66 degrees by 2 or 3, defocus 2-5 um, SNR 0.05-0.6 with
    equal weight per octave (none in every tenth volume), alignment errors of up to 1 nm, CTF phase-flipped in two of
    three volumes. Those of the others, `training_conditions` says.

    Parameters
    ----------
    seed : int
    shape : (z, y, x)
        At least 32 voxels a side.
    preset
        A name in `family.CONDITIONS`.
    volumes
        Membranes of label volumes, in nm (`labels.drawn_shapes`), for the preset real: each tomogram has those of one.

    Returns
    -------
    tomogram : ndarray (z, y, x) float32
        In volts as from :func:`cryoscale.simulate.microscope.image_phantom`: not normalised.
    classes : ndarray (z, y, x) uint8
        0 background, 1 protein, 2 membrane.

    Raises
    ------
    ValueError
        If there are volumes without the preset real, or this without them.
    """
    if (preset == "real") != bool(volumes):
        msg = f"volumes must be given with the preset real and with no other, got {len(volumes)} with {preset!r}"
        raise ValueError(msg)
    rng = np.random.default_rng([seed, 1])
    imaging = _drawn(rng, preset)
    deep = (shape[0] + 2 * SURROUND_VOXELS, shape[1], shape[2])
    if volumes:
        content = np.random.default_rng(seed)
        phantom = draw(posed_scene(content, deep, imaging["voxel_size_angstrom"] / 10.0, volumes), content)
    else:
        phantom = make_phantom(deep, seed=seed, voxel_size_angstrom=imaging["voxel_size_angstrom"], preset=preset)
    tomogram = image_phantom(phantom.density, seed=seed, **imaging)
    # Anywhere in depth: at times with the face of the ice in view.
    first = int(rng.integers(0, 2 * SURROUND_VOXELS + 1))
    kept = slice(first, first + shape[0])
    return np.ascontiguousarray(tomogram[kept]), np.ascontiguousarray(phantom.classes[kept])


def training_voxel_size(seed: int, preset: str = "training") -> float:
    """Voxel size, in Å, of what :func:`training_volume` simulates."""
    return float(_drawn(np.random.default_rng([seed, 1]), preset)["voxel_size_angstrom"])


def _drawn(rng: np.random.Generator, preset: str) -> dict[str, Any]:
    return _drawn_as_shipped(rng) if preset == "training" else training_conditions(preset).drawn(rng)


def _drawn_as_shipped(rng: np.random.Generator) -> dict[str, Any]:
    """Draw what the shipped weights saw; to the bit, also in the order of the draws."""
    voxel_size_angstrom = rng.uniform(*TRAINING.voxel_size_angstrom)
    noisy = rng.random() >= 0.1
    return {
        "voxel_size_angstrom": voxel_size_angstrom,
        "snr": float(np.exp(rng.uniform(np.log(0.05), np.log(0.6)))) if noisy else float("inf"),
        "tilt_range_degrees": rng.uniform(50.0, 66.0),
        "tilt_step_degrees": float(rng.choice([2.0, 3.0])),
        "defocus_um": rng.uniform(2.0, 5.0),
        "amplitude_contrast": rng.uniform(0.07, 0.14),
        "shift_sd_nm": rng.uniform(0.0, 1.0),
        "phase_flip": bool(rng.random() < 2 / 3),
    }
