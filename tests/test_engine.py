"""The driver, the done-records and the retries, in the plain loop."""

from __future__ import annotations

import errno
import re
import secrets
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from cryoscale.driver import run_jobs
from cryoscale.engine import Job, LoopExecutor, Phase, as_failure, record_path, run_unit
from cryoscale.errors import PauseError, TomogramError, TransientError
from cryoscale.memory import PROCESS_BYTES
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


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "record", "record gone", "record flipped"])
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
        case "record flipped":
            record.write_text(record.read_text().replace('"square":4', '"square":5'))
        case _:
            record.unlink()
    before = toyunits.executions(tmp_path)
    run(toyunits.job(tmp_path, "a"))
    assert toyunits.executions(tmp_path) == before + 1
    assert product.read_text() == "4"


def test_earlier_jobs_come_first(tmp_path: Path) -> None:
    """One worker ends a job before it begins the next; jobs beyond it are not even planned."""
    begun: list[str] = []

    def jobs():
        for n in range(6):
            begun.append(f"t{n}")
            yield toyunits.job(tmp_path / str(n), f"t{n}", 3)

    for n, outcome in enumerate(run_jobs(jobs(), LoopExecutor())):
        assert outcome.id == f"t{n}"
        assert begun == [f"t{k}" for k in range(n + 1)]


class Workers(LoopExecutor):
    """The loop, as if it had workers; remembers what it held whenever it was asked for a result."""

    def __init__(self, cpu: int, gpu: int = 0) -> None:
        super().__init__()
        self.workers, self.held = {False: cpu, True: gpu}, []

    def slots(self, *, gpu: bool) -> int:
        return self.workers[gpu]

    def completed(self):
        self.held.append([entry[0] for entry in self._queue])
        return super().completed()


def test_an_executor_never_holds_more_than_a_few_units_per_worker(tmp_path: Path) -> None:
    workers = Workers(20)
    (outcome,) = run_jobs([toyunits.job(tmp_path, "t", 100, call=toyunits.nothing)], workers)
    assert outcome.summary is not None
    assert max(map(len, workers.held)) == 80


def test_units_are_handed_over_some_at_a_time(tmp_path: Path) -> None:
    """Each message to a scheduler costs it time: of 200 units none goes alone but where a phase ends."""
    workers = Workers(20)
    list(run_jobs([toyunits.job(tmp_path, "a", 200)], workers))
    grown = [len(after) - len(before) + 1 for before, after in pairwise(workers.held) if len(after) >= len(before)]
    assert grown == [10] * 12 + [1], "80 are held at most, an eighth of that goes together; the sum is one unit"


@pytest.mark.parametrize(("count", "window", "expected"), [(1, 0, 1), (4, 0, 3), (20, 0, 13), (20, 2, 2)])
def test_as_many_jobs_start_as_workers_need(tmp_path: Path, count: int, window: int, expected: int) -> None:
    workers = Workers(count)
    next(run_jobs((toyunits.job(tmp_path / str(n), f"t{n}", 3) for n in range(40)), workers, window=window))
    assert len({unit.key[1] for unit in workers.held[0]}) == expected


def test_units_that_wait_for_a_gpu_do_not_keep_the_other_workers_idle(tmp_path: Path) -> None:
    def job(n: int) -> Job:
        folder = str(tmp_path / secrets.token_hex(4))

        def plan():
            for stage, gpu in (("read", False), ("net", True)):
                units = (Unit((stage, f"t{n}", i), toyunits.nothing, (folder, i), 0, gpu) for i in range(5))
                yield Phase(stage, folder, "f", tuple(units))
            return {}

        return Job(f"t{n}", plan())

    asked = []
    for gpus in (1, 0):
        workers = Workers(2, gpu=gpus)
        assert len(list(run_jobs((job(n) for n in range(3)), workers))) == 3
        asked.append([any(not unit.gpu for unit in held) for held in workers.held].index(False))
    # Until the 15 units of the last tomogram's first phase are done; were all workers alike, they would wait for it.
    assert asked[0] == 15 > asked[1]


