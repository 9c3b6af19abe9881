"""The engine over regions: chunked equals whole for every network, and what breaks that is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.chunks import Region, blocks, whole
from cryoscale.errors import TomogramError
from cryoscale.segment.forward import for_inference
from cryoscale.segment.network import Network
from cryoscale.segment.normalise import normalised
from cryoscale.segment.predict import predict_slab, source_region
from cryoscale.segment.resample import Grid, grid_for
from cryoscale.segment.windows import Window, window_of
from tests.segment.networks import SMALL, small

SHAPES = {"unet2d": (3, 90, 70), "unet25d": (5, 90, 70), "unet3d": (30, 24, 26), "twohead": (1, 410, 16)}
CUTS = {"unet2d": (2, 31, 40), "unet25d": (2, 50, 33), "unet3d": (11, 13, 26), "twohead": (1, 20, 16)}


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32)


def scored(
    model: Network,
    volume: np.ndarray,
    region: Region,
    window: Window | None = None,
    grid: Grid | None = None,
    **options: int,
) -> np.ndarray:
    read = source_region(region, volume.shape, window or window_of(model), grid)
    block = volume[read.slices]
    return predict_slab(model, block, region, volume.shape, centre=1.0, scale=2.0, window=window, grid=grid, **options)


def worst(model: Network, volume: np.ndarray, cut: tuple[int, ...], **options: object) -> float:
    """Largest difference between the whole and some of its blocks, the first and last among them."""
    expected = scored(model, volume, whole(volume.shape), **options)  # type: ignore[arg-type]
    regions = blocks(volume.shape, cut)
    return max(
        float(np.abs(scored(model, volume, r, **options) - expected[:, *r.slices]).max())  # type: ignore[arg-type]
        for r in [*regions[:: max(1, len(regions) // 3)], regions[-1]]
    )


@pytest.fixture(scope="module")
def model() -> Network:
    return for_inference(small("unet25d", 1))


@pytest.mark.parametrize("symmetries", [False, True])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_chunked_equals_whole(name: str, symmetries: bool) -> None:
    assert worst(for_inference(small(name)), noise(SHAPES[name]), CUTS[name], symmetries=symmetries) < 1e-5


@pytest.mark.parametrize("name", ["unet25d", "unet3d"])
@pytest.mark.parametrize("voxel", [(5.0, 5.0, 5.0), (11.0, 10.0, 10.0), (1.0, 3.0, 3.0)])
def test_chunked_equals_whole_in_other_voxels(name: str, voxel: tuple[float, float, float]) -> None:
    shape = tuple(round(n * 8 / v) for n, v in zip((9, 60, 40), voxel, strict=True))
    grid = grid_for(shape, voxel, (8.0, 8.0))
    assert worst(for_inference(small(name)), noise(shape), (max(2, shape[0] // 3), 40, 128), grid=grid) < 1e-5


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_chunks_and_any_batch(model: Network, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 19)), data.draw(st.integers(3, 70)), data.draw(st.integers(3, 70)))
    volume = noise(shape)
    expected = scored(model, volume, whole(shape))
    batch = data.draw(st.integers(1, 9))
    for region in blocks(shape, tuple(data.draw(st.integers(max(1, n // 3), n)) for n in shape)):
        found = scored(model, volume, region, batch_slices=batch)
        np.testing.assert_allclose(found, expected[:, *region.slices], atol=1e-5)


@pytest.mark.parametrize("name", ["unet2d", "unet3d"])
def test_a_halo_one_voxel_short_is_seen(name: str) -> None:
    """Of all halos up to the model's, one is the least that holds wherever a region starts; one less does not."""
    model = for_inference(small(name))
    volume, window = noise({"unet2d": (1, 92, 24), "unet3d": (24, 44, 24)}[name]), window_of(model)
    expected, middle = scored(model, volume, whole(volume.shape)), volume.shape[1] // 2

    def error(halo: int) -> float:
        short = dataclasses.replace(window, halo_voxels=(window.halo_voxels[0], halo, window.halo_voxels[2]))
        regions = [
            Region((0, middle + phase, 0), (volume.shape[0], middle + phase + 1, volume.shape[2]))
            for phase in range(window.multiple[1])
        ]
        return max(
            float(np.abs(scored(model, volume, region, short) - expected[:, *region.slices]).max())
            for region in regions
        )

    declared = window.halo_voxels[1]
    least = next(halo for halo in range(declared, 0, -1) if error(halo - 1) > 1e-5)
    assert error(declared) < 1e-5
    assert error(least) < 1e-5
    assert declared - least < window.multiple[1]


def test_a_window_off_the_grid_is_seen(model: Network) -> None:
    volume = noise((1, 96, 96))
    expected = scored(model, volume, whole(volume.shape))
    start = 10  # no multiple of 4
    shifted = scored(model, volume[:, start:, :], whole((1, 86, 96)))
    far = np.s_[:, 0, 40:60]
    assert np.abs(shifted[far] - expected[:, 0, 40 + start : 60 + start]).max() > 1e-3


