"""Losses: SSIM against scikit-image, the two steps of a network with two heads, and what each of them may move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from cryoscale.segment import state
from cryoscale.segment.crops import UNKNOWN
from cryoscale.segment.losses import Objective, class_loss, multiplies_bfloat16, score_loss, ssim
from cryoscale.segment.settings import TrainSettings
from cryoscale.segment.twohead import TwoHead
from tests.segment.networks import small


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(11, 40), st.integers(11, 40), st.floats(0.0, 3.0), st.sampled_from([1.0, 12.0]))
def test_ssim_is_scikit_images(seed: int, height: int, length: int, noise: float, width: float) -> None:
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(height, length))
    other = one + noise * rng.normal(size=one.shape)
    expected = structural_similarity(
        one, other, data_range=width, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    found = ssim(torch.from_numpy(one)[None, None], torch.from_numpy(other)[None, None], width=width)
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_class_loss_is_cross_entropy_plus_dice_of_the_classes_sought() -> None:
    classes = torch.tensor([[[0, 1], [2, 2]]])
    logits = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float() * 40
    assert float(class_loss(logits, classes, 1.0)) == pytest.approx(0.0, abs=1e-6)
    protein, membrane = (2 * 1 / 3 + 1) / (4 / 3 + 1 + 1), (2 * 2 / 3 + 1) / (4 / 3 + 2 + 1)
    expected = np.log(3) + 0.5 * (1 - protein + 1 - membrane)
    assert float(class_loss(torch.zeros(1, 3, 2, 2), classes, 0.5)) == pytest.approx(expected)


def huber(found: np.ndarray, wanted: np.ndarray) -> float:
    error = np.abs(found.astype(np.float64) - wanted)
    return float(np.where(error <= 0.1, error**2 / 2, 0.1 * (error - 0.05)).mean())


@pytest.fixture
def model() -> TwoHead:
    made = small("twohead")
    assert isinstance(made, TwoHead)
    return made


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return torch.randn(2, 1, 32, 48, generator=rng), torch.randint(0, 3, (2, 32, 48), generator=rng)


def test_the_two_steps_are_as_published(model: TwoHead) -> None:
    images, classes = batch()
    loss = Objective(model, dice_weight=0.5, mixed=False)
    with torch.inference_mode():
        drawn, label = (part.numpy() for part in model(images))
        labelled, alone = float(loss(images, classes)), float(loss(images, None))
    truth = np.where(classes.numpy() == 2, 1.0, -1.0)[:, None]
    assert labelled == pytest.approx(0.99 * huber(label, truth) + 0.01 * huber(drawn, images.numpy()), rel=1e-5)
    alike = np.mean(
        [
            structural_similarity(a[0], b[0], data_range=12, gaussian_weights=True, use_sample_covariance=False)
            for a, b in zip(drawn, images.numpy(), strict=True)
        ]
    )
    assert alone == pytest.approx(0.5 * (1 - alike) + 0.5 * huber(drawn, images.numpy()), rel=1e-4)


def moved_without_labels(model: TwoHead, objective: Objective) -> set[str]:
    """Names of weights and batch statistics that a step without labels moves, after one with labels."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, classes = batch()
    model.train()
    for wanted in (classes, None):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        adam.zero_grad(set_to_none=True)
        objective(images, wanted).backward()
        adam.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def of_the_label(model: TwoHead) -> set[str]:
    return {name for name in model.state_dict() if name.startswith("label_")}


def test_without_labels_the_label_decoder_stays_weights_and_statistics(model: TwoHead) -> None:
    moved = moved_without_labels(model, Objective(model, dice_weight=0.5, mixed=False))
    frozen = of_the_label(model)
    assert any("running_mean" in name for name in frozen)
    assert any("conv.weight" in name for name in frozen)
    assert not moved & frozen
    learnt = {name for name in model.state_dict() if not name.startswith("label_")}
    assert moved == learnt


class _RunsTheLabelDecoder(Objective):
    """Broken on purpose: the label is computed, though not used, so that batch statistics see the images."""

    def forward(self, images: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
        if classes is None:
            self.network(images)
        return super().forward(images, classes)


class _GivesZeroGradients(Objective):
    """Broken on purpose: gradients of zero instead of none, so that Adam's moments move the weights."""

    def forward(self, images: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
        loss = super().forward(images, classes)
        return loss if classes is not None else loss + 0 * sum(p.sum() for p in self.network.parameters())


@pytest.mark.parametrize(
    ("broken", "what"), [(_RunsTheLabelDecoder, "running_mean"), (_GivesZeroGradients, "conv.weight")]
)
def test_a_label_decoder_that_is_not_frozen_is_seen(model: TwoHead, broken: type[Objective], what: str) -> None:
    moved = moved_without_labels(model, broken(model, dice_weight=0.5, mixed=False))
    assert any(what in name for name in moved & of_the_label(model))


def test_the_loss_of_scores_is_what_is_trained_towards(model: TwoHead) -> None:
    images, classes = batch()
    with torch.inference_mode():
        label, scores = model(images)[1].numpy(), model.scores(images)
    truth = np.where(classes.numpy() == 2, 1.0, -1.0)
    found = score_loss(model, scores.movedim(1, 0), classes)
    assert found == pytest.approx(huber(label[:, 0], truth), rel=1e-5)
    unet = small("unet2d")
    with torch.inference_mode():
        logits, scores = unet(images), unet.scores(images)
    expected = torch.nn.functional.cross_entropy(logits, classes)
    assert score_loss(unet, scores.movedim(1, 0), classes) == pytest.approx(float(expected), rel=1e-5)


def test_a_network_of_one_head_cannot_learn_from_images_alone() -> None:
    with pytest.raises(ValueError, match="unet2d cannot learn from images alone"):
        Objective(small("unet2d"), dice_weight=0.5, mixed=False)(torch.zeros(1, 1, 16, 16), None)


def test_what_is_unknown_does_not_count_and_boxes_are_their_slices_side_by_side() -> None:
    rng = np.random.default_rng(6)
    logits = torch.from_numpy(rng.normal(size=(2, 3, 4, 6, 8)))
    classes = torch.from_numpy(rng.integers(0, 3, (2, 4, 6, 8)))
    flat = class_loss(logits.reshape(2, 3, 24, 8), classes.reshape(2, 24, 8), 0.7)
    assert float(class_loss(logits, classes, 0.7)) == pytest.approx(float(flat), rel=1e-6)
    hidden = classes.clone()
    hidden[:, 1:3] = UNKNOWN
    kept = class_loss(logits[:, :, [0, 3]], classes[:, [0, 3]], 0.7)
    assert float(class_loss(logits, hidden, 0.7)) == pytest.approx(float(kept), rel=1e-6)
    assert abs(float(flat) - float(kept)) > 1e-3


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_used_only_where_it_is_multiplied(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "multiplies_bfloat16", lambda device: able and device == "cpu")
    made = state.State(TrainSettings(model="unet2d", options={"width": 2, "depth": 1}), "cpu")
    images, classes = torch.randn(1, 1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64)
    seen: list[torch.dtype] = []
    made.network.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    made.step_on(images, classes, 1e-3)
    assert seen == [torch.bfloat16 if able else torch.float32]
    assert isinstance(multiplies_bfloat16("cpu"), bool)
