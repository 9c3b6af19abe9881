"""The pages of a run: what a run's page says of all, and that it keeps little of each."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import cryoscale.reporting as reporting
from cryoscale.io.files import write_text
from cryoscale.io.tables import write_csv
from cryoscale.report import ReportRun, render_page
from cryoscale.report.plan import write_report
from cryoscale.report.totals import Gathered
from cryoscale.spec import RunSpec
from tests.report.test_page import check, png, run, tomogram

ROWS = 40


def a_run(output: Path, count: int) -> Path:
    """Write a run's folder, as much of it as its pages are made of."""
    ids = [f"TS_{number:03d}" for number in range(count)]
    for place, name in enumerate(ids, 1):
        picture = output / name / "pictures" / "thumbnail.png"
        picture.parent.mkdir(parents=True)
        picture.write_bytes(png())
        rows = [
            (n, "yes" if n % 4 else "no", 1000.0 * place + n, 0.25, 0.5 + n / 100, f"a reason for {n}" * 4)
            for n in range(1, ROWS + 1)
        ]
        columns = ("number", "closed", "area_nm2", "fraction_inferred", "mean_sd_nm", "not_closed_reason")
        write_csv(output / name / "membranes.csv", columns, rows)
        summary: dict[str, Any] = {
            "geometry": {"shape": [8, 8, 8], "voxel_size_angstrom": [10.0] * 3, "origin_angstrom": [0.0] * 3},
            "report": {"pictures": {"thumbnail": ["pictures/thumbnail.png", "All membranes."]}},
            "times": {"fit": {"unit_seconds": 1.5, "peak_bytes": 1 << 20}},
        }
        write_text(output / name / "summary.json", json.dumps(summary))
    run = {
        "cryoscale": "0.1", "command": "cryoscale run", "started_utc": "2026-01-02", "machine": {},
        "spec": asdict(RunSpec()), "tomograms": [{"id": name, "source": "a.mrc", "mask": ""} for name in ids],
    }  # fmt: skip
    write_text(output / "run.json", json.dumps(run))
    return output


def test_a_run_of_many_tomograms_says_all_of_them_and_shows_the_first(tmp_path: Path) -> None:
    page = reporting.write_run_report(a_run(tmp_path, 60)).read_text(encoding="utf-8")
    text = " ".join(" ".join(check(page).text).split())
    assert page.count("<article") == 50
    assert "60 tomograms 2400 membranes 1800 of 2400 closed surfaces" in text
    assert "Area: 2400 membranes, 1001 to 60" in page
    assert "Gallery the first 50 of 60" in text
    # Beyond those with a part of their own, the list leads to their own pages.
    assert '<a href="#t-TS_049">TS_049</a>' in page
    assert '<a href="reports/TS_050.html">TS_050</a>' in page
    assert (tmp_path / "reports" / "TS_059.html").read_text(encoding="utf-8").count("<article") == 1


def held_bytes(output: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return what is held when the last page, the run's, is written."""
    held = []

    def noting(path: Path, run: ReportRun) -> None:
        held.append(tracemalloc.get_traced_memory()[0])
        write_report(path, run)

    monkeypatch.setattr(reporting, "write_report", noting)
    tracemalloc.start()
    try:
        reporting.write_run_report(output)
    finally:
        tracemalloc.stop()
    return int(held[-1])


def growth_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return what is held of one more tomogram."""
    monkeypatch.setattr(reporting, "MOST_ARTICLES", 2)
    # The first time it also holds what is kept for any page.
    _, few, more = (held_bytes(a_run(tmp_path / str(count), count), monkeypatch) for count in (1, 4, 16))
    return (more - few) / 12


_LEAST_OF_ROWS = ROWS * 1000
"""A row's six cells, as text in a dictionary, take more."""


def test_what_is_kept_of_a_tomogram_is_a_line_not_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert growth_bytes(tmp_path, monkeypatch) < _LEAST_OF_ROWS / 4


def test_rows_that_are_kept_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant of the test above."""
    kept, add = [], Gathered.add

    def keeping(self: Gathered, tomogram: Any) -> None:
        kept.append(tomogram)
        add(self, tomogram)

    monkeypatch.setattr(Gathered, "add", keeping)
    growth = growth_bytes(tmp_path, monkeypatch)
    assert kept
    assert growth > _LEAST_OF_ROWS / 4


def test_pictures_make_room_for_long_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    import cryoscale.report.page as page_module

    two = run(tomogram("TS_01"), tomogram("TS_02"))
    size = len(tomogram("TS_01").pictures["raw"].png)
    monkeypatch.setattr(page_module, "_PICTURE_BYTES", 7 * size)
    monkeypatch.setattr(page_module, "_LEAST_PICTURE_BYTES", 2 * size)
    whole = render_page(two)
    assert whole.count("<img") == 7
    for room, left in ((0, 7), (1.2, 6), (5.0, 3), (50.0, 2)):
        monkeypatch.setattr(page_module, "_PAGE_BYTES", len(whole.encode()) - round(room * size))
        page = render_page(two)
        assert page.count("<img") == left
        assert left == 2 or len(page.encode()) <= len(whole.encode()) - room * size
