"""The pages of a run, put together from what is in its folder: they can be made anew at any time.

``report.html`` shows the run, and of each tomogram as much as fits; ``reports/<id>.html`` shows all of one tomogram.
A tomogram's own page ends with a hash of all that it shows, and a checksum. Where the page is whole, and shows what is
in the folder, it is left as it is: of ten thousand tomograms a run may have added one. It then goes on telling when,
where and by which command it was written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoscale.errors import UsageError
from cryoscale.io.files import write_text
from cryoscale.io.tables import read_csv
from cryoscale.records import Geometry, Tomogram
from cryoscale.report.page import render_page
from cryoscale.report.plan import read_tomogram, write_report
from cryoscale.report.run import MOST_ARTICLES, ReportRun, TomogramReport
from cryoscale.report.script import SCRIPT
from cryoscale.report.totals import Gathered
from cryoscale.runrecord import code_of_stages, place_in
from cryoscale.scoring import score_against_labels
from cryoscale.spec import RunSpec, spec_from, to_toml

__all__ = ["PAGES", "score_tomograms", "write_run_report"]

PAGES = "reports"
"""Folder of the tomograms' own pages."""
_WITH_SLICES = 12
"""Of the run's page, the first tomograms that may show slices to look through."""


def write_run_report(output: Path) -> Path:
    """Write ``report.html`` of the run in `output`, and a page for each of its tomograms.

    Parameters
    ----------
    output
        Folder of a run, with its ``run.json``; ``scores.json``, where it is there, has scores against a known truth.

    Returns
    -------
    Path of the run's page.
    """
    scores = _scores(output)
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    failed = read_csv(output / "failures.csv") if (output / "failures.csv").is_file() else []
    failures = tuple((row["id"], row["stage"], row["message"]) for row in failed)
    spec = spec_from(run["spec"])
    page = ReportRun(
        title=output.absolute().name,
        version=run["cryoscale"],
        command=run["command"],
        created_utc=run["started_utc"],
        machine=tuple((name, str(value)) for name, value in run["machine"].items()),
        spec_toml=to_toml(spec),
        failures=failures,
        skipped=_skipped(spec, run),
    )
    shown: list[TomogramReport] = []
    every = Gathered()
    for entry in run["tomograms"]:
        place = place_in(run, entry["id"])
        if (output / place / "summary.json").is_file():
            tomogram = _tomogram(output / place, entry, scores.get(entry["id"]))
            above = place.removesuffix(tomogram.id)
            own = dataclasses.replace(tomogram, root="../" * (1 + place.count("/")) + above)
            own_page = dataclasses.replace(page, title=tomogram.id, tomograms=(own,), failures=())
            _write_own_page(output / PAGES / f"{place}.html", own_page)
            linked = dataclasses.replace(tomogram, root=above, page=f"{PAGES}/{place}.html")
            # All that is kept of a thousand tomograms is a line of each, and what distributions are drawn of.
            every.add(linked)
            if len(shown) < MOST_ARTICLES:
                shown.append(_without_slices(linked) if len(shown) >= _WITH_SLICES else linked)
    write_report(output / "report.html", dataclasses.replace(page, tomograms=tuple(shown), every=every))
    return output / "report.html"


def _write_own_page(path: Path, page: ReportRun) -> None:
    """Write a tomogram's own page, unless it is there and shows all that it should."""
    mark = _mark_of(page)
    raw = path.read_bytes() if path.is_file() else b""
    body, start, end = raw.rpartition(b"<!-- made of ")
    if not raw or (start + end).decode("utf-8", "replace") != _last_line(body, mark):
        text = render_page(page)
        write_text(path, text + _last_line(text.encode(), mark))


def _mark_of(page: ReportRun) -> str:
    """Return a hash of all that a page shows, but for when, where and by which command it is written."""
    shown = dataclasses.replace(page, created_utc="", command="", machine=())
    made_of = repr((code_of_stages()["report"], SCRIPT, shown))
    return hashlib.sha256(made_of.encode("utf-8", "replace")).hexdigest()


def _last_line(body: bytes, mark: str) -> str:
    return f"<!-- made of {mark}, crc32 {zlib.crc32(body)} -->\n"


def score_tomograms(output: Path, pattern: str) -> None:
    """Score tomograms of a run against true labels, and keep the scores for its pages (``scores.json``).

    Parameters
    ----------
    output
        Folder of a run.
    pattern
        Path of the labels, with ``{id}`` for the tomogram's; those without a file of their own are not scored.

    Raises
    ------
    UsageError
        No tomogram of the run has true labels, or they do not fit.
    """
    folders = _complete(output)
    names = list(folders)
    if "{id}" not in pattern and len(names) > 1:
        raise UsageError("one truth for several tomograms", where="--truth", found=pattern, allowed="a path with {id}")
    found = {name: Path(pattern.replace("{id}", name)) for name in names}
    there = {name: path for name, path in found.items() if path.exists()}
    if not there:
        missing = str(next(iter(found.values()), pattern))
        raise UsageError("no true labels", where="--truth", found=missing, todo="name files that are there, with {id}")
    scores = dict(_scores(output)) | {name: score_against_labels(folders[name], path) for name, path in there.items()}
    write_text(output / "scores.json", json.dumps(scores, indent=1))


def _complete(output: Path) -> dict[str, Path]:
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    folders = {str(entry["id"]): output / place_in(run, entry["id"]) for entry in run["tomograms"]}
    return {name: folder for name, folder in folders.items() if (folder / "membranes.ome.zarr").is_dir()}


def _without_slices(tomogram: TomogramReport) -> TomogramReport:
    """Leave out early what the run's page has no room for."""
    gone = ("slices",) if tomogram.stacks else ()
    return dataclasses.replace(tomogram, stacks=(), left_out=(*tomogram.left_out, *gone))


def _scores(output: Path) -> Mapping[str, Mapping[str, Any]]:
    path = output / "scores.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _tomogram(folder: Path, entry: dict[str, str], scores: Mapping[str, Any] | None) -> TomogramReport:
    folder = folder.absolute()
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
