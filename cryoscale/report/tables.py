"""Pieces of HTML that several parts of the page share: tables and pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from cryoscale.report.png import png_size
from cryoscale.report.run import Picture, TomogramReport
from cryoscale.report.text import clean

__all__ = ["Cell", "picture", "table", "thumbnail"]

_FILTERED = 6
"""Tables of so many rows get a box to filter them with."""
_HINT = "a word, or area &gt; 5000"


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    """Escaped HTML."""
    number: bool = False
    value: float | None = None
    """What to sort by, where the text does not say it."""


def table(heads: Sequence[tuple[str, str, bool]], rows: Sequence[Sequence[Cell]], *, name: str = "") -> str:
    """Write a table that scrolls sideways where it is wider than the page.

    Parameters
    ----------
    heads
        Words, unit and whether the column holds numbers; not yet escaped.
    rows
        Cells.
    name
        Unique on the page, escaped: a table with a name can be sorted, and filtered where it is long.
    """
    top = "".join(
        f"<th{_class(number)}>{clean(words)}{f'<small>{clean(unit)}</small>' if unit else ''}</th>"
        for words, unit, number in heads
    )
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    known = f' id="table-{name}"' if name else ""
    box = ""
    if name and len(rows) >= _FILTERED:
        box = (
            f'<p class="filter" data-filters="table-{name}" hidden><label>Filter <input type="search" '
            f'placeholder="{_HINT}"></label> <output></output></p>'
        )
    return f'{box}<div class="scroll"><table{known}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-v="{cell.value:.7g}"'
    return f"<td{_class(cell.number, cell.text)}{value}>{cell.text}</td>"


def _class(number: bool, text: str = "") -> str:
    if number:
        return ' class="n"'
    if " " not in text or "<" in text:
        return ""
    # Sentences get room, two words one line: where the page is narrow the table scrolls, and does not become tall.
    return ' class="w"' if text.count(" ") > 2 else ' class="k"'


def picture(shown: Picture, *, solid: bool = False) -> str:
    """Write a picture with its caption; the words before the first full stop of the caption stand out."""
    first, stop, rest = shown.caption.partition(". ")
    caption = f"<b>{clean(first + stop.strip(), longest=600)}</b> {clean(rest, longest=1500)}"
    kind = ' class="solid"' if solid else ""
    return f"<figure{kind}>{_image(shown.png, first)}<figcaption>{caption}</figcaption></figure>"


def thumbnail(tomogram: TomogramReport) -> str:
    """Write the smallest picture there is of a tomogram's surfaces; nothing where there is none."""
    small = tomogram.pictures.get("thumbnail")
    return _image(small.png, f"membranes of {tomogram.id}") if small else ""


def _image(png: bytes, words: str) -> str:
    width, height = png_size(png)
    data = base64.b64encode(png).decode("ascii")
    words = re.sub(r"\s+", " ", words)
    return f'<img width="{width}" height="{height}" alt="{clean(words)}" src="data:image/png;base64,{data}">'
