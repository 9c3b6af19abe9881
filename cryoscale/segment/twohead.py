"""The two-headed network: one encoder, one decoder that draws the image again, one that draws the labels.

    x --unit--[residual]--pool-- x 4 --neck--+-- image decoder (no skips) --3 units-----------------> image
                    |  skips                 +-- label decoder (skips, two residuals a stage) --tanh--> label, [-1, 1]

After Dyhr, Sadeghi et al., PNAS 120 (24) e2209938120 (2023), from its description and its published table of layers.
Labelled slices teach both heads; slices without labels teach the encoder and the neck through the image alone
(`semi`). Of one `width` w:

- a unit is 1x1 -> 3x3 -> 1x1 convolutions with half the channels inside and nothing between them;
- a residual of f channels joins its input with what two units make of it, by concatenation: unit, norm, ReLU, unit,
  cat, norm, ReLU. The encoder's stages have f = w, 2w, 4w, 8w, so that the joined maps have 2, 4, 8, 16 w channels;
- the neck is 3 parallel branches of four units of 16 w channels, 1, 2 and 3 wide, joined: with its widest branch a
  voxel of the neck sees 206 x 206 of the slice;
- a decoder's stage is a transposed convolution 3 wide, by 2, to 8w, 4w, 2w, w channels, then its residuals.

Trainable parameters: 1,201,666 at w = 8, 4,791,542 at 16, 19,135,966 at 32, 76,483,502 at 64, the number published.
The score of the membrane is (label + 1) / 2, a voxel is membrane where the label reaches 0.9, that is from a score of
0.95; the network knows no proteins, whose score is 0.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cryoscale.segment.network import Network, Span, halo_of, pooled, widened

__all__ = ["TwoHead"]

_STAGES = 4
_UNITS = 2
"""Units of a residual."""
_LABEL_RESIDUALS = 2
_NECK = (1, 2, 3)
_NECK_UNITS = 4


class _Unit(nn.Module):
    """1x1, kxk, 1x1 convolutions, half the channels inside; then, where `normed`, batch norm and ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, *, normed: bool = False, bias: bool = False) -> None:
        super().__init__()
        inside = max(n_out // 2, 1)
        self.squeeze = nn.Conv2d(n_in, inside, 1, bias=bias)
        self.spread = nn.Conv2d(inside, inside, kernel, padding=kernel // 2 if kernel % 2 else 0, bias=bias)
        self.conv = nn.Conv2d(inside, n_out, 1, bias=bias)
        self.norm: nn.Module = nn.BatchNorm2d(n_out) if normed else nn.Identity()
        self.normed, self.even = normed, kernel % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        # Zeros after the last voxel only, so that a kernel 2 wide keeps the size.
        x = self.spread(nn.functional.pad(x, (0, 1, 0, 1)) if self.even else x)
        x = cast("Tensor", self.norm(self.conv(x)))
        return torch.relu_(x) if self.normed else x


class _Residual(nn.Module):
    """Input joined with what two units make of it: n_in to n_in + n_out channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = _Unit(n_in, n_out, normed=True)
        self.second = _Unit(n_out, n_out)
        self.after = nn.BatchNorm2d(n_in + n_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.after(torch.cat([x, self.second(self.first(x))], dim=1)))


class _Decoder(nn.Module):
    """Neck to full resolution, with or without the encoder's maps: `n_in` to `width` channels."""

    def __init__(self, n_in: int, width: int, skips: list[int], residuals: int) -> None:
        super().__init__()
        self.up, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage, skip in zip(reversed(range(_STAGES)), skips, strict=True):
            n_out = width * 2**stage
            self.up.append(nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1))
            n_in = n_out + skip
            self.stages.append(nn.Sequential(*(_Residual(n_in + i * n_out, n_out) for i in range(residuals))))
            n_in += residuals * n_out
        self.last = _Unit(n_in, width, normed=True)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode `x` with `skips`, the coarsest last; none for a decoder without."""
        for number, (up, stage) in enumerate(zip(self.up, self.stages, strict=True), start=1):
            x = up(x)
            x = stage(torch.cat([skips[-number], x], dim=1) if skips else x)
        return cast("Tensor", self.last(x))


class _Encoder(nn.Module):
    """Slices to the neck's input and the map of every stage."""

    def __init__(self, slices_in: int, width: int) -> None:
        super().__init__()
        self.first = _Unit(slices_in, width, normed=True, bias=True)
        self.stages = nn.ModuleList(_Residual(width * 2**stage, width * 2**stage) for stage in range(_STAGES))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, skips = self.first(x), []
        for stage in self.stages:
            skips.append(stage(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        return x, skips


class TwoHead(Network):
    """Two-headed network: (batch, slices_in, y, x) float32 to an image and a label in [-1, 1], both (batch, 1, y, x).

    Parameters
    ----------
    slices_in
        Neighbouring z slices given as channels; odd, the middle one is scored.
    width
        Channels of the finest stage (the publication's m_f).

    Raises
    ------
    ValueError
        If `slices_in` is even or any number is below 1.
    """

    threshold = 0.95

    def __init__(self, slices_in: int = 1, width: int = 16) -> None:
        super().__init__()
        if slices_in % 2 == 0 or min(slices_in, width) < 1:
            msg = f"slices_in must be odd and {slices_in=} and {width=} at least 1"
            raise ValueError(msg)
        self.dims, self.slices_in, self.classes, self.width = 2, slices_in, 3, width
        coarsest, skips = width * 2**_STAGES, [width * 2 ** (stage + 1) for stage in reversed(range(_STAGES))]
        self.encoder = _Encoder(slices_in, width)
        self.neck = nn.ModuleList(
            nn.Sequential(*(_Unit(coarsest, coarsest, kernel, normed=True) for _ in range(_NECK_UNITS)))
            for kernel in _NECK
        )
        joined = coarsest * len(_NECK)
        self.image_decoder = _Decoder(joined, width, [0] * _STAGES, 1)
        self.image_head = nn.Sequential(
            _Unit(width, width, bias=True), _Unit(width, width, bias=True), _Unit(width, 1, bias=True)
        )
        self.label_decoder = _Decoder(joined, width, skips, _LABEL_RESIDUALS)
        self.label_norm = nn.BatchNorm2d(width)
        self.label_head = nn.Sequential(_Unit(width, width, bias=True), nn.Conv2d(width, 1, 1), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "twohead"

    @property
    def options(self) -> dict[str, int]:
        """Options of `build_model` that make this network again."""
        return {"slices_in": self.slices_in, "width": self.width}

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Window grid: 16 voxels along y and x."""
        return (1, 2**_STAGES, 2**_STAGES)

    @property
    def halo_voxels(self) -> tuple[int, int, int]:
        """Receptive field of the label on either side: exact, the worst over pooling phases."""
        halo = halo_of([_label_reach((phase, phase)) for phase in range(2**_STAGES)])
        return (self.slices_in // 2, halo, halo)

    @property
    def live_channels(self) -> int:
        """Skips (4 w in all), the joined maps of the finest stage (4 and 5 w), twice while they are normalised."""
        return 18 * self.width + 4 * self.slices_in + 4 * self.classes

    @property
    def label_modules(self) -> tuple[nn.Module, ...]:
        """What only the label needs: frozen while images without labels are learnt."""
        return self.label_decoder, self.label_norm, self.label_head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image and label of the middle slice.

        Raises
        ------
        ValueError
            If the shape is not (batch, slices_in, multiple of 16, multiple of 16).
        """
        joined, skips = self._necked(x)
        return self._image(joined), self._label(joined, skips)

    def image(self, x: Tensor) -> Tensor:
        """Image alone: what is learnt from slices without labels."""
        return self._image(self._necked(x)[0])

    def scores(self, x: Tensor) -> Tensor:
        """Background, protein (0) and membrane, float32; the image decoder does not run."""
        membrane = (self._label(*self._necked(x)).float() + 1) / 2
        return torch.cat([1 - membrane, torch.zeros_like(membrane), membrane], dim=1)

    def _necked(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        self._require_input(x)
        coarse, skips = self.encoder(x)
        return torch.cat([branch(coarse) for branch in self.neck], dim=1), skips

    def _image(self, joined: Tensor) -> Tensor:
        return cast("Tensor", self.image_head(self.image_decoder(joined, [])))

    def _label(self, joined: Tensor, skips: list[Tensor]) -> Tensor:
        return cast("Tensor", self.label_head(self.label_norm(self.label_decoder(joined, skips))))


def _label_reach(span: Span) -> Span:
    """Input voxels that a span of the label depends on: the head's unit, the decoder's last, then its stages."""
    return _decoder_reach(widened(span, 2), 0)


def _decoder_reach(span: Span, stage: int) -> Span:
    """Input voxels that a span of a label decoder's stage depends on."""
    span = widened(span, _LABEL_RESIDUALS * _UNITS)
    skip = _encoder_reach(span, stage)
    below = span[0] // 2, (span[1] + 1) // 2  # a transposed convolution 3 wide reads one or two voxels
    if stage + 1 < _STAGES:
        up = _decoder_reach(below, stage + 1)
    else:
        up = _encoder_reach(pooled(widened(below, _NECK_UNITS * (max(_NECK) // 2))), stage)
    return min(skip[0], up[0]), max(skip[1], up[1])


def _encoder_reach(span: Span, stage: int) -> Span:
    """Input voxels that a span of an encoder's stage, before its pooling, depends on."""
    span = widened(span, _UNITS)
    return widened(span, 1) if stage == 0 else _encoder_reach(pooled(span), stage - 1)
