"""The page: nothing in it acts, loads or is left open, whatever the names are."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cryoscale.records import Geometry
from cryoscale.report import Picture, ReportRun, TomogramReport, render_page
from cryoscale.report.png import encode_png
from cryoscale.report.run import within_budget
from cryoscale.report.scene import Scene
from cryoscale.report.script import SCRIPT
from cryoscale.spec import RunSpec, to_toml

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_NASTY = "<script>alert('x')</script>\x1b[31m\u202e\"onerror=1"


class Checker(HTMLParser):
    """Counts tags, and remembers attributes and text; fails where an end tag does not fit."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open, f"left open: {checker.open}"
    return checker


@functools.cache
def png(seed: int = 0, size: tuple[int, int] = (30, 40)) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_png(np.dstack([rng.integers(0, 255, (*size, 3)), np.full(size, 255)]).astype(np.uint8))


def tomogram(name: str, text: str = "plain") -> TomogramReport:
    rows = tuple(
        {
            "id": str(n),
            "area_nm2": f"{1000.0 * n:.7g}",
            "fraction_inferred": "0.25",
            "mean_sd_nm": "0.6",
            "closed": "no" if n == 3 else "yes",
            "reason": f"cut by the border {text}" if n == 3 else "",
        }
        for n in range(1, 5)
    )
    names = ("raw", "overlay", "sections", "surfaces", "uncertainty", "thumbnail")
    return TomogramReport(
        name,
        f"/data/{text}.mrc",
        Geometry((40, 64, 72), (10.0, 10.0, 10.0)),
        facts=((f"label {text}", text),),
        warnings=(f"N01: {text}",),
        pictures={n: Picture(png(), f"Words {text}. More {text}.") for n in names},
        membranes=rows,
        protein_count=12,
        stage_seconds={"ingest": 1.5, f"merge {text}": 75.0},
        peak_bytes=3 << 30,
        scores={
            "dice_final": 0.85,
            "surface_distance_nm": 0.7,
            "angle_edges_degrees": [0, 30, 60, 90],
            "dice_raw_by_angle": [0.2, math.nan, 0.8],
            "dice_final_by_angle": [0.7, 0.8, 0.9],
        },
    )


def run(*tomograms: TomogramReport, text: str = "plain") -> ReportRun:
    return ReportRun(
        title=f"Run {text}",
        version="0.1.0",
        command=f"cryoscale run {text}",
        created_utc="2026-01-02 03:04 UTC",
        machine=((f"name {text}", text),),
        spec_toml=to_toml(RunSpec()) + f"# {text}\n",
        tomograms=tomograms,
        failures=((f"bad {text}", "ingest", text),),
        skipped=((text, text),),
    )


def test_names_cannot_act() -> None:
    page = render_page(run(tomogram("TS_01", _NASTY), tomogram("TS_02"), text=_NASTY))
    checker = check(page)
    tags = {tag for tag, _ in checker.tags}
    assert not tags & {"iframe", "object", "embed", "link", "base", "form"}
    assert not [name for _, attributes in checker.tags for name in attributes if name.startswith("on")]
    # The one script is ours; whatever else became one could not run, its hash being another.
    assert page.count("<script") == 1
    assert f"<script>{SCRIPT}</script>" in page
    assert "</script" not in SCRIPT
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    # The text itself is still there to be read.
    assert any("<script>alert('x')</script>[31m" in text for text in checker.text)


