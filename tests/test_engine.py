"""The driver, the done-records and the retries, in the plain loop."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cryoscale.engine import Job, LoopExecutor, Phase, record_path, run_jobs, run_unit
from cryoscale.errors import PauseError, TomogramError
from cryoscale.records import Unit
from tests import toyunits


def run(*jobs: Job, window: int = 4):
    return {outcome.id: outcome for outcome in run_jobs(jobs, LoopExecutor(), window=window)}


def test_receipts_come_back_in_the_order_of_the_units(tmp_path: Path) -> None:
    outcome = run(toyunits.job(tmp_path, "a", 5))["a"]
    assert outcome.summary == {"total": 30}
    assert outcome.times["square"].units == 5


@pytest.mark.parametrize("window", [1, 2, 7])
def test_many_jobs_share_a_window(tmp_path: Path, window: int) -> None:
    outcomes = run(*(toyunits.job(tmp_path / str(i), f"t{i}", i) for i in range(5)), window=window)
    assert [outcomes[f"t{i}"].summary["total"] for i in range(5)] == [0, 0, 1, 5, 14]


def test_a_finished_job_runs_nothing_again(tmp_path: Path) -> None:
    run(toyunits.job(tmp_path, "a"))
    before = toyunits.executions(tmp_path)
    outcome = run(toyunits.job(tmp_path, "a"))["a"]
    assert toyunits.executions(tmp_path) == before
    assert outcome.summary == {"total": 14}
    assert outcome.times["square"].skipped == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "record", "record gone"])
def test_only_the_damaged_unit_is_computed_again(tmp_path: Path, damage: str) -> None:
    run(toyunits.job(tmp_path, "a"))
    product, record = tmp_path / "square2.txt", record_path(str(tmp_path), ("square", "a", 2))
    match damage:
        case "flip":
            product.write_text("5")
        case "truncate":
            product.write_text("")
        case "delete":
            product.unlink()
        case "record":
            record.write_text(record.read_text()[:-9])
        case _:
            record.unlink()
    before = toyunits.executions(tmp_path)
    run(toyunits.job(tmp_path, "a"))
    assert toyunits.executions(tmp_path) == before + 1
    assert product.read_text() == "4"


def test_another_fingerprint_computes_all_again(tmp_path: Path) -> None:
    run(toyunits.job(tmp_path, "a"))
    before = toyunits.executions(tmp_path)
    run(toyunits.job(tmp_path, "a", fingerprint="other"))
    assert toyunits.executions(tmp_path) == 2 * before


def test_one_bad_job_fails_alone(tmp_path: Path) -> None:
    outcomes = run(
        toyunits.job(tmp_path / "a", "a"),
        toyunits.job(tmp_path / "b", "b", call=toyunits.refuse),
        toyunits.job(tmp_path / "c", "c"),
    )
    assert isinstance(outcomes["b"].error, TomogramError)
    assert outcomes["b"].stage == "square"
    assert outcomes["a"].summary == outcomes["c"].summary == {"total": 14}


def test_a_plan_that_raises_fails_its_own_job(tmp_path: Path) -> None:
    def plan():
        yield Phase("none", str(tmp_path), "f", ())
        raise TomogramError("no voxel size")

    outcomes = run(Job("bad", plan()), toyunits.job(tmp_path, "good"))
    assert "no voxel size" in str(outcomes["bad"].error)
    assert outcomes["good"].error is None


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.engine._BACK_OFF_SECONDS", 0.0)


@pytest.mark.parametrize("times", [1, 3])
def test_transient_faults_are_tried_again(tmp_path: Path, times: int, no_waiting: None) -> None:
    unit = Unit(("s", "a", 0), toyunits.stumble, (str(tmp_path), times), 0)
    assert run_unit(unit, str(tmp_path), "f").record.numbers == {"square": 9}


def test_a_fault_that_stays_fails_the_tomogram(tmp_path: Path, no_waiting: None) -> None:
    unit = Unit(("s", "a", 0), toyunits.stumble, (str(tmp_path), 99), 0)
    with pytest.raises(TomogramError, match="Input/output error"):
        run_unit(unit, str(tmp_path), "f")
    assert toyunits.executions(tmp_path) == 4


def test_a_full_disk_pauses_the_run_and_the_next_continues(tmp_path: Path) -> None:
    def full_disk_job(times: int) -> Job:
        def plan():
            unit = Unit(("s", "a", 0), toyunits.stumble, (str(tmp_path), times, errno.ENOSPC), 0)
            receipts = yield Phase("s", str(tmp_path), "f", (unit,))
            return receipts[0].numbers

        return Job("a", plan())

    with pytest.raises(PauseError, match="No space left"):
        run(full_disk_job(1))
    assert run(full_disk_job(1))["a"].summary == {"square": 9}
