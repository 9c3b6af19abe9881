"""What a run would take, before anything starts: units, memory per unit, disk, time.

Units and memory come from the stages' own rules; the number and size of membranes is not known yet, so what depends on
them is projected for a tomogram of which 3 % is membrane, in pairs of vesicles that touch. Times are rates measured on
one core of a 2.6 GHz server processor (benchmarks/results), divided by the workers; another machine has other rates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import cryoscale.connect.plan as connect
import cryoscale.enhance.plan as enhance
import cryoscale.ingest.plan as ingest
import cryoscale.merge.plan as merge
import cryoscale.report.plan as report
import cryoscale.segment.plan as segment
import cryoscale.separate.plan as separate
import cryoscale.surface.plan as surface
from cryoscale.chunks import Region
from cryoscale.collection import Collection
from cryoscale.errors import CryoscaleError, TomogramError
from cryoscale.fit import projected_bytes as fit_bytes
from cryoscale.io.source import peek_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.manifest import Entry
from cryoscale.pipeline import STAGES, group_spec
from cryoscale.progress import printable
from cryoscale.records import Geometry
from cryoscale.segment.weights import load_model
from cryoscale.spec import RunSpec

__all__ = ["StageEstimate", "estimate_tomogram", "print_estimate"]

_MEMBRANE_SHARE = 0.03
_MEMBRANE_VOXELS = 60_000
"""Voxels of a typical vesicle of 40 nm radius at 10 Å: the size that fits are projected for."""
_SECONDS_PER_MEGAVOXEL = {
    "ingest": 0.1, "enhance": 3.0, "segment": 1.5, "merge": 0.1, "connect": 2.0, "separate": 0.7, "locate": 0.05,
    "fit": 0.5, "surface": 0.1, "measure": 0.03, "report": 0.15,
}  # fmt: skip
_DISK_BYTES_PER_VOXEL = {
    "ingest": 1.1, "enhance": 3.6, "segment": 0.25, "merge": 0.05, "connect": 0.1, "separate": 0.1, "locate": 0.02,
    "fit": 0.7, "surface": 3.0, "measure": 0.0, "report": 0.02,
}  # fmt: skip
"""Of the voxel's own size for ingest, in bytes for the others."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would take for one tomogram."""

    stage: str
    units: int
    unit_bytes: int
    """Peak memory of the largest unit beyond the interpreter."""
    disk_bytes: int
    core_seconds: float


def estimate_tomogram(
    geometry: Geometry, itemsizes: Sequence[int], spec: RunSpec, stages: tuple[str, ...], *, masked: bool = False
) -> list[StageEstimate]:
    """Estimate the stages of one tomogram.

    Parameters
    ----------
    geometry
        Of the tomogram.
    itemsizes
        Bytes of a voxel in each file that is read: the tomogram's, the mask's where there is one, or both.
    spec
        All options.
    stages
        Those that will run.
    masked
        Whether the last file is a mask.
    """
    voxels = math.prod(geometry.shape)
    found = []
    for stage in stages:
        if stage in ("merge", "connect", "separate", "locate"):
            units, unit_bytes = _grouping_units(stage, geometry, itemsizes[-1] if masked else 1, spec, masked)
        else:
            units, unit_bytes = _units(stage, geometry, itemsizes, spec)
        disk = voxels * _DISK_BYTES_PER_VOXEL[stage] * (sum(itemsizes) if stage == "ingest" else 1)
        seconds = voxels / 1e6 * _SECONDS_PER_MEGAVOXEL[stage]
        found.append(StageEstimate(stage, units, unit_bytes, int(disk), seconds))
    return found


