"""Training: it learns, it repeats itself, it goes on where it stopped, it stops in time."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cryoscale.errors import UsageError
from cryoscale.segment.crops import Sample, sample_of
from cryoscale.segment.settings import TrainSettings, settings_for
from cryoscale.segment.state import Row, State
from cryoscale.segment.train import log_csv, train, validate

UNET = TrainSettings(
    model="unet25d", options={"slices_in": 3, "width": 4, "depth": 2}, crop_voxels=32, batch=4, learning_rate=1e-2,
    warmup_steps=5, validate_every=5, validation_slices=3, mixed=False, seed=3,
)  # fmt: skip
BOXES = settings_for(
    "unet3d", options={"width": 4, "depth": 1}, crop_voxels=32, crop_slices=6, batch=2, learning_rate=1e-2,
    warmup_steps=5, validate_every=5, validation_slices=3, seed=3,
)  # fmt: skip
TWOHEAD = settings_for(
    "twohead", options={"width": 2}, crop_voxels=32, batch=4, learning_rate=1e-3, validate_every=5, mixed=False, seed=3
)


def rings(seed: int) -> Sample:
    """Dark rings (membranes) and darker discs (proteins) in noise."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((6, 48, 48), np.uint8)
    y, x = np.mgrid[:48, :48]
    for centre in rng.uniform(10, 38, (2, 2)):
        radius = np.hypot(y - centre[0], x - centre[1])
        classes[:, np.abs(radius - 9) < 1.5] = 2
        classes[:, radius < 3] = 1
    return sample_of((-2.0 * classes + rng.normal(0, 0.5, classes.shape)).astype(np.float32), classes)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [rings(seed) for seed in range(4)]


@pytest.mark.parametrize("settings", [UNET, BOXES], ids=["slices", "boxes"])
def test_it_learns(samples: list[Sample], settings: TrainSettings) -> None:
    _, log = train(samples[:3], validation=samples[3:], settings=settings, steps=60, groups=["easy"])
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert log[-1]["validation_loss"] < 0.7 * log[0]["validation_loss"]
    assert log[-1]["dice_membrane"] > 0.7
    assert log[-1]["dice_membrane_easy"] == log[-1]["dice_membrane"]
    lines = log_csv(log).splitlines()
    assert lines[0].startswith("step,seconds,loss,validation_loss,dice_background")
    assert len(lines) == len(log) + 1 == 13


@pytest.mark.parametrize(("settings", "unlabelled"), [(UNET, False), (BOXES, False), (TWOHEAD, True)])
def test_resumed_equals_uninterrupted(
    samples: list[Sample], tmp_path: Path, settings: TrainSettings, unlabelled: bool
) -> None:
    def run(path: Path, stop_at: int = 10**6) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
        def stop(_: object, log: list[dict[str, float]]) -> None:
            if log[-1]["step"] >= stop_at:
                raise InterruptedError

        model, log = train(
            samples[:2], validation=samples[3:], settings=settings, unlabelled=samples[2:3] if unlabelled else (),
            steps=15, checkpoint=path, on_row=stop,
        )  # fmt: skip
        return model.state_dict(), [{**row, "seconds": 0.0} for row in log]

    state, log = run(tmp_path / "whole.safetensors")
    with pytest.raises(InterruptedError):
        run(tmp_path / "cut.safetensors", stop_at=10)
    again, again_log = run(tmp_path / "cut.safetensors")
    np.testing.assert_equal(again_log, log)  # NaN, where a class is in no slice, is itself
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize("cut_at", [3, 8])
@pytest.mark.parametrize(("settings", "unlabelled"), [(UNET, False), (TWOHEAD, True)], ids=["slices", "twohead"])
def test_a_training_cut_between_validations_goes_on_from_there(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: TrainSettings, unlabelled: bool,
    cut_at: int,
) -> None:  # fmt: skip
    made: list[int] = []
    step_on = State.step_on

    def run(path: Path, stop_at: int = 10**6, steps: int = 12) -> tuple[dict[str, torch.Tensor], list[Row]]:
        def stopped(self: State, *batch: Any) -> float:
            if self.step == stop_at:
                raise InterruptedError
            made.append(self.step)
            return step_on(self, *batch)

        monkeypatch.setattr(State, "step_on", stopped)
        model, log = train(
            samples[:2], validation=samples[3:], settings=settings, unlabelled=samples[2:3] if unlabelled else (),
            steps=steps, checkpoint=path,
        )  # fmt: skip
        return model.state_dict(), [{**row, "seconds": 0.0} for row in log]

    state, log = run(tmp_path / "whole.safetensors")
    monkeypatch.setattr("cryoscale.segment.train._SAVE_SECONDS", 0.0)
    with pytest.raises(InterruptedError):
        run(tmp_path / "cut.safetensors", stop_at=cut_at)
    shutil.copy(tmp_path / "cut.safetensors", tmp_path / "short.safetensors")
    made.clear()
    again, again_log = run(tmp_path / "cut.safetensors")
    assert made == list(range(cut_at, 12))
    np.testing.assert_equal(again_log, log)  # the mean loss of a line too, with the steps before the cut
    assert all(torch.equal(again[name], state[name]) for name in state)
    # Asked for less than was done it is scored as it is.
    _, short = run(tmp_path / "short.safetensors", steps=2)
    assert [row["step"] for row in short] == ([3] if cut_at == 3 else [5, 8])


