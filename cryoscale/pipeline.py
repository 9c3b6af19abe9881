"""One tomogram's way through the stages, in order, as phases for the engine.

Each stage's fingerprint is the hash of its own options and of the fingerprint before it, so that a changed option
makes exactly the stages after it run again::

    source ──ingest──> [enhance] ──segment──> merge ──> separate ──> fit ──> surface ──> measure ──> report
                                      └─────> locate ────────────────────────────────────┘
    mask ────ingest────────────────────────> merge ...

Where ``merge.connect`` is qlearning, connect stands in the place of merge and separate.

Where masks or scores of another tool are given, the network is not run and the way starts at merge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import cryoscale.connect.plan as connect
import cryoscale.enhance.plan as enhance
import cryoscale.fit.plan as fit
import cryoscale.ingest.plan as ingest
import cryoscale.locate.plan as locate
import cryoscale.measure.plan as measure
import cryoscale.merge.plan as merge
import cryoscale.report.plan as report
import cryoscale.segment.plan as segment
import cryoscale.separate.plan as separate
import cryoscale.surface.plan as surface
from cryoscale import __version__
from cryoscale.engine import JobPlan, Phase
from cryoscale.manifest import Entry
from cryoscale.records import STAGES, Geometry, Plan, Receipt, Tomogram, fingerprint
from cryoscale.segment.card import model_hash
from cryoscale.spec import MergeSpec, RunSpec

__all__ = ["Summary", "group_spec", "stage_phases", "tomogram_job"]

Summary = dict[str, Any]


@dataclass
class _Way:
    """How far a tomogram has come: its geometry, fingerprint and the summaries of the stages done."""

    tomogram: Tomogram
    spec: RunSpec
    until: str
    mark: str
    summaries: dict[str, Summary]

    def wanted(self, stage: str) -> bool:
        return STAGES.index(stage) <= STAGES.index(self.until)

    def run(self, stage: str, plan: Plan, *parts: object) -> Generator[Phase, list[Receipt], Summary]:
        """Run one stage's plan under a fingerprint that continues the one before."""
        self.mark = fingerprint(stage, self.mark, parts)
        self.summaries[stage] = summary = yield from stage_phases(stage, self.tomogram, plan, self.mark)
        return summary


def stage_phases(stage: str, tomogram: Tomogram, plan: Plan, mark: str) -> Generator[Phase, list[Receipt], Summary]:
    """Run a stage's plan as phases of the engine under a fingerprint; return its summary."""
    try:
        # An empty phase first: whatever the plan then raises is told under its own stage.
        yield Phase(stage, tomogram.folder, mark, ())
        units = next(plan)
        while True:
            receipts = yield Phase(stage, tomogram.folder, mark, tuple(units))
            units = plan.send(receipts)
    except StopIteration as stop:
        return dict(stop.value or {})


def tomogram_job(
    tomogram: Tomogram, entry: Entry, spec: RunSpec, *, until: str = "report", gpu: bool = False
) -> JobPlan:
    """Return the phases of one tomogram; the generator's value is its summaries, a dict by stage.

    Parameters
    ----------
    tomogram
        Its id, source and folder.
    entry
        Its inputs, for their identity and mask.
    spec
        All options.
    until
        The last stage to run.
    gpu
        Whether GPU workers are there.
    """
    way = _Way(tomogram, spec, until, fingerprint(__version__, entry.identity()), {})
    volume = yield from (_from_mask(way, entry) if entry.mask else _from_tomogram(way, gpu=gpu))
    if way.wanted("merge"):
        yield from _membranes(way, volume)
    return {"geometry": way.tomogram.known_geometry.to_json(), **way.summaries}


Volume = dict[str, Any]
"""What merge reads: names of the volumes, the foreground's values or threshold, whether proteins are there; and the
raw density, where there is one, for what measures it."""


def _from_tomogram(way: _Way, *, gpu: bool) -> Generator[Phase, list[Receipt], Volume]:
    spec, chunk = way.spec, way.spec.ingest.chunk_voxels
    summary = yield from way.run(
        "ingest",
        ingest.plan(way.tomogram, spec.ingest, mode0_bytes=spec.ingest.mode0_bytes),
        _reading(spec),
    )
    way.tomogram = dataclasses.replace(way.tomogram, geometry=Geometry.from_json(summary["geometry"]))
    source, intensity = str(summary["volume"]), (float(summary["centre"]), float(summary["scale"]))
    enhanced = way.wanted("segment") and segment.reads_enhanced(spec.segment)
    if (spec.enhance.enabled or enhanced) and way.wanted("enhance"):
        stage = enhance.plan(way.tomogram, spec.enhance, chunk, source=source, intensity=intensity)
        before = way.mark
        yield from way.run("enhance", stage, dataclasses.asdict(spec.enhance))
        if enhanced:
            source, intensity = enhance.ENHANCED, enhance.INTENSITY
        else:
            way.mark = before
    if not way.wanted("segment"):
        return {}
    stage = segment.plan(way.tomogram, spec.segment, chunk, source=source, intensity=intensity, gpu=gpu)
    model = model_hash(segment.model_path(spec.segment))
    # The batch size changes no result, and so makes none stale; a GPU's units are longer, its numbers shorter.
    options = dataclasses.asdict(spec.segment) | {"batch_slices": None, "model": None, "gpu": gpu}
    yield from way.run("segment", stage, options, model)
    density = str(summary["volume"])
    return {"source": segment.CLASSES, "values": (2,), "scores": segment.SCORES, "proteins": True, "density": density}


