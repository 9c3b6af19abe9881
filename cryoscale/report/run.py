"""What a report shows, as plain frozen records: filled from files by the plan, turned into a page by `page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryoscale.records import Geometry
from cryoscale.report.scene import Scene
from cryoscale.report.stacks import Stack

if TYPE_CHECKING:
    from cryoscale.report.totals import Gathered

__all__ = ["MOST_ARTICLES", "PICTURES", "Picture", "ReportRun", "TomogramReport", "within_budget"]

MOST_ARTICLES = 50
"""Tomograms that get a part of their own in a run's page."""

PICTURES = ("thumbnail", "overlay", "surfaces", "scene", "raw", "sections", "uncertainty", "slices")
"""Names of pictures, the one that is missed most first; ``scene`` is what the viewer turns, ``slices`` are looked
through."""


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
    stacks: tuple[Stack, ...] = ()
    """Slices to look through, of each axis; what the budget calls ``slices``."""
    scene: Scene | None = None
    """Surfaces to turn."""
    left_out: tuple[str, ...] = ()
    """Names of pictures left out of the page for its size; their files are in the folder."""
    root: str = ""
    """What leads from the page to the folder that the tomogram's is in: empty, or ``../``."""
    page: str = ""
    """Where the tomogram's own page is, as a link from this one; empty where there is none."""
    membranes: tuple[Mapping[str, str], ...] = ()
    """Rows of ``membranes.csv``, every value as text."""
    protein_count: int | None = None
    """None where proteins were not looked for."""
    tables: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    """Rows of further tables by the name of their file."""
    steps_pixels: tuple[float, ...] = ()
    """Largest step of a membrane from slice to slice, of each slice looked at."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Time that the units of each stage took, in order; on several workers more than passed on the clock."""
    peak_bytes: int = 0
    """Largest resident memory of any process that worked on it."""
    scores: Mapping[str, float | str | Sequence[float]] | None = None
    """Against a known truth: any numbers by name, and what the raw ones are of in ``raw_is``; ``angle_edges_degrees``
    (n + 1), ``dice_raw_by_angle`` and ``dice_final_by_angle`` (n) become a chart, ``dice_raw_by_slice`` and
    ``dice_final_by_slice`` another."""


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
    """Those that may get a part of their own."""
    every: Gathered | None = None
    """All tomograms, where there are more than `tomograms`."""
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
        Of PNG, JPEG and surfaces; in the page they take 4/3 of it.
    """
    sizes = [_sizes(tomogram) for tomogram in tomograms]
    kept: list[set[str]] = [set() for _ in tomograms]
    spent = 0
    for name in (*PICTURES, *sorted({name for found in sizes for name in found} - set(PICTURES))):
        for held, found in zip(kept, sizes, strict=True):
            if name in found and spent + found[name] <= picture_bytes:
                held.add(name)
                spent += found[name]
    return tuple(
        replace(
            tomogram,
            pictures={name: picture for name, picture in tomogram.pictures.items() if name in held},
            stacks=tomogram.stacks if "slices" in held else (),
            scene=tomogram.scene if "scene" in held else None,
            left_out=(*tomogram.left_out, *(name for name in found if name not in held)),
        )
        for held, found, tomogram in zip(kept, sizes, tomograms, strict=True)
    )


def _sizes(tomogram: TomogramReport) -> dict[str, int]:
    sizes = {name: len(picture.png) for name, picture in tomogram.pictures.items()}
    if tomogram.stacks:
        sizes["slices"] = sum(len(stack.grey) + len(stack.labels) for stack in tomogram.stacks)
    if tomogram.scene:
        sizes["scene"] = len(tomogram.scene.block)
    return sizes
