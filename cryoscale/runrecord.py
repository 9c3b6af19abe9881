"""What a run was asked for: written when it starts, compared when it goes on, so that no folder holds a mixture.

``run.json`` has options, inputs, versions, the hash of the weights and of each stage's code. ``seal.json`` has the
same once more, under a checksum, and the checksums of the run's own files.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscale import __version__
from cryoscale.errors import UsageError
from cryoscale.io.files import crc32c, write_text
from cryoscale.packing import stored_units
from cryoscale.records import STAGES, inside, place_of, require, sealed, unsealed

if TYPE_CHECKING:
    from cryoscale.collection import Collection
    from cryoscale.manifest import Entry

__all__ = [
    "apart",
    "code_of_stages",
    "place_in",
    "read_run",
    "read_run_seal",
    "refuse_mixture",
    "reseal",
    "run_record",
    "seal_run",
    "used",
    "write_run",
]

_SHARED = ("io", "band.py", "unionfind.py", "chunks.py", "backend.py", "pipeline.py")
"""Code that every stage uses."""


def _is_name(value: object) -> bool:
    return inside(value) and "/" not in str(value)


def _is_plain(value: object) -> bool:
    return not isinstance(value, dict)


_RUN = {
    "cryoscale": str,
    "until": STAGES.__contains__,
    "spec": {"*": dict},
    "tomograms": [{"id": _is_name, "source": str, "mask": str, "options?": [(str, _is_plain)]}],
    "code?": {"*": str},
    "model?": str,
    "command?": str,
    "spread?": bool,
    "started_utc?": str,
}
_WATCHED = ("ingest", "wait_stable_seconds")
"""How long an input is watched before it is read: no result follows it."""
_MOST_IN_ONE_FOLDER = 9000
_RUN_FILES = ("run.json", "failures.csv", "membranes.csv", "report.html")
_PAGES = "reports/**/*.html"


def run_record(collection: Collection, model: str) -> dict[str, Any]:
    """Return what is being asked for, and by what; the tomograms of earlier runs into the folder stay listed."""
    ours = {entry.id for entry in collection.entries}
    before = (read_run(collection.output) or {"tomograms": []})["tomograms"]
    return {
        "cryoscale": __version__,
        "code": code_of_stages(),
        "model": model,
        "command": collection.command,
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"node": platform.node(), "python": platform.python_version(), "system": platform.platform()},
        "until": collection.until,
        "spread": collection.spread,
        "spec": dataclasses.asdict(collection.spec),
        "tomograms": [
            *(entry for entry in before if entry["id"] not in ours),
            *(dataclasses.asdict(entry) for entry in collection.entries),
        ],
    }


@functools.cache
def code_of_stages() -> dict[str, str]:
    """Return a hash of each stage's code, and of what all stages share."""
    root = Path(__file__).parent
    # A stage without a folder of its own is run by the code of others.
    parts = {stage: (stage,) for stage in STAGES if (root / stage).is_dir()} | {"shared": _SHARED}
    found = {}
    for name, places in parts.items():
        digest = hashlib.sha256()
        for place in places:
            path = root / place
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
        found[name] = digest.hexdigest()[:12]
    return found


def write_run(output: Path, record: dict[str, Any]) -> None:
    """Write ``run.json`` and its sealed copy."""
    write_text(output / "run.json", json.dumps(record, indent=1))
    seal_run(output, record)


def seal_run(output: Path, record: dict[str, Any]) -> None:
    """Write ``seal.json``: the run's record once more, and what its own files are now."""
    pages = sorted(path.relative_to(output).as_posix() for path in output.glob(_PAGES))
    files = [[name, *crc32c(output / name)] for name in (*_RUN_FILES, *pages) if (output / name).is_file()]
    write_text(output / "seal.json", sealed({"files": files, "run": record}))


def reseal(output: Path) -> None:
    """Write the seal again after one of the run's own files was written again."""
    record = read_run(output)
    if record is not None:
        seal_run(output, record)


def read_run(output: Path) -> dict[str, Any] | None:
    """Return the record of the run in a folder, from its sealed copy where ``run.json`` is damaged; None without."""
    for name in ("run.json", "seal.json"):
        try:
            plain = name == "run.json"
            record = json.loads((output / name).read_text(encoding="utf-8")) if plain else read_run_seal(output)["run"]
            require(record, _RUN)
            return dict(record)
        except (OSError, ValueError, RecursionError):
            continue
    return None


def place_in(run: dict[str, Any], name: str) -> str:
    """Return where a tomogram is in its run's folder, given the run's record."""
    return place_of(name, spread=bool(run.get("spread")))


def read_run_seal(output: Path) -> dict[str, Any]:
    """Return what ``seal.json`` holds: ``files`` with length and checksum, and the ``run``'s record.

    Raises
    ------
    ValueError, OSError
        It is damaged, or not there.
    """
    seal = unsealed((output / "seal.json").read_text(encoding="utf-8"))
    require(seal, {"files": [(inside, int, int)], "run": _RUN})
    return seal


