"""Every kind of bad input, each with what must become of it; ``python -m tests.faults.corpus FOLDER`` writes them all.

A row makes its files in an empty folder and names the words of a ``cryoscale run`` that reads them. Outcomes:

======= ==== ===================================================================
OK      0    read, with the voxel size that the row names
WARN    0    the same, and the run's summary says what is odd
ASK     3    refused until the user states a value
REJECT  3    refused: this tomogram fails, others go on
USAGE   2    refused before anything starts
======= ==== ===================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.io import corpus as mrc_tables
from tests.io.corpus import APIX, mrc

Make = Callable[[Path], Sequence[str]]
EXITS = {"OK": 0, "WARN": 0, "ASK": 3, "REJECT": 3, "USAGE": 2}


@dataclass(frozen=True)
class Row:
    """One bad, or odd, input."""

    id: str
    make: Make
    outcome: str
    code: str = ""
    """Of the refusal, or of a warning that must be among them; of USAGE, words of the message."""
    apix: float = APIX
    """Voxel size that comes out where it is accepted."""
    until: str = "ingest"
    """Stage to run to; empty: too large to be read in a test, only looked into."""


def content(data: bytes, name: str = "case.mrc", *options: str) -> Make:
    """Make one file."""

    def make(folder: Path) -> Sequence[str]:
        (folder / name).write_bytes(data)
        return [str(folder / name), *options]

    return make


def tomogram(seed: int = 5) -> np.ndarray:
    """Return values that nothing is wrong with."""
    return np.random.default_rng(seed).normal(100.0, 20.0, (16, 48, 48)).astype("f4")


def damaged(change: Callable[[np.ndarray], object], dtype: str = "f4") -> bytes:
    """Return a file whose values were changed, in place or into what `change` returns."""
    values = tomogram().astype(dtype)
    changed = change(values)
    return mrc(np.ascontiguousarray(values if changed is None else changed).astype(dtype))


def _of_the_tables() -> list[Row]:
    """Rows about MRC headers, from the tables that the reader is tested with."""
    rows = []
    # Refused or warned of by the values, which the tables do not read.
    by_values = {"M05": ("WARN", "non-finite"), "M07-even": ("REJECT", "constant"), "M07-odd": ("REJECT", "constant")}
    apix = {"V04": APIX, "V07": 13.28, "V10-force": 1.348}
    for case in mrc_tables.CASES:
        words = {"stated": "--apix {}", "force": "--force-apix", "mode0_bytes": "--mode0-bytes {}"}
        words |= {"ignore_extended_header": "--ignore-extended-header"}
        options = [word for name, v in case.options.items() for word in words[name].format(v).split()]

        def make(folder: Path, case=case, options=options) -> Sequence[str]:
            return [str(case.write(folder / "case.mrc")), *options]

        outcome, code = by_values.get(case.id, (case.outcome, case.code))
        large = case.id in ("T19a", "T19b")
        rows.append(Row(case.id, make, outcome, code, apix.get(case.id, APIX), "" if large else "ingest"))
    return rows


def _preallocated(folder: Path) -> Sequence[str]:
    (folder / "case.mrc").write_bytes(mrc_tables.header((16, 48, 48)))
    with (folder / "case.mrc").open("r+b") as stream:
        stream.truncate(1024 + 16 * 48 * 48 * 4)
    return [str(folder / "case.mrc")]


def _some(values: np.ndarray, part: float, value: float) -> None:
    values.flat[np.random.default_rng(1).choice(values.size, max(1, int(part * values.size)), replace=False)] = value


def _slab(values: np.ndarray) -> None:
    values[3:6] = 0


def _border(values: np.ndarray) -> None:
    values[:, :6] = values[:, -6:] = 0


VALUES = [
    Row("T06", _preallocated, "REJECT", "constant"),
    Row("N01", content(damaged(lambda v: _some(v, 0, np.nan))), "WARN", "non-finite"),
    Row("N02-one", content(damaged(lambda v: _some(v, 0, np.inf))), "WARN", "non-finite"),
    Row("N02-0.9%", content(damaged(lambda v: _some(v, 0.009, -np.inf))), "WARN", "non-finite"),
    Row("N02-2%", content(damaged(lambda v: _some(v, 0.02, np.nan))), "REJECT", "non-finite"),
    Row("N02-half", content(damaged(lambda v: _some(v, 0.5, np.nan))), "REJECT", "non-finite"),
    Row("N03-nan", content(damaged(lambda v: v * np.nan)), "REJECT", "non-finite"),
    Row("N03-0", content(damaged(lambda v: v * 0)), "REJECT", "constant"),
    Row("N03-7", content(damaged(lambda v: v * 0 + 7)), "REJECT", "constant"),
    Row("N03-slab", content(damaged(_slab)), "WARN", "unfilled"),
    Row("N04-huge", content(damaged(lambda v: np.where(v > 100, 3e38, -3e38))), "OK"),
    Row("N04-denormal", content(damaged(lambda v: v * 1e-40)), "OK"),
    Row("N04-offset", content(damaged(lambda v: v + 1e6)), "OK"),
    Row("N05", content(damaged(lambda v: -v)), "OK"),
    Row("N06", content(damaged(lambda v: 1000 + (v - 100) * 5, "f2")), "OK"),
    Row("N07", content(damaged(lambda v: _some(v, 1e-4, 2e5))), "OK"),
    Row("N08", content(damaged(_border)), "OK"),
]


def rows() -> list[Row]:
    """Return all rows."""
    from tests.faults import containers, listings

    return [*_of_the_tables(), *VALUES, *containers.ROWS, *listings.ROWS]


def main(argv: Sequence[str]) -> int:
    """Write every row's files below a folder, and a table of their outcomes."""
    root = Path(argv[0]).absolute()
    lines = ["id,outcome,exit code,code,words of cryoscale run"]
    for row in rows():
        folder = root / row.id.replace("/", "_")
        folder.mkdir(parents=True)
        words = " ".join(repr(word) if " " in word else word for word in row.make(folder))
        lines.append(f"{row.id},{row.outcome},{EXITS[row.outcome]},{row.code},{words!r}")
    (root / "outcomes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
