"""What a dry run says, against what the run then takes.

The rates are measured on this machine as ``cryoscale run --dry-run`` does, then a simulated tomogram that is larger and
has another seed goes through every stage in one process. The aim is a factor of 1.5 either way for each sum.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import write_json
from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.engine import LoopExecutor
from cryoscale.estimate import Total, totals_of
from cryoscale.io.source import peek_source
from cryoscale.manifest import entries
from cryoscale.rates import measured_rates
from cryoscale.records import DoneRecord, Geometry
from cryoscale.spec import RunSpec

SIZES = {"small": (64, 256, 384), "full": (200, 400, 400)}
_SEED = 90_001
_NAMES = ("units", "core_seconds", "disk_bytes", "files")


def taken(folder: Path) -> dict[str, Total]:
    """Return what a run took, by stage, from its records."""
    totals: dict[str, Total] = {}
    for path in (folder / "records").glob("*/*.json"):
        record = DoneRecord.from_json(path.read_text(encoding="utf-8"))
        row = totals.setdefault(record.key[0].split("-")[0], Total())
        row.units += 1
        row.core_seconds += record.seconds
        row.disk_bytes += sum(length for _, length, _ in record.files)
        row.files += 1 + len(record.files)
    return totals


def table(told: dict[str, Total], took: dict[str, Total]) -> str:
    """Return told and taken side by side."""
    lines = [f"{'stage':<10}" + "".join(f"{name:>14} {'taken':>12}" for name in _NAMES)]
    sums = {"in all": (sums_of(told), sums_of(took))}
    for stage, (said, was) in {**{s: (vars(told[s]), vars(took.get(s, Total()))) for s in told}, **sums}.items():
        lines.append(f"{stage:<10}" + "".join(f"{said[name]:>14.4g} {was[name]:>12.4g}" for name in _NAMES))
    return "\n".join(lines)


def sums_of(totals: dict[str, Total]) -> dict[str, float]:
    """Return the sums over all stages."""
    return {name: sum(getattr(row, name) for row in totals.values()) for name in _NAMES}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimate")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = write_simulation(root / "input", seed=_SEED, snr=0.3, shape=SIZES[options.size])
        job = Collection(entries([str(source)]), root / "out", RunSpec())
        found = peek_source(str(source))
        geometry = Geometry(found.shape, found.voxel_size_angstrom or (10.0, 10.0, 10.0))
        rates = measured_rates(job, geometry.voxel_size_angstrom[0])
        told = totals_of(job, [(job.entries[0], geometry, [found.dtype.itemsize])], rates)
        for outcome in run_collection(job, LoopExecutor()).failures:
            print(outcome.error)
            return 1
        took = taken(root / "out" / job.entries[0].id)
    print(table(told, took))
    ratios: dict[str, Any] = {name: sums_of(told)[name] / sums_of(took)[name] for name in _NAMES}
    print("told / taken: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    stages = {stage: {"told": vars(row), "taken": vars(took.get(stage, Total()))} for stage, row in told.items()}
    result = {"benchmark": "estimate", "size": options.size, "origin": rates.origin, "ratios": ratios, "stages": stages}
    write_json(options.json, result)
    return 0
