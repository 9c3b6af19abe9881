"""A complete tomogram at rest: few files, for a shared file system counts them.

::

    at work                              at rest
    records/<stage>/000000.json     ->   records/units.jsonl    the records of all units, a line each
    merge/, separate/, fits/ ...    ->   workings.tar           what stages hand to each other
    volumes, meshes, tables              as they are

Units only ever see files as they are at work. A tomogram is packed after its last unit, and unpacked before it is taken
up again::

    pack      both files written whole  ->  what is in them removed  ->  sealed (completion.py)
    unpack    unsealed  ->  what is in them and not there written  ->  both files removed

So whenever a process is killed, each record and each working file is there in at least one form, and where it is there
in both they are the same. A line of the records that is damaged, or a member of the archive, is lost alone: its unit
runs again. Units pack and unpack, for archives may be large; what is removed, the run's own process removes, which
holds the run's lock: no worker that was given up can remove anything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from cryoscale.engine import JobPlan, Phase, record_path
from cryoscale.io.files import atomic_write, crc32c_of
from cryoscale.pipeline import STAGES
from cryoscale.records import DoneRecord, Receipt, Unit, inside

__all__ = ["PACKS", "drop_packs", "is_working", "packed", "stored_records", "stored_units", "stored_workings", "unpack"]

_RECORDS, _WORKINGS = "records/units.jsonl", "workings.tar"
PACKS = (_RECORDS, _WORKINGS)
"""The files that a tomogram's records and working files are packed into, relative to its folder."""
_FOLDERS = {*STAGES, "fits"}
_BYTES = 32 << 20
_REMOVERS = 16

Key = tuple[str, str, int]


def is_working(name: str) -> bool:
    """Whether a file, relative to its tomogram's folder, is of use to stages alone."""
    return name.split("/")[0] in _FOLDERS and "/" in name


def packed(plan: JobPlan, name: str, folder: Path, again: Collection[str] = ()) -> JobPlan:
    """Return a tomogram's phases with what goes before and after: it is unpacked, and in the end packed.

    Parameters
    ----------
    plan
        Phases of the stages.
    name, folder
        The tomogram's id and folder.
    again
        Stages whose records are not wanted any more.
    """
    if any((folder / pack).is_file() for pack in PACKS):
        yield _phase(folder, Unit(("unpack", name, 0), _unpack_unit, (str(folder), *again), _BYTES))
        drop_packs(folder)
    keys, files = list[Key](), set[str]()
    try:
        phase = next(plan)
        while True:
            receipts = yield phase
            keys += [unit.key for unit in phase.units]
            files.update(file for receipt in receipts for file in receipt.files)
            phase = plan.send(receipts)
    except StopIteration as stop:
        summary = stop.value
    finally:
        plan.close()
    arguments = (str(folder), tuple(sorted(keys)), tuple(sorted(filter(is_working, files))))
    yield _phase(folder, Unit(("pack", name, 0), _pack_unit, arguments, _BYTES))
    _remove_packed(folder)
    return dict(summary or {})


def _phase(folder: Path, unit: Unit) -> Phase:
    # Without a fingerprint: a record of it would say nothing of the files that the unit finds.
    return Phase(unit.key[0], str(folder), "", (unit,))


def drop_packs(folder: Path) -> None:
    """Remove what is unpacked, or not wanted any more."""
    for pack in PACKS:
        (folder / pack).unlink(missing_ok=True)


def _remove_packed(folder: Path) -> None:
    """Remove what is packed, and workings of earlier runs that nothing names any more."""
    places = [folder / name for name in sorted(_FOLDERS)]
    places += [path for path in (folder / "records").iterdir() if path.is_dir()]
    with ThreadPoolExecutor(_REMOVERS) as pool:
        for _ in pool.map(_remove, places):
            pass


def _remove(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)


# ------------------------------------------------------------------------------------------------- what workers do


def _pack_unit(folder: str, keys: tuple[Key, ...], files: tuple[str, ...]) -> Receipt:
    """Write the records of some units into one file, and working files into another."""
    root = Path(folder)
    with atomic_write(root / _RECORDS) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for key in keys:
            stream.write(record_path(folder, key).read_text(encoding="utf-8").rstrip("\n") + "\n")
    if not files:
        return Receipt((_RECORDS,))
    with (
        atomic_write(root / _WORKINGS) as temporary,
        tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in files:
            with (root / name).open("rb") as source:
                # Name and size alone: times and owners would differ from run to run.
                member = tarfile.TarInfo(name)
                member.size = os.fstat(source.fileno()).st_size
                archive.addfile(member, source)
    return Receipt(PACKS)


def _unpack_unit(folder: str, *again: str) -> Receipt:
    unpack(Path(folder), again)
    return Receipt()


def unpack(folder: Path, again: Collection[str] = ()) -> None:
    """Write every packed file that is not there; what is damaged is left out, and so are records of some stages."""
    for (stage, name, index), line in _packed_lines(folder):
        if stage.split("-")[0] not in again:
            _put(record_path(str(folder), (stage, name, index)), line.encode())
    for name, content in _members(folder):
        with contextlib.suppress(tarfile.ReadError):
            _put(folder / name, content)


def _put(path: Path, content: bytes | IO[bytes]) -> None:
    if path.is_file():
        return
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            shutil.copyfileobj(content, stream)


# ------------------------------------------------------------------------------------------------------- what is there


def _packed_lines(folder: Path) -> Iterator[tuple[Key, str]]:
    """Yield the records that are packed, with their units; damaged lines are left out."""
    try:
        stream = (folder / _RECORDS).open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                yield DoneRecord.from_json(line).key, line.rstrip("\n")


def _members(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the working files that are packed; where the archive is damaged, what can still be read of it."""
    with (
        contextlib.suppress(FileNotFoundError, tarfile.TarError),
        tarfile.open(folder / _WORKINGS, "r:", ignore_zeros=True) as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and inside(member.name) and is_working(member.name):
                yield member.name, content


def stored_units(folder: Path) -> set[tuple[str, int]]:
    """Return stage and index of the units that have a record, packed or not, whole or not."""
    root = folder / "records"
    singles = [path for path in root.glob("*/**/*.json") if path.stem.isdigit()]
    known = {(path.relative_to(root).parts[0], int(path.stem)) for path in singles}
    return known | {(stage, index) for (stage, _, index), _ in _packed_lines(folder)}


def stored_records(folder: Path) -> dict[tuple[str, int], str]:
    """Return the texts of a tomogram's done-records, packed or not, by stage and index of the unit."""
    found = {(stage, index): line for (stage, _, index), line in _packed_lines(folder)}
    for stage, index in stored_units(folder):
        with contextlib.suppress(FileNotFoundError):
            path = record_path(str(folder), (stage, "", index))
            found[stage, index] = path.read_text(encoding="utf-8", errors="replace")
    return found


def stored_workings(folder: Path) -> dict[str, tuple[int, int]]:
    """Return length and checksum of each packed working file, by name."""
    found = {}
    for name, content in _members(folder):
        with contextlib.suppress(tarfile.ReadError):
            found[name] = crc32c_of(content)
    return found
