"""Training the U-Net on simulated tomograms.

    loss = cross-entropy + dice_weight ((1 - soft Dice of protein) + (1 - soft Dice of membrane))
    learning rate = 1e-3 (1 + cos(pi progress)) / 2, after a short warm-up;  Adam (0.9, 0.999)

Paper 4: softmax over 3 classes, cross-entropy, elastic deformations, Adam 1e-3. The soft Dice terms are added because
membranes are about 5 % of the voxels and proteins 0.2 %: cross-entropy alone is content with missing the faint ones,
and in 800 steps found no protein at all.

Everything random comes from the seed and the number of the step, so that a training given as a number of `steps`
repeats itself, also across an interruption: the checkpoint is one safetensors file with the weights, Adam's moments
and the log. A training given in `minutes` follows the clock and is not repeatable to the bit. Convolutions run in
bfloat16 where `bfloat16` is set (2 x faster on CPUs with AVX512-BF16); weights, norms and loss stay float32.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from cryoscale.chunks import Region, whole
from cryoscale.errors import UsageError
from cryoscale.segment.crops import Sample, batch_of, sample_of
from cryoscale.segment.models import build_model
from cryoscale.segment.network import Network, fold
from cryoscale.segment.scores import confusion, dice, iou
from cryoscale.segment.weights import read_tensors, write_bytes
from cryoscale.segment.windows import for_inference, predict_slab, region_to_read, window_of

__all__ = ["TrainSettings", "Volume", "log_csv", "loss_of", "train", "validate"]

Volume = tuple[NDArray[np.floating], NDArray[np.uint8]]
"""A raw tomogram and its classes, both (z, y, x)."""

Row = dict[str, float]
"""One line of the log."""

_NAMES = ("background", "protein", "membrane")
_MEMBRANE = 2


@dataclass(frozen=True)
class TrainSettings:
    """What a training depends on besides its volumes."""

    slices_in: int = 5
    """Neighbouring slices the network sees."""
    width: int = 16
    """Channels of the first level."""
    depth: int = 3
    """Poolings."""
    crop_voxels: int = 160
    """Edge of a training crop, a multiple of 2**depth."""
    batch: int = 8
    """Crops per step."""
    learning_rate: float = 1e-3
    """Adam's, at its highest."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises."""
    dice_weight: float = 0.5
    """Weight of the soft Dice of protein and of membrane beside cross-entropy."""
    bfloat16: bool = True
    """Run convolutions in bfloat16 while training."""
    validate_every: int = 200
    """Steps between validations (and checkpoints)."""
    validation_slices: int = 8
    """Slices of each validation volume that are scored, evenly spaced."""
    seed: int = 0
    """Decides weights and crops."""


def train(
    volumes: Sequence[Volume],
    *,
    validation: Sequence[Volume],
    settings: TrainSettings,
    steps: int | None = None,
    minutes: float | None = None,
    groups: Sequence[str] = (),
    checkpoint: Path | None = None,
    on_row: Callable[[Network, list[Row]], None] | None = None,
) -> tuple[Network, list[Row]]:
    """Train a network, or go on with the training that `checkpoint` holds.

    Parameters
    ----------
    volumes, validation
        Raw tomograms with their classes, (z, y, x); the latter are only scored.
    settings
        Architecture, crops, optimiser.
    steps, minutes
        Length of the training: one of the two.
    groups
        A name for each validation volume (say "snr0.1"); the membrane's Dice is also logged for each name.
    checkpoint
        File to keep the state in; where it exists the training continues from it.
    on_row
        Called with the model and the log after each validation.

    Returns
    -------
    model, log
        The network in evaluation mode, and one row per validation: step, seconds, loss, Dice and IoU of each class.

    Raises
    ------
    ValueError
        If the volumes are unusable or not exactly one of `steps` and `minutes` is given.
    UsageError
        If the checkpoint is damaged or belongs to other settings.
    """
    if (steps is None) == (minutes is None) or not volumes:
        msg = f"give volumes ({len(volumes)}) and exactly one of {steps=} and {minutes=}"
        raise ValueError(msg)
    samples = [sample_of(*volume) for volume in volumes]
    held_out = [sample_of(*volume) for volume in validation]
    run = _Run(settings)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    losses: list[float] = []
    started = time.monotonic() - run.seconds
    while (progress := _progress(run, steps, minutes)) < 1:
        losses.append(run.advance(samples, progress))
        run.seconds = time.monotonic() - started
        if run.step % settings.validate_every == 0 or _progress(run, steps, minutes) >= 1:
            scored = validate(run.model, held_out, groups, settings.validation_slices)
            run.log.append(
                {"step": run.step, "seconds": round(run.seconds, 1), "loss": float(np.mean(losses)), **scored}
            )
            losses.clear()
            if checkpoint is not None:
                run.save(checkpoint)
            if on_row is not None:
                on_row(run.model, run.log)
    return run.model.eval(), run.log


