"""Training a network of the registry on labelled slices, and on slices without labels where it has a head for them.

    learning rate = 1e-3 (1 + cos(pi progress)) / 2, after a short warm-up, or constant;  Adam (0.9, 0.999)

What is minimised, `losses` says. With slices without labels an epoch of these follows each epoch of labelled ones; an
epoch takes as many crops as there are slices. With `patience` the training ends when the loss on the held-out slices
has not fallen for so many validations, and the best network is what it returns.

Everything random comes from the seed and the number of the step, so that a training given as a number of `steps`
repeats itself, also across an interruption (`state`, saved at each validation and each minute). A training given in
`minutes` follows the clock and is not repeatable to the bit. With `mixed` the network runs in bfloat16 where the device
multiplies it (2 x faster on CPUs with AVX512-BF16); weights, norms and loss stay float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscale.chunks import Region, whole
from cryoscale.segment.card import CLASSES
from cryoscale.segment.crops import Sample, batch_of
from cryoscale.segment.forward import for_inference
from cryoscale.segment.losses import score_loss
from cryoscale.segment.network import Network
from cryoscale.segment.predict import predict_slab
from cryoscale.segment.scores import classes_of, confusion, dice, iou, precision, recall
from cryoscale.segment.settings import TrainSettings
from cryoscale.segment.state import Row, State
from cryoscale.segment.windows import region_to_read, window_of

__all__ = ["log_csv", "train", "validate"]

_MEMBRANE = 2
_SAVE_SECONDS = 60.0


def train(
    samples: Sequence[Sample],
    *,
    validation: Sequence[Sample],
    settings: TrainSettings,
    unlabelled: Sequence[Sample] = (),
    steps: int | None = None,
    minutes: float | None = None,
    groups: Sequence[str] = (),
    checkpoint: Path | None = None,
    initial: Mapping[str, Tensor] | None = None,
    on_row: Callable[[Network, list[Row]], None] | None = None,
    device: str = "cpu",
) -> tuple[Network, list[Row]]:
    """Train a network, or go on with the training that `checkpoint` holds.

    Parameters
    ----------
    samples, validation
        Tomograms with the slices whose classes are known; the latter are only scored.
    settings
        Network, crops, optimiser.
    unlabelled
        Tomograms to learn from without classes, for a network with two heads.
    steps, minutes
        Length of the training: one of the two.
    groups
        A name for each validation volume (say "snr0.1"); the membrane's Dice is also logged for each name.
    checkpoint
        File to keep the state in; where it exists the training continues from it.
    initial
        Weights and statistics to start from, else the seed makes them.
    on_row
        Called with the model and the log after each validation.
    device
        Of the network: "cpu", "cuda".

    Returns
    -------
    model, log
        The network in evaluation mode, on the CPU, and one row per validation: step, seconds, losses, scores.

    Raises
    ------
    ValueError
        If the volumes are unusable, not exactly one of `steps` and `minutes` is given, it is not above 0, or there is
        patience and nothing to validate with.
    UsageError
        If the checkpoint is damaged or belongs to other settings.
    """
    if (steps is None) == (minutes is None) or not samples:
        msg = f"give volumes ({len(samples)}) and exactly one of {steps=} and {minutes=}"
        raise ValueError(msg)
    if not 0 < (steps or minutes or 0) < math.inf:
        msg = f"{steps=} or {minutes=} must be above 0 and finite"
        raise ValueError(msg)
    if settings.patience and not validation:
        msg = f"{settings.patience=} needs volumes for validation"
        raise ValueError(msg)
    state = State(settings, device)
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint)
    elif initial is not None:
        state.network.load_state_dict(initial, strict=True)
    keeper = _Keeper(state, validation, groups, checkpoint, on_row)
    started = time.monotonic() - state.seconds
    while (progress := state.agreed(_progress(state, steps, minutes))) < 1:
        name, loss = _advance(state, samples, unlabelled, progress)
        state.seconds = time.monotonic() - started
        if state.leads:
            state.losses.setdefault(name, []).append(loss)
            keeper.after_step()
    if state.leads:
        keeper.at_end()
    return state.result(), state.log


def validate(
    model: Network, samples: Sequence[Sample], groups: Sequence[str] = (), slices: int | None = None
) -> dict[str, float]:
    """Loss, Dice and IoU of each class over samples, and the membrane's Dice over each group of them.

    `slices` evenly spaced ones of each sample's are scored, all where it is None. The loss is `losses.score_loss`.
    """
    names = list(groups) or [""] * len(samples)
    ready = for_inference(model, next(model.parameters()).device.type)
    scored = [_scored(ready, sample, slices) for sample in samples]
    if not scored:
        return {}
    matrices = [matrix for matrix, _ in scored]
    total = np.sum(matrices, axis=0)
    row = {"validation_loss": sum(loss for _, loss in scored) / float(total.sum())}
    for measure, values in (("dice", dice(total)), ("iou", iou(total))):
        row |= {f"{measure}_{name}": float(v) for name, v in zip(CLASSES, values, strict=False)}
    row |= {
        "precision_membrane": float(precision(total)[_MEMBRANE]),
        "recall_membrane": float(recall(total)[_MEMBRANE]),
        "pixel_accuracy": float(np.trace(total) / total.sum()),
    }
    for group in sorted(set(names) - {""}):
        part = np.sum([m for m, name in zip(matrices, names, strict=True) if name == group], axis=0)
        row[f"dice_membrane_{group}"] = float(dice(part)[_MEMBRANE])
    return row


def log_csv(log: Sequence[Row]) -> str:
    """Return the log as CSV text, one line per validation."""
    names = list(dict.fromkeys(name for row in log for name in row))
    lines = [",".join(names)] + [",".join(f"{row.get(name, float('nan')):.6g}" for name in names) for row in log]
    return "\n".join(lines) + "\n"


class _Keeper:
    """Validates a training, tells its log and keeps its checkpoint up to date."""

    def __init__(
        self,
        state: State,
        validation: Sequence[Sample],
        groups: Sequence[str],
        checkpoint: Path | None,
        on_row: Callable[[Network, list[Row]], None] | None,
    ) -> None:
        self._state, self._validation, self._groups = state, validation, groups
        self._checkpoint, self._on_row = checkpoint, on_row
        self._saved = time.monotonic()

    def after_step(self) -> None:
        """Validate where it is time, else save where that was long ago: a first validation may be an hour away."""
        if self._state.step % self._state.settings.validate_every == 0:
            self._validate()
        elif time.monotonic() - self._saved >= _SAVE_SECONDS:
            self._save()

    def at_end(self) -> None:
        """Validate what the last step made, if that was not done."""
        if not self._state.log or self._state.log[-1]["step"] != self._state.step:
            self._validate()

    def _validate(self) -> None:
        state = self._state
        scored = validate(state.network, self._validation, self._groups, state.settings.validation_slices)
        mean = {name: float(np.mean(values)) for name, values in state.losses.items()}
        state.note({"step": state.step, "seconds": round(state.seconds, 1), **mean, **scored})
        self._save()
        if self._on_row is not None:
            self._on_row(state.network, state.log)

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._state.save(self._checkpoint)
        self._saved = time.monotonic()


def _advance(
    state: State, samples: Sequence[Sample], unlabelled: Sequence[Sample], progress: float
) -> tuple[str, float]:
    """One step on labelled slices or on others, as the epoch has it; returns the loss's name and value."""
    wanted = state.settings
    epochs = [math.ceil(sum(len(s.slices) for s in part) / wanted.batch) for part in (samples, unlabelled)]
    labelled = state.step % sum(epochs) < epochs[0]
    rise = min(1.0, (state.step + 1) / wanted.warmup_steps) if wanted.warmup_steps else 1.0
    fall = (1 + np.cos(np.pi * progress)) / 2 if wanted.anneal else 1.0
    images, classes = batch_of(
        samples if labelled else unlabelled,
        seed=state.seed,
        batch=wanted.batch,
        crop_voxels=wanted.crop_voxels,
        slices_in=state.network.slices_in,
        crop_slices=wanted.crop_slices,
        turns_only=wanted.turns_only,
    )
    loss = state.step_on(images, classes if labelled else None, wanted.learning_rate * rise * fall)
    return ("loss" if labelled else "loss_unlabelled"), loss


