"""A network ready to score: memory that runs out, precision, copies to and from a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoscale.segment.forward import Lane, Runner, for_inference
from cryoscale.segment.network import Network
from tests.segment.networks import SMALL, small


def slab(slices: int, channels: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(slices + channels - 1, 16, 24)).astype(np.float32))


def crowded(model: Network, monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Let a network run out of memory with more than `room` slices; return the batches it is asked for."""
    scores, seen = model.scores, []

    def tight(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        if len(x) > room:
            raise torch.OutOfMemoryError
        return scores(x)

    monkeypatch.setattr(model, "scores", tight)
    return seen


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    ("room", "asked"), [(1, [4, 2, 1, 1, 1, 1, 1, 1, 1]), (2, [4, 2, 2, 2, 1]), (3, [4, 2, 2, 2, 1])]
)
def test_out_of_memory_halves_the_batch_and_changes_no_label(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, room: int, asked: list[int]
) -> None:
    model = for_inference(small("unet25d"), bfloat16=bfloat16)
    expected = Runner(model, 1).of_slab(slab(7, 3))
    seen, runner = crowded(model, monkeypatch, room), Runner(model, 4)
    found = runner.of_slab(slab(7, 3))
    assert torch.equal(found.argmax(dim=0), expected.argmax(dim=0))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    assert seen == asked
    assert runner.batch_slices == (asked[1] if room > 1 else 1)


def test_the_smaller_batch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = for_inference(small("unet2d"))
    seen, runner = crowded(model, monkeypatch, 1), Runner(model, 4)
    runner.of_slab(slab(4, 1))
    seen.clear()
    runner.of_slab(slab(3, 1))
    assert seen == [1, 1, 1]


def test_out_of_memory_with_one_slice_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    model = for_inference(small("unet2d"))
    crowded(model, monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        Runner(model, 4).of_slab(slab(2, 1))


def cramped(model: Network, monkeypatch: pytest.MonkeyPatch, room: int) -> list[tuple[int, ...]]:
    """Let a network run out of memory with boxes of more than `room` voxels; return the boxes it is asked for."""
    scores, seen = model.scores, []

    def tight(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        if x.numel() > room:
            raise torch.OutOfMemoryError
        return scores(x)

    monkeypatch.setattr(model, "scores", tight)
    return seen


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("symmetries", [False, True])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_out_of_memory_cuts_the_box_and_changes_no_label(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, symmetries: bool, share: float
) -> None:
    model = for_inference(small("unet3d"), bfloat16=bfloat16)
    box = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 64, 80)).astype(np.float32))
    expected = Runner(model, symmetries=symmetries).of_box(box)
    seen, runner = cramped(model, monkeypatch, int(share * box.numel())), Runner(model, symmetries=symmetries)
    found = runner.of_box(box)
    assert found.shape == expected.shape
    assert torch.equal(found.argmax(dim=0), expected.argmax(dim=0))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    failed = sum(np.prod(shape) > share * box.numel() for shape in seen)
    seen.clear()
    runner.of_box(box)
    assert failed > 0
    assert all(np.prod(shape) <= share * box.numel() for shape in seen)


def test_out_of_memory_with_the_least_box_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    model = for_inference(small("unet3d"))
    seen = cramped(model, monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        Runner(model).of_box(torch.zeros(40, 64, 80))
    assert len(seen) == len(set(seen)) > 1


@pytest.mark.parametrize("name", sorted(SMALL))
def test_bfloat16_is_near_and_its_scores_are_float32(name: str) -> None:
    network = small(name)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32))
    exact, short = (Runner(for_inference(network, bfloat16=b)) for b in (False, True))
    one, other = (r.of_box(x) if network.dims == 3 else r.of_slab(x) for r in (exact, short))
    assert other.dtype == torch.float32
    assert 0 < (one - other).abs().mean() < 0.02


def test_the_model_given_is_left_alone() -> None:
    network = small("unet2d")
    for_inference(network, bfloat16=True)
    assert next(network.parameters()).dtype == torch.float32
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_a_lane_brings_arrays_there_and_back() -> None:
    lane, array = Lane(torch.device("cpu")), np.arange(6, dtype=np.uint16).reshape(2, 3)
    there = lane.up(array)
    assert there.dtype == torch.float32
    (back,) = lane.down(there)()
    np.testing.assert_array_equal(back, array)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_lane_brings_arrays_to_a_gpu_and_back() -> None:
    lane, rng = Lane(torch.device("cuda")), np.random.default_rng(0)
    arrays = [rng.normal(size=(64, 256, 256)).astype(np.float32) for _ in range(4)]
    waiting = [lane.down(lane.up(array) * 2) for array in arrays]
    for array, ready in zip(arrays, waiting, strict=True):
        np.testing.assert_array_equal(ready()[0], array * 2)
