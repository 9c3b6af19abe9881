"""Many tomograms: one output folder, one lock, one run record, failures that stop nobody, one report.

::

    OUTPUT/run.json                what was asked for: options, sources, versions
    OUTPUT/failures.csv            one row per tomogram that failed, and why
    OUTPUT/membranes.csv           one row per membrane of the collection
    OUTPUT/report.html             the page
    OUTPUT/<id>/...                products of one tomogram, and records/ of its finished units
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoscale import __version__
from cryoscale.driver import run_jobs
from cryoscale.engine import Executor, Job, Observer, Outcome
from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.io.files import write_text
from cryoscale.io.tables import read_csv, write_csv
from cryoscale.lock import run_lock
from cryoscale.manifest import Entry
from cryoscale.pipeline import STAGES, tomogram_job
from cryoscale.records import Tomogram
from cryoscale.reporting import write_run_report
from cryoscale.segment.plan import gpu_count, model_path
from cryoscale.segment.weights import model_hash
from cryoscale.spec import RunSpec

__all__ = ["Collection", "Result", "run_collection"]


@dataclass(frozen=True)
class Collection:
    """What is to be done."""

    entries: Sequence[Entry]
    output: Path
    spec: RunSpec
    first: str = ""
    """Do this stage and those after it again, whatever is complete; empty: only what is not complete."""
    until: str = "report"
    """The last stage."""
    overwrite: bool = False
    """Do everything again."""
    command: str = ""
    """How the run was started, for the record."""

    def folder(self, entry: Entry) -> Path:
        """Return the folder of one tomogram's products."""
        return self.output.absolute() / entry.id


@dataclass
class Result:
    """How it went."""

    outcomes: list[Outcome] = field(default_factory=list)
    report: Path | None = None

    @property
    def failures(self) -> list[Outcome]:
        """The tomograms that failed."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    @property
    def exit_code(self) -> int:
        """0 where all went well, 3 where tomograms failed, 70 where one failed by a fault of ours."""
        if any(not isinstance(outcome.error, CryoscaleError) for outcome in self.failures):
            return 70
        return 3 if self.failures else 0


def run_collection(
    collection: Collection, executor: Executor, observer: Observer | None = None, *, window: int = 4
) -> Result:
    """Run every tomogram through the stages and write the tables and the page.

    Raises
    ------
    UsageError
        The weights cannot be used, or the output folder holds a run with other options that neither ``overwrite``
        nor ``first`` covers.
    LockedError
        Another run holds the output folder.
    PauseError
        The machine cannot go on; the same command resumes.
    """
    if not all(entry.mask for entry in collection.entries):
        # Weights that cannot be read would fail every tomogram, one by one.
        model_hash(model_path(collection.spec.segment))
    gpu = gpu_count() > 0 if executor.gpu is None else executor.gpu
    with run_lock(collection.output):
        _refuse_mixture(collection)
        _forget_records(collection)
        _sweep_partial(collection)
        write_text(collection.output / "run.json", json.dumps(_run_record(collection), indent=1))
        result = Result()
        for outcome in run_jobs(
            (_job(collection, entry, gpu) for entry in collection.entries), executor, observer, window=window
        ):
            result.outcomes.append(outcome)
            _write_summary(collection, outcome)
        order = {entry.id: n for n, entry in enumerate(collection.entries)}
        result.outcomes.sort(key=lambda outcome: order[outcome.id])
        _write_failures(collection, result)
        if STAGES.index(collection.until) >= STAGES.index("measure"):
            _gather_membranes(collection)
        if collection.until == "report":
            result.report = write_run_report(collection.output)
        return result


def _job(collection: Collection, entry: Entry, gpu: bool) -> Job:
    tomogram = Tomogram(entry.id, entry.source, str(collection.folder(entry)))
    Path(tomogram.folder).mkdir(parents=True, exist_ok=True)
    # It says "complete" and must not while the tomogram is under way.
    tomogram.path("summary.json").unlink(missing_ok=True)
    return Job(
        entry.id, tomogram_job(tomogram, entry, entry.spec_over(collection.spec), until=collection.until, gpu=gpu)
    )


# ------------------------------------------------------------------------------------- what was asked for, and changes


def _run_record(collection: Collection) -> dict[str, Any]:
    return {
        "cryoscale": __version__,
        "command": collection.command,
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"node": platform.node(), "python": platform.python_version(), "system": platform.platform()},
        "until": collection.until,
        "spec": dataclasses.asdict(collection.spec),
        "tomograms": [*_others(collection), *(dataclasses.asdict(entry) for entry in collection.entries)],
    }


def _others(collection: Collection) -> list[dict[str, str]]:
    """Return the tomograms that earlier runs put into this folder and this run does not touch."""
    try:
        before = json.loads((collection.output / "run.json").read_text(encoding="utf-8"))["tomograms"]
    except (OSError, ValueError, KeyError):
        return []
    ours = {entry.id for entry in collection.entries}
    return [entry for entry in before if entry["id"] not in ours]


def _refuse_mixture(collection: Collection) -> None:
    """Refuse to go on with options that differ from those that the folder's products were made with."""
    if collection.overwrite:
        return
    try:
        before = json.loads((collection.output / "run.json").read_text(encoding="utf-8"))
        old, version = before["spec"], before["cryoscale"]
    except (OSError, ValueError, KeyError):
        return
    new = json.loads(json.dumps(dataclasses.asdict(collection.spec)))
    redone = STAGES[STAGES.index(collection.first) :] if collection.first else ()
    changed = [
        f"{stage}.{name} {old.get(stage, {}).get(name)!r} -> {value!r}"
        for stage, options in new.items()
        for name, value in options.items()
        if old.get(stage, {}).get(name) != value and stage not in redone and _has_records(collection, stage)
    ]
    inputs = {entry["id"]: entry for entry in before["tomograms"]}
    for entry in collection.entries:
        known = inputs.get(entry.id)
        if known is not None:
            changed += _changes_of_tomogram(collection, entry, known)
    if version != __version__:
        changed.append(f"cryoscale {version} -> {__version__}")
    if changed:
        raise UsageError(
            "the output folder holds a run with other options",
            where=str(collection.output),
            found="; ".join(changed),
            todo="use another --output, --overwrite to do all again, or --from the first changed STAGE",
        )