def test_an_unescaped_name_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: with a `clean` that does not escape, the test above fails."""
    monkeypatch.setattr("cryoscale.report.page.clean", lambda text, **_: str(text))
    page = render_page(run(tomogram("TS_01"), text=_NASTY))
    assert page.count("<script") > 1


def test_the_page_loads_nothing() -> None:
    page = render_page(run(tomogram("TS_01"), tomogram("TS_02")))
    checker = check(page)
    policy = [a["content"] for tag, a in checker.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    ]
    assert not re.search(r"https?:", page)
    assert "url(" not in page
    assert "@import" not in page
    for tag, attributes in checker.tags:
        if "src" in attributes:
            assert tag == "img"
            assert str(attributes["src"]).startswith("data:image/png;base64,")
        href = attributes.get("href")
        assert href is None or re.fullmatch(r"#[\w.-]+|(TS_\d\d/)?membranes\.csv", href)


def test_links_within_the_page_arrive() -> None:
    checker = check(render_page(run(tomogram("TS_01"), tomogram("TS_02"))))
    targets = {attributes["id"] for _, attributes in checker.tags if "id" in attributes}
    inside = {str(a["href"])[1:] for _, a in checker.tags if str(a.get("href", "")).startswith("#")}
    assert inside
    assert inside <= targets


def test_light_dark_and_narrow() -> None:
    page = render_page(run(tomogram("TS_01")))
    assert "color-scheme:light dark" in page
    assert "@media screen and (prefers-color-scheme:dark)" in page
    assert "@media (max-width:720px)" in page
    assert '<meta name="viewport"' in page


def test_what_is_told() -> None:
    text = " ".join(" ".join(check(render_page(run(tomogram("TS_01"), tomogram("TS_02")))).text).split())
    for words in (
        "2 tomograms",
        "8 membranes",
        "6 of 8 closed surfaces",
        "0.0200 µm² membrane area",
        "25 % of the area inferred",
        "72 × 64 × 40 voxels (x, y, z) of 10.00 Å: 72.0 × 64.0 × 40.0 nm",
        "Why 1 of 4 is not closed",
        "cut by the border plain: membrane 3",
        "1 of 3 tomograms failed",
        "1 min 16 s of work in all",
        "peak memory 3.00 GiB",
        "Journal of Computational Science",
        "distance_nm = 2.0",
    ):
        assert words in text, words


def test_membranes_of_all_tomograms_together() -> None:
    one, two = tomogram("TS_01"), tomogram("TS_02")
    assert "Area: 8 membranes, 1000 to 4000 nm²" in render_page(run(one, two))
    assert "coloured by its tomogram" in render_page(run(one, two))
    assert "coloured by its tomogram" not in render_page(run(one))


def test_columns_of_the_table() -> None:
    """Values with their standard errors in one cell; what only programs read is in the file alone."""
    row = {"number": "1", "area_nm2": "1000", "area_se_nm2": "12.5", "area_seen_nm2": "900", "z_low_angstrom": "1"}
    shown = dataclasses.replace(tomogram("TS_01"), membranes=(row,))
    page = render_page(run(shown))
    assert "1000 <small>± 12</small>" in page
    assert 'data-v="1000"' in page
    assert "seen</th>" not in page
    assert "z low" not in page


def test_a_region_that_is_no_membrane_is_listed_and_not_counted() -> None:
    one = tomogram("TS_01")
    none = {"id": "5", "closed": "no surface", "reason": "no surface: a microtubule"}
    page = render_page(run(dataclasses.replace(one, membranes=(*one.membranes, none)), tomogram("TS_02")))
    assert re.search(r"<b>8</b><span>membranes</span>", page) and "of 8" in page and "of 9" not in page
    assert "4 membranes, 3 closed" in page and "5 membranes" not in page
    assert "5, 1 of them without a surface" in page and "no surface: a microtubule: region 5" in page
    assert "Why 1 of 4 is not closed, and others have no surface" in page
    alone = tuple(row for row in one.membranes if row["closed"] == "yes")
    page = render_page(run(dataclasses.replace(one, membranes=(*alone, none))))
    assert "Why regions have no surface" in page and "not closed" not in page


def test_an_empty_run_and_a_tomogram_without_anything() -> None:
    check(render_page(ReportRun("Empty", "0.1.0", "", "")))
    bare = ReportRun("Bare", "0.1.0", "", "", tomograms=(TomogramReport("TS_01", "a.mrc"),))
    assert "No membranes were found" in render_page(bare)


def test_fifty_tomograms_stay_under_twenty_megabytes() -> None:
    rng = np.random.default_rng(4)
    grey = rng.integers(0, 24, (1000, 640, 1)) * 11
    noise = encode_png(np.dstack([np.repeat(grey, 3, axis=2), np.full((1000, 640), 255)]).astype(np.uint8))
    small = png()
    assert len(noise) > 300_000
    names = {"raw": noise, "overlay": noise, "surfaces": small, "thumbnail": small}
    rows = tomogram("TS").membranes * 50
    many = [
        dataclasses.replace(
            tomogram(f"TS_{n:02d}"), membranes=rows, pictures={k: Picture(v, k) for k, v in names.items()}
        )
        for n in range(50)
    ]
    page = render_page(run(*many))
    assert len(page.encode()) < 20_000_000
    assert page.count("<article") == 50
    assert "Left out to keep this page small" in page


def test_what_is_missed_least_is_left_out_first() -> None:
    one, two = tomogram("TS_01"), tomogram("TS_02")
    size = len(one.pictures["raw"].png)
    first, second = within_budget([one, two], 5 * size)
    assert set(first.pictures) == {"thumbnail", "overlay", "surfaces"}
    assert set(second.pictures) == {"thumbnail", "overlay"}
    assert set(second.left_out) == {"raw", "surfaces", "sections", "uncertainty"}
    turning = [dataclasses.replace(t, scene=Scene(b"0" * size, {})) for t in (one, two)]
    first, second = within_budget(turning, 7 * size)
    assert first.scene is not None
    assert second.scene is None
    assert "scene" in second.left_out


def test_a_page_of_its_own_is_linked_where_something_is_left_out() -> None:
    left = dataclasses.replace(tomogram("TS_01"), page="reports/TS_01.html", left_out=("slices",))
    assert '<a href="reports/TS_01.html">its own page</a>' in render_page(run(left))
    own = render_page(run(dataclasses.replace(tomogram("TS_01"), root="../")))
    assert 'href="../TS_01/membranes.csv"' in own


def test_beyond_fifty_only_those_with_pictures_get_an_article() -> None:
    many = [dataclasses.replace(tomogram(f"TS_{n:02d}"), pictures={}) for n in range(60)]
    page = render_page(run(tomogram("TS_99"), *many))
    assert page.count("<article") == 1
    assert "TS_59" in page
    check(page)
