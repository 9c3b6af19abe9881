"""How far a run is, from what it leaves on disk alone: while it runs, or after, from any machine that sees the folder.

Finished units are counted by their records, units under way by the journal. The rate counts what this start of the run
has finished; a tomogram under way counts by the share of its stages' time, as the complete ones needed it.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryoscale.completion import read_failure, read_seal
from cryoscale.errors import UsageError
from cryoscale.journal import read_journal
from cryoscale.lock import is_held
from cryoscale.pipeline import STAGES
from cryoscale.progress import printable
from cryoscale.runrecord import read_run

__all__ = ["print_status", "status_of", "status_text"]

_MOST_LISTED = 20

Status = dict[str, Any]


class _Events:
    """What the journal tells of this start of the run, and of all starts where it is about times."""

    def __init__(self, folder: Path) -> None:
        self.started = self.last = 0.0
        self.ended = False
        self.done = 0
        self.planned: dict[str, Counter[str]] = {}
        """By tomogram under way and stage, the units begun or waiting."""
        self._seconds: dict[str, list[float]] = defaultdict(list)
        for event in read_journal(folder):
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        self.last, self.ended = float(event["at"]), event["event"] == "end"
        match event["event"]:
            case "run":
                self.started, self.done, self.planned = self.last, 0, {}
            case "phase":
                self.planned.setdefault(event["id"], Counter())[_stage(event["stage"])] += event["units"]
            case "done":
                self.done += 1
                self.planned.pop(event["id"], None)
                for stage, seconds in event["seconds"].items():
                    self._seconds[_stage(stage)].append(seconds)
            case "failed":
                self.planned.pop(event["id"], None)

    def mean_seconds(self) -> dict[str, float]:
        """Return the core seconds that a complete tomogram spent in each stage."""
        return {stage: sum(values) / len(values) for stage, values in self._seconds.items()}


def _stage(name: str) -> str:
    return name.split("-")[0]


def status_of(folder: Path, now: float | None = None) -> Status:
    """Return the state of the run in a folder, as plain values.

    Parameters
    ----------
    folder
    now
        Seconds since 1970; None is the clock.

    Returns
    -------
    dict
        ``state`` (running, finished, stopped), ``counts`` of tomograms by state, ``stages`` with the tomograms that
        are through them, units of those under way and mean core seconds, ``rate_per_hour`` and ``seconds_left`` (None
        until a tomogram is complete), ``tomograms`` with each one's state.

    Raises
    ------
    UsageError
        There is no run in `folder`.
    """
    run = read_run(folder)
    if run is None:
        raise UsageError("no run here", where=str(folder), todo="name the --output of a run")
    held, events = is_held(folder), _Events(folder)
    tomograms = [_tomogram(folder, entry["id"], events, held=held) for entry in run["tomograms"]]
    counts = Counter(tomogram["state"] for tomogram in tomograms)
    rate, left = _rate(events, tomograms, (now or time.time()) if held else events.last)
    return {
        "folder": str(folder),
        "cryoscale": run["cryoscale"],
        "started_utc": run.get("started_utc", ""),
        "until": run["until"],
        "state": "running" if held else "finished" if events.ended else "stopped",
        "counts": {state: counts[state] for state in ("complete", "under way", "failed", "stopped", "waiting")},
        "rate_per_hour": rate,
        "seconds_left": left if held else None,
        "stages": _stages(events, tomograms),
        "tomograms": tomograms,
    }


def _tomogram(folder: Path, name: str, events: _Events, *, held: bool) -> Status:
    """Return a tomogram's state; its units where it is under way."""
    path = folder / name
    failure = read_failure(path)
    if failure is not None:
        shown = {key: failure[key] for key in ("class", "stage", "message")}
        return {"id": name, "state": "failed", "failure": shown}
    if read_seal(path) is not None:
        return {"id": name, "state": "complete"}
    done = _finished_units(path)
    if not done and name not in events.planned:
        return {"id": name, "state": "waiting"}
    planned = events.planned.get(name, Counter())
    stages = [stage for stage in STAGES if planned[stage] or done[stage]]
    units = {
        stage: [min(done[stage], planned[stage] or done[stage]), planned[stage] or done[stage]] for stage in stages
    }
    state = "under way" if held and name in events.planned else "waiting" if held else "stopped"
    return {"id": name, "state": state, "units": units}