def test_a_forgotten_moment_is_seen(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(path: Path, steps: tuple[int, ...]) -> dict[str, torch.Tensor]:
        for count in steps:
            model, _ = train(samples[:2], validation=[], settings=UNET_FLAT, steps=count, checkpoint=path)
        return model.state_dict()

    whole, cut = end(tmp_path / "a.safetensors", (10,)), end(tmp_path / "b.safetensors", (5, 10))
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    monkeypatch.setattr(torch.optim.Adam, "load_state_dict", lambda *_: None)
    broken = end(tmp_path / "c.safetensors", (5, 10))
    assert not all(torch.equal(broken[name], whole[name]) for name in whole)


UNET_FLAT = dataclasses.replace(UNET, anneal=False)


def test_epochs_with_and_without_labels_alternate(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    step_on = State.step_on

    def watched(self: State, images: torch.Tensor, classes: torch.Tensor | None, learning_rate: float) -> float:
        seen.append("i" if classes is not None else "ii")
        assert learning_rate == 1e-3
        return step_on(self, images, classes, learning_rate)

    monkeypatch.setattr(State, "step_on", watched)
    _, log = train(
        [samples[0].only([1, 2, 3])], validation=samples[3:], unlabelled=samples[1:3], settings=TWOHEAD, steps=9
    )
    # 3 labelled slices in batches of 4 are one step, 12 without labels are three.
    assert seen == ["i", "ii", "ii", "ii", "i", "ii", "ii", "ii", "i"]
    assert {"loss", "loss_unlabelled"} <= set(log[-1])


def test_the_best_network_is_returned_when_patience_ends(samples: list[Sample]) -> None:
    from cryoscale.segment.train import validate

    hasty = dataclasses.replace(UNET, patience=2, learning_rate=0.3, anneal=False)
    model, log = train(samples[:3], validation=samples[3:], settings=hasty, steps=500)
    losses = [row["validation_loss"] for row in log]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 100
    again = validate(model, samples[3:], slices=hasty.validation_slices)
    assert again["validation_loss"] == pytest.approx(losses[best], rel=1e-6)


def test_checkpoint_of_another_training_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    train(samples, validation=[], settings=UNET, steps=1, checkpoint=path)
    for other, words in (
        ({"seed": 4}, "found seed 3; allowed: seed 4; to do"),
        ({"data": "others", "batch": 2}, "found batch 4, data ''; allowed: batch 2, data 'others'; to do"),
    ):
        with pytest.raises(UsageError, match=f"a.safetensors: not a checkpoint of this training; {words}"):
            train(samples, validation=[], settings=dataclasses.replace(UNET, **other), steps=1, checkpoint=path)
    state = load_file(path)
    for text, words in (("[]", "indices must be integers"), ('{"settings": 3}', "not iterable")):
        save_file(state | {"facts": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}, path)
        with pytest.raises(UsageError, match=f"not a checkpoint of this training; found .*{words}"):
            train(samples, validation=[], settings=UNET, steps=1, checkpoint=path)
    path.write_bytes(b"torn")
    with pytest.raises(UsageError, match="not a safetensors file"):
        train(samples, validation=[], settings=UNET, steps=1, checkpoint=path)


def test_length_is_steps_or_minutes(samples: list[Sample]) -> None:
    for length in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ValueError, match="exactly one"):
            train(samples, validation=[], settings=UNET, **length)
    for length in ({"steps": 0}, {"steps": -3}, {"minutes": 0.0}, {"minutes": -1.0}, {"minutes": float("nan")}):
        with pytest.raises(ValueError, match="above 0 and finite"):
            train(samples, validation=[], settings=UNET, **length)
    with pytest.raises(ValueError, match="give volumes"):
        train([], validation=[], settings=UNET, steps=1)
    with pytest.raises(ValueError, match="needs volumes for validation"):
        train(samples, validation=[], settings=TWOHEAD, steps=1)
    _, log = train(samples, validation=[], settings=UNET, minutes=1e-4)
    assert log[-1]["step"] >= 1


def test_two_heads_train_as_published() -> None:
    settings = settings_for("twohead")
    assert (settings.learning_rate, settings.crop_voxels, settings.turns_only) == (1e-4, 256, True)
    assert not settings.anneal
    assert settings.patience > 0


def test_boxes_are_scored_as_the_slices_they_hold(samples: list[Sample]) -> None:
    """Neighbouring slices in one window, and every one of them once, whatever is between those that are known."""
    model, _ = train(samples[:3], validation=[], settings=BOXES, steps=5)
    parts = [samples[3].only(run) for run in ((0, 1), (4, 5))]
    together, apart = validate(model, [samples[3].only((0, 1, 4, 5))]), validate(model, parts)
    assert together["pixel_accuracy"] == pytest.approx(apart["pixel_accuracy"], abs=1e-12)
    assert together["validation_loss"] == pytest.approx(apart["validation_loss"], rel=1e-6)
    middle = validate(model, [samples[3]], slices=2)
    assert middle["validation_loss"] == pytest.approx(validate(model, [samples[3].only((2, 3))])["validation_loss"])
