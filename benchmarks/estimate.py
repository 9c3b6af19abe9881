"""What a dry run says, against what the run then takes.

    python -m benchmarks estimate [--size small|full] [--content demo|shrec2021|cell|heldout ...] [--seed N]
                                  [--json FILE]

The rates are measured on this machine as ``cryoscale run --dry-run`` does, on its own simulated tomogram, and how much
of the tomogram at hand is membrane on windows of it; then
tomograms that are larger, have other seeds and are simulated in other ways go through every stage, each by ``cryoscale
run`` with one worker in a process of its own. The aim is a factor of 1.5 either way for each sum: units, processor
seconds, memory of a worker, disk, files. Time is the processor's on both sides, so that others on the machine do not
count; on a GPU it would be the clock's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import write_part
from cryoscale.collection import Collection
from cryoscale.demo import write_simulation
from cryoscale.estimate import Total, totals_of, worker_bytes
from cryoscale.io.source import peek_source
from cryoscale.manifest import entries
from cryoscale.packing import stored_records
from cryoscale.rates import measured_rates
from cryoscale.records import DoneRecord, Geometry
from cryoscale.sampling import membrane_share
from cryoscale.spec import RunSpec

SIZES = {"small": (64, 256, 384), "full": (200, 400, 400)}
SEEDS = {"demo": 90_001, "shrec2021": 90_005, "cell": 90_004, "heldout": 90_007}
_NAMES = ("units", "core_seconds", "disk_bytes", "files")


def taken(folder: Path) -> tuple[dict[str, Total], int]:
    """Return what a run took, by stage, from its records, and the peak memory of its process."""
    totals: dict[str, Total] = {}
    peak = 0
    for text in stored_records(folder).values():
        record = DoneRecord.from_json(text)
        row = totals.setdefault(record.key[0].split("-")[0], Total())
        row.units += 1
        row.core_seconds += record.processor_seconds
        row.disk_bytes += sum(length for _, length, _ in record.files)
        row.files += sum((folder / name).is_file() for name, _, _ in record.files)
        peak = max(peak, record.peak_bytes)
    beside = sum(path.is_file() for path in folder.rglob("*")) - sum(row.files for row in totals.values())
    totals["ingest"].files += beside
    return totals, peak


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


def measure(root: Path, content: str, seed: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Tell what one tomogram will take, run it, and compare."""
    source = write_simulation(root / "input", seed=seed, shape=shape, preset=content)
    job = Collection(entries([str(source)]), root / "out", RunSpec())
    found = peek_source(str(source))
    geometry = Geometry(found.shape, found.voxel_size_angstrom or (10.0, 10.0, 10.0))
    rates = measured_rates(job, geometry.voxel_size_angstrom[0])
    share = membrane_share(job, job.entries)
    if share is None:
        msg = f"{source} cannot be looked into"
        raise RuntimeError(msg)
    told = totals_of(job, [(job.entries[0], geometry, [found.dtype.itemsize])], rates, share)
    command = [
        sys.executable,
        "-m",
        "cryoscale",
        "run",
        str(source),
        "--output",
        str(root / "out"),
        "--workers",
        "1",
        "--wait-stable",
        "0",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took, peak = taken(root / "out" / job.entries[0].id)
    print(f"{content}, {' x '.join(map(str, shape))} voxels\n{table(told, took)}")
    ratios = {name: sums_of(told)[name] / sums_of(took)[name] for name in _NAMES} | {
        "memory": worker_bytes(told) / peak
    }
    print("told / taken: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    stages = {stage: {"told": vars(row), "taken": vars(took.get(stage, Total()))} for stage, row in told.items()}
    memory = {"told_bytes": worker_bytes(told), "taken_bytes": peak}
    return {
        "seed": seed,
        "shape": shape,
        "origin": rates.origin,
        "membrane_share": share,
        "ratios": ratios,
        "memory": memory,
        "stages": stages,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimate")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--content", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--seed", type=int, default=0, help="another tomogram than the content's own")
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    for content in options.content:
        with tempfile.TemporaryDirectory() as scratch:
            result = measure(Path(scratch), content, options.seed or SEEDS[content], SIZES[options.size])
        another = f", seed {options.seed}" if options.seed else ""
        write_part(options.json, "estimate", f"{options.size}, {content}{another}", result)
    return 0
