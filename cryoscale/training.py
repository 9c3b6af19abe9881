"""Train a network: on simulated tomograms, which is the command behind the shipped weights, or on a user's own labels.

``cryoscale train --output DIR --volumes N --minutes M --seed S`` simulates N tomograms of random content, voxel size,
defocus, tilt range and noise (training seeds S, S + 1, ...), and holds out eight more at known noise (seeds from
10,000). Seeds from 90,000 on are never used here: they belong to the tests of the whole pipeline.
``--preset cell`` simulates the whole family instead, ``--preset real --shapes LABELS`` membranes that somebody drew.
``--preset zhou2023 --match TOMOGRAM`` draws the paper's images (`simulate.slices`): 2,000 of them, 200 of these held
out for a test at the end, and 10 more for validation.
``cryoscale train --output DIR --data TOMOGRAMS --labels LABELS`` trains on own slices (`labelled`), `unet3d` on boxes
around them.

All write ``MODEL.safetensors``, its card ``MODEL.json``, the log ``MODEL.log.csv`` and its curves
``MODEL.losses.png``, and go on from ``checkpoint.safetensors`` where the folder has one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cryoscale import __version__
from cryoscale.errors import UsageError
from cryoscale.io.files import write_text
from cryoscale.labelled import OwnData, held_out, read_labelled, read_unlabelled
from cryoscale.matching import match_intensities
from cryoscale.report.losses import draw_losses
from cryoscale.segment import build_model
from cryoscale.segment.card import Card
from cryoscale.segment.crops import Sample, sample_of
from cryoscale.segment.network import Network
from cryoscale.segment.settings import TrainSettings
from cryoscale.segment.start import first_weights
from cryoscale.segment.state import Row
from cryoscale.segment.train import log_csv, train, validate
from cryoscale.segment.weights import blend, save_model
from cryoscale.simulate.slices import paper_slices
from cryoscale.simulated import (
    VALIDATION_SEED,
    VALIDATION_SNRS,
    drawn_voxel_sizes,
    simulated_samples,
    validation_samples,
)
from cryoscale.simulating import LabelVolumes
from cryoscale.spreading import processes_beside
from cryoscale.trainrequest import Training, number

__all__ = [
    "TEST_SEED",
    "UNLABELLED_SLICES",
    "train_as_paper",
    "train_own",
    "train_shipped",
]

TEST_SEED = 90_000
"""First seed that no training may see."""
UNLABELLED_SLICES = 64
"""Taken from each tomogram without labels."""
_SMALLEST_CROP = 32
_THINNEST_CROP = 8
"""Slices of a box below which it is a slice rather."""
_ZOOM = 1.15
"""Largest enlargement of a warped crop (`segment.crops`)."""


def train_shipped(
    training: Training,
    *,
    volumes: int,
    presets: Sequence[str] = ("training",),
    known_angstrom: tuple[float, float] | None = None,
    real: LabelVolumes | None = None,
) -> Path:
    """Simulate and train.

    Parameters
    ----------
    training
        The seed of its settings is the first training seed.
    volumes
        Simulated tomograms to train on.
    presets
        What is simulated, each in its turn (`simulate.training`).
    known_angstrom
        Voxel sizes that the network is to know (`simulated`); None is all that the presets have.
    real
        What the preset real takes its membranes from.

    Returns
    -------
    Path of the weights.

    Raises
    ------
    UsageError
        A seed is reserved for tests, there is no such network, or the range of voxel sizes is none or leaves out the
        10 Å of the validation; or no membrane can be taken from the label volumes.
    """
    _network(training)
    seed = training.settings.seed
    if seed + volumes > TEST_SEED:
        raise UsageError("a seed is reserved for tests", where="--seed", found=seed, allowed=f"below {TEST_SEED}")
    low, high = known_angstrom or drawn_voxel_sizes(presets)
    if not 0 < low <= 10 <= high < math.inf:
        allowed = "the smaller first, 10 between them"
        raise UsageError(
            "not voxel sizes to train for", where="--voxel-size", found=f"{low:g} {high:g}", allowed=allowed
        )
    plain = list(presets) == ["training"]
    words = "" if plain else f" ({', '.join(presets)})"
    words += "" if known_angstrom is None else f" brought to {low:g} to {high:g} Å"
    sizes = [] if known_angstrom is None else [number(low), number(high)]
    told, drawn = {}, real.read() if real else []
    if real:
        apix = [] if real.apix is None else [number(real.apix)]
        told = {"shapes": real.sources, "shapes_apix": apix, **_meaning(real.values, (), all_slices=False)}
        words += f", real shapes of {', '.join(Path(name).name for name in real.sources)}"
    processes = _processors(training)
    samples = simulated_samples(range(seed, seed + volumes), presets, known_angstrom, drawn, processes=processes)
    asked = {"volumes": [str(volumes)], "preset": [] if plain else presets, "voxel_size": sizes}
    card = {
        "command": training.command(**asked, **told),
        "data": f"simulated{words}: seeds {seed} to {seed + volumes - 1}, validation {VALIDATION_SEED} on, at SNR "
        + ", ".join(f"{snr:g}" for snr in sorted(set(VALIDATION_SNRS))),
        "voxel_size_angstrom": [low, high],
    }
    groups = [f"snr{snr:g}" for snr in VALIDATION_SNRS]
    data = f"{volumes} simulated{words}" + (f" {_digest(samples)}" if real else "")
    return _train(training.knowing(data), card, samples, validation_samples(processes), groups=groups)


def _processors(training: Training) -> int:
    """Processors that this process may take: those of the machine are shared with the others of ``torchrun``."""
    return training.threads or max(1, (os.cpu_count() or 1) // processes_beside())


def _digest(samples: Sequence[Sample]) -> str:
    """Name of what no seed decides alone."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(np.ascontiguousarray(sample.classes).tobytes())
    return digest.hexdigest()