def _changes_of_tomogram(collection: Collection, entry: Entry, known: dict[str, Any]) -> list[str]:
    """Name what of one tomogram's inputs and own options differs from an earlier run's."""
    was, now = (known["source"], known["mask"]), (entry.source, entry.mask)
    changed = [f"inputs of {entry.id} {was} -> {now}"] if was != now else []
    redone = STAGES[STAGES.index(collection.first) :] if collection.first else ()
    old = dict(known.get("options", ()))
    new = json.loads(json.dumps(dict(entry.options)))
    for name in sorted(old.keys() | new.keys()):
        if (
            old.get(name) != new.get(name)
            and (stage := name.split(".")[0]) not in redone
            and _used(collection, entry, stage)
        ):
            changed.append(f"{entry.id} {name} {old.get(name)!r} -> {new.get(name)!r}")
    return changed


def _has_records(collection: Collection, stage: str) -> bool:
    """Whether any tomogram has a finished unit of a stage; where none has, no option of it was used yet."""
    return any(_used(collection, entry, stage) for entry in collection.entries)


def _used(collection: Collection, entry: Entry, stage: str) -> bool:
    names = (path.name for path in (collection.folder(entry) / "records").glob("*"))
    # Looking into an input uses no option that could be changed by its failing.
    return any(name.split("-")[0] == stage and not name.endswith("-open") for name in names)


def _forget_records(collection: Collection) -> None:
    """Drop the done-records of what is to be done again."""
    stages = STAGES if collection.overwrite else STAGES[STAGES.index(collection.first) :] if collection.first else ()
    for entry in collection.entries:
        for folder in (collection.folder(entry) / "records").glob("*"):
            if folder.name.split("-")[0] in stages:
                shutil.rmtree(folder)


def _sweep_partial(collection: Collection) -> None:
    """Remove what a killed run left half written; the lock says that nobody is writing now."""
    for entry in collection.entries:
        folder = collection.folder(entry)
        for path in (*folder.rglob(".*.partial*"), *folder.glob("*.ome.zarr/**/*.partial")):
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------------- results


def _write_summary(collection: Collection, outcome: Outcome) -> None:
    if outcome.summary is not None:
        times = {stage: dataclasses.asdict(cost) for stage, cost in outcome.times.items()}
        text = json.dumps({"id": outcome.id, "times": times, **outcome.summary}, indent=1)
        write_text(collection.output / outcome.id / "summary.json", text)


def _write_failures(collection: Collection, result: Result) -> None:
    rows = [
        (outcome.id, outcome.stage, type(outcome.error).__name__, str(outcome.error)) for outcome in result.failures
    ]
    path = collection.output / "failures.csv"
    others = {entry["id"] for entry in _others(collection)}
    if path.is_file():
        rows += [tuple(row.values()) for row in read_csv(path) if row["id"] in others]  # type: ignore[misc]
    if rows:
        write_csv(path, ("id", "stage", "error", "message"), rows)
    else:
        path.unlink(missing_ok=True)


def _gather_membranes(collection: Collection) -> None:
    """Put the tables of all complete tomograms in the folder one below the other."""
    rows: list[tuple[str, ...]] = []
    columns: tuple[str, ...] = ()
    for name in [entry["id"] for entry in _others(collection)] + [entry.id for entry in collection.entries]:
        path = collection.output / name / "membranes.csv"
        if path.is_file() and (path.parent / "summary.json").is_file():
            table = read_csv(path)
            columns = tuple(table[0]) if table else columns
            rows += [(name, *row.values()) for row in table]
    write_csv(collection.output / "membranes.csv", ("tomogram", *columns), rows)
