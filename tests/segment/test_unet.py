"""The network: its shapes, its exact receptive field, folding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoscale.segment.unet import UNet, alignment, fold, receptive_halo


def random_model(seed: int = 0, **sizes: int) -> UNet:
    """Make a small network in evaluation mode whose norms have seen noise, so that every voxel counts."""
    torch.manual_seed(seed)
    model = UNet(**{"width": 4, "depth": 2, **sizes})
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.normal_(norm.bias, std=0.2)
    torch.nn.init.normal_(model.head.weight)
    with torch.inference_mode():
        x = torch.randn(8, model.slices_in, 64, 64)
        model.train()(x)
        assert model.eval()(x).std(dim=(0, 2, 3)).min() > 0.3
    return model


def test_one_logit_per_class_and_voxel() -> None:
    assert UNet(slices_in=3, classes=3, width=4, depth=2)(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 16, 24)


@pytest.mark.parametrize("sizes", [{"slices_in": 2}, {"width": 0}, {"depth": 0}, {"classes": -1}])
def test_impossible_architecture_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        UNet(**sizes)


@pytest.mark.parametrize("shape", [(1, 1, 10, 16), (1, 1, 16, 12), (1, 3, 16, 16), (1, 16, 16)])
def test_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        UNet(width=2)(torch.zeros(shape))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_halo_is_exactly_how_far_gradients_reach(depth: int) -> None:
    # Positive weights and no maximum (the mean in its place) let no path cancel: the gradient is the receptive field.
    model = UNet(width=1, depth=depth).double().eval()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    halo, multiple = receptive_halo(model), alignment(model)
    size = -(-2 * (halo + multiple) // multiple) * multiple
    centre = size // 2 // multiple * multiple
    pool = torch.nn.functional.max_pool2d
    torch.nn.functional.max_pool2d = lambda x, k: torch.nn.functional.avg_pool2d(x, k)  # type: ignore[assignment]
    try:
        reach = 0
        for phase in range(multiple):
            x = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
            model(x)[0, 0, centre + phase, centre + phase].backward()
            assert x.grad is not None
            touched = np.flatnonzero(x.grad[0, 0].abs().sum(dim=0).numpy())
            reach = max(reach, centre + phase - int(touched[0]), int(touched[-1]) - centre - phase)
    finally:
        torch.nn.functional.max_pool2d = pool
    assert reach == halo


def test_folding_changes_nothing_but_the_norms() -> None:
    model = random_model(slices_in=3)
    folded = fold(model)
    x = torch.randn(2, 3, 32, 40)
    with torch.inference_mode():
        np.testing.assert_allclose(folded(x).numpy(), model(x).numpy(), atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
