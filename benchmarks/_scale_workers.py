"""How many workers one scheduler feeds: a real scheduler and the driver of a run, with workers that sleep.

The scheduler is a process of its own, the driver another, as in a job on a cluster. What stands in for the workers are
Dask's own Worker objects, many in each of a few processes, each with one thread and one connection; what stands in for
the work is a sleep. A unit sleeps as long, times a stretch, as the stages of a measured tomogram took on average on
one core (results/pipeline.json), and its record is of the measured size. Stretched, because this machine must also be
all the workers; what counts is processor time, which knows no stretch. A part of it goes on without any unit, for every
worker tells the scheduler again and again that it lives::

    limit  =  the smaller, of scheduler and driver, of  (1 - idle share) / processor seconds that a unit takes there
    workers that this feeds  =  limit x mean seconds of a unit
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Scheduler, Worker

from benchmarks._machine import peak_bytes
from cryoscale.cluster import DaskExecutor
from cryoscale.driver import run_jobs
from cryoscale.engine import Job, JobPlan, Observer, Phase, UnitResult
from cryoscale.estimate import estimate_tomogram
from cryoscale.records import STAGES, Geometry, Receipt, Unit
from cryoscale.spec import RunSpec

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
_RECORD_BYTES = 700
_COLLECTION = 10_000
_SHAPE = (480, 928, 960)
_PROCESSES = 2
_TOGETHER = 10
"""Workers of a process that register at once."""
_UNITS_A_SECOND = 100.0
"""What the workers are stretched to ask for: a machine of two cores is all of them."""
_IDLE_SECONDS = 10.0
_CONFIG = {
    "distributed.admin.low-level-log-length": 20,
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.worker.profile.enabled": False,
}
"""What a thousand workers of a process would do a thousand times, and one to a machine once."""


def measured_stages() -> dict[str, tuple[int, float]]:
    """Return units, and mean seconds of one, of every stage of a measured tomogram."""
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"]
    stages = next(run["stages"] for run in runs if run["workers"] == 1)
    return {stage: (row["units"], row["unit_seconds"] / row["units"]) for stage, row in stages.items()}


def on_paper(simulated: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a large collection would take, by typical rates, and how many workers one scheduler can feed.

    Parameters
    ----------
    simulated
        What `run` returned, by name; the slowest scheduler counts.
    """
    stages = tuple(stage for stage in STAGES if stage not in ("enhance", "connect"))
    found = estimate_tomogram(Geometry(_SHAPE, (10.0, 10.0, 10.0)), (4,), RunSpec(), stages)
    units, seconds = sum(part.units for part in found), sum(part.core_seconds for part in found)
    rate = min(_limit(row) for row in simulated.values())
    return {
        "tomograms": _COLLECTION,
        "shape": _SHAPE,
        "units": _COLLECTION * units,
        "core_hours": _COLLECTION * seconds / 3600,
        "disk_tib": _COLLECTION * sum(part.disk_bytes for part in found) / 2**40,
        "files": _COLLECTION * sum(part.files for part in found),
        "mean_unit_seconds": seconds / units,
        "scheduler_units_per_second": rate,
        "workers_one_scheduler_feeds": rate * seconds / units,
        "scheduler_hours": _COLLECTION * units / rate / 3600,
        "hours_with_1000_workers": _COLLECTION * seconds / 3600 / 1000,
    }


def _limit(row: dict[str, Any]) -> float:
    """Return the most units a second that neither scheduler nor driver is too slow for."""
    both = ("scheduler", "driver")
    return float(min(1000 * (1 - row[f"{name}_idle_share"]) / row[f"{name}_ms_per_unit"] for name in both))


def sleep(folder: str, index: int, seconds: float) -> Receipt:  # noqa: ARG001
    """Take as long as a unit did, and leave as much."""
    time.sleep(seconds)
    return Receipt((), {"index": index, "rest": "x" * _RECORD_BYTES})


def jobs(root: Path, stages: dict[str, tuple[int, float]], stretch: float, tomograms: int) -> Iterator[Job]:
    """Yield tomograms of the measured stages."""
    for number in range(tomograms):
        yield Job(f"t{number:05d}", _plan(str(root / f"t{number:05d}"), f"t{number:05d}", stages, stretch))


def _plan(folder: str, name: str, stages: dict[str, tuple[int, float]], stretch: float) -> JobPlan:
    for stage, (count, seconds) in stages.items():
        keys = [(stage, name, index) for index in range(count)]
        units = (Unit(key, sleep, (folder, key[2], stretch * seconds), 1 << 20) for key in keys)
        yield Phase(stage, folder, "f", tuple(units))
    return {}


