"""A complete tomogram at rest: few files, for a shared file system counts them.

::

    at work                              at rest
    records/<stage>/000000.json     ->   records/units.jsonl    the records of all units, a line each
    merge/, separate/, fits/ ...    ->   workings.tar           what stages hand to each other
    meshes/, where more than 45     ->   meshes.tar             under the same names: `tar xf` puts them back
    vertices/, likewise             ->   vertices.tar
    volumes, tables, pictures            as they are

Units only ever see files as they are at work. A tomogram is packed after its last unit, and unpacked before it is taken
up again::

    pack      both files written whole  ->  what is in them removed  ->  sealed (completion.py)
    unpack    unsealed  ->  what is in them and not there written  ->  both files removed

So whenever a process is killed, each record and each packed file is there in at least one form, and where it is there
in both they are the same. A line of the records that is damaged, or a member of the archive, is lost alone: its unit
runs again. Units pack and unpack, for archives may be large; what is removed, the run's own process removes, which
holds the run's lock: no worker that was given up can remove anything.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from cryoscale.engine import JobPlan, Phase, record_path
from cryoscale.io.files import atomic_write, crc32c_of
from cryoscale.records import STAGES, DoneRecord, Receipt, Unit, inside

__all__ = [
    "PACKS",
    "SINGLES",
    "Place",
    "drop_packs",
    "packed",
    "places_of",
    "stored_files",
    "stored_records",
    "stored_units",
    "unpack",
]

_RECORDS, _WORKINGS = "records/units.jsonl", "workings.tar"
_OF_MEMBRANES = {"meshes": "meshes.tar", "vertices": "vertices.tar"}
_ARCHIVES = (_WORKINGS, *_OF_MEMBRANES.values())
PACKS = (_RECORDS, *_ARCHIVES)
"""The files that a tomogram's records and other files are packed into, relative to its folder."""
SINGLES = 45
"""Files of a kind that are left single: meshes, tables of vertices."""
_FOLDERS = {*STAGES, "fits"}
_BYTES = 32 << 20
_REMOVERS = 16

Key = tuple[str, str, int]


class Place(NamedTuple):
    """Where a file's bytes are: in a file of its own, or in an archive."""

    path: Path
    start: int
    length: int


def _archive_of(name: str) -> str:
    """Return the archive that a file, relative to its tomogram's folder, may be packed into; empty if none."""
    top, slash, _ = name.partition("/")
    return _OF_MEMBRANES.get(top, _WORKINGS if top in _FOLDERS else "") if slash else ""


def _to_pack(files: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return what is to be packed of a tomogram's files, by archive: a few of a kind that people open stay single."""
    found: dict[str, list[str]] = {}
    for name in sorted(files):
        found.setdefault(_archive_of(name), []).append(name)
    return {
        archive: tuple(names)
        for archive, names in found.items()
        if archive == _WORKINGS or (archive and len(names) > SINGLES)
    }


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
    archives = _to_pack(files)
    yield _phase(folder, Unit(("pack", name, 0), _pack_unit, (str(folder), tuple(sorted(keys)), archives), _BYTES))
    _remove_packed(folder, archives)
    return dict(summary or {})


def _phase(folder: Path, unit: Unit) -> Phase:
    # Without a fingerprint: a record of it would say nothing of the files that the unit finds.
    return Phase(unit.key[0], str(folder), "", (unit,))


def drop_packs(folder: Path) -> None:
    """Remove what is unpacked, or not wanted any more."""
    for pack in PACKS:
        (folder / pack).unlink(missing_ok=True)


def _remove_packed(folder: Path, archives: Mapping[str, Sequence[str]]) -> None:
    """Remove what is packed, and workings of earlier runs that nothing names any more."""
    places = [folder / name for name in sorted(_FOLDERS)]
    places += [path for path in (folder / "records").iterdir() if path.is_dir()]
    with ThreadPoolExecutor(_REMOVERS) as pool:
        for _ in pool.map(_remove, places):
            pass
        # What else lies beside the meshes is not ours.
        opened = [folder / name for archive in archives if archive != _WORKINGS for name in archives[archive]]
        for _ in pool.map(functools.partial(Path.unlink, missing_ok=True), opened):
            pass
    for place in sorted({path.parent for path in opened}, reverse=True):
        with contextlib.suppress(OSError):
            place.rmdir()


def _remove(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)


# ------------------------------------------------------------------------------------------------- what workers do


def _pack_unit(folder: str, keys: tuple[Key, ...], archives: dict[str, tuple[str, ...]]) -> Receipt:
    """Write the records of some units into one file, and other files into archives."""
    root = Path(folder)
    with atomic_write(root / _RECORDS) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for key in keys:
            stream.write(record_path(folder, key).read_text(encoding="utf-8").rstrip("\n") + "\n")
    for archive, files in archives.items():
        _write_archive(root, archive, files)
    return Receipt((_RECORDS, *archives))


def _write_archive(root: Path, name: str, files: tuple[str, ...]) -> None:
    with atomic_write(root / name) as temporary, tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            with (root / file).open("rb") as source:
                # Name and size alone: times and owners would differ from run to run.
                member = tarfile.TarInfo(file)
                member.size = os.fstat(source.fileno()).st_size
                archive.addfile(member, source)


def _unpack_unit(folder: str, *again: str) -> Receipt:
    unpack(Path(folder), again)
    return Receipt()


def unpack(folder: Path, again: Collection[str] = ()) -> None:
    """Write every packed file that is not there; what is damaged is left out, and so are records of some stages."""
    for (stage, name, index), line in _packed_lines(folder):
        if stage.split("-")[0] not in again:
            _put(record_path(str(folder), (stage, name, index)), line.encode())
    for archive in _ARCHIVES:
        for member, content in _members(folder, archive):
            with contextlib.suppress(tarfile.ReadError):
                _put(folder / member.name, content)


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


def _members(folder: Path, name: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield the files in an archive; where it is damaged, what can still be read of it."""
    with (
        contextlib.suppress(FileNotFoundError, tarfile.TarError),
        tarfile.open(folder / name, "r:", ignore_zeros=True) as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and inside(member.name) and _archive_of(member.name) == name:
                yield member, content


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


def stored_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return length and checksum of each packed file, by name; those of records are not among them."""
    found = {}
    for archive in _ARCHIVES:
        for member, content in _members(folder, archive):
            with contextlib.suppress(tarfile.ReadError):
                found[member.name] = crc32c_of(content)
    return found


def places_of(folder: Path, kind: str) -> dict[str, Place]:
    """Return where the files of a kind are, packed or not, by their names relative to the tomogram's folder.

    Parameters
    ----------
    folder
        The tomogram's.
    kind
        ``meshes`` or ``vertices``.
    """
    archive = _OF_MEMBRANES[kind]
    found = {
        member.name: Place(folder / archive, member.offset_data, member.size) for member, _ in _members(folder, archive)
    }
    singles = (path for path in (folder / kind).rglob("*") if path.is_file())
    return found | {path.relative_to(folder).as_posix(): Place(path, 0, path.stat().st_size) for path in singles}
