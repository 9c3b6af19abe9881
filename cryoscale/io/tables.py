"""Tables for spreadsheets and scripts.

CSV is UTF-8 with a header row, ``.`` decimals and the unit in each column's name. A text cell that a spreadsheet would
run as a formula (it starts with ``= + - @``, tab or carriage return) gets a ``'`` in front, which `read_csv` takes off
again; numbers are never touched, not even as text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cryoscale.errors import TomogramError
from cryoscale.io.files import atomic_write

__all__ = ["csv_lines", "numbered_rows", "read_csv", "write_csv"]

_FORMULA = frozenset("=+-@\t\r")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r'[,"\r\n]')

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
    with (
        atomic_write(path) as temporary,
        # A path that is not UTF-8 must not stop the table that reports it.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        stream.writelines(csv_lines(columns, rows))


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yield the lines that `write_csv` writes; raises as it does."""
    if len(set(columns)) != len(columns):
        msg = f"column names must differ: {', '.join(columns)}"
        raise ValueError(msg)
    yield _line([_guard(name) for name in columns])
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            msg = f"row {number} has {len(row)} cells, the table {len(columns)} columns"
            raise ValueError(msg)
        yield _line([_cell(value) for value in row])


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
    """Read what `write_csv` or a person wrote, each row a dict of text; a byte order mark and empty lines are left out.

    Raises
    ------
    TomogramError
        If the file is not a table: no header, a name twice, rows of other lengths, not UTF-8.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: str | Path) -> list[tuple[int, dict[str, str]]]:
    """Read as `read_csv` does, each row with the number of its (last) line in the file."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            rows = [(reader.line_num, [_unguard(cell) for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TomogramError("not a CSV table", where=str(path), found=error) from error
    header = rows[0][1] if rows else []
    if not header or len(set(header)) != len(header):
        raise TomogramError("not a CSV table", where=str(path), found=header, allowed="a header of different names")
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise TomogramError(
                "not a CSV table", where=f"{path}, line {number}", found=len(row), allowed=f"{len(header)} cells"
            )
    return [(number, dict(zip(header, row, strict=True))) for number, row in rows[1:]]


def _unguard(text: str) -> str:
    return text[1:] if text[:1] == "'" and _is_formula(text) else text
