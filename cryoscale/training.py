"""Train the network on simulated tomograms: the command behind the shipped weights.

``cryoscale train --output DIR --volumes N --minutes M --seed S`` simulates N tomograms of random content, voxel size,
defocus, tilt range and noise (training seeds S, S + 1, ...), holds out eight more at known noise (seeds from 10,000),
trains, and writes ``unet2d.safetensors``, its card ``unet2d.json`` and the log ``unet2d.log.csv``. Seeds from 90,000 on
are never used here: they belong to the tests of the whole pipeline.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscale import __version__
from cryoscale.errors import UsageError
from cryoscale.io.files import write_text
from cryoscale.segment.network import Network
from cryoscale.segment.train import Row, TrainSettings, Volume, log_csv, train
from cryoscale.segment.weights import save_model
from cryoscale.simulate import image_phantom, make_phantom, training_volume

__all__ = ["TEST_SEED", "VALIDATION_SEED", "simulated_volumes", "train_shipped", "validation_volumes"]

VALIDATION_SEED = 10_000
"""First seed of the held-out volumes."""
TEST_SEED = 90_000
"""First seed that no training may see."""
_VALIDATION_SNRS = (0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.6, 0.6)


def simulated_volumes(seeds: Sequence[int]) -> list[Volume]:
    """Simulate training volumes with everything drawn at random.

    Raises
    ------
    UsageError
        A seed is reserved for tests.
    """
    if any(seed >= TEST_SEED for seed in seeds):
        raise UsageError("a seed is reserved for tests", where="--seed", found=max(seeds), allowed=f"below {TEST_SEED}")
    return [_compact(*training_volume(seed)) for seed in seeds]


def validation_volumes() -> list[Volume]:
    """Simulate the held-out volumes, 10 Å a voxel, at known noise."""
    volumes = []
    for number, snr in enumerate(_VALIDATION_SNRS):
        phantom = make_phantom((64, 256, 256), seed=VALIDATION_SEED + number, preset="training")
        tomogram = image_phantom(phantom.density, seed=VALIDATION_SEED + number, snr=snr)
        volumes.append(_compact(tomogram, phantom.classes))
    return volumes


def _compact(tomogram: NDArray[np.float32], classes: NDArray[np.uint8]) -> Volume:
    """Half precision holds a noisy grey value to one part in a thousand, in half the memory."""
    return (tomogram / tomogram.std()).astype(np.float16), classes


def train_shipped(
    output: Path,
    *,
    volumes: int,
    minutes: float,
    steps: int | None,
    seed: int,
    threads: int,
    settings: TrainSettings | None = None,
) -> Path:
    """Simulate, train, and write weights, card and log.

    Parameters
    ----------
    output
        Folder; a checkpoint in it is continued.
    volumes
        Simulated tomograms to train on.
    minutes, steps
        Length of the training: `steps` where given, else `minutes`.
    seed
        First training seed.
    threads
        Processor threads.
    settings
        Architecture and optimiser.

    Returns
    -------
    Path of the weights.
    """
    torch.set_num_threads(threads)
    settings = settings or TrainSettings(seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    training = simulated_volumes(range(seed, seed + volumes))
    length = f"--steps {steps}" if steps is not None else f"--minutes {minutes:g}"
    card = {
        "name": "unet2d",
        "cryoscale": __version__,
        "torch": torch.__version__,
        "command": f"cryoscale train --output DIR --volumes {volumes} {length} --seed {seed}",
        "data": f"simulated: seeds {seed} to {seed + volumes - 1}, validation {VALIDATION_SEED} on, at SNR "
        + ", ".join(f"{snr:g}" for snr in sorted(set(_VALIDATION_SNRS))),
        "voxel_size_angstrom": [8.0, 16.0],
    }
    path = output / "unet2d.safetensors"

    def keep(model: Network, log: list[Row]) -> None:
        save_model(path, model, card | {"scores": log[-1]})
        write_text(path.with_suffix(".log.csv"), log_csv(log))
        print(", ".join(f"{name} {value:.4g}" for name, value in log[-1].items()), file=sys.stderr)  # noqa: T201

    train(
        training,
        validation=validation_volumes(),
        settings=settings,
        steps=steps,
        minutes=None if steps is not None else minutes,
        groups=[f"snr{snr:g}" for snr in _VALIDATION_SNRS],
        checkpoint=output / "checkpoint.safetensors",
        on_row=keep,
    )
    return path
