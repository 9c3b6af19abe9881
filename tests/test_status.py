"""How far a run is, told from the folder alone: while it runs, stopped, finished; as text, JSON, and watched."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import psutil
import pytest

from cryoscale.cli import main
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor, Phase
from cryoscale.errors import LockedError, PauseError, UsageError
from cryoscale.journal import JOURNAL, read_journal
from cryoscale.lock import run_lock
from cryoscale.manifest import entries
from cryoscale.records import Receipt, sealed
from cryoscale.spec import RunSpec
from cryoscale.status import print_status, status_of, status_text
from cryoscale.tally import Status
from tests.toyunits import four_tomograms


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Four tomograms, of which ``full`` meets a full disk in fit, after a look at the status."""

    def full(folder: str, index: int) -> Receipt:
        seen.append(status_of(tmp_path / "out", now=clock))
        raise PauseError("disk full")

    seen: list[Status] = []
    clock = 4e9
    four_tomograms(tmp_path, monkeypatch, full)
    found = Collection(entries([str(tmp_path)], "{path}"), tmp_path / "out", RunSpec(), until="fit")
    with pytest.raises(PauseError, match="disk full"):
        run_collection(found, LoopExecutor())
    (found.output / "while.json").write_text(json.dumps(seen[0]))
    return found


def test_while_it_runs(job: Collection) -> None:
    status = json.loads((job.output / "while.json").read_text())
    assert status["state"] == "running"
    assert status["counts"] == {"complete": 2, "under way": 1, "failed": 1, "stopped": 0, "waiting": 0}
    assert status["stages"]["merge"] == {**status["stages"]["merge"], "tomograms": 3, "units": [4, 4]}
    assert status["stages"]["fit"] == {**status["stages"]["fit"], "tomograms": 2, "units": [0, 2]}
    (under_way,) = (entry for entry in status["tomograms"] if entry["state"] == "under way")
    assert under_way == {"id": "full", "state": "under way", "units": {"merge": [4, 4], "fit": [0, 2]}}
    text = status_text(status)
    assert "running" in text
    assert "full: under way; units: merge 4 of 4, fit 0 of 2" in text
    assert "bad: FAILED in merge-x (TOMOGRAM): " in text
    assert "bad tomogram" in text
    assert "a: complete up to fit" in text


def test_stopped_then_finished(job: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    status = status_of(job.output)
    assert status["state"] == "stopped"
    assert status["counts"]["stopped"] == 1
    assert "the same command goes on" in status_text(status)
    monkeypatch.setattr("cryoscale.collection.tomogram_job", lambda *args, **options: iter(()))

    def plan(*args, **options):
        yield Phase("merge", args[0].folder, "f", ())
        return {}

    monkeypatch.setattr("cryoscale.collection.tomogram_job", plan)
    run_collection(job, LoopExecutor())
    status = status_of(job.output)
    assert (status["state"], status["counts"]["complete"], status["counts"]["failed"]) == ("finished", 3, 1)


@pytest.mark.parametrize(
    "holder", ["", json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0})], ids=["torn", "other"]
)
def test_a_lock_that_nobody_touches_is_told(job: Collection, holder: str) -> None:
    lock = job.output / "run.lock"
    lock.write_text(holder)
    assert status_of(job.output)["state"] == "running"
    os.utime(lock, (0, time.time() - 3 * 3600))
    status = status_of(job.output)
    assert status["state"] == "silent" and status["counts"]["under way"] == 0
    assert "nothing was heard of it for 3.0 h" in status_text(status) and "remove run.lock" in status_text(status)
    with pytest.raises(LockedError):
        run_collection(job, LoopExecutor())
    print_status(job.output, watch_seconds=60.0)  # ends


def test_a_lock_is_touched_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.lock._TOUCH_SECONDS", 0.02)
    with run_lock(tmp_path):
        os.utime(tmp_path / "run.lock", (0, 0))
        end = time.monotonic() + 30
        while (tmp_path / "run.lock").stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert (tmp_path / "run.lock").stat().st_mtime > 0
    assert not (tmp_path / "run.lock").exists()


def write_journal(folder: Path, *events: dict[str, object]) -> None:
    (folder / JOURNAL).write_text("".join(sealed(event) + "\n" for event in events))


def test_rate_and_estimate_follow_the_finished_share_of_time(job: Collection) -> None:
    """Two done and three quarters of a third (merge is 3/4 of the time) in 1000 s; a quarter is left."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}
    (job.output / "run.lock").write_text(json.dumps(holder))
    seconds = {"merge": 30.0, "fit": 10.0}
    write_journal(
        job.output,
        {"at": 500.0, "event": "done", "id": "before", "seconds": seconds},
        {"at": 1000.0, "event": "run", "tomograms": 4, "kept": 0},
        {"at": 1100.0, "event": "phase", "id": "a", "stage": "merge", "units": 4},
        {"at": 1200.0, "event": "done", "id": "a", "seconds": seconds},
        {"at": 1300.0, "event": "done", "id": "c", "seconds": seconds},
        {"at": 1350.0, "event": "phase", "id": "full", "stage": "merge", "units": 4},
        {"at": 1400.0, "event": "phase", "id": "full", "stage": "fit", "units": 2},
    )
    status = status_of(job.output, now=2000.0)
    assert status["rate_per_hour"] == pytest.approx(2.75 * 3.6)
    assert status["seconds_left"] == pytest.approx(0.25 / 2.75 * 1000)
    assert "9.9 tomograms an hour, about 91 s left" in status_text(status)
    # What an earlier start of the run did is not this one's speed.
    write_journal(
        job.output,
        {"at": 500.0, "event": "done", "id": "a", "seconds": seconds},
        {"at": 1000.0, "event": "run", "tomograms": 4, "kept": 1},
    )
    status = status_of(job.output, now=2000.0)
    assert (status["rate_per_hour"], status["seconds_left"]) == (0.0, None)


def test_a_torn_line_of_the_journal_is_left_out(job: Collection) -> None:
    before = list(read_journal(job.output))
    text = (job.output / JOURNAL).read_text()
    (job.output / JOURNAL).write_text(text[:-9])
    assert list(read_journal(job.output)) == before[:-1]
    (job.output / JOURNAL).write_text(text.replace('"units":4', '"units":5', 1))
    assert len(list(read_journal(job.output))) == len(before) - 1


def test_many_tomograms_are_counted_and_few_listed(job: Collection) -> None:
    run = json.loads((job.output / "run.json").read_text())
    run["tomograms"] += [dict(run["tomograms"][0], id=f"more{n}") for n in range(30)]
    (job.output / "run.json").write_text(json.dumps(run))
    status = status_of(job.output)
    assert status["counts"]["waiting"] == 30
    assert "more7" not in status_text(status)
    assert "bad: FAILED" in status_text(status)
    assert "more7: waiting" in status_text(status, everything=True)


def test_the_verb(job: Collection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["status", str(job.output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == status_of(job.output)
    with pytest.raises(SystemExit):
        main(["status", str(job.output), "--watch", "0"])
    assert main(["status", str(job.output.parent)]) == 2
    capsys.readouterr()
    # Watched, it is shown until the run is no longer held.
    (job.output / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            (job.output / "run.lock").unlink()

    monkeypatch.setattr("cryoscale.status.time.sleep", nap)
    assert main(["status", str(job.output), "--watch", "7"]) == 0
    assert naps == [7.0, 7.0]
    assert capsys.readouterr().out.count("tomograms: ") == 3


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run here"):
        status_of(tmp_path)
