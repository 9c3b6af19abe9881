"""Labels of a mask that is larger than memory: numbered in one pass, painted where they are read.

    pass 1   blocks of the mask, one after the other  ->  the final number of each label of each block
    reading  the blocks that a region touches         ->  labelled again, painted, cut to the region

Between the two a number of four bytes is kept for every piece of a region in a block, and a row of a table for every
region; no voxel is. A block is as many whole chunks of the mask as fit into about eight million voxels, so that a
chunk is decompressed once in each pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.merge.ball import Ball
from cryoscale.merge.blocks import grid_of, number_blocks, paint_block
from cryoscale.regions import Regions

__all__ = ["LazyLabels", "block_edges"]

Triple = tuple[int, int, int]

_BLOCK_VOXELS = 1 << 23


def block_edges(shape: Triple, chunks: Any) -> Triple:
    """Return the edges of a block: whole chunks, grown along the shortest edge while the block is small enough.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, in voxels.
    chunks : tuple of int
        Of the array; anything else stands for an array that is not stored in equal chunks.

    Returns
    -------
    tuple of int
        Voxels along z, y, x; at least one chunk, however large.
    """
    regular = isinstance(chunks, tuple) and len(chunks) == 3 and all(isinstance(c, int) and c > 0 for c in chunks)
    chunk = [min(c, max(n, 1)) for c, n in zip(chunks if regular else (64, 64, 64), shape, strict=True)]
    edges = list(chunk)
    while True:
        grown = [axis for axis in range(3) if edges[axis] < shape[axis]]
        axis = min(grown, key=lambda axis: edges[axis], default=-1)
        wider = [min(n, e + c) if k == axis else e for k, (e, c, n) in enumerate(zip(edges, chunk, shape, strict=True))]
        if axis < 0 or math.prod(wider) > _BLOCK_VOXELS:
            return (edges[0], edges[1], edges[2])
        edges = wider


class LazyLabels:
    """The labels of a stored mask: an array that is computed where it is sliced.

    ``labels[10:20, :, 5]`` gives a NumPy array, ``numpy.asarray(labels)`` all of it. ``dask.array.from_array(labels)``
    takes it, with ``labels.chunks`` as its chunks, and so does anything else that reads slices. Nothing is stored:
    reading a region labels the blocks it touches again, so read whole blocks where speed matters. The mask must not
    change as long as the labels are read.

    Parameters
    ----------
    mask : Zarr array, or anything that has shape, dtype and gives a region when it is sliced
        (nz, ny, nx) or (ny, nx), bool or integer.
    ball : Ball
        Which voxels join.
    separate_values : bool
        Join only voxels of equal value.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, mask: Any, ball: Ball, separate_values: bool = False) -> None:
        self._mask, self._ball, self._separate_values = mask, ball, separate_values
        self.shape: tuple[int, ...] = tuple(int(n) for n in mask.shape)
        """Of the mask, in voxels."""
        nz, ny, nx = (1, *self.shape)[-3:]
        chunks: Any = getattr(mask, "chunks", None)
        if self.ndim == 2 and isinstance(chunks, tuple):
            chunks = (1, *chunks)
        self._edges = block_edges((nz, ny, nx), chunks)
        self._grid = grid_of((nz, ny, nx), self._edges)
        self._finals, self.regions = number_blocks(
            self._read, self._grid, (nz, ny, nx), ball, separate_values=separate_values
        )

    regions: Regions
    """Voxels, box, sum of coordinates and first voxel of every region; row k is region k + 1."""

    @property
    def count(self) -> int:
        """The number of regions."""
        return len(self.regions)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of voxels."""
        return math.prod(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """The block that is painted at once: whole chunks of the mask."""
        return self._edges[3 - self.ndim :]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LazyLabels(shape={self.shape}, chunks={self.chunks}, dtype=int32, count={self.count})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Paint all of it."""
        if copy is False:
            msg = "lazy labels hold no memory that could be shared; copy must not be False"
            raise ValueError(msg)
        labels = self[...]
        return labels if dtype is None else labels.astype(dtype)

    def __getitem__(self, index: Any) -> NDArray[np.int32]:
        """Paint a region, given by whole numbers, slices of any step, and an ellipsis."""
        parts = _whole_index(index, self.ndim)
        ranges = [_range(part, n, axis) for axis, (part, n) in enumerate(zip(parts, self.shape, strict=True))]
        low = [min((r[0], r[-1])) if r else 0 for r in ranges]
        high = [max((r[0], r[-1])) + 1 if r else 0 for r in ranges]
        flat = self.ndim == 2
        region = Region((0, *low), (1, *high)) if flat else Region(tuple(low), tuple(high))
        box = self._paint(region).reshape(region.shape[flat:])
        # The box begins and ends with voxels that are taken: only the steps are left to apply.
        return box[tuple(slice(None, None, part.step) if isinstance(part, slice) else 0 for part in parts)]

    def _read(self, region: Region) -> NDArray[Any]:
        mask = np.asarray(self._mask[region.slices[3 - self.ndim :]])
        return mask if mask.ndim == 3 else mask[np.newaxis]

    def _paint(self, region: Region) -> NDArray[np.int32]:
        """Return the labels of a region of the volume."""
        labels = np.zeros(region.shape, np.int32)
        if not region.size:
            return labels
        near = tuple(slice(a // e, -(-b // e)) for a, b, e in zip(region.start, region.stop, self._edges, strict=True))
        for block, final in zip(self._grid[near].flat, self._finals[near].flat, strict=True):
            common = region.intersect(block)
            if common is not None and final.any():
                painted = paint_block(self._read(block), self._ball, final, self._separate_values)
                labels[common.within(region)] = painted[common.within(block)]
        return labels


def _whole_index(index: Any, ndim: int) -> list[int | slice]:
    """Return one whole number or slice an axis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > ndim:
        msg = f"index {index!r} has too many parts for {ndim} axes"
        raise IndexError(msg)
    at = dots[0] if dots else len(parts)
    after = parts[at + 1 :]
    return [*parts[:at], *[slice(None)] * (ndim - at - len(after)), *after]


def _range(part: Any, length: int, axis: int) -> range:
    """Return the voxels that an index takes along an axis."""
    if isinstance(part, slice):
        return range(length)[part]
    if not isinstance(part, (int, np.integer)) or isinstance(part, bool):
        msg = f"index {part!r} of axis {axis}; lazy labels take whole numbers, slices and an ellipsis"
        raise IndexError(msg)
    if not -length <= part < length:
        msg = f"index {part} of axis {axis} is out of range for {length} voxels"
        raise IndexError(msg)
    return range(int(part) % length, int(part) % length + 1)
