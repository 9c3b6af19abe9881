"""Peak memory of the units of the connect stage, as pure functions of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryoscale.regions import BYTES_PER_REGION

__all__ = ["projected_bytes", "projected_number_bytes", "projected_paint_bytes"]

_PIXEL_BYTES = 64
"""Work on the pixels of one slice at a time: components, distances, nearest segments; 51 were measured."""
_PAIR_BYTES = 256
"""Work on each pair of segments of a slice: costs and values by ends; 251 were measured."""
_PIXELS_PER_SEGMENT = 450
"""Membranes have one segment in thousands of pixels, a maze of noise one in 490."""
_MOST_SEGMENTS = 2048
"""A slice with more is noise, and takes more memory than is projected."""


def projected_bytes(shape: Sequence[int], itemsize: int, *, chunk_slices: int) -> int:
    """Peak memory of tracing or linking some slices, in bytes.

    Parameters
    ----------
    shape
        Slices, and pixels y, x of a slice.
    itemsize
        Bytes of a voxel of the source.
    chunk_slices
        Slices of a chunk of the source: a row of chunks is decompressed whole.
    """
    slices, ny, nx = shape
    # The slices as read, their mask, and what is kept of each: index and row of every pixel, which may all be membrane.
    kept = slices * (itemsize + 1 + 2 * 8)
    segments = min(ny * nx // _PIXELS_PER_SEGMENT, _MOST_SEGMENTS)
    work = ny * nx * _PIXEL_BYTES + segments**2 * _PAIR_BYTES
    return ny * nx * (kept + chunk_slices * itemsize) + work + (48 << 20)


def projected_number_bytes(pieces: int, links: int) -> int:
    """Peak memory of numbering the membranes, in bytes.

    Parameters
    ----------
    pieces, links
        Pieces of all slices, and pairs that overlap.
    """
    return (4 * BYTES_PER_REGION + 256) * pieces + 128 * links + (16 << 20)


def projected_paint_bytes(shape: Sequence[int], slices: int, slice_shape: Sequence[int]) -> int:
    """Peak memory of painting one block, in bytes.

    Parameters
    ----------
    shape
        Voxels of the block, z, y, x.
    slices, slice_shape
        Slices of a slab of pieces, and pixels y, x of a slice; every pixel may be membrane.
    """
    return 3 * 4 * math.prod(shape) + 2 * 8 * slices * math.prod(slice_shape) + (16 << 20)
