"""What the networks have in common: their shape as the engine sees it, and batch norms folded away.

    scores(x): (batch, slices_in, y, x)  ->  (batch, classes, y, x)        dims 2, the middle slice is scored
               (batch, 1, z, y, x)       ->  (batch, classes, z, y, x)     dims 3

Every network answers the same few questions: `halo_voxels`, how far from a voxel, along z, y, x, its score can depend
on the input, exactly; `multiple`, what a window's start and size must be a multiple of, so that pooling pairs the same
voxels in every window; and `scores`, the classes' probabilities. All convolutions pad with zeros, which after
normalisation is the tomogram's median: a window that begins where the volume begins is padded exactly as the volume is.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Network", "Span", "fold", "halo_of", "norm_of", "pooled", "widened"]

_N = TypeVar("_N", bound="Network")

Span = tuple[int, int]
"""First and last voxel of an interval, both inside."""


class Network(nn.Module):
    """A network that scores voxels as background, protein or membrane."""

    dims: int
    """2 where slices are scored one by one, 3 where boxes are."""
    slices_in: int
    """Input channels: neighbouring z slices, the middle one being scored; 1 where dims is 3."""
    classes: int
    """Classes scored: 0 background, 1 protein, 2 membrane."""
    width: int
    """Channels of the finest level."""
    threshold: float = 0.5
    """Score from which a voxel is membrane; a model that is read has its card's."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in the registry."""

    @property
    @abstractmethod
    def options(self) -> dict[str, int]:
        """Options of `build_model` that make this network again."""

    @property
    @abstractmethod
    def halo_voxels(self) -> tuple[int, int, int]:
        """Voxels along z, y, x, on either side, that an output voxel can depend on."""

    @property
    @abstractmethod
    def multiple(self) -> tuple[int, int, int]:
        """Voxels along z, y, x that a window's start and size must be a multiple of."""

    @property
    @abstractmethod
    def live_channels(self) -> int:
        """Full-resolution feature maps alive at the widest moment of `scores`, for projections of memory."""

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Probability of every class, float32: (batch, classes, y, x), or (batch, classes, z, y, x) where dims is 3."""

    def _require_input(self, x: Tensor) -> None:
        """Refuse an input of another rank, other channels, or sizes that are not multiples of `multiple`."""
        sizes = self.multiple[-self.dims :]
        fits = x.ndim == 2 + self.dims and x.shape[1] == self.slices_in
        if not fits or any(n % m for n, m in zip(x.shape[2:], sizes, strict=True)):
            axes = ", ".join("zyx"[-self.dims :])
            wanted = f"(batch, {self.slices_in}, {axes}) with {axes} multiples of {sizes[-1]}"
            msg = f"input shape {tuple(x.shape)} is not {wanted}"
            raise ValueError(msg)


def norm_of(dims: int) -> type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    """Batch norm of 2-D or 3-D feature maps."""
    return nn.BatchNorm3d if dims == 3 else nn.BatchNorm2d


def widened(span: Span, convolutions: int) -> Span:
    """Span that `convolutions` convolutions of width 3, one after the other, read."""
    return span[0] - convolutions, span[1] + convolutions


def pooled(span: Span) -> Span:
    """Span, one level finer, of the voxels that pooling joins into `span`."""
    return 2 * span[0], 2 * span[1] + 1


def halo_of(reaches: list[Span]) -> int:
    """Halo from the span that output voxel 0, 1, 2, ... reads: one for each phase of pooling."""
    return max(max(phase - first, last - phase) for phase, (first, last) in enumerate(reaches))


def fold(model: _N) -> _N:
    """Copy of a model, in evaluation mode, with batch norms that follow a convolution folded into it: equal to 1e-5."""
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "norm", None)
        if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, _BatchNorm):
            module.conv, module.norm = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded
