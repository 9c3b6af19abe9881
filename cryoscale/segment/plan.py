"""Units of the segment stage: one z-chunk slab of a region of whole chunks, read with a halo, scored, written.

    tomogram  --region + halo-->  U-Net  -->  scores.ome.zarr    uint8, 255 x score of the membrane class
                                              classes.ome.zarr   uint8, 0 background, 1 protein, 2 membrane

A voxel's class is membrane where the membrane's score reaches the threshold (the network's own, unless the
configuration has one), else the better of the other two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch

from cryoscale.chunks import Region, blocks
from cryoscale.errors import UsageError
from cryoscale.io.files import relative_files
from cryoscale.io.omezarr import create_image, image_dtype, open_level, read_region, write_region
from cryoscale.records import Plan, Receipt, Tomogram, Unit
from cryoscale.segment.network import Network, fold
from cryoscale.segment.scores import classes_of
from cryoscale.segment.weights import Card, default_model_path, load_model
from cryoscale.segment.windows import Window, for_inference, predict_slab, region_to_read, window_of
from cryoscale.spec import SegmentSpec

__all__ = [
    "CLASSES",
    "SCORES",
    "gpu_available",
    "model_path",
    "plan",
    "projected_bytes",
    "reads_enhanced",
    "segment_block",
]

SCORES = "scores.ome.zarr"
CLASSES = "classes.ome.zarr"
_MEMBRANE = 2
_LOADED_BYTES = 64 << 20
"""What torch keeps for itself once a network has run: thread pools, primitive caches, the weights."""
_GROUP_SLICES = 8
"""Slices scored between two conversions to uint8: float32 scores of a whole slab would take more than all else."""


def gpu_available() -> bool:
    """Whether this machine has a GPU that torch can use."""
    return bool(torch.cuda.is_available())


def reads_enhanced(spec: SegmentSpec) -> bool:
    """Whether the model's card says that it was trained on enhanced tomograms."""
    return bool(load_model(model_path(spec))[1].get("enhanced", False))


def model_path(spec: SegmentSpec) -> str:
    """Path of the weights that a configuration asks for."""
    return spec.model or str(default_model_path())


def projected_bytes(
    read: Sequence[int], written: Sequence[int], itemsize: int, model: Network, batch_slices: int
) -> int:
    """Peak memory of a unit, in bytes.

    Parameters
    ----------
    read, written
        Voxels read and written, z, y, x.
    itemsize
        Bytes of a voxel of the tomogram.
    model
        The network.
    batch_slices
        Slices per forward pass.

    Notes
    -----
    Raw voxels and their decompressed chunks; two uint8 products; a group of slices, normalised, and its scores; for
    each batch the feature maps of the widest moment, which the network states itself.
    """
    multiple = model.multiple[-1]
    slice_voxels = (read[1] + multiple) * (read[2] + multiple)
    group = min(_GROUP_SLICES, written[0])
    return (
        2 * math.prod(read) * itemsize
        + 2 * math.prod(written)
        + 4 * slice_voxels * (3 * (group + model.slices_in) + group * model.classes)
        + 4 * slice_voxels * min(batch_slices, group) * model.live_channels
        + _LOADED_BYTES
    )