def _finished_units(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in (folder / "records").glob("*/*.json"):
        counts[_stage(record.parent.name)] += 1
    return counts


def _rate(events: _Events, tomograms: Sequence[Status], now: float) -> tuple[float | None, float | None]:
    """Return tomograms per hour, and the seconds left."""
    seconds = events.mean_seconds()
    whole = sum(seconds.values())
    elapsed = now - events.started
    if not whole or elapsed <= 0:
        return None, None
    parts = 0.0
    for tomogram in tomograms:
        if tomogram["state"] == "under way":
            shares = (seconds.get(stage, 0.0) * done / total for stage, (done, total) in tomogram["units"].items())
            parts += sum(shares) / whole
    per_second = (events.done + parts) / elapsed
    left = sum(tomogram["state"] in ("under way", "waiting", "stopped") for tomogram in tomograms) - parts
    return 3600 * per_second, left / per_second if per_second else None


def _stages(events: _Events, tomograms: Sequence[Status]) -> dict[str, Status]:
    seconds = events.mean_seconds()
    complete = sum(tomogram["state"] == "complete" for tomogram in tomograms)
    found = {}
    for number, stage in enumerate(STAGES):
        here = [tomogram["units"] for tomogram in tomograms if tomogram["state"] == "under way"]
        units = [sum(entry[stage][k] for entry in here if stage in entry) for k in (0, 1)]
        if stage in seconds or units[1]:
            later = set(STAGES[number + 1 :])
            through = sum(stage in entry and not later.isdisjoint(entry) for entry in here)
            found[stage] = {"tomograms": complete + through, "units": units, "mean_core_seconds": seconds.get(stage)}
    return found


def status_text(status: Status, *, everything: bool = False) -> str:
    """Return a status as text; of more than twenty tomograms only those that are under way or failed are listed."""
    counts = status["counts"]
    shown = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [
        f"{status['folder']}: {status['state']}, cryoscale {status['cryoscale']}, started {status['started_utc']}",
        f"{sum(counts.values())} tomograms: {shown}",
    ]
    if status["rate_per_hour"]:
        left = status["seconds_left"]
        lines.append(
            f"{status['rate_per_hour']:.2g} tomograms an hour" + (f", about {_span(left)} left" if left else "")
        )
    elif status["state"] == "running":
        lines.append("rate and estimate follow with the first complete tomogram")
    if status["state"] == "stopped":
        lines.append("it did not come to its end: the same command goes on")
    lines.append(f"{'stage':<9} {'tomograms':>9} {'units under way':>16} {'core s each':>12}")
    for stage, row in status["stages"].items():
        done, planned = row["units"]
        seconds = row["mean_core_seconds"]
        units = f"{done} of {planned}" if planned else ""
        lines.append(f"{stage:<9} {row['tomograms']:>9} {units:>16} {'' if seconds is None else f'{seconds:.1f}':>12}")
    every = everything or len(status["tomograms"]) <= _MOST_LISTED
    listed = [t for t in status["tomograms"] if every or t["state"] in ("under way", "failed")]
    lines += [f"  {tomogram['id']}: {_tomogram_text(tomogram, status['until'])}" for tomogram in listed]
    return printable("\n".join(lines))


def _tomogram_text(tomogram: Status, until: str) -> str:
    if tomogram["state"] == "failed":
        failure = tomogram["failure"]
        return f"FAILED in {failure['stage']} ({failure['class']}): {failure['message']}"
    state: str = tomogram["state"]
    if state == "complete":
        return "complete" if until == STAGES[-1] else f"complete up to {until}"
    units = ", ".join(f"{stage} {done} of {planned}" for stage, (done, planned) in tomogram.get("units", {}).items())
    return state + (f"; units: {units}" if units else "")


def _span(seconds: float) -> str:
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def print_status(folder: Path, *, as_json: bool = False, everything: bool = False, watch_seconds: float = 0) -> None:
    """Print a run's status, once, or again and again until it runs no more.

    Raises
    ------
    UsageError
        There is no run in `folder`.
    """
    while True:
        status = status_of(folder)
        text = json.dumps(status) if as_json else status_text(status, everything=everything)
        if watch_seconds and sys.stdout.isatty() and not as_json:
            # To the top of an empty screen.
            sys.stdout.write("\x1b[H\x1b[2J")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not watch_seconds or status["state"] != "running":
            return
        time.sleep(watch_seconds)