def _progress(state: State, steps: int | None, minutes: float | None) -> float:
    """Share of the training that is done, 1 at its end."""
    if state.stale > 0 and state.stale >= state.settings.patience > 0:
        return 1.0
    if steps is not None:
        return state.step / steps
    return state.seconds / (60.0 * minutes) if minutes else 1.0


def _scored(model: Network, sample: Sample, slices: int | None) -> tuple[NDArray[np.int64], float]:
    """Confusion of a network with slices of a sample's, and their summed loss.

    Evenly spaced ones, or the middle ones where boxes are scored: a box around each would be mostly its neighbours.
    """
    window, shape = window_of(model), sample.tomogram.shape
    count = min(slices or len(sample.slices), len(sample.slices))
    places = [int((part + 0.5) * len(sample.slices) / count) for part in range(count)]
    if model.dims == 3:
        places = [(len(sample.slices) - count) // 2 + part for part in range(count)]
    wanted = np.array([sample.slices[place] for place in places])
    matrix, loss = np.zeros((model.classes, model.classes), dtype=np.int64), 0.0
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if model.dims == 3 else wanted[:, None]:
        region = Region((int(run[0]), 0, 0), (int(run[-1]) + 1, *whole(shape).stop[1:]))
        block = sample.tomogram[region_to_read(region, shape, window).slices]
        scores = predict_slab(model, block, region, shape, centre=sample.centre, scale=sample.scale, window=window)
        truth = sample.classes[region.slices]
        matrix += confusion(classes_of(scores, model.threshold), truth, model.classes)
        loss += truth.size * score_loss(model, torch.from_numpy(scores), torch.from_numpy(truth.astype(np.int64)))
    return matrix, loss
