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

__all__ = ["print_status", "print_summary"]


def print_summary(result: Result) -> None:
    """Print one line per tomogram, the failures, and where the report is."""
    lines = []
    for outcome in result.outcomes:
        seconds = sum(cost.wall_seconds for cost in outcome.times.values())
        if outcome.summary is None:
            lines.append(f"{outcome.id}: FAILED in {outcome.stage}: {outcome.error}")
            continue
        units, skipped = (sum(getattr(cost, name) for cost in outcome.times.values()) for name in ("units", "skipped"))
        lines.append(
            f"{outcome.id}: {_membranes(outcome.summary)}{units - skipped} units run, {skipped} kept, {seconds:.1f} s"
        )
    done = len(result.outcomes) - len(result.failures)
    lines.append(
        f"{done} of {len(result.outcomes)} tomograms complete" + (", see failures.csv" if result.failures else "")
    )
    if result.report:
        lines.append(f"report: {result.report}")
    sys.stdout.write(printable("\n".join(lines)) + "\n")


def _membranes(summary: dict[str, Any]) -> str:
    if "measure" not in summary:
        return ""
    return f"{summary['measure'].get('membranes', 0)} membranes, {summary['measure'].get('closed', 0)} closed; "


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
        state = (
            f"FAILED: {failed[name]}" if name in failed else "complete" if _is_complete(folder / name) else "under way"
        )
        lines.append(f"  {name}: {state}; finished units: {shown or 'none'}")
    sys.stdout.write(printable("\n".join(lines)) + "\n")


def _records(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in (folder / "records").glob("*/*.json"):
        counts[record.parent.name.split("-")[0]] += 1
    return counts


def _is_complete(folder: Path) -> bool:
    return (folder / "summary.json").is_file()


def _failed(folder: Path) -> dict[str, str]:
    try:
        with (folder / "failures.csv").open(encoding="utf-8", newline="") as stream:
            return {row["id"]: row["message"] for row in csv.DictReader(stream)}
    except OSError:
        return {}