def _units(stage: str, geometry: Geometry, itemsizes: Sequence[int], spec: RunSpec) -> tuple[int, int]:
    """Return the number of units of a stage and the memory of the largest."""
    shape, chunk = geometry.shape, spec.ingest.chunk_voxels
    slab = min(chunk[0], shape[0]) * shape[1] * shape[2]
    slabs = -(-shape[0] // chunk[0])
    membranes = _membranes(shape)
    if stage == "ingest":
        size = max(itemsizes)
        most = ingest.projected_bytes((min(chunk[0], shape[0]), *shape[1:]), chunk, size, size)
        return len(itemsizes) * (slabs + 1), most
    if stage == "enhance":
        return slabs, enhance.projected_bytes(slab, shape[1] * shape[2])
    if stage == "segment":
        return _segment_units(geometry, itemsizes[0], spec)
    if stage == "fit":
        return -(-membranes // spec.fit.batch_membranes), fit_bytes(_MEMBRANE_VOXELS)
    if stage == "surface":
        # 24 bytes a place of the band, on either side of a surface that the membrane covers three voxels thick.
        band = 24 * _MEMBRANE_VOXELS // 3 * max(1, round(2 * spec.fit.reach_nm / geometry.voxel_size_nm))
        return surface.expected_units(shape, chunk, [band] * membranes, _MEMBRANE_SHARE)
    if stage == "report":
        return 1, report.projected_bytes(geometry, 4 << 20)
    return 3, 128 << 20


def _grouping_units(stage: str, geometry: Geometry, itemsize: int, spec: RunSpec, masked: bool) -> tuple[int, int]:
    """Return the same for the stages that turn masks into membranes."""
    shape, chunk = geometry.shape, spec.ingest.chunk_voxels
    if stage == "connect":
        return connect.expected_units(shape, itemsize, chunk)
    if stage == "separate":
        return separate.expected_units(shape, chunk, _typical_groups(shape))
    apart = masked and spec.merge.separate_labels
    grouping = group_spec(spec, by_shape=spec.separate.enabled and not apart)
    return merge.expected_units(geometry, grouping, chunk, itemsize, separate_values=apart, stage=stage)


def _membranes(shape: tuple[int, int, int]) -> int:
    return max(1, round(math.prod(shape) * _MEMBRANE_SHARE / _MEMBRANE_VOXELS))


def _typical_groups(shape: tuple[int, int, int]) -> list[separate.Group]:
    """Return groups of two vesicles side by side each, their membranes three voxels thick."""
    diameter = round(2 * math.sqrt(_MEMBRANE_VOXELS / (4 * math.pi * 3)))
    z, y, x = (min(edge, n) for edge, n in zip((diameter, diameter, 2 * diameter), shape, strict=True))
    return [(k + 1, Region((0, 0, 0), (z, y, x)), 2 * _MEMBRANE_VOXELS) for k in range(-(-_membranes(shape) // 2))]


def _segment_units(geometry: Geometry, itemsize: int, spec: RunSpec) -> tuple[int, int]:
    model, card = load_model(segment.model_path(spec.segment))
    found = segment.unit_regions(geometry, itemsize, spec.segment, spec.ingest.chunk_voxels, model, card)
    return len(found), max(size for _, size in found)


def print_estimate(collection: Collection, workers: int) -> None:
    """Print what the run would do, per tomogram and in all, and what is wrong with inputs that can be seen now."""
    lines: list[str] = []
    totals: dict[str, list[float]] = {}
    for entry in collection.entries:
        try:
            if _is_done(entry, collection):
                lines.append(f"{entry.id}: complete, would be checked and kept")
                continue
            geometry, itemsizes = _opened(entry, collection)
            stages = _stages(entry, collection)
            found = estimate_tomogram(geometry, itemsizes, collection.spec, stages, masked=bool(entry.mask))
        except CryoscaleError as error:
            lines.append(f"{entry.id}: would FAIL: {error}")
            continue
        shape = " x ".join(str(n) for n in geometry.shape)
        lines.append(f"{entry.id}: {shape} voxels of {geometry.voxel_size_angstrom[0]:g} Å")
        for part in found:
            row = totals.setdefault(part.stage, [0, 0, 0, 0])
            row[0] += part.units
            row[1] = max(row[1], part.unit_bytes)
            row[2] += part.disk_bytes
            row[3] += part.core_seconds
    lines += _table(totals, workers)
    sys.stdout.write(printable("\n".join(lines)) + "\n")


def _table(totals: dict[str, list[float]], workers: int) -> list[str]:
    lines = [f"{'stage':<9} {'units':>7} {'MiB/unit':>9} {'disk MiB':>9} {'time s':>8}"]
    for stage, (units, unit_bytes, disk, seconds) in totals.items():
        lines.append(
            f"{stage:<9} {units:>7.0f} {unit_bytes / 2**20:>9.0f} {disk / 2**20:>9.0f} {seconds / workers:>8.0f}"
        )
    largest = max((row[1] for row in totals.values()), default=0)
    disk, seconds = (sum(row[k] for row in totals.values()) for k in (2, 3))
    lines.append(
        f"in all: {disk / 2**30:.2f} GiB of disk, about {seconds / workers / 60:.1f} min with {workers} workers, "
        f"up to {workers * (largest + (400 << 20)) / 2**30:.1f} GiB of memory"
    )
    return lines


def _stages(entry: Entry, collection: Collection) -> tuple[str, ...]:
    left_out = set() if collection.spec.enhance.enabled else {"enhance"}
    learned = collection.spec.merge.connect == "qlearning"
    left_out |= {"merge", "separate"} if learned else {"connect"}
    if not collection.spec.separate.enabled or (entry.mask and collection.spec.merge.separate_labels):
        left_out.add("separate")
    if entry.mask:
        left_out |= {"enhance", "segment", "locate"}
    first = STAGES.index(collection.first) if collection.first else 0
    wanted = STAGES[first : STAGES.index(collection.until) + 1]
    return tuple(stage for stage in wanted if stage not in left_out)


def _is_done(entry: Entry, collection: Collection) -> bool:
    done = (collection.folder(entry) / "summary.json").is_file()
    return done and not collection.overwrite and not collection.first


def _opened(entry: Entry, collection: Collection) -> tuple[Geometry, list[int]]:
    """Look into a tomogram and its mask: what can be told now should not be told in an hour."""
    options = collection.spec.ingest
    sources = [
        peek_source(name, mode0_bytes=options.mode0_bytes, ignore_extended_header=options.ignore_extended_header)
        for name in dict.fromkeys(filter(None, (entry.source, entry.mask)))
    ]
    source = sources[0]
    if sources[-1].shape != source.shape:
        raise TomogramError(
            "mask and tomogram differ in shape", where=entry.mask, found=sources[-1].shape, allowed=str(source.shape)
        )
    voxel, _ = resolve_voxel_size(
        source.voxel_size_found_angstrom, options.apix or None, force=options.force_apix, where=entry.source
    )
    itemsizes = [np.dtype(each.dtype).itemsize for each in sources]
    return Geometry(source.shape, voxel, source.origin_angstrom), itemsizes