def train_as_paper(
    training: Training,
    *,
    match: str,
    labels: str,
    images: int,
    membrane: Sequence[int] = (),
    protein: Sequence[int] = (),
    all_slices: bool = False,
) -> Path:
    """Train on the paper's images, their intensities those of a tomogram; the card has the scores of the test.

    Parameters
    ----------
    training
        See :class:`Training`.
    match, labels
        Tomogram to fit the intensities to, and its labels where there are any.
    images
        To draw, a tenth of them for the test.
    membrane, protein, all_slices
        What the labels' values mean (`labelled.read_labelled`).

    Returns
    -------
    Path of the weights.

    Raises
    ------
    UsageError
        The network wants neighbouring slices, or the intensities cannot be fitted.
    """
    network = _network(training)
    if network.slices_in != 1 or network.dims != 2:
        raise UsageError("these images have no neighbours", where="--model", found=network.name, allowed="unet2d")
    if images < 10:
        raise UsageError("too few images", where="--volumes", found=images, allowed="10 or more")
    fitted = match_intensities(match, labels, membrane=membrane, protein=protein, all_slices=all_slices)
    test, validation = images // 10, max(1, images // 200)
    first, parts = 0, []
    for count in (images - test, test, validation):
        parts.append(sample_of(*paper_slices(training.settings.seed, first, count, fitted)))
        first += count
    numbers = {name: float(f"{value:.6g}") for name, value in dataclasses.asdict(fitted).items()}
    told = {"labels": [labels] if labels else [], **_meaning(membrane, protein, all_slices=all_slices)}
    card: Card = {
        "command": training.command(preset=["zhou2023"], match=[match], volumes=[str(images)], **told),
        "data": f"zhou2023: {images} images, {test} of them held out for the test, {validation} more for validation",
        "intensities": numbers,
    }
    return _train(training.knowing(f"zhou2023 {images} {numbers}"), card, parts[:1], parts[2:], test=parts[1])


def train_own(
    training: Training,
    *,
    data: Sequence[str],
    labels: Sequence[str],
    unlabelled: Sequence[str],
    membrane: Sequence[int] = (),
    protein: Sequence[int] = (),
    all_slices: bool = False,
    unlabelled_slices: int = UNLABELLED_SLICES,
) -> Path:
    """Train on a user's own tomograms and labels.

    Parameters
    ----------
    training
        See :class:`Training`; crops become as small as the slices ask for.
    data, labels, unlabelled
        Files, folders, globs or .txt lists; tomograms under `unlabelled` are learnt from without labels.
    membrane, protein, all_slices
        What the labels' values mean (`labelled.read_labelled`).
    unlabelled_slices
        Slices to take from each tomogram without labels.

    Returns
    -------
    Path of the weights.

    Raises
    ------
    UsageError
        If tomograms and labels do not fit each other or the network.
    """
    network = _network(training)
    if unlabelled and network.name != "twohead":
        raise UsageError(
            "only a network with two heads learns from tomograms without labels",
            where="--model",
            found=network.name,
            allowed="twohead",
        )
    # A box around a labelled slice may begin or end with it.
    near = training.settings.crop_slices or network.slices_in // 2
    own = read_labelled(data, labels, neighbours=near, membrane=membrane, protein=protein, all_slices=all_slices)
    kept, scored = held_out(own, training.settings.seed)
    more = read_unlabelled(unlabelled, neighbours=near, slices=unlabelled_slices) if unlabelled else None
    parts = [*kept.samples, *(more.samples if more else ())]
    crop = _crop(parts, network, training.settings)
    training = training.knowing(own.digest + (more.digest if more else ""), **crop)
    meant = _meaning(membrane, protein, all_slices=all_slices)
    if unlabelled and unlabelled_slices != UNLABELLED_SLICES:
        meant["unlabelled_slices"] = [str(unlabelled_slices)]
    command = training.command(data=data, labels=labels, unlabelled=unlabelled, **meant)
    card = {"command": command, **_data_card(own, kept, more, turns_only=training.settings.turns_only)}
    return _train(training, card, kept.samples, scored, unlabelled=more.samples if more else ())


