"""Text that is safe on a page, and numbers as people read them.

Whatever comes from a file's name, header or message is cleaned of control and direction-changing characters, cut,
and escaped before it reaches the page: see `clean`. Column names of tables end in their unit (``area_nm2``), which
`column_head` turns into words and `cell` uses to choose the digits.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Mapping

__all__ = [
    "NUMBER_COLUMNS", "amount", "cell", "clean", "column_head", "duration", "error_column", "number_in", "number_of",
    "size_of", "with_error",
]  # fmt: skip

NUMBER_COLUMNS = ("membrane", "id", "number", "label")
"""Names of columns with a membrane's number."""

_LONGEST = 400
_UNITS = (
    ("_per_nm2", "nm⁻²"),
    ("_per_um2", "µm⁻²"),
    ("_nm2", "nm²"),
    ("_nm3", "nm³"),
    ("_per_nm", "nm⁻¹"),
    ("_nm", "nm"),
    ("_um", "µm"),
    ("_angstrom", "Å"),
    ("_degrees", "°"),
    ("_seconds", "s"),
    ("_percent", "%"),
)
_NARROW_SPACE = "\u202f"


def clean(text: object, *, longest: int = _LONGEST, lines: bool = False) -> str:
    r"""Return `text` without control characters, cut to `longest` characters, escaped for HTML.

    Parameters
    ----------
    text
    longest
        Characters kept; what is cut off shows as an ellipsis.
    lines
        Keep line ends and tabs.

    Examples
    --------
    >>> clean("<b>\x1b[31m")
    '&lt;b&gt;[31m'
    """
    kept = str(text)
    # What is printable has no character of these categories, and is nearly everything.
    if not kept.isprintable():
        kept = "".join(c for c in kept if (lines and c in "\n\t") or not unicodedata.category(c).startswith("C"))
    if len(kept) > longest:
        kept = kept[: longest - 1] + "…"
    return html.escape(kept, quote=True)


def amount(value: float, digits: int = 3) -> str:
    r"""Write a number with `digits` significant digits, but no digit before the point dropped.

    Examples
    --------
    >>> [amount(v) for v in (0.012345, 3.14159, 98765.4)]
    ['0.0123', '3.14', '98\u202f765']
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return _grouped(f"{value:.{max(0, min(decimals, 6))}f}")


def with_error(value: float, error: float) -> tuple[str, str]:
    """Write a number and its standard error to the same place, that of the second digit of the error.

    Examples
    --------
    >>> with_error(6241.66, 131.4), with_error(0.97612, 0.000579)
    (('6240', '130'), ('0.97612', '0.00058'))
    """
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return amount(value), amount(error)
    place = 1 - math.floor(math.log10(error))
    written, spread = (f"{round(number, place):.{max(0, place)}f}" for number in (value, error))
    return _grouped(written), _grouped(spread)


def _grouped(text: str) -> str:
    """Set thousands apart from five digits on, and use the minus sign."""
    whole, point, rest = text.removeprefix("-").partition(".")
    if len(whole) > 4:
        whole = f"{int(whole):,}".replace(",", _NARROW_SPACE)
    return ("−" if text.startswith("-") else "") + whole + point + rest


def size_of(count: float) -> str:
    """Write bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{amount(count)} {unit}"
        count /= 1024
    return f"{amount(count)} GiB"


def duration(seconds: float) -> str:
    """Write a time span in the two largest units that fit.

    Examples
    --------
    >>> [duration(v) for v in (0.34, 72, 7300)]
    ['0.34 s', '1 min 12 s', '2 h 2 min']
    """
    if seconds < 60:
        return f"{amount(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def column_head(name: str) -> tuple[str, str]:
    """Split a column's name into words and unit.

    Examples
    --------
    >>> column_head("enclosed_volume_nm3"), column_head("fraction_inferred")
    (('enclosed volume', 'nm³'), ('inferred', '%'))
    """
    if name.startswith("fraction_"):
        return name.removeprefix("fraction_").replace("_", " "), "%"
    for suffix, unit in _UNITS:
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " "), unit
    return name.replace("_", " "), ""


def error_column(name: str) -> str:
    """Return the name of the column with a column's standard errors.

    Examples
    --------
    >>> error_column("area_nm2"), error_column("sphericity")
    ('area_se_nm2', 'sphericity_se')
    """
    suffix = next((suffix for suffix, _ in _UNITS if name.endswith(suffix)), "")
    return f"{name.removesuffix(suffix)}_se{suffix}"


def cell(name: str, value: str) -> tuple[str, bool]:
    """Return a table's cell as escaped text, and whether it is a number."""
    try:
        number = float(value)
    except ValueError:
        return clean(value, longest=120), False
    if not math.isfinite(number):
        return "–", True
    if name.startswith("fraction_"):
        return amount(100 * number, 2), True
    if number.is_integer() and abs(number) < 1e15 and "." not in value:
        return _grouped(str(int(number))), True
    return amount(number), True


def number_in(text: str) -> float:
    """Read a cell as a number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def number_of(row: Mapping[str, str]) -> int | None:
    """Return a membrane's number, which gives it its colour; None where no column has it."""
    for name in NUMBER_COLUMNS:
        text = row.get(name, "")
        if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0:
            return int(text)
    return None
