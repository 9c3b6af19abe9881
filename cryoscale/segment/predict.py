"""Scores of a region of a tomogram, part by part, whatever the voxel size: chunked equals whole.

    raw voxels --[other voxel size]--> normalised --> network --> scores --[back]--> scores of the region

A part is a few slices of the region, or all of it where the network scores boxes. With another voxel size
(`resample`) everything between the brackets happens in the model's voxels; slices that two parts share are scored once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscale.chunks import Region, blocks
from cryoscale.errors import TomogramError
from cryoscale.segment.forward import Lane, Runner
from cryoscale.segment.network import Network
from cryoscale.segment.normalise import CLIP
from cryoscale.segment.resample import Grid
from cryoscale.segment.windows import Window, region_to_read, window_of

__all__ = ["GROUP_SLICES", "predict_slab", "scored_parts", "source_region"]

GROUP_SLICES = 8
"""Slices of a part: float32 scores of a whole slab would take more memory than all else."""

Reduce = Callable[[Tensor], tuple[Tensor, ...]]
"""What is kept of a part's scores (classes, z, y, x), on the device."""


def source_region(region: Region, shape: Sequence[int], window: Window, grid: Grid | None = None) -> Region:
    """Part of a tomogram of `shape` to read in order to score `region` of it."""
    if grid is None:
        return region_to_read(region, shape, window)
    return grid.outer(region_to_read(grid.inner(region), grid.shape, window))


def predict_slab(
    model: Network,
    block: NDArray[np.generic],
    region: Region,
    shape: Sequence[int],
    *,
    centre: float,
    scale: float,
    window: Window | None = None,
    grid: Grid | None = None,
    batch_slices: int = 1,
    symmetries: bool = False,
) -> NDArray[np.float32]:
    """Class scores of a region of a tomogram.

    Parameters
    ----------
    model
        Network in evaluation mode, best from `for_inference`; it runs on the device it is on.
    block
        Raw voxels of `source_region(region, shape, window, grid)`, (z, y, x), any real type.
    region
        Box of the volume to score, z, y, x.
    shape
        Shape of the whole volume.
    centre, scale
        The robust centre and scale of the tomogram in the model's voxels (`normalise.centre_and_scale`).
    window
        Geometry to use instead of the model's own.
    grid
        The model's voxels, where they are not the tomogram's.
    batch_slices
        Slices scored at once; halved when a GPU's memory runs out, which changes no score.
    symmetries
        Average over the flips and quarter turns of each slice.

    Returns
    -------
    scores
        Probability of each class, float32, (classes, *region.shape).

    Raises
    ------
    ValueError
        If the block does not have the shape to be read.
    TomogramError
        If the network's output is not finite; names the slice and the first voxel.
    """
    runner = Runner(model, max(batch_slices, 1), symmetries)
    scores = np.empty((model.classes, *region.shape), dtype=np.float32)
    parts = scored_parts(
        runner, block, region, shape, lambda t: (t,), centre=centre, scale=scale, window=window, grid=grid
    )
    for part, (found,) in parts:
        scores[(slice(None), *part.within(region))] = found
    return scores


def scored_parts(
    runner: Runner,
    block: NDArray[np.generic],
    region: Region,
    shape: Sequence[int],
    reduce: Reduce,
    *,
    centre: float,
    scale: float,
    window: Window | None = None,
    grid: Grid | None = None,
) -> Iterator[tuple[Region, list[NDArray[Any]]]]:
    """Yield the parts of a region with what `reduce` keeps of their scores, one part behind the device.

    Parameters, and what is raised, are those of `predict_slab`.
    """
    window = window or window_of(runner.model)
    source = source_region(region, shape, window, grid)
    if block.shape != source.shape:
        msg = f"block {block.shape} is not the region to read, {source.start} to {source.stop}"
        raise ValueError(msg)
    if not (np.isfinite(centre) and np.isfinite(scale) and scale > 0):
        msg = f"centre {centre} and scale {scale} must be finite and the scale positive"
        raise ValueError(msg)
    lane = Lane(runner.device)
    scorer = _Scorer(runner, lane, window, grid, tuple(shape), (centre, scale))
    depth = region.shape[0] if window.boxes else GROUP_SLICES
    waiting: tuple[Region, Tensor, Callable[[], list[NDArray[Any]]]] | None = None
    for part in blocks(region.shape, (depth, *region.shape[1:])):
        inner = part.moved(region.start)
        with torch.inference_mode():
            scores = scorer.scores(block, source, inner)
            ready = lane.down(torch.isfinite(scores).all(), *reduce(scores))
        if waiting:
            yield _settled(*waiting)
        waiting = inner, scores, ready
    if waiting:
        yield _settled(*waiting)