def validate(
    model: Network, samples: Sequence[Sample], groups: Sequence[str] = (), slices: int | None = None
) -> dict[str, float]:
    """Dice and IoU of each class over samples, and the membrane's Dice over each group of them.

    `slices` evenly spaced slices of each sample are scored, all where it is None.
    """
    names = list(groups) or [""] * len(samples)
    matrices = [_confusion(fold(model), sample, slices) for sample in samples]
    if not matrices:
        return {}
    total = np.sum(matrices, axis=0)
    row = {f"dice_{name}": float(v) for name, v in zip(_NAMES, dice(total), strict=False)}
    row |= {f"iou_{name}": float(v) for name, v in zip(_NAMES, iou(total), strict=False)}
    for group in sorted(set(names) - {""}):
        part = np.sum([m for m, name in zip(matrices, names, strict=True) if name == group], axis=0)
        row[f"dice_membrane_{group}"] = float(dice(part)[_MEMBRANE])
    return row


def loss_of(logits: Tensor, classes: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy plus `dice_weight` x the sum over protein and membrane of (1 - soft Dice over the batch).

    Parameters
    ----------
    logits
        (batch, classes, y, x).
    classes
        (batch, y, x) int64.
    """
    logits = logits.float()
    score = torch.softmax(logits, dim=1)[:, 1:]
    truth = torch.nn.functional.one_hot(classes, logits.shape[1])[..., 1:].permute(0, 3, 1, 2)
    both, all_ = (score * truth).sum(dim=(0, 2, 3)), (score + truth).sum(dim=(0, 2, 3))
    # The 1 keeps a class that is in no crop from being all or nothing.
    missed: Tensor = (1 - (2 * both + 1) / (all_ + 1)).sum()
    return torch.nn.functional.cross_entropy(logits, classes) + dice_weight * missed


def log_csv(log: Sequence[Row]) -> str:
    """Return the log as CSV text, one line per validation."""
    names = list(dict.fromkeys(name for row in log for name in row))
    lines = [",".join(names)] + [",".join(f"{row.get(name, float('nan')):.6g}" for name in names) for row in log]
    return "\n".join(lines) + "\n"


class _Run:
    """The state of one training: model, optimiser, step, log."""

    def __init__(self, settings: TrainSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = build_model(
            "unet25d", slices_in=settings.slices_in, classes=len(_NAMES), width=settings.width, depth=settings.depth
        )
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adam = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.999))
        self.step, self.seconds = 0, 0.0
        self.log: list[Row] = []

    def advance(self, samples: Sequence[Sample], progress: float) -> float:
        """One step of Adam; returns the loss."""
        wanted = self.settings
        rise = min(1.0, (self.step + 1) / wanted.warmup_steps) if wanted.warmup_steps else 1.0
        self.adam.param_groups[0]["lr"] = wanted.learning_rate * rise * (1 + np.cos(np.pi * progress)) / 2
        images, classes = batch_of(
            samples,
            seed=wanted.seed,
            step=self.step,
            batch=wanted.batch,
            crop_voxels=wanted.crop_voxels,
            slices_in=wanted.slices_in,
        )
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=wanted.bfloat16):
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        loss = loss_of(logits, classes, wanted.dice_weight)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write weights, Adam's moments and the log as one safetensors file."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, moments in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
        facts = {"settings": asdict(self.settings), "step": self.step, "seconds": self.seconds, "log": self.log}
        tensors["facts"] = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def restore(self, path: Path) -> None:
        """Continue from a file that `save` wrote for the same settings."""
        tensors = read_tensors(path)
        try:
            facts: dict[str, Any] = json.loads(tensors.pop("facts").numpy().tobytes())
            if facts["settings"] != asdict(self.settings):
                msg = f"settings {facts['settings']}"
                raise ValueError(msg)
            moments: dict[int, dict[str, Tensor]] = {}
            for name in [name for name in tensors if name.startswith("adam.")]:
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensors.pop(name)
            self.model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items()}, strict=True)
            self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})
            self.step, self.seconds, self.log = int(facts["step"]), float(facts["seconds"]), list(facts["log"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                "not a checkpoint of this training",
                where=str(path),
                found=error,
                allowed=f"settings {asdict(self.settings)}",
                todo="remove it to start anew, or train with the settings it was made with",
            ) from error


def _progress(run: _Run, steps: int | None, minutes: float | None) -> float:
    """Share of the training that is done, 1 at its end."""
    if steps is not None:
        return run.step / steps if steps > 0 else 1.0
    return run.seconds / (60.0 * minutes) if minutes else 1.0


def _confusion(model: Network, sample: Sample, slices: int | None) -> NDArray[np.int64]:
    """Confusion of a folded model with a sample's classes over evenly spaced slices."""
    model, window = for_inference(model), window_of(model)
    shape = sample.tomogram.shape
    count = min(slices or shape[0], shape[0])
    matrix = np.zeros((model.classes, model.classes), dtype=np.int64)
    for z in (int((part + 0.5) * shape[0] / count) for part in range(count)):
        region = Region((z, 0, 0), (z + 1, *whole(shape).stop[1:]))
        block = sample.tomogram[region_to_read(region, shape, window).slices]
        scores = predict_slab(model, block, region, shape, centre=sample.centre, scale=sample.scale, window=window)
        matrix += confusion(scores.argmax(axis=0), sample.classes[region.slices], model.classes)
    return matrix
