"""How far a run is, from what it leaves on disk alone: while it runs, or after, from any machine that sees the folder.

Finished units are counted by their records, units under way by the journal; rate and estimate are tally.py's.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from cryoscale.completion import read_failure, read_seal
from cryoscale.errors import UsageError
from cryoscale.journal import read_journal
from cryoscale.lock import is_held, silent_seconds
from cryoscale.packing import stored_units
from cryoscale.progress import printable
from cryoscale.records import STAGES
from cryoscale.runrecord import place_in, read_run
from cryoscale.tally import Status, Tally, stage_of, standing

__all__ = ["print_status", "status_of", "status_text"]

_MOST_LISTED = 20


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
        ``state`` (running, silent where its lock is there and nobody touches it, finished, stopped), ``silent_seconds``
        of that lock, ``counts`` of tomograms by state, ``stages`` with the tomograms that
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
    silent, tally = silent_seconds(folder), Tally()
    left = is_held(folder)
    held = left and not silent
    for event in read_journal(folder):
        tally.take(event)
    names = [entry["id"] for entry in run["tomograms"]]
    tomograms = [_tomogram(folder / place_in(run, name), name, tally, held=held) for name in names]
    found = standing(tally, tomograms, STAGES, (now or time.time()) if held else tally.last)
    return {
        "folder": str(folder),
        "cryoscale": run["cryoscale"],
        "started_utc": run.get("started_utc", ""),
        "until": run["until"],
        "state": "running" if held else "silent" if left else "finished" if tally.ended else "stopped",
        "silent_seconds": silent if left else 0.0,
        **found,
        "seconds_left": found["seconds_left"] if held else None,
        "tomograms": tomograms,
    }


def _tomogram(path: Path, name: str, tally: Tally, *, held: bool) -> Status:
    """Return a tomogram's state; its units where it is under way."""
    failure = read_failure(path)
    if failure is not None:
        shown = {key: failure[key] for key in ("class", "stage", "message")}
        return {"id": name, "state": "failed", "failure": shown}
    if read_seal(path) is not None:
        return {"id": name, "state": "complete"}
    done = _finished_units(path)
    if not done and name not in tally.planned:
        return {"id": name, "state": "waiting"}
    state = "under way" if held and name in tally.planned else "waiting" if held else "stopped"
    return {"id": name, "state": state, "units": tally.units(name, done, STAGES)}


def _finished_units(folder: Path) -> Counter[str]:
    return Counter(stage_of(stage) for stage, _ in stored_units(folder))


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
    if status["state"] == "silent":
        lines.append(
            f"nothing was heard of it for {_span(status['silent_seconds'])}: if it is gone, remove run.lock, and the "
            "same command goes on"
        )
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
