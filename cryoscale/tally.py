"""How far a run is, counted from what is told of it as it happens (journal.py): no file is looked at here.

    rate = (tomograms complete + shares of those under way) / time since this start of the run

A share is that of the stages' time, as the complete tomograms needed it; what is left at that rate is the estimate.
``cryoscale status`` reads the events from the run's folder, the dashboard is sent them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Status", "Tally", "stage_of", "standing"]

Status = dict[str, Any]
"""Plain values, as ``cryoscale status --json`` prints them."""


def stage_of(name: str) -> str:
    """Return the stage of a unit's or phase's name: ``merge`` of ``merge-label``."""
    return name.split("-")[0]


class Tally:
    """What the events tell of this start of the run, and of all starts where it is about times."""

    def __init__(self) -> None:
        self.started = self.last = 0.0
        self.ended = False
        self.done = 0
        self.planned: dict[str, Counter[str]] = {}
        """By tomogram under way and stage, the units begun or waiting."""
        self._spent: dict[str, tuple[float, int]] = {}

    def take(self, event: dict[str, Any], at: float | None = None) -> None:
        """Count an event; `at` is when it happened by the clock that shall hold, None for the event's own."""
        self.last, self.ended = float(event["at"]) if at is None else at, event["event"] == "end"
        match event["event"]:
            case "run":
                self.started, self.done, self.planned = self.last, 0, {}
            case "phase":
                self.planned.setdefault(event["id"], Counter())[stage_of(event["stage"])] += event["units"]
            case "done":
                self.done += 1
                self.planned.pop(event["id"], None)
                for name, seconds in event["seconds"].items():
                    total, number = self._spent.get(stage_of(name), (0.0, 0))
                    self._spent[stage_of(name)] = total + seconds, number + 1
            case "failed":
                self.planned.pop(event["id"], None)

    def mean_seconds(self) -> dict[str, float]:
        """Return the core seconds that a complete tomogram spent in each stage."""
        return {stage: total / number for stage, (total, number) in self._spent.items()}

    def units(self, name: str, done: Counter[str], order: Sequence[str]) -> dict[str, list[int]]:
        """Return a tomogram's units by stage, done and planned, given how many are done."""
        planned = self.planned.get(name, Counter())
        stages = [stage for stage in order if planned[stage] or done[stage]]
        return {
            stage: [min(done[stage], planned[stage] or done[stage]), planned[stage] or done[stage]] for stage in stages
        }


def standing(tally: Tally, tomograms: Sequence[Status], order: Iterable[str], now: float) -> Status:
    """Return counts, rate, estimate and stages of a run.

    Parameters
    ----------
    tally
        What was told of it.
    tomograms
        Every one's ``state``, and ``units`` where it is under way.
    order
        Names of the stages.
    now
        Time, by the clock of the tally.

    Returns
    -------
    dict
        As ``cryoscale status --json`` has them: ``counts``, ``rate_per_hour``, ``seconds_left``, ``stages``.
    """
    counts = Counter(tomogram["state"] for tomogram in tomograms)
    rate, left = _rate(tally, tomograms, now)
    return {
        "counts": {state: counts[state] for state in ("complete", "under way", "failed", "stopped", "waiting")},
        "rate_per_hour": rate,
        "seconds_left": left,
        "stages": _stages(tally, tomograms, tuple(order)),
    }


def _rate(tally: Tally, tomograms: Sequence[Status], now: float) -> tuple[float | None, float | None]:
    """Return tomograms per hour, and the seconds left."""
    seconds = tally.mean_seconds()
    whole = sum(seconds.values())
    elapsed = now - tally.started
    if not whole or elapsed <= 0:
        return None, None
    parts = 0.0
    for tomogram in tomograms:
        if tomogram["state"] == "under way":
            shares = (seconds.get(stage, 0.0) * done / total for stage, (done, total) in tomogram["units"].items())
            parts += sum(shares) / whole
    per_second = (tally.done + parts) / elapsed
    left = sum(tomogram["state"] in ("under way", "waiting", "stopped") for tomogram in tomograms) - parts
    return 3600 * per_second, left / per_second if per_second else None


def _stages(tally: Tally, tomograms: Sequence[Status], order: tuple[str, ...]) -> dict[str, Status]:
    seconds = tally.mean_seconds()
    complete = sum(tomogram["state"] == "complete" for tomogram in tomograms)
    found = {}
    for number, stage in enumerate(order):
        here = [tomogram["units"] for tomogram in tomograms if tomogram["state"] == "under way"]
        units = [sum(entry[stage][k] for entry in here if stage in entry) for k in (0, 1)]
        if stage in seconds or units[1]:
            later = set(order[number + 1 :])
            through = sum(stage in entry and not later.isdisjoint(entry) for entry in here)
            found[stage] = {"tomograms": complete + through, "units": units, "mean_core_seconds": seconds.get(stage)}
    return found
