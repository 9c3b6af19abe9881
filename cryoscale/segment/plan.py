"""Units of the segment stage: one z-chunk slab of a region of whole chunks, read with a halo, scored, written.

    tomogram  --region + halo-->  network  -->  scores.ome.zarr    membrane's score, uint8 (times 1/255) or float16
                                                classes.ome.zarr   uint8, 0 background, 1 protein, 2 membrane

A voxel's class is membrane where the membrane's score reaches the threshold (that of the model's card, unless the
configuration has one), else the better of the other two. Where the tomogram's voxel size is not one that the model
knows, the network sees it at the nearest one that it does, window by window, and the scores come back in the tomogram's
voxels; centre and scale are then measured there too, by one unit ahead of the others. A unit for a GPU is several slabs
long: the next one is read, and the last one written, while the network is at work.

torch, a second of every start, is imported by what uses a network, not with this module: a run that begins at masks,
and all other stages' workers, go without.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.errors import UsageError
from cryoscale.io.files import relative_files
from cryoscale.io.omezarr import create_image, image_dtype, open_level, read_region, write_region
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.segment.card import Card, default_model_path, read_card
from cryoscale.segment.normalise import centre_and_scale, sampled_slices
from cryoscale.segment.windows import region_to_read, window_of
from cryoscale.spec import SegmentSpec

if TYPE_CHECKING:
    from torch import Tensor

    from cryoscale.segment.forward import Runner
    from cryoscale.segment.network import Network
    from cryoscale.segment.resample import Grid

__all__ = [
    "CLASSES",
    "SCORES",
    "gpu_count",
    "model_path",
    "plan",
    "reads_enhanced",
    "segment_block",
    "unit_regions",
]

SCORES = "scores.ome.zarr"
CLASSES = "classes.ome.zarr"
_MEMBRANE = 2
_LOADED_BYTES = 64 << 20
"""What torch keeps for itself once a network has run: thread pools, primitive caches, the weights."""
_BOX_BYTES = 2 << 30
"""Boxes scored at once are made smaller until they take no more than this."""
_SLABS_ON_GPU = 4
_MEASURED_SLICES = 16
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""One of these is there where a GPU's driver is: NVIDIA's, that of Windows below Linux, AMD's."""


def gpu_count() -> int:
    """GPUs of this machine that torch can use; without a driver torch is not asked."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS):
        return 0
    import torch

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def reads_enhanced(spec: SegmentSpec) -> bool:
    """Whether the model's card says that it was trained on enhanced tomograms."""
    return bool(read_card(model_path(spec)).get("enhanced", False))


def model_path(spec: SegmentSpec) -> str:
    """Path of the weights that a configuration asks for."""
    return spec.model or str(default_model_path())