def _reading(spec: RunSpec) -> dict[str, Any]:
    """Return the options of ingest that its results follow: how long an input is watched is none."""
    return dataclasses.asdict(spec.ingest) | {"wait_stable_seconds": None}


def _from_mask(way: _Way, entry: Entry) -> Generator[Phase, list[Receipt], Volume]:
    spec, density = way.spec, ""
    if entry.source != entry.mask:
        tomogram = yield from way.run(
            "ingest",
            ingest.plan(way.tomogram, spec.ingest, mode0_bytes=spec.ingest.mode0_bytes),
            _reading(spec),
        )
        # The mask must have the tomogram's shape, and gets its voxel size.
        way.tomogram = dataclasses.replace(way.tomogram, geometry=Geometry.from_json(tomogram["geometry"]))
        density = str(tomogram["volume"])
    stage = ingest.plan(way.tomogram, spec.ingest, mask=entry.mask, mode0_bytes=spec.ingest.mode0_bytes)
    summary = yield from way.run("ingest-mask", stage, _reading(spec))
    way.tomogram = dataclasses.replace(way.tomogram, geometry=Geometry.from_json(summary["geometry"]))
    source = str(summary["volume"])
    return {
        "source": source, "values": spec.merge.mask_labels, "scores": "", "proteins": False, "density": density
    }  # fmt: skip


def _membranes(way: _Way, volume: Volume) -> Generator[Phase, list[Receipt], None]:
    spec = way.spec
    merged = yield from _grouped(way, volume)
    proteins: Summary = {}
    if volume["proteins"] and way.wanted("locate"):
        options = dataclasses.asdict(spec.merge), dataclasses.asdict(spec.locate)
        proteins = yield from way.run("locate", _located(way.tomogram, spec, volume), *options)
    if way.wanted("fit"):
        stage = fit.plan(
            way.tomogram, spec.fit, instances=merged["volume"], regions=merged["regions"], scores=volume["scores"]
        )
        fitted = yield from way.run("fit", stage, dataclasses.asdict(spec.fit))
        yield from _products(way, merged, proteins, fitted, volume["density"])


def _located(tomogram: Tomogram, spec: RunSpec, volume: Volume) -> Plan:
    """Components of protein voxels, taken apart where the radius of a protein is given."""
    located = yield from merge.plan(
        tomogram,
        spec.merge,
        spec.ingest.chunk_voxels,
        source=volume["source"],
        values=(1,),
        separate_values=False,
        stage="locate",
    )
    apart = (yield from locate.plan(tomogram, spec.locate, located=located)) if spec.locate.radius_nm else {}
    return {**located, **apart}


def group_spec(spec: RunSpec, *, by_shape: bool) -> MergeSpec:
    """Return how merge groups voxels: generously where the groups are then taken apart by shape."""
    reach_nm = max(spec.separate.join_nm, spec.merge.distance_nm)
    return dataclasses.replace(spec.merge, distance_nm=reach_nm) if by_shape else spec.merge


def _grouped(way: _Way, volume: Volume) -> Generator[Phase, list[Receipt], Summary]:
    """Group membrane voxels, by distance in 3-D or by learning slice by slice."""
    spec, chunk = way.spec, way.spec.ingest.chunk_voxels
    options = dataclasses.asdict(spec.merge)
    if spec.merge.connect == "qlearning":
        stage = connect.plan(
            way.tomogram, spec.connect, spec.merge, chunk, source=volume["source"], values=volume["values"]
        )
        return (yield from way.run("connect", stage, options, dataclasses.asdict(spec.connect)))
    apart = spec.merge.separate_labels and not volume["scores"]
    by_shape = spec.separate.enabled and not apart
    grouping = group_spec(spec, by_shape=by_shape)
    stage = merge.plan(
        way.tomogram,
        grouping,
        chunk,
        source=volume["source"],
        values=volume["values"],
        separate_values=apart,
        volume=separate.GROUPS if by_shape else "",
    )
    merged = yield from way.run("merge", stage, options, grouping.distance_nm)
    if not by_shape or not way.wanted("separate"):
        return merged
    stage = separate.plan(
        way.tomogram, chunk, groups=merged["volume"], regions=merged["regions"], minimum_voxels=merged["minimum_voxels"]
    )
    separated = yield from way.run("separate", stage)
    return {**merged, **separated, "warnings": [*merged["warnings"], *separated["warnings"]]}


def _products(
    way: _Way, merged: Summary, proteins: Summary, fitted: Summary, density: str
) -> Generator[Phase, list[Receipt], None]:
    spec = way.spec
    if way.wanted("surface"):
        stage = surface.plan(way.tomogram, spec.surface, spec.ingest.chunk_voxels, fitted=fitted["membranes"])
        yield from way.run("surface", stage, dataclasses.asdict(spec.surface))
    if way.wanted("measure"):
        stage = measure.plan(
            way.tomogram,
            spec.measure,
            spec.surface,
            merged=merged,
            proteins=proteins,
            fitted=fitted["membranes"],
            density=density,
        )
        yield from way.run("measure", stage, dataclasses.asdict(spec.measure))
    if way.wanted("report"):
        yield from way.run("report", report.plan(way.tomogram, spec.report), dataclasses.asdict(spec.report))
