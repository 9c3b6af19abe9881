"""The page of a run, put together from what is in its folder: it can be made anew at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoscale.io.tables import read_csv
from cryoscale.records import Geometry, Tomogram
from cryoscale.report.plan import read_tomogram, write_report
from cryoscale.report.run import ReportRun, TomogramReport
from cryoscale.spec import RunSpec, spec_from, to_toml

__all__ = ["write_run_report"]


def write_run_report(output: Path, *, scores: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write ``report.html`` of the run in `output`.

    Parameters
    ----------
    output
        Folder of a run, with its ``run.json``.
    scores
        By tomogram, scores against a known truth.

    Returns
    -------
    Path of the page.
    """
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    failed = read_csv(output / "failures.csv") if (output / "failures.csv").is_file() else []
    failures = tuple((row["id"], row["stage"], row["message"]) for row in failed)
    spec = spec_from(run["spec"])
    tomograms = [
        _tomogram(output, entry, (scores or {}).get(entry["id"]))
        for entry in run["tomograms"]
        if (output / entry["id"] / "summary.json").is_file()
    ]
    page = ReportRun(
        title=output.absolute().name,
        version=run["cryoscale"],
        command=run["command"],
        created_utc=run["started_utc"],
        machine=tuple((name, str(value)) for name, value in run["machine"].items()),
        spec_toml=to_toml(spec),
        tomograms=tuple(tomograms),
        failures=failures,
        skipped=_skipped(spec, run),
    )
    write_report(output / "report.html", page)
    return output / "report.html"


def _tomogram(output: Path, entry: dict[str, str], scores: Mapping[str, Any] | None) -> TomogramReport:
    folder = output.absolute() / entry["id"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    tomogram = Tomogram(entry["id"], entry["source"], str(folder), Geometry.from_json(summary["geometry"]))
    ingested = [summary[stage] for stage in ("ingest", "ingest-mask") if stage in summary]
    warnings = [text for stage in summary.values() if isinstance(stage, dict) for text in stage.get("warnings", ())]
    facts = [("voxels stored as", str(stage["dtype"])) for stage in ingested]
    if entry["mask"]:
        facts.append(("mask", entry["mask"]))
    return read_tomogram(
        tomogram,
        summary.get("report", {}),
        facts=tuple(facts),
        warnings=tuple(warnings),
        stage_seconds={stage: cost["unit_seconds"] for stage, cost in summary["times"].items()},
        peak_bytes=max((cost["peak_bytes"] for cost in summary["times"].values()), default=0),
        scores=scores,
    )


def _skipped(spec: RunSpec, run: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    skipped = [] if spec.enhance.enabled else [("enhance", "off; the network reads tomograms as they are")]
    if any(entry["mask"] for entry in run["tomograms"]):
        skipped.append(("segment, locate", "masks were given, so the network was not run and no proteins were sought"))
    return tuple(skipped)
