"""Boxes of voxels: blocks tile the volume, halos stop at its border."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscale.chunks import Region, blocks, whole

shapes = st.tuples(*[st.integers(1, 23)] * 3)


@given(shapes, shapes)
def test_blocks_cover_each_voxel_once(shape: tuple[int, ...], block: tuple[int, ...]) -> None:
    count = np.zeros(shape, int)
    for region in blocks(shape, block):
        count[region.slices] += 1
    assert (count == 1).all()


@given(shapes, shapes, st.integers(0, 5))
def test_a_grown_block_finds_itself_again(shape: tuple[int, ...], block: tuple[int, ...], halo: int) -> None:
    volume = np.arange(np.prod(shape)).reshape(shape)
    for region in blocks(shape, block):
        grown = region.grow((halo,) * 3, shape)
        assert (volume[grown.slices][region.within(grown)] == volume[region.slices]).all()
        assert region.intersect(grown) == region


def test_apart_boxes_have_no_common_box() -> None:
    assert Region((0, 0, 0), (2, 2, 2)).intersect(Region((2, 0, 0), (3, 2, 2))) is None


def test_impossible_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        blocks((4, 4, 4), (2, 0, 2))
    with pytest.raises(ValueError, match="same number of axes"):
        blocks((4, 4, 4), (2, 2))


def test_whole() -> None:
    assert whole((2, 3, 4)).size == 24
