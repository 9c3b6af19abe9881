"""What a report shows, as plain frozen records: filled from files by the plan, turned into a page by `page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryoscale.records import Geometry

__all__ = ["PICTURES", "Picture", "ReportRun", "TomogramReport", "within_budget"]

PICTURES = ("overlay", "surfaces", "raw", "thumbnail", "sections", "uncertainty")
"""Names of pictures, the one that is missed most first."""


@dataclass(frozen=True)
class Picture:
    """A picture of a tomogram."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class TomogramReport:
    """One tomogram's part of the page."""

    id: str
    source: str
    """Path as the user gave it."""
    geometry: Geometry | None = None
    facts: tuple[tuple[str, str], ...] = ()
    """Further lines about the input: a name and its value, with unit."""
    warnings: tuple[str, ...] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """By name, see `PICTURES`."""
    left_out: tuple[str, ...] = ()
    """Names of pictures left out of the page for its size; their files are in the folder."""
    membranes: tuple[Mapping[str, str], ...] = ()
    """Rows of ``membranes.csv``, every value as text."""
    protein_count: int | None = None
    """None where proteins were not looked for."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time that the units of each stage took, in order; on several workers more than passed on the clock."""
    peak_bytes: int = 0
    """Largest resident memory of any process that worked on it."""
    scores: Mapping[str, float | Sequence[float]] | None = None
    """Against a known truth: any numbers by name; ``angle_edges_degrees`` (n + 1), ``dice_raw_by_angle`` and
    ``dice_final_by_angle`` (n) become a chart."""


@dataclass(frozen=True)
class ReportRun:
    """A whole run."""

    title: str
    version: str
    command: str
    created_utc: str
    """Date and time as text."""
    machine: tuple[tuple[str, str], ...] = ()
    """Names and values: processor, memory, Python ..."""
    spec_toml: str = ""
    tomograms: tuple[TomogramReport, ...] = ()
    failures: tuple[tuple[str, str, str], ...] = ()
    """Tomogram, stage and message."""
    skipped: tuple[tuple[str, str], ...] = ()
    """What was not done, and why."""


def within_budget(tomograms: Sequence[TomogramReport], picture_bytes: int) -> tuple[TomogramReport, ...]:
    """Leave out pictures so that those left take `picture_bytes` at most: the least missed first, from the end.

    Parameters
    ----------
    tomograms
    picture_bytes
        Of PNG; in the page they take 4/3 of it.
    """
    kept: list[set[str]] = [set() for _ in tomograms]
    spent = 0
    known = [*PICTURES, *sorted({name for t in tomograms for name in t.pictures} - set(PICTURES))]
    for name in known:
        for held, tomogram in zip(kept, tomograms, strict=True):
            picture = tomogram.pictures.get(name)
            if picture is not None and spent + len(picture.png) <= picture_bytes:
                held.add(name)
                spent += len(picture.png)
    return tuple(
        replace(
            tomogram,
            pictures={name: picture for name, picture in tomogram.pictures.items() if name in held},
            left_out=(*tomogram.left_out, *(name for name in tomogram.pictures if name not in held)),
        )
        for held, tomogram in zip(kept, tomograms, strict=True)
    )
