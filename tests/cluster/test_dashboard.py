"""The scheduler's own pages: what they answer, in every way of starting, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler
from prometheus_client.parser import text_string_to_metric_families

from cryoscale.cluster import DaskExecutor, dashboard
from cryoscale.driver import run_jobs
from cryoscale.engine import Observer
from cryoscale.journal import Journal
from cryoscale.records import Unit
from tests import toyunits
from tests.cluster.watching import HOSTILE, ORDER, begun, done, failed, phase, scheduler_with_pages, told
from tests.report.browser import CHROMIUM, Browser

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
MANY = [f"TS_{n:04d}" for n in range(1, 1000)] + [HOSTILE]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    """600 of 1,000 tomograms are through, 20 of them failed; 10 are under way."""
    with scheduler_with_pages() as scheduler:
        told(scheduler, "me", begun(*MANY))
        for n, name in enumerate(MANY[:610]):
            if n % 30 == 7 and n < 600:
                told(scheduler, "me", phase(name, "merge-label", 2), failed(name, "merge-label"))
            elif n < 600:
                told(scheduler, "me", done(name))
            else:
                told(scheduler, "me", phase(name, "ingest", 2), phase(name, "segment", 9))
        told(scheduler, "me", failed(HOSTILE, "plan"))
        yield scheduler


def page_of(scheduler: Scheduler) -> str:
    return f"http://127.0.0.1:{scheduler.http_server.port}{dashboard.PAGE}"


def asked(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode(), answer.headers


def test_the_json_says_it_all(scheduler: Scheduler) -> None:
    text, headers = asked(page_of(scheduler) + "/status.json")
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    (run,) = json.loads(text)["runs"]
    assert run["counts"] == {"complete": 580, "under way": 10, "failed": 21, "stopped": 0, "waiting": 389}
    assert run["order"] == ORDER
    assert run["rate_per_hour"] > 0
    assert run["seconds_left"] > 0
    assert run["tomograms"][600]["units"] == {"ingest": [0, 2], "segment": [0, 9]}
    assert run["tomograms"][-1] == {
        "id": HOSTILE, "state": "failed",
        "failure": {"class": "TOMOGRAM", "stage": "plan", "message": f"no good: {HOSTILE}"},
    }  # fmt: skip


def test_the_page_holds_no_name_and_lets_nothing_else_run(scheduler: Scheduler) -> None:
    text, headers = asked(page_of(scheduler))
    assert "TS_0001" not in text
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    # What it loads is there, by names that hold through a tunnel and below another path.
    for name in re.findall(r'(?:href|src)="([^"]+)"', text):
        assert not name.startswith(("/", "http"))
        if not name.startswith("data:"):
            asked(f"http://127.0.0.1:{scheduler.http_server.port}/{name}")


def test_metrics_beside_those_of_dask(scheduler: Scheduler) -> None:
    text, _ = asked(f"http://127.0.0.1:{scheduler.http_server.port}/metrics")
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {"dask_scheduler_workers", "cryoscale_units_done", "cryoscale_tomograms_per_hour"} <= found.keys()
    states = {sample.labels["state"]: sample.value for sample in found["cryoscale_tomograms"].samples}
    assert (states["complete"], states["failed"]) == (580, 21)
    assert "TS_0001" not in text


def test_it_is_in_the_menu_of_dask_s_pages(scheduler: Scheduler) -> None:
    text, _ = asked(f"http://127.0.0.1:{scheduler.http_server.port}/workers")
    assert '<a href="cryoscale">' in text


def test_a_scheduler_that_others_start(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--preload",
        "cryoscale.cluster.dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", tmp_path / "file.json",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not (tmp_path / "file.json").is_file():
                assert process.poll() is None
                time.sleep(0.1)
            with Client(scheduler_file=str(tmp_path / "file.json")) as client:
                told(client, client.id, begun("a"), phase("a", "merge", 2))
                port = client.scheduler_info()["services"]["dashboard"]
                (run,) = json.loads(asked(f"http://127.0.0.1:{port}/cryoscale/status.json")[0])["runs"]
                assert run["state"] == "running"
            # The client is gone, and its run with it.
            while run["state"] == "running":
                time.sleep(0.2)
                (run,) = json.loads(asked(f"http://127.0.0.1:{port}/cryoscale/status.json")[0])["runs"]
            assert run["state"] == "stopped"
        finally:
            process.terminate()


# --------------------------------------------------------------------------------------------------------- a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@needs_browser
def test_a_thousand_tomograms_are_seen_at_once(browser: Browser, scheduler: Scheduler) -> None:
    browser.visit(page_of(scheduler), width=1280)
    browser.wait("document.querySelectorAll('.strip').length === 1000")
    shown = "getComputedStyle(document.querySelectorAll('.strip')[{}]).backgroundImage"
    red, blue, amber = "rgb(207, 34, 46)", "rgb(90, 166, 207)", "rgb(240, 183, 60)"
    assert red in browser.run(shown.format(7))
    assert red not in browser.run(shown.format(8))
    assert blue in browser.run(shown.format(8))
    assert amber in browser.run(shown.format(605))
    assert amber not in browser.run(shown.format(700))
    assert browser.run("document.querySelectorAll('.strip[data-state=failed]').length") == 21
    # A screen of them, none beyond its edge.
    assert browser.run("document.querySelector('.grid').clientHeight") < 1000
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    # What has not changed is not drawn again.
    again = "part => (part.marks[8].title = '', drawGrid(part), part.marks[8].title)"
    assert browser.run(f"({again})(document.querySelector('.run'))") == ""
    tiles = browser.run("[...document.querySelectorAll('.tile b')].map(one => one.textContent)")
    assert tiles[:4] == ["580 of 1000", "10", "21", "389"]
    assert all(re.fullmatch(r"[\d.,]+( \w+)?", text) for text in tiles[4:]), "a rate, and when it will end"
    browser.run(
        "const box = document.querySelector('input'); box.value = 'ts_0601'; box.dispatchEvent(new Event('input'))"
    )
    assert browser.run("document.querySelector('output').textContent") == (
        "TS_0601: under way; ingest 0 of 2, segment 0 of 9"
    )


@needs_browser
def test_a_name_is_text(browser: Browser, scheduler: Scheduler) -> None:
    browser.visit(page_of(scheduler))
    browser.wait("document.querySelectorAll('.strip').length === 1000")
    rows = browser.run("[...document.querySelectorAll('.failures tbody tr')].map(row => row.cells[0].textContent)")
    assert rows[-1] == HOSTILE
    assert browser.run("document.images.length") == 0
    assert browser.run("document.title") == "cryoscale"
    home = page_of(scheduler).removesuffix(dashboard.PAGE)
    assert all(url.startswith((home, "data:")) for url in browser.requests)
    assert browser.complaints == []


@needs_browser
def test_a_page_that_took_names_for_markup_would_be_owned(
    browser: Browser, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(dashboard.__file__).with_name("page"), tmp_path, dirs_exist_ok=True)
    script = (tmp_path / "page.js").read_text()
    (tmp_path / "page.js").write_text(script.replace("made.textContent = text", "made.innerHTML = text"))
    monkeypatch.setattr(dashboard, "_FILES", tmp_path)
    browser.visit(page_of(scheduler))
    browser.wait("document.querySelectorAll('.strip').length === 1000")
    assert browser.run("document.images.length") > 0
    browser.wait("document.readyState === 'complete'")
    assert browser.run("document.title") == "cryoscale", "the policy holds where the page does not"
    assert any("Content Security Policy" in text for text in browser.complaints)
    monkeypatch.setattr(dashboard, "_POLICY", "default-src * 'unsafe-inline'")
    browser.visit(page_of(scheduler))
    browser.wait("document.title === 'owned'")


@needs_browser
def test_a_run_as_it_goes(browser: Browser, tmp_path: Path) -> None:
    jobs = [
        toyunits.job(tmp_path / name, name, call=toyunits.refuse if name == "b" else toyunits.square) for name in "abc"
    ]
    with DaskExecutor(1, dashboard=True) as executor:
        ours, theirs = executor.dashboard_links
        browser.visit(ours)
        browser.wait("!document.getElementById('none').hidden")
        with Journal(tmp_path, Observer(), executor.tell) as journal:
            order = {"order": ["square", "total"], "expected": ["square", "total"]}
            journal.started(3, 0, begun(*"abc") | order)
            for _ in run_jobs(jobs, executor, journal):
                pass
        browser.wait("document.querySelectorAll('tr[data-state=complete]').length === 2")
        assert browser.run("document.querySelector('tr.failed th').textContent") == "b"
        assert browser.run("document.querySelector('tr.failed span.failed').closest('td').cellIndex") == 1
        assert browser.run("document.querySelector('.facts').textContent").startswith("finished · ")
        # Dask's own page names the stages of what is there on its bars.
        for n in (0, 1):
            unit = Unit(("segment-classes", "d", n), toyunits.square, (str(tmp_path), n), 0)
            executor.submit(unit, str(tmp_path), "f")
        executor.completed()
        browser.visit(theirs)
        columns = "[...Bokeh.documents[0]._all_models.values()].filter(one => one.type === 'ColumnDataSource')"
        names = f"{columns}.flatMap(one => [...one.get_column('name') || []])"
        browser.wait(f"window.Bokeh && Bokeh.documents.length > 0 && {names}.includes('segment-classes')")
        browser.visit(ours)
        browser.wait("!!document.querySelector('tr[data-id]')")
    # What it showed last stays there, with a word.
    browser.wait("document.getElementById('silence').textContent.startsWith('no answer since ')")
    assert browser.run("document.querySelectorAll('tr[data-state=complete]').length") == 2
