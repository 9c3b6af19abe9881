"""Another voxel size and back, window by window: each window holds what the whole volume would.

    u_j = sum_i w_ij x_i / sum_i w_ij,   w_ij = max(0, 1 - |i + 1/2 - r (j + 1/2)| / max(1, r))

along each axis, r input voxels to one output voxel: linear interpolation where the grid gets finer, the mean under a
triangle as wide as two output voxels where it gets coarser, so that nothing is aliased. The volume's edges coincide.
Weights depend on the place in the whole volume alone, and terms are added in one order, so that cutting the volume into
windows changes no bit. Scores go back the same way with 1 / r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscale.chunks import Region

__all__ = ["Axis", "Grid", "grid_for"]

_NEAR = 1.05
"""A voxel size within this factor of what the model knows is the model's."""


@dataclass(frozen=True)
class Axis:
    """One axis of a volume and of the same volume in other voxels."""

    size_in: int
    """Voxels there are."""
    size_out: int
    """Voxels wanted."""
    ratio: float
    """Input voxels to one output voxel."""

    def taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Input voxels (n, k) that output voxels start..stop - 1 are made of, and their weights (n, k)."""
        centre = (np.arange(start, stop) + 0.5)[:, None] * self.ratio
        reach = max(1.0, self.ratio)
        index = np.floor(centre - reach - 0.5).astype(np.int64) + np.arange(int(np.ceil(2 * reach)) + 2)
        weight = np.maximum(1.0 - np.abs(index + 0.5 - centre) / reach, 0.0)
        weight[(index < 0) | (index >= self.size_in)] = 0.0
        weight /= weight.sum(axis=1, keepdims=True)
        return np.clip(index, 0, self.size_in - 1), weight.astype(np.float32)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """First, and one past the last, input voxel that output voxels start..stop - 1 are made of."""
        index, _ = self.taps(start, stop)
        return int(index.min()), int(index.max()) + 1

    def resampled(self, x: Tensor, dim: int, first: int, start: int, stop: int) -> Tensor:
        """Output voxels start..stop - 1 along `dim` of `x`, which begins with input voxel `first`."""
        if self.size_in == self.size_out and self.ratio == 1.0:
            return x.narrow(dim, start - first, stop - start)
        index, weight = self.taps(start, stop)
        places = torch.from_numpy(index - first).to(x.device)
        weights = torch.from_numpy(weight).to(x.device).reshape(*weight.shape, *[1] * (x.ndim - dim - 1))
        total = x.index_select(dim, places[:, 0]) * weights[:, 0]
        for tap in range(1, weight.shape[1]):
            total += x.index_select(dim, places[:, tap]) * weights[:, tap]
        return total


@dataclass(frozen=True)
class Grid:
    """The model's voxels of a tomogram, and the way there and back."""

    there: tuple[Axis, Axis, Axis]
    """From the tomogram's voxels, z, y, x."""
    back: tuple[Axis, Axis, Axis]
    """To the tomogram's voxels."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume in the model's voxels."""
        z, y, x = (axis.size_out for axis in self.there)
        return z, y, x

    def inner(self, region: Region) -> Region:
        """Model's voxels whose scores decide those of a region of the tomogram."""
        return _spanned(self.back, region)

    def outer(self, region: Region) -> Region:
        """Voxels of the tomogram that a region of model's voxels is made of."""
        return _spanned(self.there, region)

    def to_model(self, x: Tensor, have: Region, wanted: Region) -> Tensor:
        """Model's voxels of `wanted` from the tomogram's voxels (z, y, x) of `have`."""
        for dim, axis in enumerate(self.there):
            x = axis.resampled(x, dim, have.start[dim], wanted.start[dim], wanted.stop[dim])
        return x

    def to_tomogram(self, x: Tensor, have: Region, wanted: Region) -> Tensor:
        """Tomogram's voxels of `wanted` from scores (classes, z, y, x) of model's voxels `have`, y and x only.

        Slices stay the model's: `depth_to_tomogram` does the rest, for as many slices as are there.
        """
        for dim in (2, 1):
            x = self.back[dim].resampled(x, dim + 1, have.start[dim], wanted.start[dim], wanted.stop[dim])
        return x

    def depth_to_tomogram(self, x: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Tomogram's slices start..stop - 1 of scores (classes, z, y, x) that begin with the model's slice `first`."""
        return self.back[0].resampled(x, 1, first, start, stop)


def grid_for(
    shape: Sequence[int], voxel_size_angstrom: Sequence[float], known_angstrom: tuple[float, float]
) -> Grid | None:
    """Grid that brings a tomogram to the nearest voxel size a model knows; None where it is known already.

    Parameters
    ----------
    shape
        Of the tomogram, z, y, x.
    voxel_size_angstrom
        Of the tomogram, z, y, x.
    known_angstrom
        Least and largest voxel size the model was trained for.

    Raises
    ------
    ValueError
        If a voxel size is not above 0 or the range is empty.
    """
    low, high = known_angstrom
    if not (0 <= low <= high and min(voxel_size_angstrom) > 0):
        msg = f"voxel size {tuple(voxel_size_angstrom)} must be above 0 and the range {low} to {high} not empty"
        raise ValueError(msg)
    ratios = [1.0 if low / _NEAR <= v <= high * _NEAR else min(max(v, low), high) / v for v in voxel_size_angstrom]
    if all(ratio == 1.0 for ratio in ratios):
        return None
    there = [Axis(n, max(1, round(n / ratio)), ratio) for n, ratio in zip(shape, ratios, strict=True)]
    z, y, x = ((axis, Axis(axis.size_out, axis.size_in, 1.0 / axis.ratio)) for axis in there)
    return Grid((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def _spanned(axes: Sequence[Axis], region: Region) -> Region:
    spans = [axis.span(a, b) for axis, a, b in zip(axes, region.start, region.stop, strict=True)]
    return Region(tuple(a for a, _ in spans), tuple(b for _, b in spans))
