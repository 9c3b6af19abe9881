"""Small networks for tests, every voxel of which counts."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from cryoscale.segment.models import build_model
from cryoscale.segment.network import Network
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.unet import UNet

N = TypeVar("N", bound=Network)

SMALL: dict[str, dict[str, int]] = {
    "unet2d": {"width": 4, "depth": 2},
    "unet25d": {"width": 4, "depth": 2, "slices_in": 3},
    "unet3d": {"width": 4, "depth": 1},
    "twohead": {"width": 2},
}
"""Options that make each network of the registry small."""


def lively(model: N) -> N:
    """Give a network norms that have seen noise, and a head that answers to it; evaluation mode."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            norm.momentum = 1.0
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.normal_(norm.bias, std=0.2)
    if isinstance(model, UNet):
        nn.init.normal_(model.head.weight)
    elif isinstance(model, TwoHead):
        # With the head it is born with, float32 rounds the scores of this random network to 1.3e-5.
        nn.init.normal_(model.label_head[1].weight, std=0.3)
    sizes = (64, 64) if model.dims == 2 else (32, 32, 32)
    with torch.inference_mode():
        x = torch.randn(8, model.slices_in, *sizes)
        model.train()(x)
        assert model.eval().scores(x).std() > 0.1
    return model


def small(name: str, seed: int = 0) -> Network:
    """Make the small network of a name, lively."""
    torch.manual_seed(seed)
    return lively(build_model(name, **SMALL[name]))
