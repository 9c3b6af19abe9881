"""What to read in order to score a region: windows in which chunked equals whole.

Every window starts at a multiple of the model's grid (2**depth) counted from the volume's origin, so pooling pairs the
same voxels in every window, and reaches at least the receptive field beyond the region, so nothing of the region sees
the cut:

    0      8     16     24     32     40     48        alignment 8
    |   read |xxxxxxxxx region xxxxxxxxx|   read |     read - region >= model.halo_voxels, then out to a multiple
    |        |                          |        |     of 8; never beyond the volume

At the volume's own border nothing is there to read: the window ends where the volume ends (filled up to a multiple of
the grid by repeating the last voxel) and the convolutions pad with zeros, in the whole volume and in a chunk alike.
Where slices are scored, the first and last are repeated for the neighbours beyond the ends in z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryoscale.chunks import Region

if TYPE_CHECKING:
    from cryoscale.segment.network import Network

__all__ = ["Window", "region_to_read", "window_of"]


@dataclass(frozen=True)
class Window:
    """How far a model looks, in voxels z, y, x: what the geometry of its windows follows from."""

    halo_voxels: tuple[int, int, int]
    """Receptive field on either side; along z the neighbours of a slice where slices are scored."""
    multiple: tuple[int, int, int]
    """Windows start, and end unless the volume does, at multiples of this."""
    boxes: bool = False
    """Whether the model scores boxes, not slices."""


def window_of(model: Network) -> Window:
    """Window of a model."""
    return Window(model.halo_voxels, model.multiple, model.dims == 3)


def region_to_read(region: Region, shape: Sequence[int], window: Window) -> Region:
    """Part of a (z, y, x) volume to read in order to score `region` of it.

    Raises
    ------
    ValueError
        If the region is empty or leaves the volume.
    """
    spans = tuple(zip(region.start, region.stop, shape, strict=True))
    if any(not 0 <= start < stop <= size for start, stop, size in spans):
        msg = f"region {region.start} to {region.stop} is empty or outside the volume {tuple(shape)}"
        raise ValueError(msg)
    halo, unit = window.halo_voxels, window.multiple
    return Region(
        tuple(max((start - h) // m * m, 0) for (start, _, _), h, m in zip(spans, halo, unit, strict=True)),
        tuple(min(-(-(stop + h) // m) * m, size) for (_, stop, size), h, m in zip(spans, halo, unit, strict=True)),
    )