def test_a_halo_short_in_z_is_seen() -> None:
    model = for_inference(small("unet25d"))
    volume, window = noise((9, 24, 24)), window_of(model)
    longer = np.concatenate([volume[:4], volume[4:5], volume[4:5] * 0, volume[6:]])
    region = Region((4, 0, 0), (5, 24, 24))
    assert window.halo_voxels[0] == 1
    assert np.abs(scored(model, volume, region) - scored(model, longer, region)).max() > 1e-3


def test_ends_in_z_repeat_the_last_slice(model: Network) -> None:
    volume = noise((3, 24, 24))
    longer = np.concatenate([volume[:1], volume, volume[-1:]])
    np.testing.assert_allclose(
        scored(model, volume, whole(volume.shape)), scored(model, longer, whole(longer.shape))[:, 1:-1], atol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16, np.dtype(">i2"), np.float64])
def test_scores_are_probabilities_of_the_normalised_volume(model: Network, dtype: np.dtype) -> None:  # type: ignore[type-arg]
    volume = np.abs(noise((1, 16, 16)) * 30).astype(dtype)
    volume.flags.writeable = False
    found = scored(model, volume, whole(volume.shape))
    x = torch.from_numpy(np.repeat(normalised(volume, 1.0, 2.0), 3, axis=0)[None])
    with torch.inference_mode():
        expected = model.scores(x).numpy()
    np.testing.assert_allclose(found[:, 0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-5)


def test_another_voxel_size_is_the_network_on_the_rescaled_tomogram(model: Network) -> None:
    volume = noise((6, 40, 48))
    grid = grid_for(volume.shape, (5.0, 5.0, 5.0), (8.0, 8.0))
    assert grid is not None
    there = grid.to_model(torch.from_numpy(volume), whole(volume.shape), whole(grid.shape)).numpy()
    coarse = scored(model, there, whole(grid.shape))
    back = grid.to_tomogram(torch.from_numpy(coarse), whole(grid.shape), whole(volume.shape))
    expected = grid.depth_to_tomogram(back, 0, 0, 6).numpy()
    np.testing.assert_allclose(scored(model, volume, whole(volume.shape), grid=grid), expected, atol=1e-5)


def test_symmetries_make_scores_turn_with_the_tomogram(model: Network) -> None:
    volume = noise((3, 32, 32))
    for turned in (np.rot90(volume, 1, (1, 2)), volume[:, :, ::-1], volume[:, ::-1]):
        ways = [np.rot90(volume, 1, (1, 2)), volume[:, :, ::-1], volume[:, ::-1]]
        number = next(i for i, way in enumerate(ways) if np.array_equal(way, turned))
        for symmetries in (True, False):
            before = scored(model, volume, whole(volume.shape), symmetries=symmetries)
            before = [np.rot90(before, 1, (2, 3)), before[..., ::-1], before[:, :, ::-1]][number]
            error = np.abs(scored(model, turned, whole(volume.shape), symmetries=symmetries) - before).max()
            assert error < 1e-5 if symmetries else error > 1e-3


def test_a_score_that_is_not_finite_names_its_slice(model: Network) -> None:
    volume = np.zeros((12, 40, 40), np.float32)
    volume[3, 20, 21] = np.nan
    with pytest.raises(TomogramError, match="slice z=2: the network's score is not a finite number") as caught:
        scored(model, volume, whole(volume.shape))
    assert "(2, " in str(caught.value)


def test_block_of_another_shape_and_an_unusable_scale_are_refused(model: Network) -> None:
    with pytest.raises(ValueError, match="is not the region to read"):
        predict_slab(model, np.zeros((1, 8, 8)), whole((1, 9, 8)), (1, 9, 8), centre=0.0, scale=1.0)
    with pytest.raises(ValueError, match="scale positive"):
        predict_slab(model, np.zeros((1, 8, 8)), whole((1, 8, 8)), (1, 8, 8), centre=0.0, scale=0.0)


def test_nothing_beyond_the_receptive_field_counts(model: Network) -> None:
    volume = noise((7, 96, 96))
    region = Region((3, 40, 44), (4, 48, 52))
    kept = np.full_like(volume, 1e6)
    near = region.grow(window_of(model).halo_voxels, volume.shape).slices
    kept[near] = volume[near]
    np.testing.assert_allclose(scored(model, kept, region), scored(model, volume, region), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", sorted(SMALL))
def test_gpu_scores_as_the_cpu_does(name: str) -> None:
    volume, network = noise(SHAPES[name]), small(name)
    expected = scored(for_inference(network), volume, whole(volume.shape))
    device = for_inference(network, "cuda")
    for region in [whole(volume.shape), *blocks(volume.shape, CUTS[name])]:
        np.testing.assert_allclose(scored(device, volume, region), expected[:, *region.slices], atol=1e-4)
