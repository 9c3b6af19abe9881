"""The U-Net that scores each voxel of a slice, or of a box, as background, protein or membrane.

    level 0   x --[conv conv]------------------------------ cat --[conv conv]-- 1x1 -> classes
    level 1        pool --[conv conv]-------------- cat --[conv conv]-- up
    level 2                 pool --[conv conv]-- up

(paper 4, after Ronneberger et al. 2015). Every [conv] is 3 wide, batch norm, ReLU; pool takes the maximum of 2 along
each axis; up is a transposed convolution 2 wide. Level l has `width` * 2**l channels. The network returns logits.

With `dims` 2 the input channels are `slices_in` neighbouring z slices, the middle one being scored: 1 is the paper's
network; with 5 the network can average the noise of its neighbours, which share the membrane but not the noise. With
`dims` 3 the same drawing holds for boxes.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from cryoscale.segment.network import Network, Span, halo_of, norm_of, pooled, widened

__all__ = ["UNet", "seeing_more"]

_CONVS_PER_BLOCK = 2
_FIRST = "down.0.0.conv.weight"
"""The convolution of the input."""


class _ConvNormRelu(nn.Module):
    """Convolution 3 wide, batch norm, ReLU: n_in to n_out channels."""

    def __init__(self, n_in: int, n_out: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv3d if dims == 3 else nn.Conv2d
        self.conv = conv(n_in, n_out, 3, padding=1, bias=False)
        self.norm: nn.Module = norm_of(dims)(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(cast("Tensor", self.norm(self.conv(x))))


def _block(n_in: int, n_out: int, dims: int) -> nn.Sequential:
    widths = [n_in] + [n_out] * _CONVS_PER_BLOCK
    return nn.Sequential(*(_ConvNormRelu(a, b, dims) for a, b in itertools.pairwise(widths)))


class UNet(Network):
    """U-Net: (batch, slices_in, y, x), or (batch, 1, z, y, x), float32 to logits of the same y, x (and z).

    Parameters
    ----------
    slices_in
        Neighbouring z slices given as channels; odd, the middle one is scored. 1 where `dims` is 3.
    classes
        Number of classes (0 background, 1 protein, 2 membrane).
    width
        Channels of level 0; level l has `width` * 2**l.
    depth
        Number of poolings; sizes must be multiples of 2**depth.
    dims
        2 for slices, 3 for boxes.

    Raises
    ------
    ValueError
        If `slices_in` is even, or not 1 with `dims` 3, or any number is below 1.
    """

    def __init__(self, slices_in: int = 1, classes: int = 3, width: int = 16, depth: int = 3, dims: int = 2) -> None:
        super().__init__()
        if slices_in % 2 == 0 or min(slices_in, classes, width, depth) < 1:
            msg = f"slices_in must be odd and all of {slices_in=}, {classes=}, {width=}, {depth=} at least 1"
            raise ValueError(msg)
        if depth > 8:
            msg = f"{depth=} must be at most 8"
            raise ValueError(msg)
        if dims not in (2, 3) or (dims == 3 and slices_in != 1):
            msg = f"{dims=} must be 2, or 3 with slices_in = 1, not {slices_in}"
            raise ValueError(msg)
        self.dims, self.slices_in, self.classes, self.width, self.depth = dims, slices_in, classes, width, depth
        channels = [width * 2**level for level in range(depth + 1)]
        finer = channels[-2::-1]
        up, head = (nn.ConvTranspose3d, nn.Conv3d) if dims == 3 else (nn.ConvTranspose2d, nn.Conv2d)
        self.down = nn.ModuleList(
            _block(n_in, n_out, dims) for n_in, n_out in zip([slices_in, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList(up(2 * n, n, kernel_size=2, stride=2) for n in finer)
        self.merge = nn.ModuleList(_block(2 * n, n, dims) for n in finer)
        self.head = head(width, classes, kernel_size=1)

    @property
    def name(self) -> str:
        """Name in the registry."""
        if self.dims == 3:
            return "unet3d"
        return "unet2d" if self.slices_in == 1 else "unet25d"

    @property
    def options(self) -> dict[str, int]:
        """Options of `build_model` that make this network again."""
        return {"slices_in": self.slices_in, "classes": self.classes, "width": self.width, "depth": self.depth}

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Window grid: 2**depth, and 1 along z where slices are scored."""
        grid = int(2**self.depth)
        return (grid if self.dims == 3 else 1, grid, grid)

    @property
    def halo_voxels(self) -> tuple[int, int, int]:
        """Receptive field on either side: exact, the worst over pooling phases."""
        halo = halo_of([_reach((phase, phase), 0, self.depth) for phase in range(2**self.depth)])
        return (halo if self.dims == 3 else self.slices_in // 2, halo, halo)

    @property
    def live_channels(self) -> int:
        """Skip, its upsampled partner, the two concatenated and a convolution's result; input and logits.

        A convolution of boxes with fewer than 16 channels is done as a product with all 27 neighbours side by side.
        """
        unrolled = 27 * (self.width if self.width < 16 else 1) if self.dims == 3 else 0
        return 6 * self.width + 4 * self.slices_in + 4 * self.classes + unrolled

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every class.

        Raises
        ------
        ValueError
            If the shape is not (batch, slices_in, y, x), or (batch, 1, z, y, x), of multiples of 2**depth.
        """
        self._require_input(x)
        pool = nn.functional.max_pool3d if self.dims == 3 else nn.functional.max_pool2d
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else pool(x, 2))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return cast("Tensor", self.head(x))

    def scores(self, x: Tensor) -> Tensor:
        """Softmax of the logits, float32."""
        return torch.softmax(self(x).float(), dim=1)


def _reach(span: Span, level: int, depth: int) -> Span:
    """Voxels that a span of a level's output depends on, in that level's own grid."""
    span = widened(span, _CONVS_PER_BLOCK)
    if level == depth:
        return span
    # Through the skip, the level's first block adds its own convolutions; through the pooled path, the level below
    # reads pooled voxels floor(first / 2)..floor(last / 2), each of which covers two voxels here.
    below = pooled(_reach((span[0] // 2, span[1] // 2), level + 1, depth))
    return widened((min(span[0], below[0]), max(span[1], below[1])), _CONVS_PER_BLOCK)


def seeing_more(model: Network, slices_in: int) -> Network:
    """Return a U-Net of slices that sees more neighbours, as many above as below; its scores stay the same.

    Parameters
    ----------
    model
        With weights. Other networks, and those that see as many slices or more, are returned as they are.
    slices_in
        Wanted, odd. What is added weighs nothing until it is trained.
    """
    if not isinstance(model, UNet) or model.dims != 2 or model.slices_in >= slices_in:
        return model
    more = (slices_in - model.slices_in) // 2
    state = model.state_dict()
    state[_FIRST] = nn.functional.pad(state[_FIRST], (0, 0, 0, 0, more, more))
    wider = UNet(slices_in, model.classes, model.width, model.depth)
    wider.load_state_dict(state, strict=True)
    return wider.train(model.training)
