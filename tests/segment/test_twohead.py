"""The two-headed network: as large as published, and its heads apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cryoscale.segment.twohead import TwoHead
from tests.segment.networks import small


@pytest.mark.parametrize(("width", "parameters"), [(8, 1_201_666), (16, 4_791_542), (32, 19_135_966), (64, 76_483_502)])
def test_it_has_as_many_parameters_as_published(width: int, parameters: int) -> None:
    with torch.device("meta"):
        model = TwoHead(width=width)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_neck_sees_206_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TwoHead(width=1).double().eval()
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    x = torch.ones(1, 1, 416, 16, dtype=torch.float64, requires_grad=True)
    coarse, _ = model.encoder(x)
    model.neck[2](coarse)[0, 0, 13].sum().backward()
    assert x.grad is not None
    lit = x.grad[0, 0].sum(dim=1).nonzero()
    assert int(lit[-1] - lit[0]) + 1 == 206


def test_heads() -> None:
    model = small("twohead")
    assert isinstance(model, TwoHead)
    x = torch.randn(2, 1, 32, 48)
    with torch.inference_mode():
        image, label = model(x)
        scores = model.scores(x)
        assert image.shape == label.shape == (2, 1, 32, 48)
        assert label.abs().max() <= 1
        assert torch.equal(scores[:, 2], (label[:, 0] + 1) / 2)
        assert not scores[:, 1].any()
        assert torch.equal(model.image(x), image)


def test_the_image_decoder_takes_no_skips_and_the_label_decoder_takes_all() -> None:
    model = small("twohead")
    assert isinstance(model, TwoHead)
    joined, skips = model._necked(torch.randn(1, 1, 32, 32))
    gone = [torch.zeros_like(skip) for skip in skips]
    with torch.inference_mode():
        full = model._label(joined, skips)
        for number in range(len(skips)):
            without = [*skips[:number], gone[number], *skips[number + 1 :]]
            assert not torch.equal(model._label(joined, without), full)


@pytest.mark.parametrize("sizes", [{"slices_in": 2}, {"width": 0}])
def test_impossible_options_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        TwoHead(**sizes)


@pytest.mark.parametrize("shape", [(1, 1, 24, 16), (1, 3, 16, 16), (1, 16, 16)])
def test_wrong_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        TwoHead(width=1)(torch.zeros(shape))
