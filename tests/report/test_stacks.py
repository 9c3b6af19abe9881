"""Slices to look through, read back from the pictures, and how smoothly membranes go on between them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cryoscale.report.colours import PALETTE, colour_of
from cryoscale.report.smoothness import largest_step_pixels
from cryoscale.report.stacks import cut_stacks
from cryoscale.report.thin import inferred_voxels, mean_cubes, prevailing
from tests.report.scene import BALLS, sphere, volumes


def pixels(content: bytes, mode: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert(mode))


def test_slices_are_where_they_say() -> None:
    raw, labels = volumes()
    inferred = np.zeros(labels.shape, bool)
    inferred[:, :, :30] = True
    stacks = cut_stacks(raw, labels, inferred, 2.0, 0.5)
    assert [stack.name for stack in stacks] == ["xy", "xz", "yz"]
    for axis, stack in enumerate(stacks):
        shown = pixels(stack.labels, "RGBA").reshape(-1, stack.rows, stack.columns, 4)
        assert len(shown) == len(stack.positions_nm) <= 48
        middle = len(shown) // 2
        plane = round((stack.positions_nm[middle] - 0.5) / 2.0)
        wanted = np.moveaxis(labels, axis, 0)[plane][::-1]
        assert np.array_equal(shown[middle, ..., 3] > 0, wanted > 0)
        grey = pixels(stack.grey, "L").reshape(shown.shape[:3])[middle]
        truth = np.moveaxis(raw, axis, 0)[plane][::-1]
        assert np.corrcoef(grey.ravel(), truth.ravel())[0, 1] > 0.9


def test_colours_tell_membranes_and_what_is_inferred() -> None:
    labels = np.zeros((2, 4, 5), np.uint16)
    labels[0, 0], labels[0, 1] = 1, len(PALETTE) + 2
    inferred = np.zeros(labels.shape, bool)
    inferred[0, 0, 0] = True
    shown = pixels(cut_stacks(None, labels, inferred, 1.0)[0].labels, "RGBA")
    assert tuple(shown[3, 1, :3]) == colour_of(1)
    assert tuple(shown[2, 0, :3]) == colour_of(2)
    assert shown[3, 0, :3].sum() > shown[3, 1, :3].sum()
    assert (shown[:2, :, 3] == 0).all()


def test_without_a_tomogram_and_with_shapes_that_differ() -> None:
    _, labels = volumes()
    stacks = cut_stacks(None, labels, np.zeros(labels.shape, bool), 1.0)
    assert all(stack.grey == b"" for stack in stacks)
    assert all(0 < stack.start < len(stack.positions_nm) - 1 for stack in stacks)
    with pytest.raises(ValueError, match="one shape"):
        cut_stacks(None, labels, np.zeros((1, 2, 3), bool), 1.0)


def test_means_and_labels_at_the_border() -> None:
    box = np.arange(5 * 3, dtype=np.float32).reshape(5, 3)
    assert np.allclose(mean_cubes(box, 2), [[2.0, 3.5], [8.0, 9.5], [12.5, 14.0]])
    assert mean_cubes(box, 1) is box
    labels = np.array([[0, 0, 3], [0, 7, 0], [0, 0, 0], [0, 0, 0], [0, 5, 5]], np.uint16)
    assert np.array_equal(prevailing(labels, 2), [[7, 3], [0, 0], [5, 5]])
    assert prevailing(labels, 1) is labels


def test_thin_membranes_do_not_break() -> None:
    """Mutant: taking one voxel of each block leaves gaps in a membrane that is thinner than a block."""
    y, x = np.indices((64, 64))
    line = (np.abs(x - 0.4 * y - 10) < 1.6).astype(np.uint16)
    rows = prevailing(line, 4).any(axis=1)
    assert rows.all()
    assert not line[2::4, 2::4].any(axis=1).all()


def test_inferred_is_as_the_nearest_surface_is() -> None:
    _, labels = volumes()
    found = inferred_voxels(labels, [sphere(*ball) for ball in BALLS], 1.0, 0.0)
    z = np.nonzero(labels == 1)[0]
    caps = np.abs(z - BALLS[0][0][0]) > 0.8 * BALLS[0][1]
    assert found[labels == 1][caps].mean() > 0.95
    assert found[labels == 1][np.abs(z - BALLS[0][0][0]) < 5].sum() == 0
    assert not found[labels == 0].any()


def test_a_step_is_the_largest_of_any_membrane() -> None:
    here, there = np.zeros((20, 20), int), np.zeros((20, 20), int)
    here[5, 5], there[5, 6] = 1, 1
    here[10, 10], there[13, 14] = 2, 2
    assert largest_step_pixels(here, there) == 5.0
    # Another membrane beside it is no continuation (mutant: by mask alone the step is 1).
    there[10, 11] = 1
    assert largest_step_pixels(here, there) == 5.0
    assert math.isnan(largest_step_pixels(here, np.zeros_like(here)))
