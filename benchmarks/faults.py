"""What kills at random times cost: units done twice, time lost, and whether any product differs.

A collection of masks runs to its membranes on two worker processes, as a command of its own; a killer with a seed ends
a worker, all workers, or the command itself, after a random number of units and a random fraction of another, and
gives the same command again where it ended. When a collection is whole the next one starts, until so many kills were
done. Each unit also waits a little, so that there is something to kill. Every product is compared with those of a run
that nothing happens to; a unit that began twice is a repeat, of which each killed process may cost one. Then the
command is given once more, and must run nothing. The result is noted after each collection.

What a kill costs is told by what units noted, not by how long a calm run takes, for no two runs of a busy machine take
as long::

    thrown away   =  of each execution of a unit but the one that counts: its end, or its process's, less its begin
    stood still   =  from a kill to the first begin of a unit in a process that was not there before it, for each kill
                     after which there was one; after the kill of one worker the other went on meanwhile
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
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks._faults_client import PACE_SECONDS, WORKERS, Execution, executions, run
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
    thrown_away_seconds: float = 0.0
    stood_still_seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    unit_seconds: float = 0.0
    """Of all executions, those thrown away too."""
    blamed: int = 0
    """Commands that ended with a tomogram failed, because the workers died that one of its units was on."""
    seconds: float = 0.0


class _Kill(NamedTuple):
    moment: float
    kind: str
    processes: frozenset[int]
    there: frozenset[int]
    """All workers, those that went on too."""


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


def _disturbed(root: Path, rng: np.random.Generator, tally: Tally, kills: int) -> list[_Kill]:
    """Give the command until it is through, killing meanwhile until so many kills are done; return those."""
    command = [sys.executable, "-m", "benchmarks._faults_client", str(root)]
    again: list[str] = []
    done: list[_Kill] = []
    while True:
        client = psutil.Popen([*command, *again], stderr=subprocess.DEVNULL)
        while _begun(root, client, int(rng.integers(1, 6))):
            time.sleep(float(rng.uniform(0.0, PACE_SECONDS)))
            if sum(tally.kills.values()) < kills:
                done += _kill(client, str(rng.choice(list(_KINDS), p=list(_KINDS.values()))), rng, tally)
        if client.returncode == 0:
            return done
        again = ["--retry-failed"] if client.returncode == 3 else []
        tally.blamed += client.returncode == 3


def _begun(root: Path, client: psutil.Popen, units: int) -> bool:
    """Wait until so many more units have begun, so that kills find work however busy the machine; False at the end."""
    enough = _notes(root) + units
    while client.poll() is None and _notes(root) < enough:
        time.sleep(0.05)
    return client.poll() is None


def _kill(client: psutil.Popen, kind: str, rng: np.random.Generator, tally: Tally) -> list[_Kill]:
    workers = _workers_of(client)
    if not workers:
        return []
    victims = [workers[int(rng.integers(len(workers)))]] if kind == "a worker" else workers
    moment = time.time()
    for process in [client] if kind == "the command" else victims:
        process.kill()
    if kind == "the command":
        client.wait()
        psutil.wait_procs(workers, timeout=30)
    tally.kills[kind] += 1
    tally.processes += len(victims)
    return [_Kill(moment, kind, frozenset(one.pid for one in victims), frozenset(one.pid for one in workers))]


def _count_losses(found: Sequence[Execution], kills: Sequence[_Kill], tally: Tally) -> None:
    """Add what a collection's kills cost."""
    died = {process: kill.moment for kill in kills for process in kill.processes}
    last = {one.unit: one for one in found if one.ended is not None}
    for one in found:
        # Of a process that began after the look for whom to kill, its note is all that is known.
        ended = one.ended if one.ended is not None else max(one.began, died.get(one.process, one.began))
        tally.unit_seconds += ended - one.began
        tally.thrown_away_seconds += (ended - one.began) * (one is not last.get(one.unit))
    for kill in kills:
        before = {one.process for one in found if one.began <= kill.moment} | kill.there
        after = [one.began for one in found if one.began > kill.moment and one.process not in before]
        if after:
            tally.stood_still_seconds[kill.kind].append(after[0] - kill.moment)


def measure(kills: int, seed: int, scratch: Path, note: Callable[[Tally, float], object]) -> tuple[Tally, float]:
    """Return what happened, and the seconds of one collection that nothing happens to; note it after each one."""
    rng, tally = np.random.default_rng(seed), Tally()
    _write_masks(scratch / "masks")
    calm = scratch / "calm"
    (calm / "notes").mkdir(parents=True)
    began = time.monotonic()
    _disturbed(calm, rng, Tally(), kills=0)
    calm_seconds, units, expected = time.monotonic() - began, _notes(calm), _products(calm)
    while sum(tally.kills.values()) < kills:
        root = scratch / f"run{tally.collections}"
        (root / "notes").mkdir(parents=True)
        began = time.monotonic()
        done = _disturbed(root, rng, tally, kills)
        _count_losses(executions(root / "notes"), done, tally)
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
    total = sum(tally.kills.values())
    rows = {
        "kills": f"{total} ({', '.join(f'{number} of {kind}' for kind, number in tally.kills.items())})",
        "processes that held units": tally.processes,
        "collections, units": f"{tally.collections}, {tally.units}",
        "units done twice": tally.repeats,
        "products that differ": tally.differing,
        "units of the third run": tally.third_run_units,
        "tomograms blamed": tally.blamed,
        "unit seconds thrown away": f"{tally.thrown_away_seconds:.1f} of {tally.unit_seconds:.1f}",
        **{f"stood still after {kind}": _spread(found) for kind, found in tally.stood_still_seconds.items()},
        "seconds in all": f"{tally.seconds:.0f}",
        "seconds of a calm collection": f"{calm_seconds:.0f}",
    }
    return "\n".join(f"{name:<30}{value}" for name, value in rows.items())


def _spread(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.1f} s in the middle, {max(seconds):.1f} s at most" if seconds else ""


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

    # In memory where there is such a place: the disk is not what is measured.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        tally, calm_seconds = measure(SIZES[options.size], options.seed, Path(scratch), note)
    print(table(tally, calm_seconds))
    return 1 if tally.differing or tally.third_run_units or tally.repeats > tally.processes else 0


if __name__ == "__main__":
    sys.exit(main())
