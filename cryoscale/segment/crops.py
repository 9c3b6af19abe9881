"""Training batches: random crops of labelled slices, or boxes around them, changed in ways that keep the labels true.

    crop -> flip z, y, x -> quarter turn -> warp (rotation, scale, elastic) -> gamma, contrast, brightness, noise

A batch is drawn from its own seed alone ([seed of the training, step, ...]): it does not depend
on the batches before it, so that a resumed training sees the same ones. With `turns_only` a crop is only flipped and
turned. Elastic deformation is the paper's (4); it is
mild, a smooth displacement of about 2 voxels. Quarter turns make the network blind to the direction of the tilt axis.
All slices of a box are turned and warped alike: z is the beam, and stays it. Slices of a box whose classes nobody said
are seen and not learnt from: `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscale.segment.normalise import centre_and_scale, normalised, sampled_slices

__all__ = ["UNKNOWN", "Sample", "batch_of", "sample_of"]

UNKNOWN = -100
"""Class of voxels that the loss leaves out."""
_CONTROL_SPACING = 32
_ELASTIC_SD_VOXELS = 2.0


@dataclass(frozen=True)
class Sample:
    """One training volume with its own centre and scale."""

    tomogram: NDArray[np.floating]
    """Raw intensities, (z, y, x)."""
    classes: NDArray[np.uint8]
    """0 background, 1 protein, 2 membrane, same shape."""
    centre: float
    """Median of the tomogram."""
    scale: float
    """Robust standard deviation of the tomogram."""
    slices: tuple[int, ...]
    """Slices whose classes are known: crops are taken from these, their neighbours are only seen."""

    def only(self, slices: Sequence[int]) -> Sample:
        """Return the same volume with other slices to take crops from."""
        return replace(self, slices=tuple(slices))


def sample_of(tomogram: NDArray[np.floating], classes: NDArray[np.uint8]) -> Sample:
    """Training volume with its centre and scale, measured as for inference.

    Raises
    ------
    ValueError
        If the two arrays are not volumes of one shape.
    """
    if tomogram.ndim != 3 or tomogram.shape != classes.shape:
        msg = f"tomogram {tomogram.shape} and classes {classes.shape} must be volumes of one shape"
        raise ValueError(msg)
    centre, scale = centre_and_scale(tomogram[sampled_slices(len(tomogram))])
    return Sample(tomogram, classes, centre, scale, tuple(range(len(tomogram))))


def batch_of(
    samples: Sequence[Sample],
    *,
    seed: Sequence[int],
    batch: int,
    crop_voxels: int,
    slices_in: int,
    crop_slices: int = 0,
    turns_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Training batch of a seed: images (batch, slices_in, crop, crop) float32, classes (batch, crop, crop) int64.

    Every volume is drawn as often as it has slices to take crops from. With `crop_slices` boxes so many slices thick:
    images (batch, 1, crop_slices, crop, crop), classes (batch, crop_slices, crop, crop).

    Raises
    ------
    ValueError
        If a volume is smaller than the crop.
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum([len(sample.slices) for sample in samples])
    places = [int(np.searchsorted(ends, rng.integers(ends[-1]), side="right")) for _ in range(batch)]
    pairs = [_crop(samples[place], rng, crop_voxels, slices_in, crop_slices) for place in places]
    images = torch.from_numpy(np.stack([image for image, _ in pairs]))
    classes = torch.from_numpy(np.stack([truth for _, truth in pairs]))
    if not turns_only:
        images, classes = _warped(images, classes, rng)
        images = _shaded(images, rng)
    return (images[:, None], classes) if crop_slices else (images, classes[:, 0])


def _crop(
    sample: Sample, rng: np.random.Generator, crop_voxels: int, slices_in: int, crop_slices: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One crop with its neighbouring slices and the classes (1, y, x) of the middle one, or a box with all of its own.

    Flipped and turned.
    """
    shape = sample.tomogram.shape
    if min(shape[1:]) < crop_voxels or shape[0] < crop_slices:
        box = f"{crop_slices} slices of {crop_voxels}" if crop_slices else f"{crop_voxels}"
        msg = f"a training volume of {shape} is smaller than the crop of {box}"
        raise ValueError(msg)
    z = sample.slices[int(rng.integers(len(sample.slices)))]
    y, x = (int(rng.integers(size - crop_voxels + 1)) for size in shape[1:])
    window = np.s_[y : y + crop_voxels, x : x + crop_voxels]
    if crop_slices:
        first = int(np.clip(z - rng.integers(crop_slices), 0, shape[0] - crop_slices))
        seen = learnt = np.arange(first, first + crop_slices)
    else:
        seen, learnt = np.clip(z + np.arange(slices_in) - slices_in // 2, 0, shape[0] - 1), np.array([z])
    if rng.random() < 0.5:
        seen, learnt = seen[::-1], learnt[::-1]
    image = normalised(sample.tomogram[seen][:, *window], sample.centre, sample.scale)
    truth = sample.classes[learnt][:, *window].astype(np.int64)
    truth[~np.isin(learnt, sample.slices)] = UNKNOWN
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    image, truth = np.rot90(image, turns, axes=(1, 2)), np.rot90(truth, turns, axes=(1, 2))
    if flip:
        image, truth = image[..., ::-1], truth[..., ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(truth)


def _warped(images: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotation, scale 0.87-1.15 and elastic displacement of one half of the crops; borders are mirrored.

    The other half stays on its grid, because interpolation also smooths the noise the network must learn.
    """
    count, _, size, _ = images.shape
    angle, zoom = rng.uniform(-np.pi, np.pi, count), np.exp(rng.uniform(-0.14, 0.14, count))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(count, 2, 2)
    linear = np.concatenate([turn * zoom[:, None, None], np.zeros((count, 2, 1))], axis=2).astype(np.float32)
    nodes = max(size // _CONTROL_SPACING, 2)
    knots = rng.normal(0.0, _ELASTIC_SD_VOXELS * 2.0 / size, (count, 2, nodes, nodes)).astype(np.float32)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(linear), [count, 1, size, size], align_corners=False)
    bend = torch.nn.functional.interpolate(torch.from_numpy(knots), (size, size), mode="bicubic", align_corners=False)
    grid = grid + bend.permute(0, 2, 3, 1)
    chosen = torch.from_numpy(np.flatnonzero(rng.random(count) < 0.5))
    if len(chosen) == 0:
        return images, classes
    picked = grid[chosen]
    images[chosen] = _sampled(images[chosen], picked, "bilinear")
    classes[chosen] = _sampled(classes[chosen].to(torch.float32), picked, "nearest").to(torch.int64)
    return images, classes


def _sampled(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    return torch.nn.functional.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)


def _shaded(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Random gamma 0.87-1.15, contrast 0.8-1.25, brightness +-0.2 and up to 0.3 of noise, in units of the noise."""
    count = len(images)

    def each(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(count, 1, 1, 1)

    gamma = each(np.exp(rng.uniform(-0.14, 0.14, count)))
    contrast = each(np.exp(rng.uniform(-0.22, 0.22, count)))
    brightness = each(rng.uniform(-0.2, 0.2, count))
    noise_sd = each(np.maximum(rng.uniform(-0.3, 0.3, count), 0.0))
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return images.sign() * images.abs() ** gamma * contrast + brightness + noise_sd * noise
