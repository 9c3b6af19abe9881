"""The U-Net: its shapes, what it refuses, folding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoscale.segment.network import fold
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.unet import UNet, seeing_more
from tests.segment.networks import lively


def random_model(seed: int = 0, **sizes: int) -> UNet:
    """Make a small network in evaluation mode whose norms have seen noise, so that every voxel counts."""
    torch.manual_seed(seed)
    return lively(UNet(**{"width": 4, "depth": 2, **sizes}))


def test_one_logit_per_class_and_voxel() -> None:
    assert UNet(slices_in=3, classes=3, width=4, depth=2)(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 16, 24)
    assert UNet(width=2, depth=1, dims=3)(torch.zeros(2, 1, 4, 6, 8)).shape == (2, 3, 4, 6, 8)


@pytest.mark.parametrize(
    "sizes", [{"slices_in": 2}, {"width": 0}, {"depth": 0}, {"classes": -1}, {"dims": 4}, {"dims": 3, "slices_in": 3}]
)
def test_impossible_architecture_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        UNet(**sizes)


@pytest.mark.parametrize("shape", [(1, 1, 10, 16), (1, 1, 16, 12), (1, 3, 16, 16), (1, 16, 16)])
def test_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        UNet(width=2)(torch.zeros(shape))


def test_folding_leaves_no_norm_and_the_model_as_it_was() -> None:
    model = random_model(slices_in=3)
    folded = fold(model)
    x = torch.randn(2, 3, 32, 40)
    with torch.inference_mode():
        np.testing.assert_allclose(folded(x).numpy(), model(x).numpy(), atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_more_slices_change_no_score_until_they_are_trained() -> None:
    model = random_model(slices_in=3)
    wider = seeing_more(model, 7)
    assert wider.options == {**model.options, "slices_in": 7} and wider.halo_voxels[0] == 3 and not wider.training
    x = torch.randn(2, 7, 16, 24)
    with torch.inference_mode():
        np.testing.assert_allclose(wider(x).numpy(), model(x[:, 2:5]).numpy(), atol=1e-6)
    # They are learnt from: their gradients are not zero.
    wider(x).square().sum().backward()
    gradient = wider.get_parameter("down.0.0.conv.weight").grad
    assert gradient is not None and bool((gradient.abs().amax(dim=(0, 2, 3)) > 0).all())


def test_what_sees_as_much_or_is_no_net_of_slices_stays() -> None:
    for model, slices_in in ((random_model(slices_in=3), 3), (random_model(dims=3), 5), (TwoHead(width=8), 5)):
        assert seeing_more(model, slices_in) is model
