"""What kills at random times cost: units done twice, time lost, and whether any product differs.

A collection of masks runs to its membranes on two worker processes, as a command of its own; a killer with a seed ends
a worker, all workers, or the command itself, after a random number of units and a random fraction of another, and
gives the same command again where it ended. When a collection is whole the next one starts, until so many kills were
done. Each unit also waits a little, so that there is something to kill. Every product is compared with those of a run
that nothing happens to; a unit that began twice is a repeat, of which each killed process may cost one. Then the
command is given once more, and must run nothing. The result is noted after each collection.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks._faults_client import PACE_SECONDS, WORKERS, run
from benchmarks._machine import write_json
from cryoscale.engine import LoopExecutor
from cryoscale.io.mrc import write_mrc

SIZES = {"small": 10, "full": 200}
TOMOGRAMS = 6
_KINDS = {"a worker": 0.6, "all workers": 0.2, "the command": 0.2}


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
    blamed: int = 0
    """Commands that ended with a tomogram failed, because the workers died that one of its units was on."""
    seconds: float = 0.0


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
    command = [sys.executable, "-m", "benchmarks._faults_client", str(root)]
    again: list[str] = []
    while True:
        client = psutil.Popen([*command, *again], stderr=subprocess.DEVNULL)
        while _begun(root, client, int(rng.integers(1, 6))):
            time.sleep(float(rng.uniform(0.0, PACE_SECONDS)))
            if sum(tally.kills.values()) < kills:
                _kill(client, str(rng.choice(list(_KINDS), p=list(_KINDS.values()))), rng, tally)
        if client.returncode == 0:
            return
        again = ["--retry-failed"] if client.returncode == 3 else []
        tally.blamed += client.returncode == 3


def _begun(root: Path, client: psutil.Popen, units: int) -> bool:
    """Wait until so many more units have begun, so that kills find work however busy the machine; False at the end."""
    enough = _notes(root) + units
    while client.poll() is None and _notes(root) < enough:
        time.sleep(0.05)
    return client.poll() is None


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


def measure(kills: int, seed: int, scratch: Path, note: Callable[[Tally, float], object]) -> tuple[Tally, float]:
    """Return what happened, and the seconds of one collection that nothing happens to; note it after each one."""
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
        assert run(root, LoopExecutor(), 0.0) == 0
        tally.third_run_units += _notes(root) - before
        print(f"{sum(tally.kills.values())} kills, {tally.repeats} repeats", file=sys.stderr)
        note(tally, calm_seconds)
        shutil.rmtree(root)
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
        "tomograms blamed": tally.blamed,
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
    options = parser.parse_args(argv)

    def note(tally: Tally, calm_seconds: float) -> None:
        found = vars(tally) | {"calm_seconds": calm_seconds, "seed": options.seed, "workers": WORKERS}
        write_json(options.json, {"benchmark": "faults", **found})

    with tempfile.TemporaryDirectory() as scratch:
        tally, calm_seconds = measure(SIZES[options.size], options.seed, Path(scratch), note)
    print(table(tally, calm_seconds))
    return 1 if tally.differing or tally.third_run_units or tally.repeats > tally.processes else 0


if __name__ == "__main__":
    sys.exit(main())
