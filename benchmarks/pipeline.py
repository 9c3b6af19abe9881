"""Time and peak memory of each stage on a demo-size tomogram.

    python -m benchmarks pipeline [--size small|full] [--json FILE] [--workers N]

Ours is the time of each stage on Dask, one thread a worker, and in one process, whose network takes all cores. There is
no peer that does all of it; the physical limit printed is the time to read the stage's input and write its products
once on this machine's disk, and the ratio says how far a stage is from being bound by it. Peak memory is the largest of
any process that ran the stage.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import write_json
from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.manifest import entries
from cryoscale.packing import unpack
from cryoscale.running import executor_for
from cryoscale.spec import RunSpec
from cryoscale.training import TEST_SEED

SIZES = {"small": (96, 200, 200), "full": (200, 400, 400)}
PRODUCTS = {
    "ingest": ("tomogram.ome.zarr",),
    "segment": ("scores.ome.zarr", "classes.ome.zarr"),
    "merge": ("instances.ome.zarr", "merge"),
    "fit": ("fits",),
    "surface": ("membranes.ome.zarr", "position_sd_nm.ome.zarr", "support_nm.ome.zarr", "meshes"),
    "report": ("pictures",),
}
INPUTS = {"segment": "ingest", "merge": "segment", "fit": "merge", "surface": "fit", "report": "surface"}


def size_bytes(folder: Path, names: Sequence[str]) -> int:
    """Return the bytes of all files of some products."""
    paths = (path for name in names for path in (folder / name).rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file())


def disk_bytes_per_second(folder: Path, size: int = 256 << 20) -> float:
    """Return the rate at which this disk takes a file, flushed, and gives it back."""
    path, block = folder / "rate", os.urandom(size)
    started = time.perf_counter()
    with path.open("wb") as stream:
        stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    path.read_bytes()
    seconds = time.perf_counter() - started
    path.unlink()
    return 2 * size / seconds


def run_once(source: Path, output: Path, workers: int) -> dict[str, Any]:
    """Run every stage and return each one's wall time, processor time and peak memory."""
    shutil.rmtree(output, ignore_errors=True)
    collection = Collection(entries([str(source)]), output, RunSpec())
    started = time.perf_counter()
    with executor_for(workers) as executor:
        (outcome,) = run_collection(collection, executor).outcomes
    if outcome.error is not None:
        raise outcome.error
    stages = {
        stage: {
            "wall_seconds": cost.wall_seconds,
            "unit_seconds": cost.unit_seconds,
            "units": cost.units,
            "peak_mib": cost.peak_bytes / 2**20,
        }
        for stage, cost in outcome.times.items()
    }
    return {"workers": workers, "seconds": time.perf_counter() - started, "stages": stages}


def table(runs: list[dict[str, Any]], limits: dict[str, float]) -> str:
    """Return the stages as text, one column of each run."""
    head = (
        f"{'stage':<9}"
        + "".join(f" {'wall s':>8} {'units s':>8} {'MiB':>6}" for _ in runs)
        + f" {'limit s':>8} {'ratio':>7}"
    )
    lines = ["         " + "".join(f" {run['workers']} worker(s)".ljust(25) for run in runs), head]
    for stage in runs[0]["stages"]:
        cells = "".join(
            f" {cost['wall_seconds']:8.2f} {cost['unit_seconds']:8.2f} {cost['peak_mib']:6.0f}"
            for cost in (run["stages"][stage] for run in runs)
        )
        limit = limits.get(stage)
        ratio = f" {limit:8.3f} {runs[0]['stages'][stage]['wall_seconds'] / limit:7.0f}" if limit else ""
        lines.append(f"{stage:<9}{cells}{ratio}")
    lines.append("in all   " + "".join(f" {run['seconds']:8.2f}".ljust(25) for run in runs))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipeline")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", default="")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        started = time.perf_counter()
        source = write_simulation(base / "input", seed=TEST_SEED, snr=0.3, shape=SIZES[options.size])
        simulated = time.perf_counter() - started
        runs = [run_once(source, base / "output", workers) for workers in (options.workers, 1)]
        folder, rate = base / "output" / source.stem, disk_bytes_per_second(base)
        # What stages hand to each other is packed when the tomogram is complete.
        unpack(folder)
        written = {stage: size_bytes(folder, names) for stage, names in PRODUCTS.items()}
        read = {stage: written[before] for stage, before in INPUTS.items()} | {"ingest": source.stat().st_size}
        limits = {stage: (written[stage] + read[stage]) / rate for stage in PRODUCTS}
    print(f"simulated in {simulated:.1f} s; disk {rate / 2**20:.0f} MiB/s")
    print(table(runs, limits))
    write_json(
        options.json,
        {
            "benchmark": "pipeline",
            "size": options.size,
            "simulate_seconds": simulated,
            "runs": runs,
            "limit_seconds": limits,
        },
    )
    return 0
