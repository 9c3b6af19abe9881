"""What a run would take, before anything starts: units, memory per unit, disk, files, GPU-hours, time.

Units and memory come from the stages' own rules, files are counted (filecount.py); time and disk come from a small
trial on this machine (rates.py), and what follows the membranes from how much of the tomograms is membrane, as a look
at small parts of them says (sampling.py). What is not known yet, their number and sizes, is projected for vesicles of
one size, in touching pairs, anywhere in the tomogram and beyond its faces::

    membranes  =  share x voxels / voxels of a vesicle  x  the product over the axes of  1 + diameter / edge
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import cryoscale.connect.plan as connect
import cryoscale.enhance.plan as enhance
import cryoscale.ingest.plan as ingest
import cryoscale.measure.plan as measure
import cryoscale.merge.plan as merge
import cryoscale.report.plan as report
import cryoscale.segment.plan as segment
import cryoscale.separate.plan as separate
import cryoscale.surface.plan as surface
from cryoscale.chunks import Region
from cryoscale.collection import Collection, weights_of
from cryoscale.completion import earlier_failure, kept_outcome, mark_of
from cryoscale.errors import CryoscaleError, TomogramError
from cryoscale.filecount import BESIDE, files_of
from cryoscale.fit import projected_bytes as fit_bytes
from cryoscale.io.source import peek_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.manifest import Entry
from cryoscale.memory import PROCESS_BYTES
from cryoscale.pipeline import group_spec
from cryoscale.progress import printable
from cryoscale.rates import TYPICAL, Contents, Rates, measured_rates, shares
from cryoscale.records import STAGES, Geometry
from cryoscale.runrecord import code_of_stages, read_run, refuse_mixture
from cryoscale.sampling import membrane_share
from cryoscale.segment.plan import gpu_count
from cryoscale.spec import RunSpec

if TYPE_CHECKING:
    from cryoscale.segment.card import Card
    from cryoscale.segment.network import Network

__all__ = [
    "StageEstimate",
    "Total",
    "estimate_tomogram",
    "header_of",
    "print_estimate",
    "stages_to_do",
    "totals_of",
    "worker_bytes",
]

_MEMBRANE_SHARE = 0.03
"""Of a tomogram that nobody has looked into."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would take for one tomogram."""

    stage: str
    units: int
    unit_bytes: int
    """Peak memory of the largest unit beyond the interpreter."""
    disk_bytes: int
    files: int
    """When the tomogram is complete."""
    core_seconds: float


