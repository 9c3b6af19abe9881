"""The 2-D U-Net that scores each voxel of a slice as background, protein or membrane.

    level 0   x --[conv conv]------------------------------ cat --[conv conv]-- 1x1 -> classes
    level 1        pool --[conv conv]-------------- cat --[conv conv]-- up
    level 2                 pool --[conv conv]-- up

(paper 4, after Ronneberger et al. 2015). Every [conv] is 3x3, batch norm, ReLU; pool takes the maximum of 2x2; up is a
2x2 transposed convolution. Level l has `width` * 2**l channels. The network returns logits: softmax stays outside.

The input channels are `slices_in` neighbouring z slices, the middle one being scored: 1 is the paper's network; with
5 the network can average the noise of its neighbours, which share the membrane but not the noise.

Convolutions pad with zeros, which after normalisation is the tomogram's median. A window that begins where the slice
begins is therefore padded exactly as the whole slice is; anywhere else a window needs `receptive_halo(model)` voxels
more on each side and a start that is a multiple of `alignment(model)`, so that pooling pairs the same voxels.
"""

from __future__ import annotations

import copy
import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["UNet", "alignment", "fold", "receptive_halo"]

_CONVS_PER_BLOCK = 2


class _ConvNormRelu(nn.Module):
    """3x3 convolution, batch norm, ReLU: (batch, n_in, y, x) to (batch, n_out, y, x)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(cast("Tensor", self.norm(self.conv(x))))


def _block(n_in: int, n_out: int) -> nn.Sequential:
    widths = [n_in] + [n_out] * _CONVS_PER_BLOCK
    return nn.Sequential(*(_ConvNormRelu(a, b) for a, b in itertools.pairwise(widths)))


class UNet(nn.Module):
    """U-Net over slices: (batch, slices_in, y, x) float32 to logits (batch, classes, y, x).

    Parameters
    ----------
    slices_in
        Neighbouring z slices given as channels; odd, the middle one is scored.
    classes
        Number of classes (0 background, 1 protein, 2 membrane).
    width
        Channels of level 0; level l has `width` * 2**l.
    depth
        Number of poolings; y and x must be multiples of 2**depth.

    Raises
    ------
    ValueError
        If `slices_in` is even or any number is below 1.
    """

    def __init__(self, slices_in: int = 1, classes: int = 3, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        if slices_in % 2 == 0 or min(slices_in, classes, width, depth) < 1:
            msg = f"slices_in must be odd and all of {slices_in=}, {classes=}, {width=}, {depth=} at least 1"
            raise ValueError(msg)
        self.slices_in, self.classes, self.width, self.depth = slices_in, classes, width, depth
        channels = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _block(n_in, n_out) for n_in, n_out in zip([slices_in, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, kernel_size=2, stride=2) for n in reversed(channels[:-1]))
        self.merge = nn.ModuleList(_block(2 * n, n) for n in reversed(channels[:-1]))
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every class for the middle slice of `x`.

        Raises
        ------
        ValueError
            If the shape is not (batch, slices_in, multiple of 2**depth, multiple of 2**depth).
        """
        multiple = alignment(self)
        if x.ndim != 4 or x.shape[1] != self.slices_in or x.shape[2] % multiple or x.shape[3] % multiple:
            msg = (
                f"input shape {tuple(x.shape)} is not (batch, {self.slices_in}, y, x) with y, x multiples of {multiple}"
            )
            raise ValueError(msg)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return cast("Tensor", self.head(x))


def alignment(model: UNet) -> int:
    """Voxels that a window's start and size must be a multiple of: 2**depth."""
    return int(2**model.depth)


def _reach(first: int, last: int, level: int, depth: int) -> tuple[int, int]:
    """First and last input voxel that voxels first..last of a level's output depend on, in that level's own grid."""
    first, last = first - _CONVS_PER_BLOCK, last + _CONVS_PER_BLOCK
    if level == depth:
        return first, last
    # Through the skip, the level's first block adds its own convolutions; through the pooled path, the level below
    # reads pooled voxels floor(first / 2)..floor(last / 2), each of which covers two voxels here.
    below_first, below_last = _reach(first // 2, last // 2, level + 1, depth)
    first, last = min(first, 2 * below_first), max(last, 2 * below_last + 1)
    return first - _CONVS_PER_BLOCK, last + _CONVS_PER_BLOCK


def receptive_halo(model: UNet) -> int:
    """Voxels in y and x, on either side, that an output voxel can depend on: exact, the worst over pooling phases."""
    multiple = alignment(model)
    reaches = [(phase, *_reach(phase, phase, 0, model.depth)) for phase in range(multiple)]
    return max(max(phase - first, last - phase) for phase, first, last in reaches)


def fold(model: UNet) -> UNet:
    """Copy of a model, in evaluation mode, with each batch norm folded into its convolution: equal to 1e-5, faster."""
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, _ConvNormRelu) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return folded
