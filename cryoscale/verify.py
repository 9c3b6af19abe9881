"""Every file that a run wrote, compared with its checksum; what does not fit is made again, and nothing else.

======================== ==================================== =============================================
file                     checksum in                          when it does not fit
======================== ==================================== =============================================
product of a unit        the unit's record                    the unit runs again
record of a unit         itself; its being there in the seal  the unit runs again
what both are packed in  the tomogram's seal                  written again from what is whole in it
store metadata, summary  the tomogram's seal                  written again from the units' records
seal, failure            itself                               the tomogram is looked through, tried again
stray file in a store    none names it                        removed: Zarr would read it as data
tables, report, run.json the run's seal                       put together again
======================== ==================================== =============================================
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoscale.collection import Collection, Result, pausing, run_collection, weights_of
from cryoscale.completion import files_without_records, forget, mark_of, read_failure, read_seal
from cryoscale.engine import Executor, Observer, record_path
from cryoscale.errors import UsageError
from cryoscale.io.files import crc32c, write_text
from cryoscale.journal import JOURNAL, read_journal
from cryoscale.lock import require_free, run_lock
from cryoscale.manifest import Entry
from cryoscale.manifestfile import options_of
from cryoscale.packing import drop_packs, stored_files, stored_records, stored_units, unpack
from cryoscale.records import DoneRecord, sealed
from cryoscale.runrecord import code_of_stages, read_run, read_run_seal
from cryoscale.spec import spec_from

__all__ = ["Damage", "collection_of", "find_damage", "repair"]


@dataclass(frozen=True)
class Damage:
    """A file that is not what it was when it was written."""

    tomogram: str
    """Id; empty for the run's own files."""
    file: str
    """Relative to the tomogram's folder, or to the run's."""
    what: str
    """``missing``, ``damaged``, or ``not ours``."""
    unit: tuple[str, str, int] | None = None
    """The unit that makes it."""


def collection_of(output: Path) -> Collection:
    """Return the collection that a folder's run was asked for.

    Raises
    ------
    UsageError
        There is no run in the folder.
    """
    run = _sealed_run(output) or read_run(output)
    if run is None:
        raise UsageError("no run here", where=str(output), todo="name the --output of a run")
    entries = [
        Entry(entry["id"], entry["source"], entry["mask"], options_of("run.json", dict(entry.get("options", ()))))
        for entry in run["tomograms"]
    ]
    return Collection(entries, output, spec_from(run["spec"]), until=run["until"], command=run.get("command", ""))


def _sealed_run(output: Path) -> dict[str, Any] | None:
    try:
        return dict(read_run_seal(output)["run"])
    except (OSError, ValueError):
        return None


# ---------------------------------------------------------------------------------------------------------- looking


def find_damage(collection: Collection) -> list[Damage]:
    """Compare every file of a run with its checksum; tomograms side by side, for it is the disk that takes the time.

    Raises
    ------
    PauseError
        What is packed cannot be read for now.
    LockedError
        A run is at work there: what it has half written is not damaged.
    """
    require_free(collection.output)
    ended = _ended(collection.output)
    with pausing(collection.output), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(
            lambda entry: list(_of_tomogram(collection.folder(entry), entry.id, ended.get(entry.id, ""))),
            collection.entries,
        )
        return [*_of_run(collection.output), *(damage for part in found for damage in part)]


def _ended(output: Path) -> dict[str, str]:
    """Return how tomograms ended last, ``done`` or ``failed``: a folder that vanished leaves no other trace."""
    return {event["id"]: event["event"] for event in read_journal(output) if event["event"] in ("done", "failed")}