def estimate_tomogram(
    geometry: Geometry,
    itemsizes: Sequence[int],
    spec: RunSpec,
    stages: tuple[str, ...],
    *,
    masked: bool = False,
    rates: Rates = TYPICAL,
    share: float = _MEMBRANE_SHARE,
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
    rates
        What the stages cost.
    share
        How much of it is membrane, 0 to 1.
    """
    contents = Contents.expected(geometry, share)
    found = []
    for stage in stages:
        if stage in ("merge", "connect", "separate", "locate"):
            size = itemsizes[-1] if masked else 1
            units, unit_bytes = _grouping_units(stage, geometry, size, spec, contents, masked=masked)
        else:
            units, unit_bytes = _units(stage, geometry, itemsizes, spec, contents, masked=masked)
        rate = rates.stages.get(stage, TYPICAL.stages[stage])
        per_seconds, per_bytes = shares(stage, contents)
        files = files_of(stage, geometry, itemsizes, spec, contents.membranes, masked=masked)
        disk = per_bytes * rate.disk_bytes * (sum(itemsizes) if stage == "ingest" else 1)
        seconds = per_seconds * rate.seconds + contents.membranes * rate.membrane_seconds
        found.append(StageEstimate(stage, units, unit_bytes, round(disk), files, seconds))
    return found


def _units(
    stage: str, geometry: Geometry, itemsizes: Sequence[int], spec: RunSpec, contents: Contents, *, masked: bool
) -> tuple[int, int]:
    """Return the number of units of a stage and the memory of the largest."""
    shape, chunk = geometry.shape, spec.ingest.chunk_voxels
    slab = min(chunk[0], shape[0]) * shape[1] * shape[2]
    slabs, membranes = -(-shape[0] // chunk[0]), contents.membranes
    thick = ingest.slab_voxels(shape, chunk)[0]
    if stage == "ingest":
        size = max(itemsizes)
        most = ingest.projected_bytes((min(thick, shape[0]), *shape[1:]), chunk, size, size)
        return len(itemsizes) * (-(-shape[0] // thick) + 1), most
    if stage == "enhance":
        return slabs, enhance.projected_bytes(slab, shape[1] * shape[2])
    if stage == "segment":
        return _segment_units(geometry, itemsizes[0], spec)
    if stage == "fit":
        return -(-membranes // spec.fit.batch_membranes), fit_bytes(contents.typical.voxels)
    if stage == "surface":
        # 24 bytes a place of the band, on either side of a surface.
        band = 24 * contents.typical.surface_voxels * max(1, round(2 * spec.fit.reach_nm / geometry.voxel_size_nm))
        return surface.expected_units(shape, chunk, [band] * membranes, _MEMBRANE_SHARE)
    if stage == "measure":
        return measure.expected_units(membranes, proteins=not masked), 128 << 20
    if stage == "report":
        return 1, report.projected_bytes(geometry, 4 << 20)
    msg = f"no such stage: {stage}"
    raise ValueError(msg)


def _grouping_units(
    stage: str, geometry: Geometry, itemsize: int, spec: RunSpec, contents: Contents, *, masked: bool
) -> tuple[int, int]:
    """Return the same for the stages that turn masks into membranes."""
    shape, chunk = geometry.shape, spec.ingest.chunk_voxels
    if stage == "connect":
        return connect.expected_units(shape, itemsize, chunk)
    if stage == "separate":
        return separate.expected_units(shape, chunk, _typical_groups(shape, contents), thin=masked)
    apart = masked and spec.merge.separate_labels
    grouping = group_spec(spec, by_shape=spec.separate.enabled and not apart)
    return merge.expected_units(geometry, grouping, chunk, itemsize, separate_values=apart, stage=stage)


def _typical_groups(shape: tuple[int, int, int], contents: Contents) -> list[separate.Group]:
    """Return groups of two vesicles side by side each."""
    diameter, voxels = round(contents.typical.diameter_voxels), contents.typical.voxels
    z, y, x = (min(edge, n) for edge, n in zip((diameter, diameter, 2 * diameter), shape, strict=True))
    return [(k + 1, Region((0, 0, 0), (z, y, x)), 2 * voxels) for k in range(-(-contents.membranes // 2))]


def _segment_units(geometry: Geometry, itemsize: int, spec: RunSpec) -> tuple[int, int]:
    path = Path(segment.model_path(spec.segment))
    model, card = _network(path, path.stat().st_mtime_ns if path.is_file() else 0)
    found = segment.unit_regions(geometry, itemsize, spec.segment, spec.ingest.chunk_voxels, model, card)
    return len(found), max(size for _, size in found)


@functools.lru_cache(maxsize=1)
def _network(path: Path, changed_ns: int) -> tuple[Network, Card]:  # noqa: ARG001
    """Return a network and its card, read once for all tomograms."""
    from cryoscale.segment.weights import load_model

    return load_model(path)


def print_estimate(collection: Collection, workers: int, *, calibrate: bool = True) -> None:
    """Print what the run would do, per tomogram and in all, and what is wrong with inputs that can be seen now.

    Parameters
    ----------
    collection
    workers
        Processes that share the work.
    calibrate
        Measure on this machine what the stages cost, and look into the tomograms, rather than to take what is typical.

    Raises
    ------
    UsageError
        The run itself would be refused: its folder holds one with other options.
    """
    lines: list[str] = []
    opened: list[tuple[Entry, Geometry, list[int]]] = []
    before = read_run(collection.output) is not None
    model = weights_of(collection) if before else ""
    if before:
        refuse_mixture(collection, model)
    for entry in collection.entries:
        if before and (told := _left_alone(entry, collection, model)):
            lines.append(f"{entry.id}: {told}")
            continue
        try:
            opened.append((entry, *header_of(entry, collection)))
        except CryoscaleError as error:
            lines.append(f"{entry.id}: would FAIL: {error}")
            continue
        geometry = opened[-1][1]
        shape = " x ".join(str(n) for n in geometry.shape)
        lines.append(f"{entry.id}: {shape} voxels of {geometry.voxel_size_angstrom[0]:g} Å")
    if opened:
        rates = measured_rates(collection, opened[0][1].voxel_size_angstrom[0]) if calibrate else TYPICAL
        share = membrane_share(collection, [entry for entry, _, _ in opened]) if calibrate else None
        looked = f"a look at small parts: {100 * share:.1f} % of them is membrane" if share is not None else ""
        totals = totals_of(collection, opened, rates, _MEMBRANE_SHARE if share is None else share)
        lines += [*_table(totals, workers), f"rates are {rates.origin}", *filter(None, [looked])]
    sys.stdout.write(printable("\n".join(lines)) + "\n")


@dataclass
class Total:
    """What one stage would take for all tomograms."""

    units: int = 0
    unit_bytes: int = 0
    disk_bytes: int = 0
    files: int = 0
    core_seconds: float = 0.0


def totals_of(
    collection: Collection,
    opened: Sequence[tuple[Entry, Geometry, list[int]]],
    rates: Rates,
    share: float = _MEMBRANE_SHARE,
) -> dict[str, Total]:
    """Add up the stages of tomograms whose geometry and bytes per voxel are known, and how much of them is membrane."""
    totals: dict[str, Total] = {}
    for entry, geometry, itemsizes in opened:
        spec, stages = entry.spec_over(collection.spec), stages_to_do(entry, collection)
        told = estimate_tomogram(geometry, itemsizes, spec, stages, masked=bool(entry.mask), rates=rates, share=share)
        for part in told:
            row = totals.setdefault(part.stage, Total())
            row.units += part.units
            row.unit_bytes = max(row.unit_bytes, part.unit_bytes)
            row.disk_bytes += part.disk_bytes
            row.files += part.files
            row.core_seconds += part.core_seconds
        totals[stages_to_do(entry, collection)[0]].files += BESIDE
    return totals


def worker_bytes(totals: dict[str, Total]) -> int:
    """Return the most memory that one worker takes: its libraries and the largest unit."""
    return PROCESS_BYTES + max(row.unit_bytes for row in totals.values())


def _table(totals: dict[str, Total], workers: int) -> list[str]:
    lines = [f"{'stage':<9} {'units':>7} {'MiB/unit':>9} {'disk MiB':>9} {'files':>8} {'core s':>9}"]
    for stage, row in totals.items():
        lines.append(
            f"{stage:<9} {row.units:>7} {row.unit_bytes / 2**20:>9.0f} {row.disk_bytes / 2**20:>9.0f} {row.files:>8}"
            f" {row.core_seconds:>9.0f}"
        )
    units, disk, files = (
        sum(getattr(row, name) for row in totals.values()) for name in ("units", "disk_bytes", "files")
    )
    network = totals["segment"].core_seconds if "segment" in totals else 0.0
    gpu = network if network and gpu_count() else 0.0
    cores = sum(row.core_seconds for row in totals.values()) - gpu
    lines.append(
        f"in all: {units} units, {gpu / 3600:.2f} GPU-hours and {cores / 3600:.2f} core-hours, "
        f"about {(cores + gpu) / workers / 60:.1f} min with {workers} workers; {disk / 2**30:.2f} GiB of disk in "
        f"{files} files; up to {workers * worker_bytes(totals) / 2**30:.1f} GiB of memory"
    )
    return lines


def stages_to_do(entry: Entry, collection: Collection) -> tuple[str, ...]:
    """Return the stages that a run does for a tomogram where nothing is complete."""
    first = STAGES.index(collection.first) if collection.first else 0
    return tuple(stage for stage in collection.stages(entry) if STAGES.index(stage) >= first)


def _left_alone(entry: Entry, collection: Collection, model: str) -> str:
    """Say why the run would leave a tomogram alone; empty where it would not."""
    if collection.overwrite or collection.first:
        return ""
    folder = collection.folder(entry)
    mark = mark_of(entry, collection.spec, collection.until, code_of_stages(), model)
    if kept_outcome(folder, entry.id, mark) is not None:
        return "complete, would be kept"
    failed = None if collection.retry_failed else earlier_failure(folder, entry.id, mark)
    return f"FAILED before, would be left so without --retry-failed: {failed.error}" if failed else ""


def header_of(entry: Entry, collection: Collection) -> tuple[Geometry, list[int]]:
    """Return the geometry of a tomogram and the bytes of a voxel in it and its mask.

    Raises
    ------
    CryoscaleError
        It would fail: what can be told now should not be told in an hour.
    """
    options = entry.spec_over(collection.spec).ingest
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