# ----------------------------------------------------------------------------------------------------------- changes


def refuse_mixture(collection: Collection, model: str) -> None:
    """Refuse to go on with options, weights or code that differ from those that the folder's products were made with.

    Raises
    ------
    UsageError
        Naming all that changed.
    """
    _refuse_too_many(collection)
    changed = list(_changes(collection, model))
    if changed:
        raise UsageError(
            "the output folder holds a run with other options",
            where=str(collection.output),
            found="; ".join(changed),
            todo="start --new-run apart, --overwrite to do all again, or do all --from the first changed STAGE",
        )


def _refuse_too_many(collection: Collection) -> None:
    known = {entry["id"] for entry in (read_run(collection.output) or {"tomograms": []})["tomograms"]}
    if not collection.spread and len(known | {entry.id for entry in collection.entries}) > _MOST_IN_ONE_FOLDER:
        raise UsageError(
            "too many tomograms for an output folder that was begun with few",
            where=str(collection.output),
            allowed=f"{_MOST_IN_ONE_FOLDER} in all",
            todo="start --new-run apart: a run that begins with many spreads them over folders",
        )


def apart(collection: Collection, model: str) -> Collection:
    """Return the collection with the first output folder beside its own, ``-2``, ``-3`` and on, that it can go into.

    That is one that does not exist, or that holds this very run: the same command goes on with it.
    """
    number = 2
    while True:
        output = collection.output.with_name(f"{collection.output.name}-{number}")
        moved = dataclasses.replace(collection, output=output)
        if not output.exists() or (read_run(output) is not None and not any(_changes(moved, model))):
            return moved
        number += 1


def _changes(collection: Collection, model: str) -> Iterator[str]:
    """Name what differs from an earlier run and was used by it; what is done again may differ."""
    before = None if collection.overwrite else read_run(collection.output)
    if before is None:
        return
    old, new = before["spec"], json.loads(json.dumps(dataclasses.asdict(collection.spec)))
    for stage, options in new.items():
        for name, value in options.items():
            was = old.get(stage, {}).get(name)
            if was != value and (stage, name) != _WATCHED and _counts(collection, stage):
                yield f"{stage}.{name} {was!r} -> {value!r}"
    inputs = {entry["id"]: entry for entry in before["tomograms"]}
    for entry in collection.entries:
        if entry.id in inputs:
            yield from _changes_of_tomogram(collection, entry, inputs[entry.id])
    if model and before.get("model", model) not in ("", model) and _counts(collection, "segment"):
        yield f"weights {before['model'][:12]} -> {model[:12]}"
    if before["cryoscale"] != __version__:
        yield f"cryoscale {before['cryoscale']} -> {__version__}"
        return
    for name, digest in code_of_stages().items():
        was = before.get("code", {}).get(name)
        if was != digest and (_counts(collection, name) if name != "shared" else _counts_any(collection)):
            yield f"code of {name} {was} -> {digest}"


def _changes_of_tomogram(collection: Collection, entry: Entry, known: dict[str, Any]) -> Iterator[str]:
    was, now = (known["source"], known["mask"]), (entry.source, entry.mask)
    if was != now:
        yield f"inputs of {entry.id} {was} -> {now}"
    old, new = dict(known.get("options", ())), json.loads(json.dumps(dict(entry.options)))
    for name in sorted(old.keys() | new.keys()):
        stage = name.split(".")[0]
        if (
            name != ".".join(_WATCHED)
            and old.get(name) != new.get(name)
            and stage not in _redone(collection)
            and used(collection, entry, stage)
        ):
            yield f"{entry.id} {name} {old.get(name)!r} -> {new.get(name)!r}"


def _redone(collection: Collection) -> tuple[str, ...]:
    return STAGES[STAGES.index(collection.first) :] if collection.first else ()


def _counts(collection: Collection, stage: str) -> bool:
    """Whether a stage's results are kept: it is not done again, and has some."""
    return stage not in _redone(collection) and any(used(collection, entry, stage) for entry in collection.entries)


def _counts_any(collection: Collection) -> bool:
    kept = [stage for stage in STAGES if stage not in _redone(collection)]
    return not collection.first and any(_counts(collection, stage) for stage in kept)


def used(collection: Collection, entry: Entry, stage: str) -> bool:
    """Whether a tomogram has a finished unit of a stage; without one no option of the stage was used yet."""
    folder = collection.folder(entry)
    names = {path.name for path in (folder / "records").glob("*")} | {name for name, _ in stored_units(folder)}
    # Looking into an input uses no option that could be changed by its failing.
    return any(name.split("-")[0] == stage and not name.endswith("-open") for name in names)