def _of_run(output: Path) -> Iterator[Damage]:
    try:
        seal = read_run_seal(output)
    except (OSError, ValueError) as error:
        yield Damage("", "seal.json", "missing" if isinstance(error, OSError) else "damaged")
        seal = {"files": []}
    for name, length, crc in seal["files"]:
        if (what := _compare(output / name, length, crc)) is not None:
            yield Damage("", name, what)
    try:
        lines = (output / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        yield Damage("", JOURNAL, "missing")
        return
    if sum(bool(line) for line in lines) > sum(1 for _ in read_journal(output)):
        yield Damage("", JOURNAL, "damaged")


def _compare(path: Path, length: int, crc: int) -> str | None:
    try:
        return None if crc32c(path) == (length, crc) else "damaged"
    except OSError:
        return "missing"


def _of_tomogram(folder: Path, name: str, ended: str) -> Iterator[Damage]:
    failed = (folder / "failure.json").is_file()
    if ended == "failed" and read_failure(folder) is None:
        yield Damage(name, "failure.json", "damaged" if failed else "missing")
    seal = read_seal(folder)
    if seal is None:
        path = folder / "records" / "seal.json"
        if ended == "done" or path.is_file():
            yield Damage(name, "records/seal.json", "damaged" if path.is_file() else "missing")
        # What was not finished, or whose seal is gone: the records that are there tell of themselves.
        keys = stored_units(folder)
    else:
        keys = {(stage, index) for stage, indices in seal["units"].items() for index in indices}
    named: set[str] = set()
    records, kept = stored_records(folder), stored_files(folder)
    for stage, index in sorted(keys):
        yield from _of_unit(folder, (stage, name, index), records.get((stage, index)), kept, named)
    if seal is None:
        return
    for file, length, crc in seal["files"]:
        named.add(file)
        if (what := _compare(folder / file, length, crc)) is not None:
            yield Damage(name, file, what)
    for file in sorted(files_without_records(folder) - named):
        if ".ome.zarr/" in file:
            yield Damage(name, file, "not ours")


def _of_unit(
    folder: Path, key: tuple[str, str, int], text: str | None, kept: dict[str, tuple[int, int]], named: set[str]
) -> Iterator[Damage]:
    """Check a unit's record and the files it names, which may be packed, and note their names."""
    shown = record_path(str(folder), key).relative_to(folder).as_posix()
    if text is None:
        yield Damage(key[1], shown, "missing", key)
        return
    try:
        record = DoneRecord.from_json(text)
    except ValueError:
        yield Damage(key[1], shown, "damaged", key)
        return
    if record.key != key:
        yield Damage(key[1], shown, "damaged", key)
    for file, length, crc in record.files:
        named.add(file)
        what = _compare(folder / file, length, crc)
        if what == "missing" and file in kept:
            what = None if kept[file] == (length, crc) else "damaged"
        if what is not None:
            yield Damage(key[1], file, what, key)


# ---------------------------------------------------------------------------------------------------------- mending


def repair(
    collection: Collection, found: list[Damage], executor: Executor, observer: Observer | None = None
) -> tuple[Result, list[str]]:
    """Make the damaged files again: run their units, put the run's tables together.

    Returns
    -------
    How the run ended, and the ids of tomograms that cannot be mended because their inputs, or the code, have changed.

    Raises
    ------
    UsageError, LockedError, PauseError
        As `cryoscale.collection.run_collection`.
    """
    model = weights_of(collection)
    damaged = {damage.tomogram for damage in found} - {""}
    changed = [entry.id for entry in collection.entries if entry.id in damaged and _changed(collection, entry, model)]
    with pausing(collection.output), run_lock(collection.output):
        _forget_damage(collection, found, damaged - set(changed))
    kept = [entry for entry in collection.entries if entry.id not in changed]
    result = run_collection(dataclasses.replace(collection, entries=kept), executor, observer)
    return result, changed


def _forget_damage(collection: Collection, found: list[Damage], names: set[str]) -> None:
    """Take away what is damaged of some tomograms and of the run itself, so that it is not complete any more."""
    for name in names:
        # Units see what is damaged of it only where it is a file of its own.
        unpack(collection.place(name))
        drop_packs(collection.place(name))
    for damage in found:
        if damage.tomogram in names:
            _discard(collection.place(damage.tomogram), damage)
    for name in names:
        forget(collection.place(name))
    run = _sealed_run(collection.output) or read_run(collection.output)
    if run is not None and any(not damage.tomogram for damage in found):
        # What follows compares itself with this record; without a seal it puts the run's own files together again.
        write_text(collection.output / "run.json", json.dumps(run, indent=1))
        (collection.output / "seal.json").unlink(missing_ok=True)
        _mend_journal(collection.output)


def _changed(collection: Collection, entry: Entry, model: str) -> bool:
    seal = read_seal(collection.folder(entry))
    mark = mark_of(entry, collection.spec, collection.until, code_of_stages(), model)
    return seal is not None and seal["mark"] != mark


def _discard(folder: Path, damage: Damage) -> None:
    """Remove a damaged file, and the record that says that it is whole."""
    (folder / damage.file).unlink(missing_ok=True)
    if damage.unit is not None:
        record_path(str(folder), damage.unit).unlink(missing_ok=True)


def _mend_journal(output: Path) -> None:
    lines = [sealed(event) for event in read_journal(output)]
    write_text(output / JOURNAL, "".join(f"{line}\n" for line in lines))
