"""Many tomograms: one output folder, one lock, one run record, failures that stop nobody, one report.

::

    OUTPUT/run.json                what was asked for: options, inputs, versions (runrecord.py)
    OUTPUT/journal.jsonl           what happened, a line each (journal.py)
    OUTPUT/failures.csv            one row per tomogram that failed, and why
    OUTPUT/membranes.csv           one row per membrane of the collection
    OUTPUT/report.html             the page
    OUTPUT/<id>/...                products of one tomogram, and records/ of its finished units (completion.py)
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoscale.completion import (
    FailedBeforeError,
    earlier_failure,
    forget,
    kept_outcome,
    lean,
    mark_of,
    note_failure,
    read_failure,
    read_seal,
    seal_tomogram,
)
from cryoscale.driver import run_jobs
from cryoscale.engine import Executor, Job, Observer, Outcome
from cryoscale.errors import PauseError, TransientError, failure_class
from cryoscale.io.files import crc32c
from cryoscale.io.inputs import InputError
from cryoscale.io.tables import read_csv, write_csv
from cryoscale.journal import Journal
from cryoscale.lock import run_lock
from cryoscale.manifest import Entry
from cryoscale.packing import drop_packs, packed
from cryoscale.pipeline import tomogram_job
from cryoscale.records import STAGES, Tomogram, place_of
from cryoscale.reporting import write_run_report
from cryoscale.runrecord import (
    code_of_stages,
    read_run,
    read_run_seal,
    refuse_mixture,
    run_record,
    seal_run,
    write_run,
)
from cryoscale.segment.plan import gpu_count, model_path
from cryoscale.spec import RunSpec

__all__ = ["Collection", "Result", "pausing", "run_collection", "weights_of"]

_FAILURE_COLUMNS = ("id", "class", "stage", "error", "message", "path")
_STILL_WRITTEN = {"changed", "truncated", "empty", "short-header", "constant", "archive-damaged"}
"""Codes of what a file may be refused for while it is still being written."""
_LOOKERS = 16
"""Threads that look for what is complete."""
_MANY = 5000
"""Tomograms beyond which a run's folder holds them in folders of their own."""
_FAULTS_IN_A_ROW = 3
"""A fault of ours that ends so many tomograms one after the other would end them all."""


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
    retry_failed: bool = False
    """Try the tomograms again that failed before, though nothing about them has changed."""
    command: str = ""
    """How the run was started, for the record."""

    def folder(self, entry: Entry) -> Path:
        """Return the folder of one tomogram's products."""
        return self.place(entry.id)

    def place(self, name: str) -> Path:
        """Return the folder of one tomogram's products, given its id."""
        return self.output.absolute() / place_of(name, spread=self.spread)

    @functools.cached_property
    def spread(self) -> bool:
        """Whether tomograms lie in 256 folders, for there are many; decided once, when a run's folder is begun."""
        run = read_run(self.output)
        return bool(run.get("spread")) if run else len(self.entries) > _MANY

    def stages(self, entry: Entry) -> tuple[str, ...]:
        """Return the stages that a tomogram goes through, up to the last one wanted."""
        spec = entry.spec_over(self.spec)
        left_out = set() if spec.enhance.enabled else {"enhance"}
        learned = spec.merge.connect == "qlearning"
        left_out |= {"merge", "separate"} if learned else {"connect"}
        if not spec.separate.enabled or (entry.mask and spec.merge.separate_labels):
            left_out.add("separate")
        if entry.mask:
            left_out |= {"enhance", "segment", "locate"}
        wanted = STAGES[: STAGES.index(self.until) + 1]
        return tuple(stage for stage in wanted if stage not in left_out)


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
        classes = {failure_class(outcome.error) for outcome in self.failures if outcome.error is not None}
        return 70 if "FATAL" in classes else 3 if classes else 0


def weights_of(collection: Collection) -> str:
    """Return the hash of the weights, empty where the network is not needed.

    Raises
    ------
    UsageError
        They cannot be used: they would fail every tomogram, one by one.
    """
    if all(entry.mask for entry in collection.entries):
        return ""
    from cryoscale.segment.weights import load_model

    return str(load_model(model_path(collection.spec.segment))[1]["sha256"])


