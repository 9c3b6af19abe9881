"""How many units pass the scheduler a second, and what client and scheduler hold meanwhile.

    python -m benchmarks scale [--part PART] [--size small|medium|full] [--json FILE] [--workers N]

``driver``: tomograms of trivial units go through the driver of a run to Dask workers on this machine: what is measured
is all that is not work. Client and scheduler are one process here, so that its memory is that of both.
``bounded``: the same with workers that are threads of this process, which costs a third: for as many units as a large
collection has; what a worker keeps is counted too.
``simulated``: so many workers that sleep as long as units take, in `benchmarks._scale_workers`.
``peers``: plain Dask, the same function, all units handed over at once, results released as they come; and the limit,
the plain loop: one process that calls the units and writes their records, without any scheduler.
``throughput``: four small tomograms, from file to tables, by 1, 2 and 4 processes of this machine.
``report``: the pages of runs of more and more tomograms, and the memory they take.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
from dask.utils import key_split
from distributed import Client, LocalCluster, as_completed

from benchmarks._machine import write_part
from benchmarks._scale_machine import pages
from benchmarks._scale_machine import throughput as real_units
from benchmarks._scale_workers import on_paper, run
from cryoscale.cluster import DaskExecutor
from cryoscale.driver import run_jobs
from cryoscale.engine import Executor, Job, JobPlan, LoopExecutor, Observer, Phase, UnitResult, run_unit
from cryoscale.records import Receipt, Unit

SIZES = {"small": 2_000, "medium": 20_000, "full": 200_000}
CROWDS = (100, 300, 1000)
_TOMOGRAMS = 0.4
"""For each worker that sleeps: enough that all of them have something to do for a while."""
_UNITS_PER_PHASE = 100
_PHASES = 2
_SAMPLES = 10
_KEYS_KEPT = 100_000
"""Dask remembers the names of so many past units: memory grows until then, and the sooner filled the sooner seen."""


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
            print(f"{self._done} units, {seconds:.0f} s, {self.samples[-1]['resident_mib']:.1f} MiB", file=sys.stderr)


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


def driver(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:
    """Run the tomograms on Dask."""
    with DaskExecutor(workers) as executor:
        return {"driver, Dask": run_ours(root, units, executor, executor.scheduler)}


def bounded(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:
    """Run them on Dask's scheduler and worker in this process; a worker's profile of itself is not what is asked."""
    dask.config.set({"distributed.worker.profile.enabled": False})
    for index in range(_KEYS_KEPT):
        key_split(("before", f"t{index // 200:05d}", index % 200, "Client-worker-ce1f8f7e-0000"))
    cluster = LocalCluster(
        processes=False, n_workers=1, threads_per_worker=workers, protocol="inproc://", dashboard_address="127.0.0.1:0"
    )
    with cluster, DaskExecutor(cluster=cluster) as executor:
        return {"driver, in one": run_ours(root, units, executor, executor.scheduler)}


def peers(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:
    """Run them without the driver, and without Dask."""
    # Plain Dask holds every unit, and slows down with their number.
    few = min(units, SIZES["medium"])
    plain = run_plain_dask(root / "plain", few, workers)
    return {"plain Dask": plain, "loop (limit)": run_ours(root / "loop", few, LoopExecutor())}


def simulated(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:  # noqa: ARG001
    """Feed crowds of workers that sleep."""
    found = {}
    for count in CROWDS:
        if count <= max(workers, CROWDS[0]):
            (root / str(count)).mkdir()
            found[f"{count} workers"] = run(root / str(count), count, round(count * _TOMOGRAMS))
            print(f"{count} workers: {found[f'{count} workers']}", file=sys.stderr)
    return found


def throughput(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:  # noqa: ARG001
    """Run real units by more and more processes."""
    return real_units(root)


def report(root: Path, units: int, workers: int) -> dict[str, dict[str, Any]]:  # noqa: ARG001
    """Write pages: of 50, 200, and of 1,000 tomograms where more than a few units are asked for."""
    return pages(root, (50, 200) if units == SIZES["small"] else (50, 200, 1000))


PARTS = {
    "driver": driver, "bounded": bounded, "peers": peers, "simulated": simulated, "throughput": throughput,
    "report": report,
}  # fmt: skip
_TABLED = ("driver", "bounded", "peers")
"""Parts whose results are those of `run_ours`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--part", choices=PARTS, default="")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default="")
    options = parser.parse_args(argv)
    # In memory where there is such a place: the disk is not what is measured.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for name in [options.part] if options.part else PARTS:
        with tempfile.TemporaryDirectory(dir=memory) as scratch:
            results = PARTS[name](Path(scratch), SIZES[options.size], options.workers)
        print(table(results) if name in _TABLED else json.dumps(results, indent=1))
        write_part(options.json, "scale", name, {"workers": options.workers, "results": results})
        if name == "simulated":
            paper = on_paper(results)
            print(json.dumps(paper, indent=1))
            write_part(options.json, "scale", "ten thousand tomograms on paper", paper)
    return 0
