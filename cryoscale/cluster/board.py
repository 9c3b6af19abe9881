"""What a scheduler knows of the runs it serves: the numbers behind the dashboard's page, its JSON and its metrics.

::

    run ──events (journal.py)──> scheduler ──> Board ──> status, as `cryoscale status --json` has it
    workers ──units done──> scheduler ──┘

A run tells how many units each tomogram has in which stage and how it ended; which units are done the board sees in the
scheduler's own transitions. Both cost the same whatever was before, and no file is looked at. A run is forgotten when
another begins after its end, so memory follows the runs under way.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from cryoscale.records import require
from cryoscale.tally import Status, Tally, stage_of, standing

__all__ = ["NAME", "TOPIC", "Board"]

NAME = "cryoscale"
TOPIC = "cryoscale"
"""Of the events that runs send; one of the scheduler's own says that the board is there."""
_LONGEST = 500
"""Characters of a failure's message: the whole of it is in the tomogram's folder."""
_KEPT_SECONDS = 1.0
"""However many ask, the numbers are put together once in so long."""

_TOLD: dict[str, dict[str, Any]] = {
    "run": {
        "folder": str, "cryoscale": str, "started_utc": str, "until": str, "order": [str], "expected": [str],
        "states": [(str, str, {"*": str})],
    },
    "phase": {"id": str, "stage": str, "units": int},
    "done": {"id": str, "seconds": {"*": float}},
    "failed": {"id": str, "class": str, "stage": str, "message": str},
    "end": {},
}  # fmt: skip


class _Run:
    """One run, from its first event on."""

    def __init__(self, told: Status) -> None:
        self._told, self._tally = told, Tally()
        self._states: dict[str, tuple[str, dict[str, str]]] = {
            name: (state, more) for name, state, more in told["states"]
        }
        self._done: dict[str, Counter[str]] = {}
        self._seen: dict[str, set[tuple[str, int]]] = {}
        """Units done of the tomograms under way: one that is computed again, for its worker is gone, counts once."""
        self._expected = {stage_of(stage) for stage in told["expected"]}
        self.stopped = False

    @property
    def is_over(self) -> bool:
        return self.stopped or self._tally.ended

    def take(self, event: Status, now: float) -> None:
        """Count an event of the run."""
        self._tally.take(event, now)
        self.stopped = False
        match event["event"]:
            case "phase":
                self._states[event["id"]] = "under way", {}
                self._expected.add(stage_of(event["stage"]))
            case "done":
                self._leave(event["id"], "complete", {})
            case "failed":
                shown = {name: event[name][:_LONGEST] for name in ("class", "stage", "message")}
                self._leave(event["id"], "failed", shown)

    def _leave(self, name: str, state: str, more: dict[str, str]) -> None:
        self._states[name] = state, more
        self._done.pop(name, None)
        self._seen.pop(name, None)

    def finished(self, name: str, unit: tuple[str, int]) -> bool:
        """Count a unit that is done; return whether it is a new one of this run."""
        seen = self._seen.setdefault(name, set()) if name in self._tally.planned else None
        if seen is None or unit in seen:
            return False
        seen.add(unit)
        self._done.setdefault(name, Counter())[stage_of(unit[0])] += 1
        return True

    def status(self, running: Counter[str], now: float) -> Status:
        """Return the run's state as plain values, with the units at work added to each stage."""
        state = "stopped" if self.stopped else "finished" if self._tally.ended else "running"
        now = self._tally.last if self.is_over else now
        tomograms = [self._tomogram(name) for name in self._states]
        found = standing(self._tally, tomograms, self._told["order"], now)
        for stage, row in found["stages"].items():
            row["running"] = running[stage]
        told = {name: self._told[name] for name in ("folder", "cryoscale", "started_utc", "until")}
        return {
            **told,
            "state": state,
            **found,
            "seconds_left": found["seconds_left"] if state == "running" else None,
            "order": [stage for stage in self._told["order"] if stage in self._expected],
            "tomograms": tomograms,
        }

    def _tomogram(self, name: str) -> Status:
        state, more = self._states[name]
        if state == "failed":
            return {"id": name, "state": state, "failure": more}
        if state != "under way":
            return {"id": name, "state": state}
        state = "stopped" if self.stopped else state
        units = self._tally.units(name, self._done.get(name, Counter()), self._told["order"])
        return {"id": name, "state": state, "units": units}


class Board(SchedulerPlugin):  # type: ignore[misc]
    """Keeps the count of the runs of one scheduler.

    Parameters
    ----------
    scheduler
        Told of by Dask; asked for its workers alone.
    clock
        Seconds since 1970.
    """

    name = NAME

    def __init__(self, scheduler: Any, clock: Callable[[], float] = time.time) -> None:
        self._scheduler, self._clock = scheduler, clock
        self._runs: dict[str, _Run] = {}
        self._kept: tuple[float, list[Status]] = (-_KEPT_SECONDS, [])
        self.units_done: Counter[str] = Counter()
        self.units_failed: Counter[str] = Counter()
        """By stage, of all runs since the scheduler began."""

    def log_event(self, topic: str, msg: Any) -> None:
        """Take what a run tells; what is not of its form is left out."""
        if topic != TOPIC or not isinstance(msg, str):
            return
        try:
            client, event = json.loads(msg)
            require([client, event], (str, {"at": float, "event": str}))
            require(event, _TOLD[event["event"]])
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if event["event"] == "run":
            self._runs = {name: run for name, run in self._runs.items() if not run.is_over and name != client}
            self._runs[client] = _Run(event)
        if client in self._runs:
            self._runs[client].take(event, self._clock())
        if event["event"] == "failed":
            self.units_failed[stage_of(event["stage"])] += 1

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Count a unit whose result came in."""
        if finish == "memory" and start == "processing" and (run := self._run_of(key)) is not None:
            self.units_done[stage_of(key[0])] += run.finished(key[1], (key[0], key[2]))

    def _run_of(self, key: Any) -> _Run | None:
        """Return the run of a task, None where it is no unit of one (executor.py)."""
        return self._runs.get(key[3]) if isinstance(key, tuple) and len(key) >= 4 else None

    def remove_client(self, scheduler: Any, client: str) -> None:  # noqa: ARG002
        """Note that a run has gone, before its end or after."""
        if client in self._runs and not self._runs[client].is_over:
            self._runs[client].stopped = True

    def statuses(self) -> list[Status]:
        """Return the state of every run, as of a second ago at most."""
        now = self._clock()
        if not 0 <= now - self._kept[0] < _KEPT_SECONDS:
            running = self._running()
            self._kept = now, [run.status(running[name], now) for name, run in self._runs.items()]
        return self._kept[1]

    def _running(self) -> dict[str, Counter[str]]:
        """Return the units that workers said they were at, last time they spoke, by run and stage."""
        found: dict[str, Counter[str]] = {name: Counter() for name in self._runs}
        for worker in self._scheduler.workers.values():
            for task in worker.executing:
                if task.state == "processing" and self._run_of(task.key) is not None:
                    found[task.key[3]][stage_of(task.key[0])] += 1
        return found
