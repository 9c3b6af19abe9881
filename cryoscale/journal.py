"""What happened in a run, a line of JSON each, appended as it happens: what ``cryoscale status`` reads.

::

    {"at": 1.7e9, "event": "run",    "tomograms": 40, "kept": 12}        a run began, or went on
    {"at": ...,   "event": "phase",  "id": "TS_01", "stage": "fit", "units": 9}
    {"at": ...,   "event": "done",   "id": "TS_01", "seconds": {"fit": 41.2}}
    {"at": ...,   "event": "failed", "id": "TS_02", "class": "TOMOGRAM"}
    {"at": ...,   "event": "end"}

The executor is told the same, and more of it, for a dashboard to show (cluster/board.py). Times are seconds since 1970
by the clock of the machine that the run was started on, for people to read: nothing is decided by them. A line that a
crash tore is left out when it is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryoscale.engine import Observer, Outcome, UnitResult
from cryoscale.errors import failure_class
from cryoscale.records import require, sealed, unsealed

__all__ = ["JOURNAL", "Journal", "read_journal"]

JOURNAL = "journal.jsonl"
_EVENTS: dict[str, dict[str, Any]] = {
    "run": {"tomograms": int, "kept": int},
    "phase": {"id": str, "stage": str, "units": int},
    "done": {"id": str, "seconds": {"*": float}},
    "failed": {"id": str, "class": str},
    "end": {},
}


class Journal(Observer):
    """Writes the journal, and tells others what it is told.

    Parameters
    ----------
    output
        Folder of the run.
    observer
        Told the same.
    tell
        Handed every event, with what the journal leaves to other files.
    """

    def __init__(self, output: Path, observer: Observer, tell: Callable[[dict[str, Any]], None]) -> None:
        self._path, self._observer, self._tell = output / JOURNAL, observer, tell
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._begun and kind is None:
            self._write({"event": "end"})

    def started(self, tomograms: int, kept: int, more: dict[str, Any]) -> None:
        """Note that a run begins, how many tomograms it has and how many of them are left alone; tell `more` of it."""
        self._begun = True
        with self._path.open("a", encoding="utf-8") as stream:
            # A line that a crash tore must not take the next one with it.
            stream.write("\n")
        self._write({"event": "run", "tomograms": tomograms, "kept": kept}, more)

    def phase_started(self, job: str, stage: str, units: int) -> None:
        """Note that `units` more units of a stage are under way."""
        if units:
            self._write({"event": "phase", "id": job, "stage": stage, "units": units})
        self._observer.phase_started(job, stage, units)

    def unit_done(self, job: str, stage: str, result: UnitResult) -> None:
        """Say so; its record is the note."""
        self._observer.unit_done(job, stage, result)

    def job_done(self, outcome: Outcome) -> None:
        """Note how a tomogram ended."""
        if outcome.error is None:
            seconds = {stage: round(cost.unit_seconds, 3) for stage, cost in outcome.times.items()}
            self._write({"event": "done", "id": outcome.id, "seconds": seconds})
        else:
            more = {"stage": outcome.stage, "message": str(outcome.error)}
            self._write({"event": "failed", "id": outcome.id, "class": failure_class(outcome.error)}, more)
        self._observer.job_done(outcome)

    def _write(self, event: dict[str, Any], more: dict[str, Any] | None = None) -> None:
        event = {"at": round(time.time(), 1), **event}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(sealed(event) + "\n")
        self._tell(event | (more or {}))


def read_journal(output: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run, oldest first; lines that are torn or damaged are left out."""
    try:
        stream = (output / JOURNAL).open(encoding="utf-8", errors="replace")
    except OSError:
        return
    with stream:
        for line in stream:
            try:
                event = unsealed(line)
                require(event, {"at": float, "event": str})
                require(event, _EVENTS[event["event"]])
                yield event
            except (ValueError, KeyError):
                continue