def run_collection(
    collection: Collection, executor: Executor, observer: Observer | None = None, *, window: int = 0
) -> Result:
    """Run every tomogram through the stages and write the tables and the page.

    A tomogram that is complete, or failed before and would fail again, is left alone. One that failed by a hiccup of
    disk or network, or because its file was still being written, is tried once more after the others.

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
    model = weights_of(collection)
    for entry in collection.entries:
        entry.spec_over(collection.spec)
    with pausing(collection.output), run_lock(collection.output):
        refuse_mixture(collection, model)
        record = run_record(collection, model)
        with Journal(collection.output, observer or Observer(), executor.tell) as journal:
            work = _Work(collection, model, journal, gpu=gpu_count() > 0 if executor.gpu is None else executor.gpu)
            if work.something_to_do() or not _is_sealed(collection.output):
                write_run(collection.output, record)
                journal.started(len(collection.entries), work.kept, work.standing(record))
                work.run(executor, window)
                _write_tables(collection, record)
        result = work.result()
        if collection.until == "report":
            result.report = collection.output / "report.html"
        return result


@contextlib.contextmanager
def pausing(output: Path) -> Iterator[None]:
    """Tell a fault of the output's file system, met by what the run itself reads or writes, as what pauses a run."""
    try:
        yield
    except OSError as error:
        raise PauseError(
            error.strerror or str(error),
            where=str(error.filename or output),
            todo="free space or mend the file system, then run the same command again",
        ) from error


