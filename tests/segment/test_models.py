"""The registry: every network keeps what the engine relies on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cryoscale.errors import UsageError
from cryoscale.segment import MODELS, build_model
from cryoscale.segment.network import Network, fold
from tests.segment.networks import SMALL, small

NAMES = sorted(MODELS)


def test_every_network_has_a_small_one() -> None:
    assert sorted(SMALL) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_made_again_from_its_name_and_options(name: str) -> None:
    model = build_model(name, **SMALL[name])
    assert model.name == name
    again = build_model(model.name, **model.options)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert (again.dims, again.slices_in, again.classes, again.width) == (
        model.dims,
        model.slices_in,
        model.classes,
        model.width,
    )


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_probabilities(name: str) -> None:
    model = small(name)
    sizes = (48, 32) if model.dims == 2 else (8, 16, 12)
    with torch.inference_mode():
        scores = model.scores(torch.randn(2, model.slices_in, *sizes))
    assert scores.shape == (2, model.classes, *sizes)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.sum(dim=1).numpy(), 1, atol=1e-5)
    assert scores.min() >= 0


def gradient_reach(model: Network) -> tuple[int, ...]:
    """Farthest voxel along each axis that any output voxel of one pooling period depends on.

    Positive weights that keep the mean, and the mean in the place of the maximum, let no path cancel.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.01)
    axes = range(3 - model.dims, 3)
    reaches = [0] * model.dims
    for number, axis in enumerate(axes):
        halo, multiple = model.halo_voxels[axis], model.multiple[axis]
        sizes = [model.multiple[a] for a in axes]
        sizes[number] = -(-(2 * halo + 3 * multiple) // multiple) * multiple
        start = sizes[number] // 2 // multiple * multiple
        for phase in range(multiple):
            x = torch.ones(1, model.slices_in, *sizes, dtype=torch.float64, requires_grad=True)
            model.scores(x).movedim(2 + number, 0)[start + phase, :, -1].sum().backward()
            assert x.grad is not None
            lit = np.flatnonzero(x.grad.movedim(2 + number, 0).flatten(1).abs().sum(dim=1).numpy())
            reaches[number] = max(reaches[number], start + phase - int(lit[0]), int(lit[-1]) - start - phase)
    return tuple(reaches)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet2d", {"width": 1, "depth": 1}),
        ("unet2d", {"width": 1, "depth": 3}),
        ("unet25d", {"width": 1, "depth": 2, "slices_in": 3}),
        ("unet3d", {"width": 1, "depth": 2}),
        ("twohead", {"width": 1}),
    ],
)
def test_halo_is_exactly_how_far_gradients_reach(
    name: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(name, **options).double().eval()
    for pool in ("max_pool2d", "max_pool3d"):
        monkeypatch.setattr(nn.functional, pool, getattr(nn.functional, pool.replace("max", "avg")))
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    assert gradient_reach(model) == model.halo_voxels[-model.dims :]


@pytest.mark.parametrize("name", NAMES)
def test_folding_changes_no_score(name: str) -> None:
    model = small(name)
    sizes = (32, 48) if model.dims == 2 else (8, 16, 12)
    x = torch.randn(2, model.slices_in, *sizes)
    with torch.inference_mode():
        np.testing.assert_allclose(fold(model).scores(x).numpy(), model.scores(x).numpy(), atol=1e-5)
        exact, folded = model.double()(x.double()), fold(model)(x.double())
    for one, other in zip(exact, folded, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("unet4d", {}, "no network has this name; found unet4d; allowed: unet2d, unet25d, unet3d, twohead"),
        ("twohead", {"depth": 3}, "twohead cannot be made of these options"),
        ("unet2d", {"width": 0}, "whole numbers from 1 to"),
        ("unet2d", {"width": 10**9}, "whole numbers from 1 to"),
        ("unet2d", {"depth": 9}, "at most 8"),
        ("unet3d", {"slices_in": 3}, "must be 2, or 3 with slices_in = 1"),
        ("unet2d", {"slices_in": 5}, "these options make a unet25d"),
        ("unet25d", {"slices_in": 2}, "must be odd"),
        ("unet2d", {"classes": 2}, "unet2d, option classes: a network must score three classes; found 2; allowed: 3"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_model(name, **options)
