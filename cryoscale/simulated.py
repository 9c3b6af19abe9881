"""Simulated tomograms to train on, and to validate with, in the voxels that a network is to know.

In voxels of any size a wide tube of membrane may be as large as a microtubule in smaller ones; in a narrow range sizes
tell. What is simulated in other voxels is brought into the range as inference brings tomograms there
(`segment.resample`), so that a network is trained on what it will be shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscale.chunks import whole
from cryoscale.segment.crops import Sample, sample_of
from cryoscale.segment.resample import grid_for
from cryoscale.simulate import (
    Drawn,
    image_phantom,
    make_phantom,
    training_conditions,
    training_volume,
    training_voxel_size,
)

__all__ = ["VALIDATION_SEED", "VALIDATION_SNRS", "drawn_voxel_sizes", "simulated_samples", "validation_samples"]

VALIDATION_SEED = 10_000
"""First seed of the held-out volumes."""
VALIDATION_SNRS = (0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.6, 0.6)
_CLASSES = 3


def drawn_voxel_sizes(presets: Sequence[str]) -> tuple[float, float]:
    """Least and largest voxel size, in Å, that presets are simulated with."""
    sizes = [training_conditions(name).voxel_size_angstrom for name in presets]
    return min(low for low, _ in sizes), max(high for _, high in sizes)


def simulated_samples(
    seeds: range,
    presets: Sequence[str],
    known_angstrom: tuple[float, float] | None = None,
    volumes: Sequence[Sequence[Drawn]] = (),
) -> list[Sample]:
    """Simulate one tomogram a seed, of each preset in its turn.

    Parameters
    ----------
    seeds
        Of the tomograms.
    presets, volumes
        See :func:`cryoscale.simulate.training.training_volume`.
    known_angstrom
        Voxel sizes, least and largest, that the network is to know; None leaves all as they are simulated.
    """
    samples = []
    for number, seed in enumerate(seeds):
        preset = presets[number % len(presets)]
        tomogram, classes = training_volume(seed, preset=preset, volumes=volumes if preset == "real" else ())
        if known_angstrom is not None:
            tomogram, classes = _known(tomogram, classes, training_voxel_size(seed, preset), known_angstrom)
        samples.append(_halved(tomogram, classes))
    return samples


def validation_samples() -> list[Sample]:
    """Simulate the held-out volumes, 10 Å a voxel, at known noise."""
    samples = []
    for number, snr in enumerate(VALIDATION_SNRS):
        phantom = make_phantom((64, 256, 256), seed=VALIDATION_SEED + number, preset="training")
        tomogram = image_phantom(phantom.density, seed=VALIDATION_SEED + number, snr=snr, tilt_step_degrees=3.0)
        samples.append(_halved(tomogram, phantom.classes))
    return samples


def _known(
    tomogram: NDArray[np.float32], classes: NDArray[np.uint8], voxel_size_angstrom: float, known: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Bring a tomogram into the known voxels; of the classes the one that most of a voxel is."""
    grid = grid_for(tomogram.shape, [voxel_size_angstrom] * 3, known)
    if grid is None:
        return tomogram, classes
    there, here = whole(grid.shape), whole(tomogram.shape)
    shares = [
        grid.to_model(torch.from_numpy((classes == value).astype(np.float32)), here, there) for value in range(_CLASSES)
    ]
    most = torch.stack(shares).argmax(dim=0).to(torch.uint8)
    return grid.to_model(torch.from_numpy(tomogram), here, there).numpy(), most.numpy()


def _halved(tomogram: NDArray[np.float32], classes: NDArray[np.uint8]) -> Sample:
    """Half precision holds a noisy grey value to one part in a thousand, in half the memory."""
    return sample_of((tomogram / tomogram.std()).astype(np.float16), classes)
