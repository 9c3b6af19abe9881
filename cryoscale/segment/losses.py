"""What a network is trained towards.

    classes   cross-entropy + dice_weight ((1 - soft Dice of protein) + (1 - soft Dice of membrane))
    twohead   with labels     0.99 Huber(label, +-1) + 0.01 Huber(image, slice)
              without         0.5 (1 - SSIM(image, slice)) + 0.5 Huber(image, slice)

Classes: paper 4 has cross-entropy; the soft Dice terms are added because membranes are about 5 % of the voxels and
proteins 0.2 %: cross-entropy alone is content with missing the faint ones, and in 800 steps found no protein at all.

Two heads (PNAS 120 (24) e2209938120): Huber with delta 0.1; SSIM with an 11 x 11 Gaussian of sd 1.5 and constants
(0.01 L)^2, (0.03 L)^2, L being the width of the normalised grey values, 12. Without labels only the encoder, the neck
and the image decoder run: the label decoder gets no gradient, so that neither Adam's moments nor its batch statistics
move it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryoscale.segment.crops import UNKNOWN
from cryoscale.segment.network import Network
from cryoscale.segment.normalise import CLIP
from cryoscale.segment.twohead import TwoHead

__all__ = ["Objective", "class_loss", "multiplies_bfloat16", "score_loss", "ssim"]

_HUBER_DELTA = 0.1
_LABEL_SHARE = 0.99
_SSIM_SHARE = 0.5
_SSIM_WINDOW, _SSIM_SD = 11, 1.5
_SSIM_CONSTANTS = (0.01, 0.03)
_MEMBRANE = 2


class Objective(nn.Module):
    """Loss of a network on a batch: one module, so that torch can share it among processes.

    Parameters
    ----------
    network
        What is trained.
    dice_weight
        Weight of soft Dice beside cross-entropy, where classes are learnt.
    mixed
        Run the network in bfloat16; weights, norms and loss stay float32.
    """

    def __init__(self, network: Network, *, dice_weight: float, mixed: bool) -> None:
        super().__init__()
        self.network, self.dice_weight, self.mixed = network, dice_weight, mixed

    def forward(self, images: Tensor, classes: Tensor | None) -> Tensor:
        """Loss of images (batch, slices_in, y, x) with their classes (batch, y, x) int64, or of images alone.

        Of boxes (batch, 1, z, y, x) and (batch, z, y, x) where the network scores boxes.

        Raises
        ------
        ValueError
            If there are no classes and the network has no head for images.
        """
        middle = images[:, images.shape[1] // 2, None]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed):
            if classes is None:
                if not isinstance(self.network, TwoHead):
                    msg = f"{self.network.name} cannot learn from images alone"
                    raise ValueError(msg)
                drawn = self.network.image(images)
            else:
                found = self.network(images)
        if classes is None:
            drawn = drawn.float()
            alike = ssim(drawn, middle, width=2 * CLIP)
            return _SSIM_SHARE * (1 - alike) + (1 - _SSIM_SHARE) * _huber(drawn, middle)
        if isinstance(self.network, TwoHead):
            drawn, label = (part.float() for part in found)
            truth = (classes[:, None] == _MEMBRANE).float() * 2 - 1
            return _LABEL_SHARE * _huber(label, truth) + (1 - _LABEL_SHARE) * _huber(drawn, middle)
        return class_loss(found, classes, self.dice_weight)


def _huber(found: Tensor, wanted: Tensor) -> Tensor:
    return nn.functional.huber_loss(found, wanted, delta=_HUBER_DELTA)


def score_loss(network: Network, scores: Tensor, classes: Tensor) -> float:
    """Mean over voxels of what a network is trained towards: cross-entropy, or with two heads Huber of the label.

    Parameters
    ----------
    network
        Says which.
    scores
        Of every class, (classes, z, y, x).
    classes
        True ones, (z, y, x) int64.
    """
    if isinstance(network, TwoHead):
        return float(_huber(2 * scores[_MEMBRANE] - 1, (classes == _MEMBRANE).float() * 2 - 1))
    return float(nn.functional.nll_loss(scores.clamp_min(1e-7).log()[None], classes[None]))


def class_loss(logits: Tensor, classes: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy plus `dice_weight` x the sum over protein and membrane of (1 - soft Dice over the batch).

    Parameters
    ----------
    logits
        (batch, classes, y, x), or (batch, classes, z, y, x).
    classes
        (batch, y, x) int64, or (batch, z, y, x); voxels that are `crops.UNKNOWN` do not count.
    """
    logits = logits.float()
    known = classes != UNKNOWN
    score = torch.softmax(logits, dim=1)[:, 1:] * known[:, None]
    truth = nn.functional.one_hot(classes.clamp_min(0), logits.shape[1])[..., 1:].movedim(-1, 1) * known[:, None]
    voxels = [axis for axis in range(logits.ndim) if axis != 1]
    both, all_ = (score * truth).sum(dim=voxels), (score + truth).sum(dim=voxels)
    # The 1 keeps a class that is in no crop from being all or nothing.
    missed: Tensor = (1 - (2 * both + 1) / (all_ + 1)).sum()
    return nn.functional.cross_entropy(logits, classes, ignore_index=UNKNOWN) + dice_weight * missed


def multiplies_bfloat16(device: str) -> bool:
    """Return whether a device multiplies bfloat16 itself; emulated, a step takes 7 to 19 times as long as float32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _window(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Gaussian of the SSIM, its sum 1, (11,)."""
    place = torch.arange(_SSIM_WINDOW, device=device, dtype=dtype) - _SSIM_WINDOW // 2
    weights = torch.exp(-0.5 * (place / _SSIM_SD) ** 2)
    return weights / weights.sum()


def ssim(one: Tensor, other: Tensor, *, width: float) -> Tensor:
    """Mean structural similarity (Wang et al. 2004) of images (batch, 1, y, x), where the window fits.

    Parameters
    ----------
    one, other
        Images of one shape, at least 11 x 11.
    width
        Width of the range of grey values, L.
    """
    weights = _window(one.device, one.dtype)

    def mean(x: Tensor) -> Tensor:
        return nn.functional.conv2d(nn.functional.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    mean_one, mean_other = mean(one), mean(other)
    variance = mean(one * one) - mean_one**2 + mean(other * other) - mean_other**2
    covariance = mean(one * other) - mean_one * mean_other
    small_mean, small_variance = ((constant * width) ** 2 for constant in _SSIM_CONSTANTS)
    similar = (2 * mean_one * mean_other + small_mean) * (2 * covariance + small_variance)
    return (similar / ((mean_one**2 + mean_other**2 + small_mean) * (variance + small_variance))).mean()
