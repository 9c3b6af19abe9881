"""Which network is worth its time: each trained for equal processor time on the same tomograms, and what each costs.

    python -m benchmarks networks [--size small|medium|full] [--minutes N] [--model NAME ...] [--json FILE]

`unet2d` (16 channels, one slice), `unet25d` (16 channels, five slices), `unet3d` (8 channels, boxes of 32 x 96 x 96)
see tomograms of the preset training, with the settings of their own `cryoscale train`. A few steps tell how long one
takes, and the length follows, so that the learning rate falls to 0 in the time all have. Scores are of every slice of
simulated tomograms that no training saw, 10 Å a voxel, at SNR 0.1 and 0.3. Costs: processor seconds of a step and per
million voxels scored, one thread. Another network is not better for a difference as small as between two seeds:
`--seed` draws other weights and crops.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks._machine import write_part
from cryoscale.segment.crops import Sample, sample_of
from cryoscale.segment.settings import settings_for
from cryoscale.segment.train import train, validate
from cryoscale.simulate import image_phantom, make_phantom, training_volume

NETWORKS = ("unet2d", "unet25d", "unet3d")
SNRS = (0.1, 0.3)
FIRST_SEED, TEST_SEED = 70_000, 89_000
TRIED_STEPS = 3
SCORES = ("dice_membrane", "precision_membrane", "recall_membrane", "dice_protein")


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is simulated and trained."""

    volumes: int
    shape: tuple[int, int, int]
    minutes: float
    """Processor minutes of each network's training."""
    tests: int
    """Tomograms that are scored, at each SNR."""


SIZES = {
    "small": Size(2, (32, 160, 160), 0.5, 1),
    "medium": Size(12, (64, 256, 256), 12.0, 2),
    "full": Size(48, (64, 256, 256), 120.0, 4),
}


def held_out(size: Size) -> dict[float, list[Sample]]:
    """Simulate the tomograms that are scored, by SNR."""
    made: dict[float, list[Sample]] = {snr: [] for snr in SNRS}
    for seed in range(TEST_SEED, TEST_SEED + size.tests):
        phantom = make_phantom(size.shape, seed=seed, preset="training")
        for snr in SNRS:
            tomogram = image_phantom(phantom.density, seed=seed, snr=snr, tilt_step_degrees=3.0)
            made[snr].append(sample_of(tomogram, phantom.classes))
    return made


def trained(
    name: str, samples: list[Sample], tests: dict[float, list[Sample]], size: Size, seed: int
) -> dict[str, Any]:
    """Train one network for its time, score it, and time both."""
    settings = dataclasses.replace(settings_for(name, seed=seed), validate_every=10**9)
    train(samples, validation=[], settings=settings, steps=1)
    began = time.process_time()
    train(samples, validation=[], settings=settings, steps=TRIED_STEPS)
    step_seconds = (time.process_time() - began) / TRIED_STEPS
    steps = max(TRIED_STEPS, round(60 * size.minutes / step_seconds))
    began = time.process_time()
    model, log = train(samples, validation=[], settings=settings, steps=steps)
    seconds = time.process_time() - began
    began = time.process_time()
    scores = {f"snr{snr:g}": {key: round(found[key], 4) for key in SCORES}
              for snr, part in tests.items() for found in [validate(model, part)]}  # fmt: skip
    scored = sum(sample.tomogram.size for part in tests.values() for sample in part)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": steps,
        "training_processor_seconds": round(seconds, 1),
        "step_seconds": round(seconds / steps, 3),
        "loss": round(log[-1]["loss"], 4),
        "seconds_per_million_voxels": round((time.process_time() - began) / (scored / 1e6), 3),
        "scores": scores,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return scores and costs as text."""
    heads = [f"{name.removesuffix('_membrane')} {snr:g}" for snr in SNRS for name in SCORES]
    lines = [f"{'':<10}{'weights':>9}{'steps':>7}{'s/step':>8}{'s/Mvoxel':>10}" + "".join(f"{h:>18}" for h in heads)]
    for name, row in rows.items():
        values = [row["scores"][f"snr{snr:g}"][key] for snr in SNRS for key in SCORES]
        cost = f"{row['step_seconds']:>8.2f}{row['seconds_per_million_voxels']:>10.2f}"
        lines.append(
            f"{name:<10}{row['parameters']:>9}{row['steps']:>7}{cost}" + "".join(f"{v:>18.3f}" for v in values)
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks networks")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--minutes", type=float, default=0.0, help="processor minutes, instead of the size's own")
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = SIZES[options.size]
    size = dataclasses.replace(size, minutes=options.minutes or size.minutes)
    drawn = [training_volume(seed, size.shape) for seed in range(FIRST_SEED, FIRST_SEED + size.volumes)]
    samples = [sample_of((tomogram / tomogram.std()).astype(np.float16), classes) for tomogram, classes in drawn]
    tests, rows = held_out(size), {}
    for name in options.model:
        rows[name] = trained(name, samples, tests, size, options.seed)
        print(f"{name}: {rows[name]}", flush=True)
        part = f"{options.size}, {size.minutes:g} minutes, seed {options.seed}, {name}"
        write_part(options.json, "networks", part, rows[name])
    print(table(rows))
    return 0
