"""The pages of a run: what a run's page says of all, and that it keeps little of each."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
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


def a_run(output: Path, count: int, rows_each: int = ROWS) -> Path:
    """Write a run's folder, as much of it as its pages are made of."""
    ids = [f"TS_{number:03d}" for number in range(count)]
    for place, name in enumerate(ids, 1):
        picture = output / name / "pictures" / "thumbnail.png"
        picture.parent.mkdir(parents=True)
        picture.write_bytes(png())
        rows = [
            (n, "yes" if n % 4 else "no", 1000.0 * place + n, 0.25, 0.5 + n / 100, f"a reason for {n}" * 4)
            for n in range(1, rows_each + 1)
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


def own_pages(output: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (output / "reports").iterdir()}


def shown(pages: dict[str, str]) -> dict[str, str]:
    """Pages without what tells when they were written, and by which command."""
    return {name: page.replace("2026-01-02", "").replace("2026-09-09", "") for name, page in pages.items()}


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    write_text(path, json.dumps(found))


def change_run(output: Path, change: Callable[[dict[str, Any]], object]) -> None:
    change_json(output / "run.json", change)


def change_summary(output: Path, change: Callable[[dict[str, Any]], object]) -> None:
    change_json(output / "TS_001" / "summary.json", change)


def new_picture(output: Path) -> None:
    (output / "TS_001" / "pictures" / "thumbnail.png").write_bytes(png()[:-1] + b"\1")


def new_table(name: str) -> Callable[[Path], None]:
    def change(output: Path) -> None:
        write_csv(output / "TS_001" / name, ("membrane", "density_per_um2"), [(1, 20.5)])

    return change


def new_slices(output: Path) -> None:
    for name in ("grey.jpg", "labels.png"):
        (output / "TS_001" / name).write_bytes(png())
    entry = {"name": "xy", "grey": "grey.jpg", "labels": "labels.png", "rows": 4, "columns": 4, "start": 0}
    entry |= {"positions_nm": [1.0], "nm_per_pixel": 1.0}
    change_summary(output, lambda s: s["report"].update(slices=[entry]))


FACTS = {"box": [9.0] * 3, "proteins": [], "sd_top_nm": 1.0, "faces": 4}


def new_scene(output: Path) -> None:
    (output / "TS_001" / "scene.bin").write_bytes(b"1234")
    change_summary(output, lambda s: s["report"].update(scene={"file": "scene.bin", "facts": FACTS}))


BOTH = {"TS_000", "TS_001"}
CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "nothing": (lambda output: None, set()),
    "a later run": (lambda o: change_run(o, lambda r: r.update(started_utc="2026-09-09", command="again")), set()),
    "another machine": (lambda o: change_run(o, lambda r: r.update(machine={"node": "n2"})), set()),
    "version": (lambda o: change_run(o, lambda r: r.update(cryoscale="0.2")), BOTH),
    "options": (
        lambda o: change_run(o, lambda r: r["spec"]["merge"].update(distance_nm=9.5)), BOTH
    ),
    "source": (lambda o: change_run(o, lambda r: r["tomograms"][1].update(source="b.mrc")), {"TS_001"}),
    # A run with masks says of all its tomograms that some stages were left out.
    "mask": (
        lambda o: change_run(o, lambda r: r["tomograms"][1].update(mask="m.mrc")), BOTH
    ),
    "geometry": (lambda o: change_summary(o, lambda s: s["geometry"].update(shape=[8, 8, 9])), {"TS_001"}),
    "warning": (lambda o: change_summary(o, lambda s: s.update(ingest={"warnings": ["w"], "dtype": "f4"})), {"TS_001"}),
    "times": (lambda o: change_summary(o, lambda s: s["times"]["fit"].update(unit_seconds=9.0)), {"TS_001"}),
    "peak": (lambda o: change_summary(o, lambda s: s["times"]["fit"].update(peak_bytes=1 << 33)), {"TS_001"}),
    "steps": (lambda o: change_summary(o, lambda s: s["report"].update(steps_pixels=[1.0, 2.0])), {"TS_001"}),
    "picture": (new_picture, {"TS_001"}),
    "lost picture": (lambda o: (o / "TS_001" / "pictures" / "thumbnail.png").unlink(), {"TS_001"}),
    "slices": (new_slices, {"TS_001"}),
    "scene": (new_scene, {"TS_001"}),
    "membranes": (new_table("membranes.csv"), {"TS_001"}),
    "proteins": (new_table("proteins.csv"), {"TS_001"}),
    "densities": (new_table("protein_density.csv"), {"TS_001"}),
    "pairs": (new_table("protein_pairs.csv"), {"TS_001"}),
    "scores": (lambda o: write_text(o / "scores.json", json.dumps({"TS_001": {"dice": 0.5}})), {"TS_001"}),
    "lost page": (lambda o: (o / "reports" / "TS_001.html").unlink(), {"TS_001"}),
    "torn page": (lambda o: os.truncate(o / "reports" / "TS_001.html", 9000), {"TS_001"}),
    "flipped page": (lambda o: flip(o / "reports" / "TS_001.html"), {"TS_001"}),
}  # fmt: skip
"""What may happen between two runs, and whose pages it makes new."""


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def written_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> tuple[set[str], bool]:
    """Return whose own pages are written again after a change, and whether all are as if none had been there."""
    monkeypatch.setattr(reporting, "write_report", lambda path, run: None)
    output = a_run(root / "run", 2, rows_each=2)
    reporting.write_run_report(output)
    for path in (output / "reports").iterdir():
        os.utime(path, ns=(5, 5))
    change(output)
    reporting.write_run_report(output)
    new = {path.stem for path in (output / "reports").iterdir() if path.stat().st_mtime_ns > 5}
    left = shown(own_pages(output))
    shutil.rmtree(output / "reports")
    reporting.write_run_report(output)
    return new, left == shown(own_pages(output))


@pytest.mark.parametrize("name", CHANGES)
def test_a_page_is_written_again_when_what_it_shows_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, expected = CHANGES[name]
    new, current = written_again(tmp_path, monkeypatch, change)
    assert new == expected
    assert current or name in ("a later run", "another machine")


def test_pages_that_are_left_though_they_changed_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant of the test above: tables are not looked at."""
    real = reporting._mark_of

    def short_sighted(page: ReportRun) -> str:
        return real(replace(page, tomograms=tuple(replace(one, membranes=()) for one in page.tomograms)))

    monkeypatch.setattr(reporting, "_mark_of", short_sighted)
    assert written_again(tmp_path, monkeypatch, new_table("membranes.csv")) == (set(), False)


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
