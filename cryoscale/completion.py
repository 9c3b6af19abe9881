"""Which tomograms are complete and which failed: what is left in each one's folder.

::

    <id>/records/seal.json    complete: the run's mark, the units, and the checksums of files that no unit wrote
    <id>/failure.json         failed: why, at which stage, and who has to act (errors.py)
    <id>/fault.txt            the traceback, where the fault is ours

The mark is a hash of all that determines a tomogram's products. Where it fits, the tomogram is not looked into again:
a finished run of a thousand tomograms is found finished by opening a few files of each. What may have happened to the
products since is for ``cryoscale verify``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryoscale import __version__
from cryoscale.engine import Outcome, StageTime
from cryoscale.errors import CryoscaleError, TransientError, failure_class
from cryoscale.io.files import crc32c, write_text
from cryoscale.manifest import Entry
from cryoscale.records import fingerprint, inside, require, sealed, unsealed
from cryoscale.spec import RunSpec

__all__ = [
    "FailedBeforeError",
    "earlier_failure",
    "files_without_records",
    "forget",
    "kept_outcome",
    "lean",
    "mark_of",
    "note_failure",
    "read_failure",
    "read_seal",
    "seal_tomogram",
]

_SEAL = Path("records") / "seal.json"
_SEALED = {"mark": str, "units": {"*": [int]}, "files": [(inside, int, int)]}
_FAILURE = dict.fromkeys(("id", "class", "stage", "error", "message", "path"), str) | {"mark?": str}


class FailedBeforeError(CryoscaleError):
    """A failure of an earlier run, from its record."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(str(record["message"]))
        self.record, self.failure = record, str(record["class"])


def mark_of(entry: Entry, spec: RunSpec, until: str, code: dict[str, str], model: str) -> str:
    """Return the hash of all that determines a tomogram's products; empty where its inputs cannot be looked at."""
    options = dataclasses.asdict(entry.spec_over(spec))
    # How many slices go through the network at once never changes a result, nor how long an input is watched.
    options["segment"] |= {"batch_slices": None, "model": None}
    options["ingest"] |= {"wait_stable_seconds": None}
    try:
        return fingerprint(__version__, code, "" if entry.mask else model, options, until, entry.identity())
    except OSError:
        return ""


def seal_tomogram(folder: Path, outcome: Outcome, mark: str) -> None:
    """Write the summary, and then the seal that says that the tomogram is complete."""
    assert outcome.summary is not None
    times = {stage: dataclasses.asdict(cost) for stage, cost in outcome.times.items()}
    write_text(folder / "summary.json", json.dumps({"id": outcome.id, "times": times, **outcome.summary}, indent=1))
    others = files_without_records(folder) - outcome.files - outcome.packs.keys()
    checksums = outcome.packs | {name: crc32c(folder / name) for name in others}
    files = [[name, *checksums[name]] for name in sorted(checksums)]
    write_text(folder / _SEAL, sealed({"mark": mark, "units": outcome.units, "files": files}))


def files_without_records(folder: Path) -> set[str]:
    """Return the files of a tomogram, relative to its folder, but for records and what is half written."""
    return set(_files(str(folder), len(str(folder)) + 1))


def _files(folder: str, skip: int) -> Iterator[str]:
    """Yield the files below a folder, relative to it, but for the records and what is half written."""
    for found in os.scandir(folder):
        name = found.path[skip:]
        if found.is_dir(follow_symlinks=False):
            if name != "records":
                yield from _files(found.path, skip)
        elif ".partial" not in found.name:
            yield name


def read_seal(folder: Path) -> dict[str, Any] | None:
    """Return the seal of a tomogram, None where it is not complete."""
    try:
        seal = unsealed((folder / _SEAL).read_text(encoding="utf-8"))
        require(seal, _SEALED)
        return seal
    except (OSError, ValueError):
        return None


def kept_outcome(folder: Path, name: str, mark: str) -> Outcome | None:
    """Return how a tomogram ended that is complete under this very mark, None for any other."""
    seal = read_seal(folder)
    if seal is None or not mark or seal["mark"] != mark:
        return None
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        require(summary, {"times": {"*": {"*": float}}})
        times = {stage: StageTime(**cost) for stage, cost in summary.pop("times").items()}
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    for cost in times.values():
        cost.skipped, cost.wall_seconds = cost.units, 0.0
    return lean(Outcome(name, {key: value for key, value in summary.items() if key != "id"}, times=times))


def lean(outcome: Outcome) -> Outcome:
    """Return an outcome without what grows with the tomogram: a run holds that of every tomogram until its end.

    Numbers, words and warnings of each stage are left; ``summary.json`` and the records have all.
    """
    summary = outcome.summary and {
        stage: {key: value for key, value in found.items() if key == "warnings" or not isinstance(value, list | dict)}
        for stage, found in outcome.summary.items()
        if isinstance(found, dict)
    }
    error = outcome.error and outcome.error.with_traceback(None)
    return dataclasses.replace(outcome, summary=summary, error=error, files=set(), units={}, packs={})


def forget(folder: Path) -> None:
    """Take back that a tomogram is complete or failed: it is under way."""
    for name in (_SEAL, "summary.json", "failure.json", "fault.txt"):
        (folder / name).unlink(missing_ok=True)


def note_failure(folder: Path, outcome: Outcome, mark: str, source: str) -> dict[str, Any]:
    """Record how a tomogram failed; return the record."""
    error = outcome.error
    assert error is not None
    record = {
        "id": outcome.id,
        "class": failure_class(error),
        "stage": outcome.stage,
        "error": type(error).__name__,
        "message": str(error),
        "path": source,
        "mark": mark,
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_text(folder / "failure.json", sealed(record))
    if record["class"] == "FATAL":
        write_text(folder / "fault.txt", "".join(traceback.format_exception(error)))
    return record


def read_failure(folder: Path) -> dict[str, Any] | None:
    """Return the record of a tomogram's failure, None where it did not fail."""
    try:
        record = unsealed((folder / "failure.json").read_text(encoding="utf-8"))
        require(record, _FAILURE)
        return record
    except (OSError, ValueError):
        return None


def earlier_failure(folder: Path, name: str, mark: str) -> Outcome | None:
    """Return the failure that trying again would only repeat: the same inputs, options and code, and no hiccup."""
    record = read_failure(folder)
    if record is None or not mark or record.get("mark") != mark or record["class"] == TransientError.failure:
        return None
    return Outcome(name, error=FailedBeforeError(record), stage=str(record["stage"]))
