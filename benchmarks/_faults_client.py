"""The command of ``benchmarks faults`` that is killed: a collection of masks, to its membranes, on two workers.

Every unit leaves a note when it begins, with its process and the moment, and waits a little, so that there is something
to kill; when it ends it writes the moment into its note. Workers import this
module too: what they have no use for is imported where it is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from cryoscale.engine import Executor, JobPlan, Phase
from cryoscale.records import Receipt, Unit

__all__ = ["PACE_SECONDS", "WORKERS", "Execution", "executions", "run"]

WORKERS, PACE_SECONDS = 2, 0.25


class Execution(NamedTuple):
    """One time that a unit began."""

    unit: str
    process: int
    began: float
    ended: float | None
    """None where its process died before."""


def executions(notes: Path) -> list[Execution]:
    """Return what units have noted, the first that began first."""
    found = []
    for path in notes.iterdir():
        unit, process, began = path.name.split("~")
        text = path.read_text(encoding="utf-8")
        found.append(Execution(unit, int(process), float(began), float(text) if text else None))
    return sorted(found, key=lambda one: one.began)


def _noted(
    notes: str, pace_seconds: float, key: tuple[str, str, int], call: Callable[..., Receipt], args: tuple[Any, ...]
) -> Receipt:
    note = Path(notes) / f"{'-'.join(map(str, key))}~{os.getpid()}~{time.time():.6f}"
    note.touch()
    time.sleep(pace_seconds)
    receipt = call(*args)
    note.write_text(f"{time.time():.6f}", encoding="utf-8")
    return receipt


def _job(root: Path, pace_seconds: float, plan: JobPlan) -> JobPlan:
    """Give the stages' own units, each noted when it begins."""
    phase = next(plan)
    try:
        while True:
            watch = (str(root / "notes"), pace_seconds)
            units = tuple(Unit(u.key, _noted, (*watch, u.key, u.call, u.args), u.bytes) for u in phase.units)
            phase = plan.send((yield Phase(phase.stage, phase.folder, phase.fingerprint, units)))
    except StopIteration as stop:
        found: dict[str, Any] = stop.value
        return found


def run(root: Path, executor: Executor, pace_seconds: float, *, retry_failed: bool = False) -> int:
    """Run the collection in the folder beside `root`; return its exit code."""
    from cryoscale.collection import Collection, run_collection
    from cryoscale.manifest import entries
    from cryoscale.pipeline import tomogram_job
    from cryoscale.spec import IngestSpec, RunSpec

    def job(*args: Any, **options: Any) -> Generator[Phase, list[Receipt], dict[str, Any]]:
        return _job(root, pace_seconds, tomogram_job(*args, **options))

    spec = RunSpec(ingest=IngestSpec(chunk_voxels=(8, 24, 24), pyramid_levels=1))
    found = entries([str(root.parent / "masks")], "{path}")
    asked = Collection(found, root / "out", spec, until="separate", retry_failed=retry_failed)
    with mock.patch("cryoscale.collection.tomogram_job", job):
        return run_collection(asked, executor).exit_code


def main() -> int:
    """Be the command."""
    from cryoscale.cluster import DaskExecutor

    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--retry-failed", action="store_true")
    options = parser.parse_args()
    with DaskExecutor(WORKERS) as executor:
        return run(options.root, executor, PACE_SECONDS, retry_failed=options.retry_failed)


if __name__ == "__main__":
    sys.exit(main())
