"""What kills at random times cost: units done twice, time lost, and whether any product differs.

A collection of masks runs to its membranes on two worker processes, as a command of its own; a killer with a seed ends
a worker, all workers, or the command itself, at random times, and gives the same command again where it ended. When a
collection is whole the next one starts, until so many kills were done. Each unit also waits a little, so that there is
something to kill. Every product is compared with those of a run that nothing happened to; a unit that began twice is
a repeat, of which each killed process may cost one. Then the command is given once more, and must run nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from benchmarks._machine import write_json
from cryoscale.cluster import DaskExecutor
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import Executor, JobPlan, LoopExecutor, Phase
from cryoscale.io.mrc import write_mrc
from cryoscale.manifest import entries
from cryoscale.pipeline import tomogram_job
from cryoscale.records import Receipt, Unit
from cryoscale.spec import IngestSpec, RunSpec

SIZES = {"small": 10, "full": 200}
TOMOGRAMS, WORKERS, PACE_SECONDS = 6, 2, 0.25
_KINDS = {"a worker": 0.6, "all workers": 0.2, "the command": 0.2}
_SPEC = RunSpec(ingest=IngestSpec(chunk_voxels=(8, 24, 24), pyramid_levels=1))


@dataclass
class Tally:
    """What happened."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    processes: int = 0
    """Worker processes that were killed, those of a killed command among them."""
    collections: int = 0
    units: int = 0
    repeats: int = 0
    differing: int = 0
    third_run_units: int = 0
    seconds: float = 0.0


def _noted(notes: str, pace_seconds: float, call: Callable[..., Receipt], args: tuple[Any, ...]) -> Receipt:
    (Path(notes) / secrets.token_hex(8)).touch()
    time.sleep(pace_seconds)
    return call(*args)


def _job(root: Path, pace_seconds: float, *args: Any, **options: Any) -> JobPlan:
    """Give the stages' own units, each noted when it begins."""
    plan = tomogram_job(*args, **options)
    phase = next(plan)
    try:
        while True:
            units = tuple(
                Unit(u.key, _noted, (str(root / "notes"), pace_seconds, u.call, u.args), u.bytes) for u in phase.units
            )
            phase = plan.send((yield Phase(phase.stage, phase.folder, phase.fingerprint, units)))
    except StopIteration as stop:
        found: dict[str, Any] = stop.value
        return found


def _run(root: Path, executor: Executor, pace_seconds: float) -> None:
    def job(*args: Any, **options: Any) -> Generator[Phase, list[Receipt], dict[str, Any]]:
        return _job(root, pace_seconds, *args, **options)

    found = entries([str(root.parent / "masks")], "{path}")
    with mock.patch("cryoscale.collection.tomogram_job", job):
        assert run_collection(Collection(found, root / "out", _SPEC, until="separate"), executor).exit_code == 0


def _products(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "out").glob("*/**/*"))
        if path.is_file() and path.name != "summary.json" and "records" not in path.parts
    }


def _write_masks(folder: Path) -> None:
    folder.mkdir()
    z, y, x = np.indices((48, 48, 48))
    for number in range(TOMOGRAMS):
        distance = np.sqrt((z - 24) ** 2 + (y - 24) ** 2 + (x - 20 - number) ** 2)
        write_mrc(folder / f"t{number}.mrc", (np.abs(distance - 14) <= 1.5).astype(np.int8), 10.0)


def _notes(root: Path) -> int:
    return sum(1 for _ in (root / "notes").iterdir())


def _workers_of(client: psutil.Process) -> list[psutil.Process]:
    try:
        return [one for one in client.children() if any("spawn_main" in word for word in one.cmdline())]
    except psutil.Error:
        return []


def _disturbed(root: Path, rng: np.random.Generator, tally: Tally, kills: int) -> None:
    """Give the command until it is through, killing meanwhile until so many kills are done."""
    command = [sys.executable, "-m", "benchmarks.faults", "--client", str(root)]
    while True:
        client = psutil.Popen(command, stderr=subprocess.DEVNULL)
        began = _notes(root)
        while client.poll() is None and _notes(root) == began:
            time.sleep(0.05)
        while client.poll() is None:
            time.sleep(float(rng.uniform(0.3, 3.0)))
            if sum(tally.kills.values()) < kills:
                _kill(client, str(rng.choice(list(_KINDS), p=list(_KINDS.values()))), rng, tally)
        if client.returncode == 0:
            return


def _kill(client: psutil.Popen, kind: str, rng: np.random.Generator, tally: Tally) -> None:
    workers = _workers_of(client)
    if not workers:
        return
    victims = [workers[int(rng.integers(len(workers)))]] if kind == "a worker" else workers
    for process in [client] if kind == "the command" else victims:
        process.kill()
    if kind == "the command":
        client.wait()
        psutil.wait_procs(workers, timeout=30)
    tally.kills[kind] += 1
    tally.processes += len(victims)


def measure(kills: int, seed: int, scratch: Path) -> tuple[Tally, float]:
    """Return what happened, and the seconds of one collection that nothing happens to."""
    rng, tally = np.random.default_rng(seed), Tally()
    _write_masks(scratch / "masks")
    calm = scratch / "calm"
    (calm / "notes").mkdir(parents=True)
    began = time.monotonic()
    _disturbed(calm, rng, Tally(), 0)
    calm_seconds, units, expected = time.monotonic() - began, _notes(calm), _products(calm)
    while sum(tally.kills.values()) < kills:
        root = scratch / f"run{tally.collections}"
        (root / "notes").mkdir(parents=True)
        began = time.monotonic()
        _disturbed(root, rng, tally, kills)
        tally.seconds += time.monotonic() - began
        tally.collections += 1
        tally.units += units
        tally.repeats += _notes(root) - units
        found = _products(root)
        tally.differing += sum(found.get(name) != expected.get(name) for name in found.keys() | expected.keys())
        before = _notes(root)
        _run(root, LoopExecutor(), 0.0)
        tally.third_run_units += _notes(root) - before
        print(f"{sum(tally.kills.values())} kills, {tally.repeats} repeats", file=sys.stderr)
    return tally, calm_seconds


def table(tally: Tally, calm_seconds: float) -> str:
    """Return the result as text."""
    lost = tally.seconds - calm_seconds * tally.collections
    total = sum(tally.kills.values())
    rows = {
        "kills": f"{total} ({', '.join(f'{number} of {kind}' for kind, number in tally.kills.items())})",
        "processes that held units": tally.processes,
        "collections, units": f"{tally.collections}, {tally.units}",
        "units done twice": tally.repeats,
        "products that differ": tally.differing,
        "units of the third run": tally.third_run_units,
        "seconds lost a kill": f"{lost / max(total, 1):.1f}",
        "seconds of a calm collection": f"{calm_seconds:.1f}",
    }
    return "\n".join(f"{name:<30}{value}" for name, value in rows.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="")
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.client is not None:
        with DaskExecutor(WORKERS) as executor:
            _run(options.client, executor, PACE_SECONDS)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        tally, calm_seconds = measure(SIZES[options.size], options.seed, Path(scratch))
    print(table(tally, calm_seconds))
    found = vars(tally) | {"calm_seconds": calm_seconds, "seed": options.seed, "workers": WORKERS}
    write_json(options.json, {"benchmark": "faults", **found})
    return 1 if tally.differing or tally.third_run_units or tally.repeats > tally.processes else 0


if __name__ == "__main__":
    sys.exit(main())
