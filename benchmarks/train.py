"""What slices without labels are worth: the two-headed network with and without them, on simulated slices.

    python -m benchmarks train [--size small|medium|full] [--seeds 5] [--json FILE]

Of each seed: 8 labelled slices of two simulated tomograms (one held out for early stopping) and 64 slices without
labels of four others, SNR 0.3 (medium: 0.6), 10 Å a voxel. The network is trained twice from the same weights: with
steps i and ii alternating by epoch, and with step i alone for as many labelled epochs; each time the network of the
lowest loss on the held-out slice is scored on three tomograms that no training saw, precision, recall and Dice of the
membrane where the label reaches 0.9. `small` (4 channels, crops of 64, 120 labelled steps) shows that everything runs;
that is too short a training to say anything: with crops of 48 and as many steps neither found a membrane. `medium`
(4 channels, crops of 96, SNR 0.6, 1,200 labelled steps) is what one core does in a quarter of an hour a seed. `full`
has 16 channels, crops of 256 and the published rate of 1e-4; it wants a GPU. Rates of 1e-3 and more drive tanh into -1
everywhere, from where no gradient leads back: after 400 to 800 labelled steps neither width 4 nor 8 found a membrane.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from benchmarks._machine import write_json
from cryoscale.segment.crops import Sample, sample_of
from cryoscale.segment.settings import TrainSettings, settings_for
from cryoscale.segment.train import train, validate
from cryoscale.simulate import image_phantom, make_phantom

LABELLED, UNLABELLED = 8, 64
SCORES = ("precision_membrane", "recall_membrane", "dice_membrane")
FIRST_SEED = 60_000


@dataclass(frozen=True)
class Size:
    """How much is simulated and trained."""

    shape: tuple[int, int, int]
    settings: TrainSettings
    epochs: int
    """Labelled epochs at most."""
    epochs_between: int
    """Labelled epochs between validations."""
    snr: float = 0.3


SIZES = {
    "small": Size(
        (32, 192, 192),
        settings_for(
            "twohead", options={"width": 4}, crop_voxels=64, batch=4, learning_rate=1e-3, mixed=False, patience=6
        ),
        60,
        5,
    ),
    "medium": Size(
        (32, 192, 192),
        settings_for("twohead", options={"width": 4}, crop_voxels=96, batch=2, learning_rate=2e-4, mixed=False),
        300,
        10,
        0.6,
    ),
    "full": Size((64, 384, 384), settings_for("twohead", options={"width": 16}), 2000, 20),
}


def volumes(size: Size, first: int, count: int) -> list[Sample]:
    """Simulate tomograms with their classes."""
    made = []
    for seed in range(first, first + count):
        phantom = make_phantom(size.shape, seed=seed, preset="training")
        tomogram = image_phantom(phantom.density, seed=seed, snr=size.snr, tilt_step_degrees=3.0)
        made.append(sample_of(tomogram, phantom.classes))
    return made


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Take `count` slices, evenly spaced, of all samples together."""
    each = count // len(samples)
    return [s.only([int((i + 0.5) * len(s.tomogram) / each) for i in range(each)]) for s in samples]


def trained(
    size: Size, seed: int, labelled: list[Sample], unlabelled: list[Sample], test: list[Sample]
) -> dict[str, Any]:
    """Train one network and score it."""
    held = labelled[-1].only(labelled[-1].slices[-1:])
    kept = [*labelled[:-1], labelled[-1].only(labelled[-1].slices[:-1])]
    batch = size.settings.batch
    epoch = -(-(LABELLED - 1) // batch) + (-(-UNLABELLED // batch) if unlabelled else 0)
    settings = dataclasses.replace(size.settings, seed=seed, validate_every=size.epochs_between * epoch)
    began = time.process_time()
    model, log = train(kept, validation=[held], unlabelled=unlabelled, settings=settings, steps=size.epochs * epoch)
    seconds = time.process_time() - began
    scores = validate(model, test, slices=8)
    return {
        "steps": log[-1]["step"],
        "processor_seconds": round(seconds, 1),
        "held_out_loss": [round(row["validation_loss"], 4) for row in log],
        **{name: round(scores[name], 4) for name in SCORES},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the scores of all seeds, and their means, as text."""
    lines = [f"{'':<12}" + "".join(f"{name.removesuffix('_membrane'):>20}" for name in SCORES)]
    lines.append(f"{'seed':<12}" + f"{'i':>10}{'i + ii':>10}" * len(SCORES))
    cells = [[row[part][name] for name in SCORES for part in ("alone", "with_unlabelled")] for row in rows]
    for row, numbers in zip(rows, cells, strict=True):
        lines.append(f"{row['seed']:<12}" + "".join(f"{number:>10.3f}" for number in numbers))
    lines.append(f"{'mean':<12}" + "".join(f"{mean(column):>10.3f}" for column in zip(*cells, strict=True)))
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks train", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = SIZES[options.size]
    unlabelled, test = spread(volumes(size, FIRST_SEED, 4), UNLABELLED), volumes(size, FIRST_SEED + 10, 3)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        labelled = spread(volumes(size, FIRST_SEED + 20 + 2 * seed, 2), LABELLED)
        alone = trained(size, seed, labelled, [], test)
        both = trained(size, seed, labelled, unlabelled, test)
        rows.append({"seed": seed, "alone": alone, "with_unlabelled": both})
        print(table(rows), flush=True)
        write_json(options.json, {"benchmark": "train", "size": options.size, "snr": size.snr, "rows": rows})
    return 0
