"""The network over regions: chunked equals whole, and what breaks that is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.chunks import Region, blocks, whole
from cryoscale.errors import TomogramError
from cryoscale.segment.network import fold
from cryoscale.segment.unet import UNet
from cryoscale.segment.windows import Window, for_inference, predict_slab, region_to_read, window_of
from tests.segment.test_unet import random_model


def scored(model: UNet, volume: np.ndarray, region: Region, window: Window | None = None, batch: int = 4) -> np.ndarray:
    read = region_to_read(region, volume.shape, window or window_of(model))
    return predict_slab(
        model, volume[read.slices], region, volume.shape, centre=1.0, scale=2.0, window=window, batch_slices=batch
    )


@pytest.fixture(scope="module")
def model() -> UNet:
    return for_inference(fold(random_model(1, slices_in=3)))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_chunked_equals_whole(model: UNet, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(3, 70)), data.draw(st.integers(3, 70)))
    volume = np.random.default_rng(data.draw(st.integers(0, 99))).normal(1.0, 2.0, shape).astype(np.float32)
    expected = scored(model, volume, whole(shape))
    block = tuple(data.draw(st.integers(max(1, n // 3), n)) for n in shape)
    for region in blocks(shape, block):
        found = scored(model, volume, region)
        np.testing.assert_allclose(found, expected[:, *region.slices], atol=1e-5)


def test_a_halo_one_step_short_is_seen(model: UNet) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (1, 96, 96)).astype(np.float32)
    expected, window = scored(model, volume, whole(volume.shape)), window_of(model)
    short = dataclasses.replace(window, halo_voxels=window.halo_voxels - window.multiple)
    region = Region((0, 48, 48), (1, 52, 52))
    assert np.abs(scored(model, volume, region) - expected[:, *region.slices]).max() < 1e-5
    assert np.abs(scored(model, volume, region, short) - expected[:, *region.slices]).max() > 1e-5


def test_a_window_off_the_grid_is_seen(model: UNet) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (1, 96, 96)).astype(np.float32)
    expected, window = scored(model, volume, whole(volume.shape)), window_of(model)
    loose = dataclasses.replace(window, multiple=1, halo_voxels=window.halo_voxels + 2)
    region = Region((0, 44, 48), (1, 53, 52))
    read = region_to_read(region, volume.shape, loose)
    assert read.start[1] % window.multiple
    block = volume[read.slices][:, : read.shape[1] // 4 * 4, : read.shape[2] // 4 * 4]
    part = np.s_[:, 0, 44 - read.start[1] : 48 - read.start[1], 48 - read.start[2] : 52 - read.start[2]]
    shifted = scored(model, block, whole(block.shape))[part]
    assert np.abs(shifted - expected[:, 0, 44:48, 48:52]).max() > 1e-5


def test_ends_in_z_repeat_the_last_slice(model: UNet) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (3, 24, 24)).astype(np.float32)
    longer = np.concatenate([volume[:1], volume, volume[-1:]])
    np.testing.assert_allclose(
        scored(model, volume, whole(volume.shape)), scored(model, longer, whole(longer.shape))[:, 1:-1], atol=1e-6
    )


def test_scores_are_probabilities_of_the_normalised_volume(model: UNet) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (1, 16, 16)).astype(np.float32)
    found = scored(model, volume, whole(volume.shape))
    x = torch.from_numpy(np.repeat((volume - 1.0) / 2.0, 3, axis=0)[None])
    with torch.inference_mode():
        expected = torch.softmax(model(x), dim=1).numpy()
    np.testing.assert_allclose(found[:, 0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-5)


def test_out_of_memory_halves_the_batch_and_changes_no_score(model: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (7, 16, 16)).astype(np.float32)
    expected, forward, seen = scored(model, volume, whole(volume.shape), batch=1), model.forward, []

    def small(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return forward(x)

    monkeypatch.setattr(model, "forward", small)
    np.testing.assert_array_equal(scored(model, volume, whole(volume.shape), batch=4), expected)
    assert seen == [4, 2] + [1] * 7


def test_out_of_memory_with_one_slice_is_not_hidden(model: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "forward", never)
    with pytest.raises(torch.OutOfMemoryError):
        scored(model, np.zeros((2, 16, 16), np.float32), whole((2, 16, 16)))


def test_a_score_that_is_not_finite_names_its_slice(model: UNet) -> None:
    volume = np.zeros((6, 40, 40), np.float32)
    volume[3, 20, 21] = np.nan
    with pytest.raises(TomogramError, match="slice z=2: the network's score is not a finite number") as caught:
        scored(model, volume, whole(volume.shape))
    assert "(2, " in str(caught.value)


@pytest.mark.parametrize(
    "region", [Region((0, 0, 0), (0, 8, 8)), Region((0, 0, 0), (1, 8, 9)), Region((0, -1, 0), (1, 8, 8))]
)
def test_region_outside_the_volume_is_refused(region: Region) -> None:
    with pytest.raises(ValueError, match="empty or outside"):
        region_to_read(region, (1, 8, 8), Window(2, 4, 0))


def test_block_of_another_shape_is_refused(model: UNet) -> None:
    with pytest.raises(ValueError, match="is not the region to read"):
        predict_slab(model, np.zeros((1, 8, 8)), whole((1, 9, 8)), (1, 9, 8), centre=0.0, scale=1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_scores_as_the_cpu_does() -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (5, 70, 85)).astype(np.float32)
    folded = fold(random_model(1, slices_in=3))
    expected = scored(for_inference(folded), volume, whole(volume.shape))
    device = for_inference(folded, "cuda")
    np.testing.assert_allclose(scored(device, volume, whole(volume.shape)), expected, atol=1e-4)
    for region in blocks(volume.shape, (2, 32, 32)):
        np.testing.assert_allclose(scored(device, volume, region), expected[:, *region.slices], atol=1e-4)


def test_nothing_beyond_the_receptive_field_counts(model: UNet) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (7, 96, 96)).astype(np.float32)
    region = Region((3, 40, 44), (4, 48, 52))
    halo = (1, window_of(model).halo_voxels, window_of(model).halo_voxels)
    kept = np.full_like(volume, 1e6)
    near = region.grow(halo, volume.shape).slices
    kept[near] = volume[near]
    np.testing.assert_allclose(scored(model, kept, region), scored(model, volume, region), atol=1e-5)
