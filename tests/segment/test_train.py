"""Training: it learns, it repeats itself, it goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoscale.errors import UsageError
from cryoscale.segment.train import TrainSettings, Volume, log_csv, loss_of, train

SMALL = TrainSettings(
    slices_in=3, width=4, depth=2, crop_voxels=32, batch=4, learning_rate=1e-2, warmup_steps=5, validate_every=5,
    validation_slices=3, bfloat16=False, seed=3,
)  # fmt: skip


def ring_volume(seed: int) -> Volume:
    """Dark rings (membranes) and darker discs (proteins) in noise."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((6, 48, 48), np.uint8)
    y, x = np.mgrid[:48, :48]
    for centre in rng.uniform(10, 38, (2, 2)):
        radius = np.hypot(y - centre[0], x - centre[1])
        classes[:, np.abs(radius - 9) < 1.5] = 2
        classes[:, radius < 3] = 1
    return (-2.0 * classes + rng.normal(0, 0.5, classes.shape)).astype(np.float32), classes


@pytest.fixture(scope="module")
def volumes() -> list[Volume]:
    return [ring_volume(seed) for seed in range(4)]


def test_it_learns(volumes: list[Volume]) -> None:
    _, log = train(volumes[:3], validation=volumes[3:], settings=SMALL, steps=60, groups=["easy"])
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert log[-1]["dice_membrane"] > 0.7
    assert log[-1]["dice_membrane_easy"] == log[-1]["dice_membrane"]
    lines = log_csv(log).splitlines()
    assert lines[0].startswith("step,seconds,loss,dice_background")
    assert len(lines) == len(log) + 1 == 13


def test_resumed_equals_uninterrupted(volumes: list[Volume], tmp_path: Path) -> None:
    def run(path: Path, stop_at: int = 10**6) -> tuple[dict[str, torch.Tensor], list[float]]:
        def stop(_: object, log: list[dict[str, float]]) -> None:
            if log[-1]["step"] >= stop_at:
                raise InterruptedError

        model, log = train(volumes[:3], validation=volumes[3:], settings=SMALL, steps=15, checkpoint=path, on_row=stop)
        return model.state_dict(), [row["loss"] for row in log]

    state, losses = run(tmp_path / "whole.safetensors")
    with pytest.raises(InterruptedError):
        run(tmp_path / "cut.safetensors", stop_at=10)
    again, again_losses = run(tmp_path / "cut.safetensors")
    assert again_losses == losses
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_checkpoint_of_other_settings_is_refused(volumes: list[Volume], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    train(volumes, validation=[], settings=SMALL, steps=1, checkpoint=path)
    with pytest.raises(UsageError, match="not a checkpoint of this training"):
        train(volumes, validation=[], settings=TrainSettings(seed=4), steps=1, checkpoint=path)
    path.write_bytes(b"torn")
    with pytest.raises(UsageError, match="not a safetensors file"):
        train(volumes, validation=[], settings=SMALL, steps=1, checkpoint=path)


def test_length_is_steps_or_minutes(volumes: list[Volume]) -> None:
    for length in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ValueError, match="exactly one"):
            train(volumes, validation=[], settings=SMALL, **length)
    with pytest.raises(ValueError, match="give volumes"):
        train([], validation=[], settings=SMALL, steps=1)
    _, log = train(volumes, validation=[], settings=SMALL, minutes=1e-4)
    assert log[-1]["step"] >= 1


def test_loss_is_cross_entropy_plus_dice_of_the_classes_sought() -> None:
    classes = torch.tensor([[[0, 1], [2, 2]]])
    logits = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float() * 40
    assert float(loss_of(logits, classes, 1.0)) == pytest.approx(0.0, abs=1e-6)
    protein, membrane = (2 * 1 / 3 + 1) / (4 / 3 + 1 + 1), (2 * 2 / 3 + 1) / (4 / 3 + 2 + 1)
    expected = np.log(3) + 0.5 * (1 - protein + 1 - membrane)
    assert float(loss_of(torch.zeros(1, 3, 2, 2), classes, 0.5)) == pytest.approx(expected)
