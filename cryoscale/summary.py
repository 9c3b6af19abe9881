"""What a run says at its end, and what its records say at any time."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscale.errors import UsageError
from cryoscale.pipeline import STAGES
from cryoscale.progress import printable

if TYPE_CHECKING:
    from cryoscale.collection import Result

__all__ = ["print_status", "print_summary", "warnings_of"]


def print_summary(result: Result) -> None:
    """Print one line per tomogram, the failures, and where the report is."""
    lines = []
    for outcome in result.outcomes:
        seconds = sum(cost.wall_seconds for cost in outcome.times.values())
        if outcome.summary is None:
            lines.append(f"{outcome.id}: FAILED in {outcome.stage}: {outcome.error}")
            continue
        units, skipped = (sum(getattr(cost, name) for cost in outcome.times.values()) for name in ("units", "skipped"))
        lines += [f"{outcome.id}: WARNING {text}" for text in warnings_of(outcome.summary)]
        work = f"{units - skipped} units run, {skipped} kept, {seconds:.1f} s"
        lines.append(f"{outcome.id}: {_membranes(outcome.summary)}{work}")
    done = len(result.outcomes) - len(result.failures)
    lines.append(
        f"{done} of {len(result.outcomes)} tomograms complete" + (", see failures.csv" if result.failures else "")
    )
    if result.report:
        lines.append(f"report: {result.report}")
    sys.stdout.write(printable("\n".join(lines)) + "\n")


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """Return what the stages of one tomogram warn of."""
    return [text for stage in summary.values() if isinstance(stage, dict) for text in stage.get("warnings", ())]


def _membranes(summary: dict[str, Any]) -> str:
    if "measure" not in summary:
        return ""
    found = summary["measure"]
    dropped = found["without_surface"]
    shown = f"{found['membranes'] - dropped} membranes, {found['closed']} closed; "
    return shown + (f"{dropped} regions without a surface, see membranes.csv; " if dropped else "")


def print_status(folder: Path) -> None:
    """Print how many units of each stage are complete, per tomogram, from the records alone.

    Raises
    ------
    UsageError
        There is no run in `folder`.
    """
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("no run here", where=str(folder), found=error, todo="name the --output of a run") from error
    failed = _failed(folder)
    lines = [f"{folder}: cryoscale {run['cryoscale']}, started {run['started_utc']}, {len(run['tomograms'])} tomograms"]
    for entry in run["tomograms"]:
        name = entry["id"]
        counts = _records(folder / name)
        shown = ", ".join(f"{stage} {counts[stage]}" for stage in STAGES if counts[stage])
        state = _state(folder / name, failed.get(name, ""), run["until"])
        lines.append(f"  {name}: {state}; finished units: {shown or 'none'}")
    sys.stdout.write(printable("\n".join(lines)) + "\n")


def _records(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in (folder / "records").glob("*/*.json"):
        counts[record.parent.name.split("-")[0]] += 1
    return counts


def _state(folder: Path, failure: str, until: str) -> str:
    if failure:
        return f"FAILED: {failure}"
    if not (folder / "summary.json").is_file():
        return "under way"
    return "complete" if until == STAGES[-1] else f"complete up to {until}"


def _failed(folder: Path) -> dict[str, str]:
    try:
        with (folder / "failures.csv").open(encoding="utf-8", newline="") as stream:
            return {row["id"]: row["message"] for row in csv.DictReader(stream)}
    except OSError:
        return {}