class _Work:
    """The tomograms of one run: which are left alone, how the others ended."""

    def __init__(self, collection: Collection, model: str, journal: Journal, *, gpu: bool) -> None:
        self._collection, self._model, self._journal, self._gpu = collection, model, journal, gpu
        self._outcomes: dict[str, Outcome] = {}
        # Side by side: each look at a shared file system is a wait.
        with ThreadPoolExecutor(_LOOKERS) as pool:
            marks = pool.map(self._mark, collection.entries)
            self._marks = {entry.id: mark for entry, mark in zip(collection.entries, marks, strict=True)}
            if not (collection.overwrite or collection.first):
                for _ in pool.map(self._leave_alone, collection.entries):
                    pass
        self.kept = len(self._outcomes)
        self._failed = {name: _failure_row(record) for name, record in self._failed_before()}

    def _failed_before(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the failures in the folder that this run does not touch."""
        for name, outcome in self._outcomes.items():
            if isinstance(outcome.error, FailedBeforeError):
                yield name, outcome.error.record
        ours = {entry.id for entry in self._collection.entries}
        for entry in (read_run(self._collection.output) or {"tomograms": []})["tomograms"]:
            record = read_failure(self._collection.place(entry["id"])) if entry["id"] not in ours else None
            if record is not None:
                yield entry["id"], record

    def _mark(self, entry: Entry) -> str:
        return mark_of(entry, self._collection.spec, self._collection.until, code_of_stages(), self._model)

    def _leave_alone(self, entry: Entry) -> None:
        folder, mark = self._collection.folder(entry), self._marks[entry.id]
        outcome = kept_outcome(folder, entry.id, mark)
        if outcome is None and not self._collection.retry_failed:
            outcome = earlier_failure(folder, entry.id, mark)
        if outcome is not None:
            self._outcomes[entry.id] = outcome

    def standing(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what the run is, and the state of each of its folder's tomograms as it begins."""
        stages = {stage for entry in self._collection.entries for stage in self._collection.stages(entry)}
        return {
            "folder": str(self._collection.output),
            **{name: record[name] for name in ("cryoscale", "started_utc", "until")},
            "order": STAGES,
            "expected": sorted(stages),
            "states": [(entry["id"], *self._state(entry["id"])) for entry in record["tomograms"]],
        }

    def _state(self, name: str) -> tuple[str, dict[str, str]]:
        if name in self._failed:
            row = dict(zip(_FAILURE_COLUMNS, self._failed[name], strict=True))
            return "failed", {key: row[key] for key in ("class", "stage", "message")}
        if name in self._marks:
            return "complete" if name in self._outcomes else "waiting", {}
        # Of an earlier run into this folder, which this one leaves alone.
        return "complete" if read_seal(self._collection.place(name)) else "stopped", {}

    def something_to_do(self) -> bool:
        return self.kept < len(self._collection.entries)

    def run(self, executor: Executor, window: int) -> None:
        """Run what is not left alone, and once more what may have failed by chance."""
        _write_failures(self._collection.output, self._failed)
        waiting = [entry for entry in self._collection.entries if entry.id not in self._outcomes]
        if self._run(waiting, executor, window):
            again = [entry for entry in waiting if self._may_pass(entry)]
            self._run(again, executor, window)

    def _run(self, waiting: Sequence[Entry], executor: Executor, window: int) -> bool:
        """Run some tomograms; return whether it came to their end."""
        by_id, in_a_row = {entry.id: entry for entry in waiting}, 0
        jobs = (self._job(entry) for entry in waiting)
        for outcome in run_jobs(jobs, executor, self._journal, window=window):
            self._note(by_id[outcome.id], outcome)
            ours = outcome.error is not None and failure_class(outcome.error) == "FATAL"
            in_a_row = in_a_row + 1 if ours else 0
            if in_a_row == _FAULTS_IN_A_ROW:
                return False
        return True

    def _job(self, entry: Entry) -> Job:
        collection, folder = self._collection, self._collection.folder(entry)
        folder.mkdir(parents=True, exist_ok=True)
        # First of all: a seal tells of a tomogram at rest.
        forget(folder)
        again = _forget_records(collection, folder)
        _sweep_partial(folder)
        tomogram = Tomogram(entry.id, entry.source, str(folder))
        spec = entry.spec_over(collection.spec)
        plan = tomogram_job(tomogram, entry, spec, until=collection.until, gpu=self._gpu)
        return Job(entry.id, packed(plan, entry.id, folder, again))

    def _note(self, entry: Entry, outcome: Outcome) -> None:
        folder, mark = self._collection.folder(entry), self._marks[entry.id]
        if outcome.error is None:
            # Of workers that died: nobody would look here again.
            _sweep_partial(folder)
            seal_tomogram(folder, outcome, mark)
            known = self._failed.pop(entry.id, None)
        else:
            known = self._failed[entry.id] = _failure_row(note_failure(folder, outcome, mark, entry.source))
        if known:
            _write_failures(self._collection.output, self._failed)
        self._outcomes[entry.id] = lean(outcome)

    def _may_pass(self, entry: Entry) -> bool:
        """Whether a second try may end better: it was a hiccup, or the input has changed since."""
        outcome = self._outcomes.get(entry.id)
        if outcome is None or isinstance(outcome.error, TransientError):
            return outcome is not None
        if not isinstance(outcome.error, InputError) or outcome.error.code not in _STILL_WRITTEN:
            return False
        before = self._marks[entry.id]
        self._marks[entry.id] = self._mark(entry)
        return self._marks[entry.id] != before

    def result(self) -> Result:
        """Return how every tomogram ended, in the collection's order."""
        order = {entry.id: n for n, entry in enumerate(self._collection.entries)}
        return Result(sorted(self._outcomes.values(), key=lambda outcome: order[outcome.id]))


# ------------------------------------------------------------------------------------------------------------- folders


def _forget_records(collection: Collection, folder: Path) -> tuple[str, ...]:
    """Drop the done-records of what is to be done again, but for those that are packed; return the stages."""
    stages = STAGES if collection.overwrite else STAGES[STAGES.index(collection.first) :] if collection.first else ()
    if stages:
        for path in (folder / "records").glob("*"):
            if path.name.split("-")[0] in stages:
                shutil.rmtree(path)
    if collection.overwrite:
        drop_packs(folder)
    return stages


def _sweep_partial(folder: Path) -> None:
    """Remove what killed processes left half written; who still writes there is a worker that was given up."""
    for path in (*folder.rglob(".*.partial*"), *folder.glob("*.ome.zarr/**/*.partial")):
        path.unlink(missing_ok=True)


def _is_sealed(output: Path) -> bool:
    """Whether the run's own files are those that its last end left."""
    try:
        seal = read_run_seal(output)
        return all(crc32c(output / name) == (length, crc) for name, length, crc in seal["files"])
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------------------------------------- results


def _failure_row(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(record[name]) for name in _FAILURE_COLUMNS)


def _write_failures(output: Path, failed: dict[str, tuple[str, ...]]) -> None:
    path = output / "failures.csv"
    if failed:
        write_csv(path, _FAILURE_COLUMNS, failed.values())
    else:
        path.unlink(missing_ok=True)


def _write_tables(collection: Collection, record: dict[str, Any]) -> None:
    """Write what is made from all tomograms of the folder."""
    if STAGES.index(collection.until) >= STAGES.index("measure"):
        _gather_membranes(collection, [entry["id"] for entry in record["tomograms"]])
    if collection.until == "report":
        write_run_report(collection.output)
    seal_run(collection.output, record)


def _gather_membranes(collection: Collection, names: Sequence[str]) -> None:
    """Put the tables of all complete tomograms in the folder one below the other, one of them in memory."""
    complete = [name for name in names if (collection.place(name) / "summary.json").is_file()]
    found = ((name, collection.place(name) / "membranes.csv") for name in complete)
    tables = ((name, read_csv(path)) for name, path in found if path.is_file())
    rows = ((name, row) for name, table in tables for row in table)
    first = next(rows, None)
    lines = ((name, *row.values()) for name, row in itertools.chain([first] if first else [], rows))
    write_csv(collection.output / "membranes.csv", ("tomogram", *(first[1] if first else ())), lines)
