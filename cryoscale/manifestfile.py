"""A manifest: one tomogram a row, with the options that are its own.

As CSV, a column per value, an empty cell where a row says nothing; or the same as TOML::

    path,id,apix,masks,merge.distance_nm          [[tomogram]]
    raw/TS_01.mrc,TS_01,13.48,,                   path = "raw/TS_01.mrc"
    raw/TS_02.mrc,,,masks/{stem}_seg.mrc,3.0      apix = 13.48
                                                  merge.distance_nm = 3.0

``path`` is all that a row needs. ``id`` names the folder of its products, ``masks`` is what ``--masks`` takes,
``apix`` is short for ``ingest.apix``; every other name is an option of a stage, as ``cryoscale config`` prints them.
Lists are written with spaces between in CSV (``64 128 128``). Paths are taken as they are (no ``~``, no ``$NAME``, no
address), relative to the manifest's folder, and lie below it or below a root that the command names.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import stat
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.io.tables import numbered_rows
from cryoscale.spec import RunSpec, typed, unknown_name

__all__ = ["MANIFEST_SUFFIXES", "Inputs", "Options", "Row", "options_of", "options_over", "read_manifest"]

MANIFEST_SUFFIXES = (".csv", ".toml")
_LARGEST_BYTES = 32 << 20
_MOST_ROWS = 200_000
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){20}""")
"""A name of so many parts that reading it takes time as their square."""
_TRUTH = {"true": True, "false": False}

Options = tuple[tuple[str, Any], ...]
"""Options of one tomogram, ``("merge.distance_nm", 3.0)``, sorted by name."""


@dataclass(frozen=True)
class Row:
    """What one row says."""

    where: str
    """File and row, for messages."""
    path: Path
    """Absolute, of an existing file or folder below a root."""
    id: str = ""
    masks: str = ""
    """A path or pattern, absolute or beginning with what is; what it leads to is yet to be checked."""
    options: Options = ()


@functools.cache
def _types() -> dict[str, Any]:
    """Names that a row may have, each with its type."""
    found: dict[str, Any] = {"path": str, "id": str, "apix": float, "masks": str}
    for section in dataclasses.fields(RunSpec):
        hints = typing.get_type_hints(typing.cast(type, section.default_factory))
        found |= {f"{section.name}.{name}": kind for name, kind in hints.items()}
    return found


def options_over(spec: RunSpec, options: Options) -> RunSpec:
    """Return `spec` with some options replaced.

    Raises
    ------
    UsageError
        A value is out of range, or does not go with another.
    """
    stages: dict[str, dict[str, Any]] = {}
    for key, value in options:
        stage, name = key.split(".")
        stages.setdefault(stage, {})[name] = value
    changed = {stage: dataclasses.replace(getattr(spec, stage), **values) for stage, values in stages.items()}
    return dataclasses.replace(spec, **changed)