def test_a_failed_job_makes_room(tmp_path: Path) -> None:
    workers = Workers(2)
    bad = [toyunits.job(tmp_path / f"b{n}", f"b{n}", 50, call=toyunits.refuse) for n in range(5)]
    outcomes = list(run_jobs([*bad, toyunits.job(tmp_path / "a", "a")], workers))
    assert [outcome.error is None for outcome in outcomes] == [False] * 5 + [True]
    assert workers._queue == []


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


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, TransientError), (errno.EACCES, TomogramError)])
def test_a_fault_of_files_in_a_plan_is_classified(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    def plan(number: int):
        yield Phase("none", str(tmp_path), "f", ())
        raise OSError(number, "no luck", "somewhere")

    assert isinstance(run(Job("bad", plan(code)))["bad"].error, kind)
    with pytest.raises(PauseError, match="no luck"):
        run(Job("full", plan(errno.ENOSPC)))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_what_may_not_be_written_pauses_the_run_and_what_may_not_be_read_does_not(tmp_path: Path, code: int) -> None:
    within, elsewhere = (as_failure(OSError(code, "denied", str(tmp_path / name / "x")), "a", str(tmp_path / "a"))
                         for name in ("a", "b"))  # fmt: skip
    assert isinstance(within, PauseError) and isinstance(elsewhere, TomogramError)


def test_a_full_disk_says_what_is_left(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free / 2**20
    found = re.search(r"(\d+) MiB free", str(as_failure(OSError(errno.ENOSPC, "full", str(tmp_path / "x")), "a")))
    assert found is not None and abs(int(found[1]) - free) < max(512, 0.05 * free)
    nowhere = as_failure(OSError(errno.EDQUOT, "full", str(tmp_path / "gone" / "x")), "a", str(tmp_path))
    assert isinstance(nowhere, PauseError) and "MiB" not in str(nowhere)


def test_too_little_memory_fails_the_tomogram(tmp_path: Path) -> None:
    outcome = run(toyunits.job(tmp_path, "a", call=toyunits.too_large))["a"]
    assert isinstance(outcome.error, TomogramError)
    assert "1 MiB" in str(outcome.error)


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
    with pytest.raises(TransientError, match="Input/output error"):
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


def test_a_paused_run_leaves_nothing_in_its_executor(tmp_path: Path) -> None:
    """Units of jobs that were in flight must not come back to whoever uses the executor next."""

    def full_disk():
        stumbling = Unit(("s", "a", 0), toyunits.stumble, (str(tmp_path), 1, errno.ENOSPC), 0)
        others = [Unit(("s", "a", n), toyunits.square, (str(tmp_path), n), 0) for n in (1, 2)]
        yield Phase("s", str(tmp_path), "f", (stumbling, *others))

    executor = LoopExecutor()
    with pytest.raises(PauseError, match="No space left"):
        list(run_jobs([Job("a", full_disk())], executor))
    (outcome,) = run_jobs([toyunits.job(tmp_path / "next", "next")], executor)
    assert outcome.summary == {"total": 14}


class Bounded(LoopExecutor):
    """Has so much memory."""

    def __init__(self, memory_bytes: int | None) -> None:
        super().__init__()
        self.memory_bytes = memory_bytes


ENOUGH = PROCESS_BYTES + (1 << 20)
"""For units of toyunits."""


def test_a_unit_that_no_worker_has_memory_for_never_runs(tmp_path: Path) -> None:
    """The bytes of one more than there is are too many; other tomograms go on, before and after it."""
    jobs = [toyunits.job(tmp_path / name, name, size=size) for name, size in (("a", 0), ("b", 1), ("c", 0))]
    outcomes = {outcome.id: outcome for outcome in run_jobs(jobs, Bounded(ENOUGH), window=3)}
    assert (outcomes["a"].summary, outcomes["c"].summary) == ({"total": 14}, {"total": 14})
    error = outcomes["b"].error
    assert isinstance(error, TomogramError)
    assert (outcomes["b"].stage, error.where) == ("square", "b, square unit 3")
    assert (error.found, error.allowed) == ("about 401 MiB", "up to 401 MiB")
    assert error.todo.startswith("--retry-failed with a machine with more memory")
    assert not list((tmp_path / "b").iterdir())


def test_where_nobody_knows_the_memory_nothing_is_refused(tmp_path: Path) -> None:
    (outcome,) = run_jobs([toyunits.job(tmp_path, "a", size=1 << 60)], Bounded(None))
    assert outcome.summary == {"total": 14}


def test_what_was_done_with_more_memory_is_kept_with_less(tmp_path: Path) -> None:
    run(toyunits.job(tmp_path, "a"))
    before = toyunits.executions(tmp_path)
    (outcome,) = run_jobs([toyunits.job(tmp_path, "a")], Bounded(PROCESS_BYTES))
    assert outcome.summary == {"total": 14}
    assert toyunits.executions(tmp_path) == before
    (tmp_path / "square2.txt").unlink()
    (outcome,) = run_jobs([toyunits.job(tmp_path, "a")], Bounded(PROCESS_BYTES))
    assert "square unit 2" in str(outcome.error)
