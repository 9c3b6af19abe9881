"""What a run's page says of all its tomograms: a line of each, and the columns that its distributions are drawn of.

::

    bytes kept  =  about 1 kB per tomogram + 32 per membrane

Everything else of a tomogram is on a page of its own, which is written before the next tomogram is read.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryoscale.report.run import TomogramReport
from cryoscale.report.text import number_in

__all__ = ["COLUMNS", "Gathered", "Line", "area_nm2", "gathered", "has_surface", "is_closed"]

COLUMNS = (
    "area_nm2", "major_axis_nm", "mean_curvature_per_nm", "thickness_nm", "nearest_distance_nm", "mean_sd_nm",
    "fraction_inferred",
)  # fmt: skip
"""Of ``membranes.csv``, that distributions are drawn of."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """One tomogram among all."""

    id: str
    page: str
    """Where its own page is, as a link; empty where there is none."""
    membranes: int
    closed: int | None
    """None where no row says whether it is."""
    area_nm2: float
    known_area_nm2: float
    """Of the membranes of which is known how much is inferred."""
    inferred_nm2: float
    protein_count: int | None
    seconds: float | None
    peak_bytes: int
    warnings: int


def is_closed(row: Row) -> bool:
    """Whether a membrane's surface is closed."""
    return row.get("closed", "").strip().lower() in ("yes", "true", "1", "closed")


def has_surface(row: Row) -> bool:
    """Whether a row is a membrane; a region that turned out to be none is listed too, with the reason."""
    return row.get("closed") != "no surface"


def area_nm2(row: Row) -> float:
    """Return a membrane's area in nm2, 0 where it is not known."""
    value = number_in(row.get("area_nm2", ""))
    return value if math.isfinite(value) else 0.0


@dataclass
class Gathered:
    """All tomograms of a run, as much of each as its page says of all."""

    lines: list[Line] = field(default_factory=list)
    columns: dict[str, array[float]] = field(default_factory=lambda: {name: array("f") for name in COLUMNS})
    """By name, a value of each membrane, NaN where it is not known."""
    places: array[int] = field(default_factory=lambda: array("I"))
    """Of each membrane, its tomogram's place, counted from 1."""

    def add(self, tomogram: TomogramReport) -> None:
        """Take in one more tomogram."""
        self.lines.append(_line(tomogram))
        self.places.extend([len(self.lines)] * len(tomogram.membranes))
        for name, column in self.columns.items():
            column.extend(number_in(row.get(name, "")) for row in tomogram.membranes)


def gathered(tomograms: Iterable[TomogramReport]) -> Gathered:
    """Take in tomograms that are all in memory."""
    found = Gathered()
    for tomogram in tomograms:
        found.add(tomogram)
    return found


def _line(tomogram: TomogramReport) -> Line:
    rows = tomogram.membranes
    areas = [area_nm2(row) for row in rows]
    known, inferred = _inferred(rows, areas)
    return Line(
        tomogram.id,
        tomogram.page,
        sum(map(has_surface, rows)),
        sum(map(is_closed, rows)) if any("closed" in row for row in rows) else None,
        sum(areas),
        known,
        inferred,
        tomogram.protein_count,
        sum(tomogram.stage_seconds.values()) if tomogram.stage_seconds else None,
        tomogram.peak_bytes,
        len(tomogram.warnings),
    )


def _inferred(rows: Sequence[Row], areas: Sequence[float]) -> tuple[float, float]:
    """Return the area of which is known how much is inferred, and how much is."""
    shares = [(area, number_in(row.get("fraction_inferred", ""))) for row, area in zip(rows, areas, strict=True)]
    known = [(area, share) for area, share in shares if 0 <= share <= 1]
    return sum(area for area, _ in known), sum(area * share for area, share in known)
