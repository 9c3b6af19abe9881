"""What a run says at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cryoscale.progress import printable

if TYPE_CHECKING:
    from cryoscale.collection import Result

__all__ = ["print_summary", "warnings_of"]


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