def _data_card(own: OwnData, kept: OwnData, more: OwnData | None, *, turns_only: bool) -> Card:
    """Return what a card says of own slices, those kept of them to train on, and those without labels."""
    out = own.slice_count - kept.slice_count
    card: Card = {
        "data": f"{kept.slice_count} labelled slices of {', '.join(own.names)}; {out} held out"
        + (f"; {more.slice_count} without labels of {', '.join(more.names)}" if more else ""),
    }
    if own.voxel_size_angstrom:
        zoom = 1.02 if turns_only else _ZOOM
        low, high = own.voxel_size_angstrom
        card["voxel_size_angstrom"] = [round(low / zoom, 2), round(high * zoom, 2)]
    return card


def _meaning(membrane: Sequence[int], protein: Sequence[int], *, all_slices: bool) -> dict[str, Sequence[str] | bool]:
    """Options that say what the labels' values mean."""
    joined = {
        name: [",".join(map(str, values))] for name, values in (("mask", membrane), ("protein", protein)) if values
    }
    return {**{f"{name}_labels": words for name, words in joined.items()}, "all_slices": all_slices}


def _crop(samples: Sequence[Sample], network: Network, wanted: TrainSettings) -> dict[str, int]:
    """Edge, and thickness, of the crops: as wanted, or what the smallest sample has room for."""
    shapes = np.array([sample.tomogram.shape for sample in samples])
    thinnest, smallest = int(shapes[:, 0].min()), int(shapes[:, 1:].min())
    slices = min(wanted.crop_slices, thinnest) // network.multiple[0] * network.multiple[0]
    edge = min(wanted.crop_voxels, smallest) // network.multiple[-1] * network.multiple[-1]
    if edge < _SMALLEST_CROP or (wanted.crop_slices and slices < _THINNEST_CROP):
        found = f"{smallest} voxels wide, {thinnest} slices"
        raise UsageError("a tomogram is too small to train on", where="--data", found=found)
    return {"crop_voxels": edge, "crop_slices": slices}


def _network(training: Training) -> Network:
    """Return the network to be trained, to ask for its shape.

    Raises
    ------
    UsageError
        If there is no such network, or none can start from the weights that are named.
    """
    network = build_model(training.settings.model, **training.settings.options)
    if training.start:
        first_weights(training.start, network, training.weights)
    return network


def _initial(training: Training) -> tuple[Training, dict[str, Tensor] | None, Card]:
    """Return the training that knows the weights it starts from, these and what the card says of them, if any."""
    if not training.start:
        return training, None, {}
    network = build_model(training.settings.model, **training.settings.options)
    weights, card = first_weights(training.start, network, training.weights)
    known = {"started_from_sha256": card["sha256"]}
    return training.knowing(f"{training.settings.data} from {card['sha256']}"), weights, known


def _train(
    training: Training,
    card: Card,
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    unlabelled: Sequence[Sample] = (),
    groups: Sequence[str] = (),
    test: Sample | None = None,
) -> Path:
    """Train and keep the products up to date at each validation; the best network at the end."""
    training, initial, known = _initial(training)
    settings, length = training.settings, training.length
    torch.set_num_threads(_processors(training))
    training.output.mkdir(parents=True, exist_ok=True)
    path = training.weights
    card = {"name": settings.model, "cryoscale": __version__, "torch": torch.__version__, **card, **known}
    with _processes() as (device, leads):
        model, log = train(
            samples,
            validation=validation,
            settings=settings,
            unlabelled=unlabelled,
            steps=length.steps,
            minutes=None if length.steps is not None else length.minutes,
            groups=groups,
            checkpoint=training.output / "checkpoint.safetensors",
            initial=initial,
            on_row=partial(_keep, path, card),
            device=device,
        )
    if leads:
        row = min(log, key=lambda row: row["validation_loss"]) if settings.patience else log[-1]
        if initial and training.keep:
            blend(model, initial, training.keep)
            row = row | validate(model, validation, groups, settings.validation_slices)
        slices = sum(len(sample.slices) for sample in samples)
        tested = {"test": validate(model, [test])} if test else {}
        save_model(path, model, card | {"scores": row} | tested)
        draw_losses(log, path.with_suffix(".losses.png"), title=f"{settings.model}: {slices} labelled slices")
    return path


def _keep(path: Path, card: Card, model: Network, log: list[Row]) -> None:
    """Bring weights, card and log up to date, and tell the newest row."""
    save_model(path, model, card | {"scores": log[-1]})
    write_text(path.with_suffix(".log.csv"), log_csv(log))
    print(", ".join(f"{name} {value:.4g}" for name, value in log[-1].items()), file=sys.stderr)  # noqa: T201


@contextmanager
def _processes() -> Iterator[tuple[str, bool]]:
    """Device of this process and whether it leads; joins the others where ``torchrun`` started several."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield "cuda" if gpus else "cpu", True
        return
    own = int(os.environ["LOCAL_RANK"])
    if gpus:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield f"cuda:{own}" if gpus else "cpu", dist.get_rank() == 0
        dist.barrier()
    finally:
        dist.destroy_process_group()
