"""Simulated tomograms to train on, and to validate with, in the voxels that a network is to know.

In voxels of any size a wide tube of membrane may be as large as a microtubule in smaller ones; in a narrow range sizes
tell. What is simulated in other voxels is brought into the range as inference brings tomograms there
(`segment.resample`), so that a network is trained on what it will be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from cryoscale.spreading import spread

__all__ = ["VALIDATION_SEED", "VALIDATION_SNRS", "drawn_voxel_sizes", "simulated_samples", "validation_samples"]

VALIDATION_SEED = 10_000
"""First seed of the held-out volumes."""
VALIDATION_SNRS = (0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.6, 0.6)
_CLASSES = 3
_PROCESS_BYTES = 1 << 30
"""What a process that simulates takes, as it was seen: 0.9 GiB, most of it libraries."""


def drawn_voxel_sizes(presets: Sequence[str]) -> tuple[float, float]:
    """Least and largest voxel size, in Å, that presets are simulated with."""
    sizes = [training_conditions(name).voxel_size_angstrom for name in presets]
    return min(low for low, _ in sizes), max(high for _, high in sizes)


def simulated_samples(
    seeds: range,
    presets: Sequence[str],
    known_angstrom: tuple[float, float] | None = None,
    volumes: Sequence[Sequence[Drawn]] = (),
    *,
    processes: int = 1,
) -> list[Sample]:
    """Simulate one tomogram a seed, of each preset in its turn; the same in any number of processes.

    Parameters
    ----------
    seeds
        Of the tomograms.
    presets, volumes
        See :func:`cryoscale.simulate.training.training_volume`.
    known_angstrom
        Voxel sizes, least and largest, that the network is to know; None leaves all as they are simulated.
    processes
        At most so many tomograms at a time.
    """
    wanted = [(seed, presets[number % len(presets)]) for number, seed in enumerate(seeds)]
    make = partial(_training_sample, known_angstrom=known_angstrom, volumes=volumes)
    return spread(make, wanted, processes=processes, bytes_each=_PROCESS_BYTES, what="simulating tomograms to train on")


def validation_samples(processes: int = 1) -> list[Sample]:
    """Simulate the held-out volumes, 10 Å a voxel, at known noise."""
    wanted = list(enumerate(VALIDATION_SNRS, start=VALIDATION_SEED))
    what = "simulating tomograms to validate on"
    return spread(_validation_sample, wanted, processes=processes, bytes_each=_PROCESS_BYTES, what=what)


def _training_sample(
    wanted: tuple[int, str], *, known_angstrom: tuple[float, float] | None, volumes: Sequence[Sequence[Drawn]]
) -> Sample:
    seed, preset = wanted
    tomogram, classes = training_volume(seed, preset=preset, volumes=volumes if preset == "real" else ())
    if known_angstrom is not None:
        tomogram, classes = _known(tomogram, classes, training_voxel_size(seed, preset), known_angstrom)
    return _halved(tomogram, classes)


def _validation_sample(wanted: tuple[int, float]) -> Sample:
    seed, snr = wanted
    phantom = make_phantom((64, 256, 256), seed=seed, preset="training")
    return _halved(image_phantom(phantom.density, seed=seed, snr=snr, tilt_step_degrees=3.0), phantom.classes)


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
