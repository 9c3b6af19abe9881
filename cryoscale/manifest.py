"""From what the user names to a list of tomograms with unique, safe ids.

A source is a file, a folder, a glob, a .txt list of paths or a manifest (manifestfile.py). Folders are searched without
following links to folders; the same file is taken once, whatever its names; only a manifest may list it twice, with
other options. An id is derived from the file's name, holds only ``A-Z a-z 0-9 . _ -``, and is unique also on file
systems that ignore case (reliability.md F7-F9).
"""

from __future__ import annotations

import glob
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoscale.errors import UsageError
from cryoscale.io.tables import csv_lines
from cryoscale.manifestfile import MANIFEST_SUFFIXES, Inputs, Options, options_over, read_manifest
from cryoscale.spec import RunSpec

__all__ = ["SUFFIXES", "Entry", "entries", "manifest_lines"]

SUFFIXES = (
    ".mrc", ".rec", ".map", ".st", ".mrc.gz", ".rec.gz", ".map.gz", ".mrc.bz2", ".rec.bz2", ".map.bz2", ".tif", ".tiff",
    ".ome.zarr", ".zarr",
)  # fmt: skip
"""Endings of what a folder is searched for, any case."""

_ID_LENGTH = 100
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_TAKEN = {
    "run.json", "run.lock", "failures.csv", "membranes.csv", "report.html", "reports", "export", "journal.jsonl",
    "seal.json",
}  # fmt: skip
"""Files of the output folder, which no tomogram's folder may be named like."""


@dataclass(frozen=True)
class Entry:
    """One tomogram to process."""

    id: str
    source: str
    """Absolute path of the tomogram, or of the mask where there is nothing else."""
    mask: str = ""
    """Absolute path of another tool's mask or scores; empty where the network makes them."""
    options: Options = ()
    """Options of this tomogram alone, over those of the run."""

    def spec_over(self, spec: RunSpec) -> RunSpec:
        """Return the run's options with this tomogram's own; raises as `cryoscale.manifestfile.options_over`."""
        return options_over(spec, self.options) if self.options else spec

    def identity(self) -> list[object]:
        """Return what tells these inputs from others: paths, sizes and times of change."""
        parts: list[object] = []
        for name in filter(None, (self.source, self.mask)):
            parts += [os.path.realpath(name), *_stat(Path(name))]
            if Path(name).is_dir():
                # A chunk replaced in place leaves the folder's own times alone.
                parts += [_stat(path) for path in sorted(Path(name).rglob("*")) if path.is_file()]
        return parts


