"""Boxes of voxels: how a volume is cut into chunks, blocks and slabs, and grown by a halo.

A `Region` is a half-open box ``start <= voxel < stop`` in z, y, x, anchored at the volume's origin. A block is the
part of the output that one unit of work owns; it is made of whole chunks, so that no two units write into one file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["WRITTEN_BYTES", "Region", "blocks", "blocks_within", "file_voxels", "whole", "whole_chunks"]

WRITTEN_BYTES = 8
"""Of memory for a voxel of what goes into one file of labels: its number, and a copy in the compressor."""
_BLOCKS_IN_A_FILE = (1, 2, 2)


@dataclass(frozen=True, order=True)
class Region:
    """A half-open box of voxels."""

    start: tuple[int, ...]
    """First voxel on each axis, z, y, x."""
    stop: tuple[int, ...]
    """One past the last voxel on each axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of this box into the whole volume."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, halo: Sequence[int], shape: Sequence[int]) -> Region:
        """Grow by `halo` voxels on both sides of each axis, cut at a volume of `shape`."""
        return Region(
            tuple(max(0, a - h) for a, h in zip(self.start, halo, strict=True)),
            tuple(min(n, b + h) for b, h, n in zip(self.stop, halo, shape, strict=True)),
        )

    def within(self, other: Region) -> tuple[slice, ...]:
        """Index of this box into an array that covers `other`."""
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, other.start, strict=True))

    def moved(self, by: Sequence[int]) -> Region:
        """Shift by so many voxels on each axis: a box of a block to its place in the volume, say."""
        return Region(
            tuple(a + b for a, b in zip(self.start, by, strict=True)),
            tuple(a + b for a, b in zip(self.stop, by, strict=True)),
        )

    def intersect(self, other: Region) -> Region | None:
        """Return the common box, or None where there is none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Region(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None


def whole(shape: Sequence[int]) -> Region:
    """Return the region that covers a volume of `shape`."""
    return Region((0,) * len(shape), tuple(int(n) for n in shape))


def blocks(shape: Sequence[int], block: Sequence[int]) -> list[Region]:
    """Cut a volume into blocks, in raster order; the last block of an axis may be smaller.

    Parameters
    ----------
    shape, block
        Voxels of the volume and of a block along z, y, x.

    Raises
    ------
    ValueError
        A length is not positive, or the two differ in number of axes.

    Examples
    --------
    >>> [region.shape for region in blocks((3, 2), (2, 2))]
    [(2, 2), (1, 2)]
    """
    if len(shape) != len(block) or any(n < 1 for n in (*shape, *block)):
        msg = f"shape {tuple(shape)} and block {tuple(block)} must have the same number of axes, each at least 1"
        raise ValueError(msg)
    starts = (range(0, n, b) for n, b in zip(shape, block, strict=True))
    return [
        Region(start, tuple(min(a + b, n) for a, b, n in zip(start, block, shape, strict=True)))
        for start in itertools.product(*starts)
    ]


def blocks_within(shape: Sequence[int], block: Sequence[int], outer: Sequence[int]) -> list[tuple[Region, list[int]]]:
    """Cut a volume into larger blocks of whole blocks, and say which blocks each is made of, by their raster numbers.

    Examples
    --------
    >>> [(region.start, members) for region, members in blocks_within((1, 5), (1, 2), (1, 4))]
    [((0, 0), [0, 1]), ((0, 4), [2])]
    """
    counts = [-(-n // b) for n, b in zip(shape, block, strict=True)]
    found = []
    for region in blocks(shape, outer):
        spans = [range(a // b, -(-z // b)) for a, z, b in zip(region.start, region.stop, block, strict=True)]
        places = itertools.product(*spans)
        found.append((region, [_raster(place, counts) for place in places]))
    return found


def _raster(place: Sequence[int], counts: Sequence[int]) -> int:
    number = 0
    for index, count in zip(place, counts, strict=True):
        number = number * count + index
    return number


def file_voxels(block: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of what one file of a volume of labels holds, given that of the blocks it is made of."""
    z, y, x = (n * edge for n, edge in zip(_BLOCKS_IN_A_FILE, block, strict=True))
    return z, y, x


def whole_chunks(limit: Sequence[int], chunk: Sequence[int]) -> tuple[int, int, int]:
    """Return the largest block of whole chunks within a limit, at least one chunk along each axis.

    Examples
    --------
    >>> whole_chunks((128, 256, 256), (48, 64, 300))
    (96, 256, 300)
    """
    z, y, x = (max(most // edge, 1) * edge for most, edge in zip(limit, chunk, strict=True))
    return z, y, x