class _Scorer:
    """Scores part after part of one region."""

    def __init__(
        self,
        runner: Runner,
        lane: Lane,
        window: Window,
        grid: Grid | None,
        shape: tuple[int, ...],
        intensity: tuple[float, float],
    ) -> None:
        self.runner, self.lane, self.window, self.grid = runner, lane, window, grid
        self.shape, self.intensity = grid.shape if grid else shape, intensity
        self.kept: tuple[int, Tensor] | None = None
        """First of the model's slices that the part before needed, and their scores in the tomogram's y and x."""

    def scores(self, block: NDArray[np.generic], source: Region, part: Region) -> Tensor:
        """Scores (classes, z, y, x) of a part, on the device; `block` holds the voxels of `source`."""
        if self.grid is None:
            read = region_to_read(part, self.shape, self.window)
            return self._network(self._units(self.lane.up(block[read.within(source)])), read, part)
        inner = self.grid.inner(part)
        first, slices = inner.start[0], self._kept_from(inner.start[0])
        wanted = Region((first + (0 if slices is None else slices.shape[1]), *inner.start[1:]), inner.stop)
        if wanted.size > 0:
            read = region_to_read(wanted, self.shape, self.window)
            outer = self.grid.outer(read)
            x = self.grid.to_model(self.lane.up(block[outer.within(source)]), outer, read)
            fresh = self.grid.to_tomogram(self._network(self._units(x), read, wanted), wanted, part)
            slices = fresh if slices is None else torch.cat([slices, fresh], dim=1)
        assert slices is not None
        self.kept = first, slices
        return self.grid.depth_to_tomogram(slices, first, part.start[0], part.stop[0])

    def _kept_from(self, first: int) -> Tensor | None:
        """Slices of the part before, from the model's slice `first` on."""
        if self.kept is None or first >= self.kept[0] + self.kept[1].shape[1]:
            return None
        return self.kept[1][:, first - self.kept[0] :]

    def _units(self, x: Tensor) -> Tensor:
        """Voxels in units of the tomogram's noise, as `normalise.normalised` has them."""
        centre, scale = (np.float32(value).item() for value in self.intensity)
        return x.sub(centre).div_(scale).clamp_(-CLIP, CLIP)

    def _network(self, x: Tensor, read: Region, part: Region) -> Tensor:
        """Scores (classes, z, y, x) of `part` from normalised voxels of `read`."""
        missing = [-size % m for size, m in zip(x.shape, self.window.multiple, strict=True)]
        if any(missing):
            # Only at the volume's far ends.
            padding = [n for size in reversed(missing) for n in (0, size)]
            x = torch.nn.functional.pad(x[None, None], padding, mode="replicate")[0, 0]
        inside_z, inside_y, inside_x = part.within(read)
        if self.window.boxes:
            return self.runner.of_box(x)[:, inside_z, inside_y, inside_x]
        neighbours = self.window.halo_voxels[0]
        wanted = torch.arange(part.start[0] - neighbours, part.stop[0] + neighbours).clamp(0, self.shape[0] - 1)
        if wanted[0] != read.start[0] or len(wanted) != len(x) or wanted[-1] != read.stop[0] - 1:
            x = x[(wanted - read.start[0]).to(x.device)]
        return self.runner.of_slab(x)[:, :, inside_y, inside_x]


def _settled(
    part: Region, scores: Tensor, ready: Callable[[], list[NDArray[Any]]]
) -> tuple[Region, list[NDArray[Any]]]:
    """Wait for what was kept of a part, and refuse scores that are not finite."""
    finite, *kept = ready()
    if not finite:
        _refuse(scores.cpu().numpy(), part.start)
    return part, kept


def _refuse(scores: NDArray[np.float32], start: Sequence[int]) -> None:
    """Name the first of (classes, z, y, x) scores that is not finite; `start` is their first voxel, z, y, x."""
    bad = ~np.isfinite(scores)
    z, y, x = (int(index) for index in np.argwhere(bad.any(axis=0))[0])
    voxel = (start[0] + z, start[1] + y, start[2] + x)
    raise TomogramError(
        "the network's score is not a finite number",
        where=f"slice z={voxel[0]}",
        found=f"{float(scores[bad[:, z, y, x].argmax(), z, y, x])} at voxel (z, y, x) = {voxel}",
        todo="check this slice for voxels that are not finite, and the model with `cryoscale doctor`",
    )
