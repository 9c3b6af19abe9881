"""How many units pass the scheduler a second, and what client and scheduler hold meanwhile.

Tomograms of trivial units go through the driver of a run to Dask workers on this machine: what is measured is all that
is not work. Client and scheduler are one process here, so that its memory is that of both. The peer is plain Dask: the
same function, all units handed over at once, results released as they come. The limit is the plain loop: one process
that calls the units and writes their records, without any scheduler.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, as_completed

from benchmarks._machine import write_json
from cryoscale.cluster import DaskExecutor
from cryoscale.driver import run_jobs
from cryoscale.engine import Executor, Job, JobPlan, LoopExecutor, Observer, Phase, UnitResult, run_unit
from cryoscale.records import Receipt, Unit

SIZES = {"small": 2_000, "medium": 20_000, "full": 200_000}
_UNITS_PER_PHASE = 100
_PHASES = 2
_SAMPLES = 10


def trivial(folder: str, index: int) -> Receipt:  # noqa: ARG001
    """Do nothing."""
    return Receipt((), {"index": index})


def jobs(root: Path, units: int) -> Iterator[Job]:
    """Yield tomograms of two phases until there are so many units."""
    for number in range(units // (_UNITS_PER_PHASE * _PHASES)):
        yield Job(f"t{number:05d}", _plan(str(root / f"t{number:05d}"), f"t{number:05d}"))


def _plan(folder: str, name: str) -> JobPlan:
    for phase in range(_PHASES):
        keys = [(f"stage{phase}", name, index) for index in range(_UNITS_PER_PHASE)]
        yield Phase(keys[0][0], folder, "f", tuple(Unit(key, trivial, (folder, key[2]), 1 << 20) for key in keys))
    return {}


def resident_mib() -> float:
    """Return the resident memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Sampler(Observer):
    """Notes memory, and what the scheduler holds, ten times on the way."""

    def __init__(self, units: int, scheduler: Any = None) -> None:
        self._every, self._scheduler = max(1, units // _SAMPLES), scheduler
        self._started, self._done, self.most_tasks = time.perf_counter(), 0, 0
        self.samples: list[dict[str, float]] = []

    def unit_done(self, job: str, stage: str, result: UnitResult | None) -> None:  # noqa: ARG002
        """Count, and note at every tenth."""
        self._done += 1
        if self._scheduler is not None:
            self.most_tasks = max(self.most_tasks, len(self._scheduler.tasks))
        if self._done % self._every == 0:
            seconds = time.perf_counter() - self._started
            self.samples.append({"units": self._done, "seconds": seconds, "resident_mib": resident_mib()})


def run_ours(root: Path, units: int, executor: Executor, scheduler: Any = None) -> dict[str, Any]:
    """Run the tomograms through the driver."""
    before, started, cpu = resident_mib(), time.perf_counter(), time.process_time()
    sampler = Sampler(units, scheduler)
    tomograms = sum(outcome.error is None for outcome in run_jobs(jobs(root, units), executor, sampler))
    return _result(units, started, cpu, before, sampler) | {"tomograms": tomograms}


def _result(units: int, started: float, cpu: float, before: float, sampler: Sampler) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    after = [sample["resident_mib"] for sample in sampler.samples]
    return {
        "units": units,
        "units_per_second": units / seconds,
        "client_and_scheduler_cpu_ms_per_unit": 1000 * (time.process_time() - cpu) / units,
        "most_tasks_on_scheduler": sampler.most_tasks,
        "resident_mib_before": before,
        "resident_mib_most": max(after),
        "mib_gained_after_the_first_tenth": after[-1] - after[0],
        "samples": sampler.samples,
    }


def run_plain_dask(root: Path, units: int, workers: int) -> dict[str, Any]:
    """Hand everything to Dask at once."""
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=40
    )
    with cluster, Client(cluster) as client:
        before, started, cpu = resident_mib(), time.perf_counter(), time.process_time()
        sampler = Sampler(units, cluster.scheduler)
        every = [phase for job in jobs(root, units) for phase in job.plan]
        calls = [(unit, phase.folder, phase.fingerprint) for phase in every for unit in phase.units]
        futures = client.map(run_unit, *zip(*calls, strict=True), key=[unit.key for unit, _, _ in calls], pure=False)
        completed = as_completed(futures)
        del futures
        for _ in completed:
            sampler.unit_done("", "", None)
        return _result(units, started, cpu, before, sampler)


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as text."""
    lines = [
        f"{'':<14}{'units':>8}{'units/s':>9}{'cpu ms':>8}{'tasks held':>11}{'MiB before':>11}{'most':>7}{'gained':>8}"
    ]
    for name, row in results.items():
        lines.append(
            f"{name:<14}{row['units']:>8}{row['units_per_second']:>9.0f}"
            f"{row['client_and_scheduler_cpu_ms_per_unit']:>8.2f}{row['most_tasks_on_scheduler']:>11}"
            f"{row['resident_mib_before']:>11.0f}{row['resident_mib_most']:>7.0f}"
            f"{row['mib_gained_after_the_first_tenth']:>8.1f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    units = SIZES[options.size]
    results: dict[str, dict[str, Any]] = {}
    # In memory where there is such a place: the disk is not what is measured.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        root = Path(scratch)
        with DaskExecutor(options.workers) as executor:
            results["driver, Dask"] = run_ours(root / "dask", units, executor, executor.scheduler)
        # Plain Dask holds every unit, and slows down with their number.
        few = min(units, SIZES["medium"])
        results["plain Dask"] = run_plain_dask(root / "plain", few, options.workers)
        results["loop (limit)"] = run_ours(root / "loop", few, LoopExecutor())
    print(table(results))
    write_json(options.json, {"benchmark": "scale", "workers": options.workers, "results": results})
    return 0