def unit_regions(
    geometry: Geometry,
    itemsize: int,
    spec: SegmentSpec,
    chunk_voxels: tuple[int, int, int],
    model: Network,
    card: Card,
    *,
    gpu: bool = False,
) -> list[tuple[Region, int]]:
    """Return the region of every unit and the peak memory it takes in bytes.

    Parameters
    ----------
    geometry, itemsize
        Of the tomogram: shape and voxel size, bytes of a voxel.
    spec
        Options of the stage.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    model, card
        The network.
    gpu
        Whether the units run on a GPU.
    """
    grid, edge = _grid(geometry, spec, card), spec.region_voxels
    slices = chunk_voxels[0] * (_SLABS_ON_GPU if gpu else 1)
    while True:
        edges = [max(edge // chunk * chunk, chunk) for chunk in chunk_voxels[1:]]
        regions = blocks(geometry.shape, (slices, *edges))
        slabs = [Region(r.start, (min(r.stop[0], r.start[0] + chunk_voxels[0]), *r.stop[1:])) for r in regions]
        sizes = [projected_bytes(slab, geometry.shape, itemsize, spec, model, grid, gpu=gpu) for slab in slabs]
        if model.dims == 2 or max(sizes) <= _BOX_BYTES or edges == list(chunk_voxels[1:]):
            return list(zip(regions, sizes, strict=True))
        edge //= 2


def projected_bytes(
    slab: Region,
    shape: Sequence[int],
    itemsize: int,
    spec: SegmentSpec,
    model: Network,
    grid: Grid | None,
    *,
    gpu: bool = False,
) -> int:
    """Peak memory of scoring one slab, in bytes.

    Parameters
    ----------
    slab, shape
        Voxels scored, and the tomogram's shape, z, y, x.
    itemsize
        Bytes of a voxel of the tomogram.
    spec
        Options of the stage.
    model, grid
        The network, and its voxels where they are not the tomogram's.
    gpu
        Whether it runs on a GPU, where the slab before is still written and the next one read.

    Notes
    -----
    Raw voxels and their decompressed chunks; the two products; a part of some slices, normalised, and its scores in the
    model's voxels and in the tomogram's; for each batch the feature maps of the widest moment, which the network states
    itself.
    """
    from cryoscale.segment.predict import GROUP_SLICES, source_region

    window = window_of(model)
    raw, written = source_region(slab, shape, window, grid).size * itemsize, slab.size
    depth = slab.shape[0] if window.boxes else min(GROUP_SLICES, slab.shape[0])
    part = Region(slab.start, (slab.start[0] + depth, *slab.stop[1:]))
    inner, whole = (grid.inner(part), grid.shape) if grid else (part, shape)
    read = [n + m for n, m in zip(region_to_read(inner, whole, window).shape, window.multiple, strict=True)]
    # Sums over taps: what is picked, weighted, added up, there and back.
    resampled = 4 * (4 * source_region(part, shape, window, grid).size + 4 * model.classes * part.size) if grid else 0
    at_once = math.prod(read) if window.boxes else read[1] * read[2] * min(_batch(spec, gpu=gpu), depth)
    return (
        (3 if gpu else 2) * raw
        + (2 if gpu else 1) * written * (1 + np.dtype(spec.score_type).itemsize)
        + 4 * math.prod(read) * (3 + model.classes)
        + resampled
        + 4 * at_once * model.live_channels
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
    from cryoscale.segment.weights import load_model

    geometry = tomogram.known_geometry
    model, card = load_model(model_path(spec))
    # Once for all units, that a card edited meanwhile, or kept by a worker, makes none of them differ.
    spec = replace(spec, score_threshold=spec.score_threshold or model.threshold)
    grid, path = _grid(geometry, spec, card), tomogram.path(source)
    regions = unit_regions(geometry, image_dtype(path).itemsize, spec, chunk_voxels, model, card, gpu=gpu)
    _create(tomogram, spec, chunk_voxels, (chunk_voxels[0], *regions[0][0].shape[1:]))
    if grid is not None:
        key, size = ("segment-scale", tomogram.id, 0), _measure_bytes(geometry, grid, chunk_voxels[0])
        (measured,) = yield [Unit(key, measure_intensity, (str(path), grid), size)]
        intensity = (float(measured.numbers["centre"]), float(measured.numbers["scale"]))
    receipts = yield [
        Unit(
            ("segment", tomogram.id, index),
            segment_block,
            (str(path), tomogram.folder, region, spec, intensity, grid, card["sha256"], chunk_voxels[0], gpu),
            size,
            gpu=gpu,
        )
        for index, (region, size) in enumerate(regions)
    ]
    counts = np.sum([receipt.numbers["class_voxels"] for receipt in receipts], axis=0)
    return {
        "scores": SCORES,
        "classes": CLASSES,
        "class_voxels": [int(count) for count in counts],
        "model_sha256": card["sha256"],
        "warnings": _warnings(card, geometry, grid),
    }


def _create(tomogram: Tomogram, spec: SegmentSpec, chunk_voxels: tuple[int, int, int], shards: tuple[int, ...]) -> None:
    """Create the volumes of scores and classes."""
    for name, dtype in ((SCORES, spec.score_type), (CLASSES, "uint8")):
        create_image(
            tomogram.path(name),
            tomogram.known_geometry,
            dtype,
            chunk_voxels,
            shards=shards,
            labels=name == CLASSES,
            value_scale=1 / 255 if (name, dtype) == (SCORES, "uint8") else None,
        )


def _measure_bytes(geometry: Geometry, grid: Grid, chunk_slices: int) -> int:
    """Memory of `measure_intensity`: its planes, as they are sorted in float64, and a slab of chunks to read one."""
    return 40 * _MEASURED_SLICES * math.prod(grid.shape[1:]) + 8 * chunk_slices * math.prod(geometry.shape[1:])


def measure_intensity(source: str, grid: Grid) -> Receipt:
    """Measure the robust centre and scale of a tomogram in the model's voxels, from slices evenly spaced in z."""
    import torch

    planes = []
    for z in sampled_slices(grid.shape[0], _MEASURED_SLICES):
        wanted = Region((z, 0, 0), (z + 1, *grid.shape[1:]))
        have = grid.outer(wanted)
        raw = torch.from_numpy(read_region(source, have).astype(np.float32))
        planes.append(grid.to_model(raw, have, wanted).numpy())
    centre, scale = centre_and_scale(np.concatenate(planes))
    return Receipt((), {"centre": centre, "scale": scale})


def segment_block(
    source: str,
    folder: str,
    region: Region,
    spec: SegmentSpec,
    intensity: tuple[float, float],
    grid: Grid | None,
    sha256: str,
    slab_slices: int,
    gpu: bool,
) -> Receipt:
    """Score one block of a tomogram, slab by slab, and write its scores and classes."""
    from cryoscale.segment.predict import scored_parts, source_region

    runner = _cached(model_path(spec), sha256, gpu, _bfloat16(spec, gpu=gpu), spec.symmetries, _batch(spec, gpu=gpu))
    shape, window = open_level(source).shape, window_of(runner.model)
    slabs = [part.moved(region.start) for part in blocks(region.shape, (slab_slices, *region.shape[1:]))]
    reads = [source_region(slab, shape, window, grid) for slab in slabs]
    files: list[str] = []
    counts = np.zeros(runner.model.classes, dtype=np.int64)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead, behind = reader.submit(read_region, source, reads[0]), None
        for index, slab in enumerate(slabs):
            raw = ahead.result()
            if index + 1 < len(slabs):
                ahead = reader.submit(read_region, source, reads[index + 1])
            scores, classes = np.empty(slab.shape, spec.score_type), np.empty(slab.shape, np.uint8)
            kept = _reduced(spec.score_threshold, spec.score_type)
            for part, found in scored_parts(
                runner, raw, slab, shape, kept, centre=intensity[0], scale=intensity[1], window=window, grid=grid
            ):
                scores[part.within(slab)], classes[part.within(slab)] = found
            counts += np.bincount(classes.ravel(), minlength=len(counts))
            if behind is not None:
                files += behind.result()
            behind = writer.submit(_write, folder, slab, scores, classes)
        assert behind is not None
        files += behind.result()
    return Receipt(relative_files(folder, files), {"class_voxels": [int(count) for count in counts]})


def _write(folder: str, slab: Region, scores: NDArray[np.generic], classes: NDArray[np.uint8]) -> list[str]:
    return [*write_region(f"{folder}/{SCORES}", slab, scores), *write_region(f"{folder}/{CLASSES}", slab, classes)]


def _reduced(threshold: float, score_type: str) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Reduce scores (classes, z, y, x) to the membrane's, as it is stored, and the classes."""
    import torch

    def reduce(scores: Tensor) -> tuple[Tensor, ...]:
        membrane = scores[_MEMBRANE]
        stored = membrane.mul(255).round_().to(torch.uint8) if score_type == "uint8" else membrane.half()
        others = (scores[1] > scores[0]).to(torch.uint8)
        return stored, torch.where(membrane >= threshold, _MEMBRANE, others)

    return reduce


@functools.lru_cache(maxsize=2)
def _cached(path: str, sha256: str, gpu: bool, bfloat16: bool, symmetries: bool, batch_slices: int) -> Runner:
    """Load a model once per process, ready to run; `sha256` tells models of one path apart.

    A batch that did not fit into a GPU's memory is thus halved once, not by every unit.
    """
    from cryoscale.segment.forward import Runner, for_inference
    from cryoscale.segment.weights import load_model

    model, card = load_model(path)
    if card["sha256"] != sha256:
        raise UsageError(
            "the model changed while the run was going on",
            where=path,
            found=f"sha256 {card['sha256']}",
            allowed=f"sha256 {sha256}",
            todo="put the first model back, or run again with --overwrite",
        )
    return Runner(for_inference(model, "cuda" if gpu else "cpu", bfloat16=bfloat16), batch_slices, symmetries)


def _batch(spec: SegmentSpec, *, gpu: bool) -> int:
    """Slices per forward pass: one on a CPU, whose caches then hold the feature maps (25 % faster than four)."""
    return spec.batch_slices if gpu else 1


def _bfloat16(spec: SegmentSpec, *, gpu: bool) -> bool:
    # On a CPU only where it is asked for: of workers that are not alike each would give other scores.
    return spec.precision == "bfloat16" or (spec.precision == "auto" and gpu)


def _known(card: Card) -> tuple[float, float]:
    """Voxel sizes in ångström, least and largest, that a model is shown; any where its card says nothing."""
    low, high = card.get("voxel_size_angstrom", (0.0, math.inf))
    return float(low), float(high)


def _grid(geometry: Geometry, spec: SegmentSpec, card: Card) -> Grid | None:
    if not spec.rescale:
        return None
    from cryoscale.segment.resample import grid_for

    return grid_for(geometry.shape, geometry.voxel_size_angstrom, _known(card))


def _warnings(card: Card, geometry: Geometry, grid: Grid | None) -> list[str]:
    """Say where the tomogram is outside what the model is shown."""
    (low, high), found = _known(card), geometry.voxel_size_angstrom[0]
    outside = f"voxel size {found:.3g} Å is outside {low}-{high} Å, the range of the model"
    if grid is not None:
        seen = found * grid.there[0].ratio
        return [f"{outside}: it was scored at {seen:.3g} Å"]
    return [] if low <= found <= high else [outside]
