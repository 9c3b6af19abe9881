"""Another voxel size: against the definition, linear functions and a blurred wave; windows change no bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.chunks import blocks, whole
from cryoscale.segment.resample import Axis, Grid, grid_for


def triangle(x: np.ndarray, size_out: int, ratio: float) -> np.ndarray:
    """One axis resampled as the formula says, voxel by voxel."""
    reach, out = max(1.0, ratio), []
    for j in range(size_out):
        weights = [max(0.0, 1 - abs(i + 0.5 - ratio * (j + 0.5)) / reach) for i in range(len(x))]
        out.append(np.dot(weights, x) / sum(weights))
    return np.array(out)


def both_ways(grid: Grid, volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    there = grid.to_model(torch.from_numpy(volume), whole(volume.shape), whole(grid.shape))
    back = grid.to_tomogram(there[None], whole(grid.shape), whole(volume.shape))
    return there.numpy(), grid.depth_to_tomogram(back, 0, 0, len(volume)).numpy()[0]


@given(st.integers(1, 40), st.floats(0.2, 5.0))
@settings(max_examples=60, deadline=None)
def test_an_axis_is_what_the_formula_says(size: int, ratio: float) -> None:
    axis = Axis(size, max(1, round(size / ratio)), ratio)
    x = np.random.default_rng(size).normal(size=size).astype(np.float32)
    found = axis.resampled(torch.from_numpy(x), 0, 0, 0, axis.size_out)
    np.testing.assert_allclose(found.numpy(), triangle(x, axis.size_out, ratio), atol=1e-5)


@pytest.mark.parametrize("known", [(8.0, 8.0), (2.0, 3.0)])
def test_windows_change_no_bit(known: tuple[float, float]) -> None:
    volume = np.random.default_rng(0).normal(size=(9, 33, 28)).astype(np.float32)
    grid = grid_for(volume.shape, (5.0, 4.0, 6.0), known)
    assert grid is not None
    there, back = both_ways(grid, volume)
    for region in blocks(grid.shape, (3, 7, 11)):
        have = grid.outer(region)
        part = grid.to_model(torch.from_numpy(volume[have.slices]), have, region)
        np.testing.assert_array_equal(part.numpy(), there[region.slices])
    for region in blocks(volume.shape, (4, 9, 10)):
        have = grid.inner(region)
        part = grid.to_tomogram(torch.from_numpy(there[have.slices])[None], have, region)
        part = grid.depth_to_tomogram(part, have.start[0], region.start[0], region.stop[0])
        np.testing.assert_array_equal(part.numpy()[0], back[region.slices])


def test_a_window_that_lacks_a_tap_is_seen() -> None:
    axis = Axis(40, 25, 1.6)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=40).astype(np.float32))
    first, stop = axis.span(5, 9)
    expected = axis.resampled(x, 0, 0, 5, 9)
    assert torch.equal(axis.resampled(x[first:stop], 0, first, 5, 9), expected)
    assert not torch.equal(axis.resampled(x[first:stop], 0, first + 1, 6, 9), expected[1:])


@pytest.mark.parametrize("known", [(8.0, 8.0), (3.0, 3.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slope_stays_where_it_was(axis: int, known: tuple[float, float]) -> None:
    """Inside, each voxel of a slope is found again within a tenth of a voxel, and on average in its place."""
    slope = np.moveaxis(np.broadcast_to(np.arange(40, dtype=np.float32), (24, 24, 40)), 2, axis).copy()
    grid = grid_for(slope.shape, (5.0, 5.0, 5.0), known)
    assert grid is not None
    away = (both_ways(grid, slope)[1] - slope)[4:-4, 4:-4, 4:-4]
    assert np.abs(away).max() < 0.1
    assert abs(away.mean()) < 0.01


def test_what_is_finer_than_the_new_voxels_is_not_aliased() -> None:
    """A wave of 2.4 voxels has no place on a grid 2 x coarser; taking every other voxel would keep all of it."""
    x = np.cos(2 * np.pi * np.arange(240) / 2.4).astype(np.float32)
    coarse = Axis(240, 120, 2.0).resampled(torch.from_numpy(x), 0, 0, 0, 120).numpy()
    assert np.abs(coarse[4:-4]).max() < 0.1
    assert np.abs(x[::2]).max() > 0.9


def test_voxel_sizes_the_model_knows_are_left_alone() -> None:
    assert grid_for((9, 9, 9), (10.0, 10.0, 10.0), (8.0, 16.0)) is None
    assert grid_for((9, 9, 9), (16.5, 7.7, 10.0), (8.0, 16.0)) is None
    assert grid_for((9, 9, 9), (10.0, 10.0, 10.0), (0.0, float("inf"))) is None
    grid = grid_for((30, 60, 60), (20.0, 10.0, 4.0), (8.0, 16.0))
    assert grid is not None
    assert grid.shape == (38, 60, 30)
    with pytest.raises(ValueError, match="must be above 0"):
        grid_for((9, 9, 9), (0.0, 1.0, 1.0), (8.0, 16.0))
    with pytest.raises(ValueError, match="not empty"):
        grid_for((9, 9, 9), (1.0, 1.0, 1.0), (16.0, 8.0))
