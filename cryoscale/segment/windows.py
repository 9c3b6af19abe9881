"""The network over a region of a tomogram: chunked equals whole.

    region  --region_to_read-->  read  --caller reads-->  block  --predict_slab-->  softmax scores of the region

Every window starts at a multiple of 2**depth counted from the volume's origin, so pooling pairs the same voxels in
every window, and reaches at least the receptive field beyond the region, so nothing of the region sees the cut:

    0      8     16     24     32     40     48        alignment 8
    |   read |xxxxxxxxx region xxxxxxxxx|   read |     read - region >= model.halo_voxels, then out to a multiple
    |        |                          |        |     of 8; never beyond the volume

At the volume's own border nothing is there to read: the window ends where the volume ends (filled up to a multiple of
2**depth by repeating the last voxel) and the convolutions pad with zeros, in the whole volume and in a chunk alike.
In z the first and last slices are repeated for the `slices_in` // 2 neighbours beyond the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.errors import TomogramError
from cryoscale.segment.network import Network
from cryoscale.segment.normalise import normalised

__all__ = ["Window", "for_inference", "predict_slab", "region_to_read", "window_of"]


@dataclass(frozen=True)
class Window:
    """How far a model looks, in voxels: what the geometry of its windows follows from."""

    halo_voxels: int
    """Receptive field in y and x on either side."""
    multiple: int
    """Windows start, and end unless the volume does, at multiples of this."""
    neighbours: int
    """Slices above and below that are read with each slice."""


def window_of(model: Network) -> Window:
    """Window of a model: its receptive halo, its alignment and its neighbouring slices."""
    neighbours, _, halo = model.halo_voxels
    return Window(halo, model.multiple[-1], neighbours)


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
    halo = (window.neighbours, window.halo_voxels, window.halo_voxels)
    unit = (1, window.multiple, window.multiple)
    return Region(
        tuple(max((start - h) // m * m, 0) for (start, _, _), h, m in zip(spans, halo, unit, strict=True)),
        tuple(min(-(-(stop + h) // m) * m, size) for (_, stop, size), h, m in zip(spans, halo, unit, strict=True)),
    )


def for_inference(model: Network, device: str = "cpu") -> Network:
    """Model on a device, evaluation mode, channels last in memory (1.2-1.5 x faster on a CPU)."""
    moved: Network = model.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def predict_slab(
    model: Network,
    block: NDArray[np.generic],
    region: Region,
    shape: Sequence[int],
    *,
    centre: float,
    scale: float,
    window: Window | None = None,
    batch_slices: int = 4,
) -> NDArray[np.float32]:
    """Class scores of a region of a tomogram.

    Parameters
    ----------
    model
        Network in evaluation mode, best after `fold` and `for_inference`; it runs on the device it is on.
    block
        Raw voxels of `region_to_read(region, shape, window)`, (z, y, x), any real type.
    region
        Box of the volume to score, z, y, x.
    shape
        Shape of the whole volume.
    centre, scale
        The tomogram's robust centre and scale (`normalise.centre_and_scale`).
    window
        Geometry to use instead of the model's own.
    batch_slices
        Slices scored at once; halved when memory runs out, which changes no score.

    Returns
    -------
    scores
        Softmax over classes, float32, (classes, *region.shape).

    Raises
    ------
    ValueError
        If the block does not have the shape to be read.
    TomogramError
        If the network's output is not finite; names the slice and the first voxel.
    """
    window = window or window_of(model)
    read = region_to_read(region, shape, window)
    if block.shape != read.shape:
        msg = f"block {block.shape} is not the region to read, {read.start} to {read.stop}"
        raise ValueError(msg)
    filled = _filled(normalised(block, centre, scale), window.multiple)
    _, inside_y, inside_x = region.within(read)
    slices = np.arange(region.start[0], region.stop[0])
    scores = np.empty((model.classes, *region.shape), dtype=np.float32)
    first, batch = 0, max(batch_slices, 1)
    while first < len(slices):
        stack = _stack(filled, slices[first : first + batch], read.start[0], shape[0], window.neighbours)
        try:
            part = _scored(model, stack)[:, :, inside_y, inside_x]
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
            continue
        _require_finite(part, (region.start[0] + first, *region.start[1:]))
        scores[:, first : first + len(part)] = part.swapaxes(0, 1)
        first += len(part)
    return scores


def _filled(block: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """Block with y and x filled up to a multiple by repeating the last voxel: only at the volume's far ends."""
    missing = [-size % multiple for size in block.shape[1:]]
    return np.pad(block, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge") if any(missing) else block


def _stack(
    block: NDArray[np.float32], slices: NDArray[np.int64], first_read: int, slice_count: int, neighbours: int
) -> NDArray[np.float32]:
    """Channels of each slice: itself and its neighbours, clamped to the volume's ends, (slices, channels, y, x)."""
    wanted = slices[:, None] + np.arange(-neighbours, neighbours + 1)
    stack: NDArray[np.float32] = block[np.clip(wanted, 0, slice_count - 1) - first_read]
    return stack


def _scored(model: Network, stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of the network, (slices, classes, y, x) float32 in host memory."""
    device = next(model.parameters()).device
    # On a GPU: full float32 and no search for the fastest algorithm, so that windows of any size agree.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        x = torch.from_numpy(stack).to(device=device, memory_format=torch.channels_last)
        scores: NDArray[np.float32] = model.scores(x).cpu().numpy()
    return scores


def _require_finite(part: NDArray[np.float32], start: Sequence[int]) -> None:
    """Refuse (slices, classes, y, x) scores that are not finite; `start` is their first voxel, z, y, x."""
    if np.isfinite(part).all():
        return
    z, c, y, x = (int(index) for index in np.argwhere(~np.isfinite(part))[0])
    voxel = (start[0] + z, start[1] + y, start[2] + x)
    raise TomogramError(
        "the network's score is not a finite number",
        where=f"slice z={voxel[0]}",
        found=f"{float(part[z, c, y, x])} at voxel (z, y, x) = {voxel}",
        todo="check this slice for voxels that are not finite, and the model with `cryoscale doctor`",
    )