def _stat(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_size, info.st_mtime_ns


def entries(
    sources: Sequence[str], masks: str = "", *, roots: Sequence[str | Path] = (), folder_ids: bool = False
) -> list[Entry]:
    """Find the tomograms that `sources` name, each with its mask.

    Parameters
    ----------
    sources
        Files, folders, globs, .txt lists or manifests.
    masks
        Pattern of the masks' paths with ``{stem}`` (the tomogram's file name without its ending), ``{id}`` and
        ``{folder}`` (the tomogram's); ``{path}`` alone says that the sources are the masks. Empty: no masks. A row of
        a manifest that names its own is left alone.
    roots
        Folders that the inputs of a manifest may lie in, beside its own.
    folder_ids
        Derive ids from the path below the folder that is common to all, not from the file's name alone.

    Raises
    ------
    UsageError
        A source does not exist, none holds a tomogram, two would get one id, a mask is missing, or a manifest has a
        fault.
    """
    found: dict[str, Entry] = {}
    for entry in (*_listed(sources, masks, roots), *_found(sources, masks, folder_ids=folder_ids)):
        folded = unicodedata.normalize("NFC", entry.id).casefold()
        if folded in found or folded in _TAKEN:
            raise UsageError(
                "two tomograms would have one id" if folded in found else "the run has a file of this name",
                where=f"{found[folded].source} and {entry.source}" if folded in found else entry.source,
                found=entry.id,
                todo="give ids in a manifest, derive them from the folders with `cryoscale manifest --folder-ids`, "
                "or rename the file",
            )
        found[folded] = entry
    if not found:
        raise UsageError(
            "no tomogram found",
            where=", ".join(sources),
            allowed="files ending in " + " ".join(SUFFIXES),
            todo="check the path",
        )
    return list(found.values())


def manifest_lines(found: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of a CSV manifest of some tomograms, paths relative to the working folder where below it.

    Raises
    ------
    UsageError
        A path is not UTF-8.
    """
    masks = any(entry.mask for entry in found)
    columns = ("path", "id", "apix", *(["masks"] if masks else []))
    rows = []
    for entry in found:
        apix = dict(entry.options).get("ingest.apix")
        rows.append((_relative(entry.source), entry.id, apix, *([_plain(entry.mask)] if masks else [])))
    return csv_lines(columns, rows)


def _plain(mask: str) -> str:
    """Return a mask's path as a pattern of itself."""
    return _relative(mask).replace("{", "{{").replace("}", "}}")


def _relative(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("a name that is not UTF-8 fits no manifest", where=repr(name), todo="rename it") from error
    here = str(Path.cwd()) + "/"
    return name.removeprefix(here)


def _is_manifest(source: str) -> bool:
    return source.lower().endswith(MANIFEST_SUFFIXES) and os.path.isfile(source)  # noqa: PTH113 - any text may come


def _listed(sources: Sequence[str], masks: str, roots: Sequence[str | Path]) -> Iterator[Entry]:
    """Tomograms that manifests list."""
    for source in filter(_is_manifest, sources):
        inputs = Inputs(Path(source), roots)
        for row in read_manifest(source, roots):
            name = row.id or _id(_stem(row.path))
            if not _SAFE_ID.fullmatch(name) or len(name) > _ID_LENGTH:
                allowed = f"letters, digits, . _ -, the first a letter or digit, up to {_ID_LENGTH}"
                raise UsageError("not an id", where=row.where, found=repr(name), allowed=allowed)
            mask = _mask(row.masks or masks, row.path, name)
            if row.masks:
                # What a pattern says is known now, and where a link leads.
                inputs.existing(mask, f"{row.where}: masks")
            yield Entry(name, str(row.path), mask, row.options)


def _found(sources: Sequence[str], masks: str, *, folder_ids: bool) -> Iterator[Entry]:
    """Tomograms that are found in files, folders, globs and lists."""
    paths = list(_once(_expand([source for source in sources if not _is_manifest(source)])))
    common = os.path.commonpath([path.parent for path in paths]) if folder_ids and paths else ""
    for path in paths:
        folders = path.parent.relative_to(common).parts if folder_ids else ()
        name = "_".join(_id(part) for part in (*folders, _stem(path)))[:_ID_LENGTH]
        yield Entry(name, str(path), _mask(masks, path, name))


def _expand(sources: Sequence[str], lists: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files that sources name, `lists` being those that they are themselves read from."""
    for source in sources:
        try:
            yield from _named(source, lists)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                "cannot be looked into",
                where=str(getattr(error, "filename", "") or source),
                found=getattr(error, "strerror", "") or "text that is not UTF-8",
                todo="mend its permissions, remove a link to nothing, or leave it out",
            ) from error


def _named(source: str, lists: tuple[str, ...]) -> Iterator[Path]:
    path = Path(source)
    if path.suffix.lower() == ".txt" and path.is_file():
        this = os.path.realpath(path)
        if this in lists:
            raise UsageError("a list that lists itself", where=source)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        listed = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        yield from _expand([str(path.parent / line) for line in listed], (*lists, this))
    elif path.is_dir() and not _is_store(path):
        yield from _search(path)
    elif path.exists():
        yield _checked(path)
    elif glob.has_magic(source):
        _look_into_all(path)
        yield from (_checked(Path(match)) for match in sorted(glob.glob(source, recursive=True)))
    else:
        raise UsageError("no such file, folder or glob", where=source)


def _search(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=False, onerror=_raise):
        stores = sorted(name for name in folders if _is_store(Path(root) / name))
        folders[:] = sorted(set(folders) - set(stores))
        for name in sorted([*files, *stores]):
            path = Path(root) / name
            if name.lower().endswith(SUFFIXES) and (name in stores or path.is_file()):
                yield path


def _look_into_all(pattern: Path) -> None:
    """Raise if a folder that a pattern leads through may not be looked into: glob would pass over it in silence."""
    for depth in range(1, len(pattern.parts)):
        above, part = os.path.join(*pattern.parts[:depth], ""), pattern.parts[depth]  # noqa: PTH118 - ends in a slash
        if glob.has_magic(part):
            for folder in glob.glob(above, recursive=True):
                os.scandir(folder).close()
        elif glob.has_magic(above):
            for folder in glob.glob(above, recursive=True):
                os.stat(f"{folder}.")  # noqa: PTH116 - a Path forgets the dot, which only who may enter can ask for


def _raise(error: OSError) -> None:
    """Tell of a folder that cannot be read: what is in it would be missing without a word."""
    raise error


def _is_store(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


def _checked(path: Path) -> Path:
    if not (stat.S_ISREG(path.stat().st_mode) or _is_store(path)):
        raise UsageError("not a regular file", where=str(path), allowed="a file or an OME-Zarr folder")
    return path


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    seen = set()
    for path in paths:
        info = path.stat()
        if (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            yield path.absolute()


def _stem(path: Path) -> str:
    name = path.name
    ending = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default=path.suffix)
    return name[: len(name) - len(ending)] if ending else name


def _id(stem: str) -> str:
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:_ID_LENGTH]
    return safe or "tomogram"


def _mask(pattern: str, path: Path, name: str) -> str:
    if not pattern:
        return ""
    values = {"stem": _stem(path), "id": name, "folder": str(path.parent), "path": str(path)}

    def fill(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        if found[1] not in values:
            raise UsageError(
                "mask pattern cannot be filled", where=pattern, found=found[0], allowed="{stem} {id} {folder} {path}"
            )
        return values[found[1]]

    text = _BRACES.sub(fill, pattern)
    matches = sorted(glob.glob(text)) if glob.has_magic(text) and not Path(text).exists() else [text]
    if len(matches) != 1 or not Path(matches[0]).exists():
        raise UsageError(
            "one mask per tomogram is needed",
            where=str(path),
            found=f"{len(matches)} for {text}",
            todo="mend the pattern",
        )
    return str(Path(matches[0]).absolute())
