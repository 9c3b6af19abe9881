"""Tables: CSV for spreadsheets and scripts, STAR for RELION.

CSV is UTF-8 with a header row, ``.`` decimals and the unit in each column's name. A text cell that a spreadsheet would
run as a formula (it starts with ``= + - @``, tab or carriage return) gets a ``'`` in front, which `read_csv` takes off
again; numbers are never touched, not even as text. STAR holds only numbers and safe names: RELION breaks on anything
else.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import TomogramError
from cryoscale.io.files import atomic_write

__all__ = ["particle_columns", "read_csv", "read_star", "write_csv", "write_star"]

_FORMULA = frozenset("=+-@\t\r")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SAFE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")
_SPECIAL = re.compile(r'[,"\r\n]')
_LABEL = re.compile(r"rln[A-Za-z0-9]+")

Cell = str | bool | int | float | None


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table, whole or not at all.

    Parameters
    ----------
    path
    columns
        Names, units included (``area_nm2``).
    rows
        Cells as text, whole numbers, floats (7 significant digits), booleans (``yes`` / ``no``) or None; None and NaN
        become empty cells.

    Raises
    ------
    ValueError
        If a name occurs twice or a row has another length than `columns`.
    """
    if len(set(columns)) != len(columns):
        msg = f"column names must differ: {', '.join(columns)}"
        raise ValueError(msg)
    with (
        atomic_write(path) as temporary,
        # A path that is not UTF-8 must not stop the table that reports it.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        stream.write(_line([_guard(name) for name in columns]))
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                msg = f"row {number} has {len(row)} cells, the table {len(columns)} columns"
                raise ValueError(msg)
            stream.write(_line([_cell(value) for value in row]))


def _line(cells: Sequence[str]) -> str:
    # The csv module leaves a lone carriage return bare where lines end in a line feed, and cannot read it back.
    quoted = ['"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text for text in cells]
    return (",".join(quoted) or '""') + "\n"


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _guard(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(int(value))
    return "" if math.isnan(value) else f"{float(value):.7g}"


def _is_formula(text: str) -> bool:
    # Quotes in front count as part of the formula: taking one off must give back the text whatever it was.
    bare = text.lstrip("'")
    return bare[:1] != "" and bare[0] in _FORMULA and not _NUMBER.fullmatch(bare)


def _guard(text: str) -> str:
    return f"'{text}" if _is_formula(text) else text


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Read what `write_csv` wrote, each row a dict of text.

    Raises
    ------
    TomogramError
        If the file is not a table: no header, a name twice, rows of other lengths, not UTF-8.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            rows = [[_unguard(cell) for cell in row] for row in csv.reader(stream, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TomogramError("not a CSV table", where=str(path), found=error) from error
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise TomogramError("not a CSV table", where=str(path), found=rows[:1], allowed="a header of different names")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise TomogramError(
                "not a CSV table", where=f"{path} row {number}", found=len(row), allowed=f"{len(rows[0])} cells"
            )
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _unguard(text: str) -> str:
    return text[1:] if text[:1] == "'" and _is_formula(text) else text


def particle_columns(name: str, centres_voxels: NDArray[np.floating]) -> dict[str, Sequence[str | float]]:
    """Return RELION's columns for particles of one tomogram.

    Parameters
    ----------
    name
        The tomogram's safe id.
    centres_voxels
        (n, 3) centres z, y, x; 0 is the centre of the first voxel.
    """
    columns: dict[str, Sequence[str | float]] = {"rlnMicrographName": [name] * len(centres_voxels)}
    for axis, letter in ((2, "X"), (1, "Y"), (0, "Z")):
        columns[f"rlnCoordinate{letter}"] = [float(v) for v in centres_voxels[:, axis]]
    for letter in "XYZ":
        columns[f"rlnOrigin{letter}Angst"] = [0.0] * len(centres_voxels)
    return columns


def write_star(path: str | Path, columns: Mapping[str, Sequence[str | float]], *, block: str = "particles") -> None:
    """Write one STAR loop, whole or not at all.

    Parameters
    ----------
    path
    columns
        Values under RELION's labels, without the leading underscore; floats get 6 decimals.
    block
        Name of the data block.

    Raises
    ------
    ValueError
        If lengths differ, or a label, text or number is not one RELION reads back as it is.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or not all(_LABEL.fullmatch(name) for name in columns) or not _SAFE.fullmatch(block):
        msg = (
            f"columns must be RELION labels of one length, not { ({n: len(v) for n, v in columns.items()}) } in {block}"
        )
        raise ValueError(msg)
    with atomic_write(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(f"\ndata_{block}\n\nloop_\n")
        stream.writelines(f"_{name} #{number}\n" for number, name in enumerate(columns, 1))
        for row in zip(*columns.values(), strict=True):
            stream.write(" ".join(_star_value(value) for value in row) + "\n")
        stream.write("\n")


def _star_value(value: str | float) -> str:
    if isinstance(value, str):
        # A name of the form of a label or block would be taken for one.
        if not _SAFE.fullmatch(value) or value.startswith(("_", "data_", "loop_")):
            msg = f"{value!r} is not a safe name"
            raise ValueError(msg)
        return value
    if not math.isfinite(value):
        msg = f"{value} is not a finite number"
        raise ValueError(msg)
    return str(int(value)) if isinstance(value, int | np.integer) else f"{value:.6f}"


def read_star(path: str | Path, *, block: str = "particles") -> dict[str, list[str]]:
    """Read one STAR loop as columns of text.

    Raises
    ------
    TomogramError
        If the block is not there, or a row has another number of values than there are labels.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        start = lines.index(f"data_{block}") + 1
    except ValueError as error:
        raise TomogramError("STAR block missing", where=str(path), allowed=f"data_{block}") from error
    names: list[str] = []
    rows: list[list[str]] = []
    for line in lines[start:]:
        words = line.split()
        if line.startswith("data_"):
            break
        if line.startswith("_"):
            names.append(words[0][1:])
        elif words and words[0] != "loop_" and not line.startswith("#"):
            rows.append(words)
    if not names or any(len(row) != len(names) for row in rows):
        raise TomogramError("STAR loop damaged", where=f"{path}: data_{block}", allowed=f"{len(names)} values a row")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}