def read_manifest(path: str | Path, roots: Sequence[str | Path] = ()) -> Iterator[Row]:
    """Yield the rows of a manifest, CSV or TOML by its ending.

    Parameters
    ----------
    path
    roots
        Folders that inputs may lie in, beside the manifest's own.

    Raises
    ------
    UsageError
        It cannot be read, is too large, has an unknown or repeated name, a value of a wrong type, or a path that is
        not there or outside the roots.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise UsageError("manifest too large", where=str(path), found=size, allowed=f"{_LARGEST_BYTES} bytes")
    rows = list(_toml_rows(path) if path.suffix.lower() == ".toml" else _csv_rows(path))
    if len(rows) > _MOST_ROWS:
        raise UsageError("too many rows", where=str(path), found=len(rows), allowed=f"{_MOST_ROWS}, or two runs")
    if not rows:
        raise UsageError("no tomogram in the manifest", where=str(path), todo="write a row for each")
    inputs = Inputs(path, roots)
    for where, values in rows:
        yield _row(where, values, inputs)


def _row(where: str, values: Mapping[str, Any], inputs: Inputs) -> Row:
    if not values.get("path"):
        raise UsageError("a row without a path", where=where, todo="say which file: path")
    options = {name: value for name, value in values.items() if "." in name}
    if "apix" in values:
        if "ingest.apix" in options:
            raise UsageError("said twice", where=where, found="apix and ingest.apix", todo="keep one of them")
        options["ingest.apix"] = values["apix"]
    chosen = _checked_options(where, options)
    masks = values.get("masks", "")
    if masks and not masks.startswith(("{folder}", "{path}")):
        masks = inputs.below(masks, f"{where}: masks")
    return Row(where, inputs.existing(values["path"], f"{where}: path"), values.get("id", ""), masks, chosen)


def options_of(where: str, values: Mapping[str, Any]) -> Options:
    """Return options of one tomogram from plain values, as JSON gives them.

    Raises
    ------
    UsageError
        An unknown name, a wrong type, or a value out of range.
    """
    types = {name: kind for name, kind in _types().items() if "." in name}
    for name in values:
        if name not in types:
            raise unknown_name(where, name, list(types))
    found = {name: typed(f"{where}: {name}", value, types[name]) for name, value in values.items()}
    return _checked_options(where, found)


def _checked_options(where: str, values: Mapping[str, Any]) -> Options:
    options = tuple(sorted(values.items()))
    # Few rows differ in more than the voxel size, which needs no other value to be judged.
    apix = dict(options).get("ingest.apix", 1.0)
    try:
        if not 0 < apix < 1e6:
            raise UsageError("value not allowed", where="apix", found=apix, allowed="more than 0, in ångström")
        _checked_together(tuple(option for option in options if option[0] != "ingest.apix"))
    except CryoscaleError as error:
        raise UsageError(
            error.what, where=f"{where}: {error.where}", found=error.found, allowed=error.allowed
        ) from error
    return options


@functools.lru_cache(maxsize=4096)
def _checked_together(options: Options) -> None:
    options_over(RunSpec(), options)


# --------------------------------------------------------------------------------------------------- the two formats


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = numbered_rows(path)
    except (CryoscaleError, OSError) as error:
        text = "UTF-8, commas between cells, a header of different names"
        raise UsageError("not a CSV manifest", where=str(path), found=error, allowed=text) from error
    types = _types()
    for name in rows[0][1] if rows else ():
        if name not in types:
            raise unknown_name(str(path), name, list(types))
    for number, row in rows:
        where = f"{path}, line {number}"
        yield where, {name: _cell(f"{where}: {name}", text, types[name]) for name, text in row.items() if text}


def _cell(where: str, text: str, wanted: Any) -> Any:
    """Return the value that a cell's text stands for; nothing is guessed."""
    if typing.get_origin(wanted) is tuple:
        kind = typing.get_args(wanted)[0]
        return typed(where, [_cell(where, word, kind) for word in text.split()], wanted)
    if wanted is float and _NUMBER.fullmatch(text):
        return float(text)
    if wanted is int and _INTEGER.fullmatch(text):
        return int(text)
    if wanted is bool and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if wanted is str:
        return text
    shown = {float: "a number, 13.48", int: "a whole number", bool: "true or false"}[wanted]
    raise UsageError("wrong type", where=where, found=repr(text), allowed=shown)


def _toml_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if deep := _DEEP_KEY.search(text):
            msg = f"a name of more than 20 parts: {deep[0][:40]}..."
            raise ValueError(msg)
        data = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError("not a TOML manifest", where=str(path), found=error or type(error).__name__) from error
    for name in data:
        if name != "tomogram":
            raise unknown_name(str(path), name, ["tomogram"])
    tables = data.get("tomogram", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("not a list of tomograms", where=str(path), allowed="[[tomogram]] above each")
    types = _types()
    for number, table in enumerate(tables, 1):
        where = f"{path}, tomogram {number}"
        values = {}
        for name, value in _flat(table):
            if name not in types:
                raise unknown_name(where, name, list(types))
            values[name] = typed(f"{where}: {name}", value, types[name])
        yield where, values


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", deeper) for inner, deeper in value.items())
        else:
            yield name, value


# ------------------------------------------------------------------------------------------------------------- paths


class Inputs:
    """Where a manifest's inputs may lie."""

    def __init__(self, manifest: Path, roots: Sequence[str | Path]) -> None:
        self._base = str(manifest.parent.absolute())
        self._roots = [os.path.realpath(root) for root in (self._base, *roots)]
        self._real = functools.cache(os.path.realpath)

    def existing(self, text: str, where: str) -> Path:
        """Return the absolute path of an input that is there and below a root."""
        absolute = self.below(text, where)
        try:
            mode = os.lstat(absolute).st_mode
            if stat.S_ISLNK(mode):
                mode = os.stat(absolute).st_mode  # noqa: PTH116 - as above
                self._refuse_outside(os.path.realpath(absolute), text, where)
        except (OSError, ValueError) as error:
            raise UsageError(
                "no such file",
                where=where,
                found=repr(text),
                allowed="a path relative to the manifest's folder or absolute, without ~, $NAME or an address",
            ) from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UsageError("not a regular file", where=where, found=repr(text))
        return Path(absolute)

    def below(self, text: str, where: str) -> str:
        """Return the absolute path of a text whose folder, links followed, is below a root."""
        absolute = os.path.join(self._base, text)  # noqa: PTH118 - pathlib takes 5 times as long
        try:
            folder = self._real(os.path.dirname(absolute))  # noqa: PTH120
        except (OSError, ValueError) as error:
            raise UsageError("not a path", where=where, found=repr(text)) from error
        self._refuse_outside(folder, text, where)
        return absolute

    def _refuse_outside(self, real: str, text: str, where: str) -> None:
        if not any(real == root or real.startswith(root.rstrip("/") + "/") for root in self._roots):
            raise UsageError(
                "outside the folders that inputs may lie in",
                where=where,
                found=repr(text),
                allowed=" ".join(self._roots),
                todo="add its folder with --data-root",
            )