def plan(
    tomogram: Tomogram,
    spec: SegmentSpec,
    chunk_voxels: tuple[int, int, int],
    *,
    source: str,
    intensity: tuple[float, float],
    gpu: bool = False,
) -> Plan:
    """Plan the segmentation of a tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options of the stage.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    source
        Name of the volume to segment in the tomogram's folder.
    intensity
        Robust centre and scale of the tomogram's grey values.
    gpu
        Whether the units run on a GPU.

    Raises
    ------
    UsageError
        If the model cannot be loaded.
    """
    geometry, weights = tomogram.known_geometry, model_path(spec)
    model, card = load_model(weights)
    window, itemsize = window_of(model), image_dtype(tomogram.path(source)).itemsize
    for name in (SCORES, CLASSES):
        create_image(tomogram.path(name), geometry, np.uint8, chunk_voxels, labels=name == CLASSES)
    edges = tuple(max(spec.region_voxels // chunk * chunk, chunk) for chunk in chunk_voxels[1:])
    receipts = yield [
        Unit(
            ("segment", tomogram.id, index),
            segment_block,
            (str(tomogram.path(source)), tomogram.folder, region, spec, intensity, card["sha256"], gpu),
            projected_bytes(
                region_to_read(region, geometry.shape, window).shape, region.shape, itemsize, model, _batch(spec, gpu)
            ),
            gpu=gpu,
        )
        for index, region in enumerate(blocks(geometry.shape, (chunk_voxels[0], *edges)))
    ]
    counts = np.sum([receipt.numbers["class_voxels"] for receipt in receipts], axis=0)
    return {
        "scores": SCORES,
        "classes": CLASSES,
        "class_voxels": [int(count) for count in counts],
        "model_sha256": card["sha256"],
        "warnings": _warnings(card, geometry.voxel_size_angstrom[0]),
    }


def segment_block(
    source: str,
    folder: str,
    region: Region,
    spec: SegmentSpec,
    intensity: tuple[float, float],
    sha256: str,
    gpu: bool,
) -> Receipt:
    """Score one block of a tomogram and write its scores and classes."""
    model, window = _cached(model_path(spec), sha256, "cuda" if gpu else "cpu")
    shape = open_level(source).shape
    read = region_to_read(region, shape, window)
    raw = read_region(source, read)
    scores, classes = (np.empty(region.shape, np.uint8) for _ in range(2))
    for part in blocks(region.shape, (_GROUP_SLICES, *region.shape[1:])):
        inner = _moved(part, region.start)
        block = raw[region_to_read(inner, shape, window).within(read)]
        probability = predict_slab(
            model,
            block,
            inner,
            shape,
            centre=intensity[0],
            scale=intensity[1],
            window=window,
            batch_slices=_batch(spec, gpu),
        )
        scores[part.slices] = np.rint(probability[_MEMBRANE] * 255)
        classes[part.slices] = classes_of(probability, spec.score_threshold or model.threshold)
    files = [*write_region(f"{folder}/{SCORES}", region, scores), *write_region(f"{folder}/{CLASSES}", region, classes)]
    counts = np.bincount(classes.ravel(), minlength=model.classes)
    return Receipt(relative_files(folder, files), {"class_voxels": [int(count) for count in counts]})


@functools.lru_cache(maxsize=2)
def _cached(path: str, sha256: str, device: str) -> tuple[Network, Window]:
    """Load a model once per process, ready to run; `sha256` tells models of one path apart."""
    model, card = load_model(path)
    if card["sha256"] != sha256:
        raise UsageError(
            "the model changed while the run was going on",
            where=path,
            found=f"sha256 {card['sha256']}",
            allowed=f"sha256 {sha256}",
            todo="put the first model back, or run again with --overwrite",
        )
    return for_inference(fold(model), device), window_of(model)


def _batch(spec: SegmentSpec, gpu: bool) -> int:
    """Slices per forward pass: one on a CPU, whose caches then hold the feature maps (25 % faster than four)."""
    return spec.batch_slices if gpu else 1


def _moved(region: Region, by: Sequence[int]) -> Region:
    """Shift a region of a block to the block's place in the volume."""
    return Region(
        tuple(a + b for a, b in zip(region.start, by, strict=True)),
        tuple(a + b for a, b in zip(region.stop, by, strict=True)),
    )


def _warnings(card: Card, voxel_size_angstrom: float) -> list[str]:
    """Say where the tomogram is outside what the model was trained on."""
    lowest, highest = card.get("voxel_size_angstrom", (0.0, math.inf))
    if lowest <= voxel_size_angstrom <= highest:
        return []
    return [f"voxel size {voxel_size_angstrom:.3g} Å is outside {lowest}-{highest} Å, for which the model was trained"]