def run(root: Path, workers: int, tomograms: int) -> dict[str, Any]:
    """Feed so many workers, and return what that took."""
    stages = measured_stages()
    units = sum(count for count, _ in stages.values())
    mean = sum(count * seconds for count, seconds in stages.values()) / units
    stretch = workers / (mean * _UNITS_A_SECOND)
    spawn = multiprocessing.get_context("spawn")
    address = root / "address"
    scheduler = spawn.Process(target=_scheduler, args=(address,), daemon=True)
    scheduler.start()
    while not address.is_file():
        time.sleep(0.2)
    each = workers // _PROCESSES
    ready = [root / f"ready{number}" for number in range(_PROCESSES)]
    crowds = [spawn.Process(target=_crowd, args=(address, each, path), daemon=True) for path in ready]
    started = time.perf_counter()
    for crowd in crowds:
        crowd.start()
    try:
        _wait_for(ready, crowds)
        found = {"workers": each * _PROCESSES, "seconds_to_start_them": time.perf_counter() - started}
        found |= {"stretch": stretch, "mean_unit_seconds": mean}
        return found | _feed(address.read_text(), scheduler.pid, jobs(root, stages, stretch, tomograms))
    finally:
        for process in (*crowds, scheduler):
            process.kill()
            process.join()


def _wait_for(ready: Sequence[Path], crowds: Sequence[BaseProcess]) -> None:
    # A client that waits for workers has the scheduler describe them all ten times a second: with hundreds of them
    # that is all it does.
    while not all(path.is_file() for path in ready):
        if not all(crowd.is_alive() for crowd in crowds):
            raise RuntimeError("workers ended before all were there")
        time.sleep(0.2)


def _feed(address: str, scheduler_pid: int | None, given: Iterator[Job]) -> dict[str, Any]:
    with dask.config.set(_CONFIG), DaskExecutor(address=address) as executor:
        both = {"scheduler": psutil.Process(scheduler_pid), "driver": psutil.Process()}
        before = _spent(both)
        time.sleep(_IDLE_SECONDS)
        idle = {name: (now - before[name]) / _IDLE_SECONDS for name, now in _spent(both).items()}
        before, started, counter = _spent(both), time.perf_counter(), _Counter()
        for outcome in run_jobs(given, executor, counter):
            if outcome.error is not None:
                raise outcome.error
        seconds = time.perf_counter() - started
        spent = {name: now - before[name] for name, now in _spent(both).items()}
        memory = {name: peak_bytes(process.pid) / 2**20 for name, process in both.items()}
    units = len(counter.moments)
    first, last = units // 4, 3 * units // 4
    result: dict[str, Any] = {
        "units": units,
        "seconds": seconds,
        "units_per_second": units / seconds,
        "units_per_second_of_the_middle_half": (last - first) / (counter.moments[last] - counter.moments[first]),
    }
    for name in both:
        result[f"{name}_share_of_a_core"] = spent[name] / seconds
        result[f"{name}_idle_share"] = idle[name]
        result[f"{name}_ms_per_unit"] = 1000 * (spent[name] - idle[name] * seconds) / units
        result[f"{name}_peak_mib"] = memory[name]
    return result


class _Counter(Observer):
    """Notes when units end."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def unit_done(self, job: str, stage: str, result: UnitResult | None) -> None:  # noqa: ARG002
        """Note it."""
        self.moments.append(time.perf_counter())


def _spent(processes: dict[str, psutil.Process]) -> dict[str, float]:
    times = {name: process.cpu_times() for name, process in processes.items()}
    return {name: spent.user + spent.system for name, spent in times.items()}


def _scheduler(address: Path) -> None:
    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
            address.with_suffix(".new").write_text(scheduler.address, encoding="utf-8")
            address.with_suffix(".new").rename(address)
            await scheduler.finished()

    logging.disable(logging.INFO)
    with dask.config.set(_CONFIG):
        asyncio.run(serve())


def _crowd(address: Path, count: int, ready: Path) -> None:
    async def work() -> None:
        made = [
            Worker(
                address.read_text(encoding="utf-8"),
                nthreads=1,
                host="127.0.0.1",
                dashboard=False,
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                local_directory=str(address.parent),
            )
            for _ in range(count)
        ]
        for first in range(0, count, _TOGETHER):
            await asyncio.gather(*made[first : first + _TOGETHER])
        ready.touch()
        await asyncio.gather(*(worker.finished() for worker in made))

    logging.disable(logging.INFO)
    with dask.config.set(_CONFIG):
        asyncio.run(work())
