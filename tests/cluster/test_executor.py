"""The same jobs on worker processes: equal results, killed workers, poison units, nothing beyond loopback."""

from __future__ import annotations

import json
import logging
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from cryoscale.cluster import DaskExecutor
from cryoscale.cluster.executor import _hush
from cryoscale.collection import Collection, run_collection
from cryoscale.driver import run_jobs
from cryoscale.engine import Job, JobPlan, LoopExecutor, Phase
from cryoscale.errors import PauseError, TomogramError, UsageError
from cryoscale.manifest import entries
from cryoscale.records import Unit
from cryoscale.spec import MergeSpec, RunSpec
from tests import toyunits
from tests.phantoms import write_spheres
from tests.test_collection import products
from tests.test_crowding import write_sparse
from tests.test_heap import REPEATS, glibc_only, noted_pages


@pytest.fixture(scope="module")
def executor() -> Iterator[DaskExecutor]:
    with pytest.MonkeyPatch.context() as patch:
        # Processes of tests would find the usual port free in the same moment.
        patch.setattr("cryoscale.cluster.local.free_dashboard_port", lambda: "127.0.0.1:0")
        with DaskExecutor(2, dashboard=True) as executor:
            yield executor


def test_equals_the_plain_loop(tmp_path: Path, executor: DaskExecutor) -> None:
    jobs = [toyunits.job(tmp_path / "dask" / str(i), f"t{i}", i) for i in range(6)]
    ours = {outcome.id: outcome.summary for outcome in run_jobs(jobs, executor, window=3)}
    jobs = [toyunits.job(tmp_path / "loop" / str(i), f"t{i}", i) for i in range(6)]
    assert ours == {outcome.id: outcome.summary for outcome in run_jobs(jobs, LoopExecutor())}


def test_units_that_are_handed_over_together_are_one_message(
    tmp_path: Path, executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, plain = [], executor._client.map

    def counted(*args: object, **options: object) -> object:
        futures = plain(*args, **options)
        sizes.append(len(futures))
        return futures

    monkeypatch.setattr(executor._client, "map", counted)
    (outcome,) = run_jobs([toyunits.job(tmp_path, "a", 40)], executor)
    assert outcome.error is None
    assert sum(sizes) == 41
    assert sizes[0] == 32
    assert len(sizes) <= 4, "the first that fit, two times those that have room again, the sum"


def test_one_bad_tomogram_fails_alone(tmp_path: Path, executor: DaskExecutor) -> None:
    jobs = [toyunits.job(tmp_path / "a", "a"), toyunits.job(tmp_path / "b", "b", call=toyunits.refuse)]
    outcomes = {outcome.id: outcome for outcome in run_jobs(jobs, executor)}
    assert isinstance(outcomes["b"].error, TomogramError)
    assert outcomes["a"].summary == {"total": 14}


def test_a_killed_worker_costs_only_the_units_it_held(tmp_path: Path, executor: DaskExecutor) -> None:
    (outcome,) = run_jobs([toyunits.job(tmp_path, "a", 2, call=toyunits.die_once)], executor)
    assert outcome.summary == {"total": 1}
    squares = len(list((tmp_path / "executions").glob("square*")))
    assert squares == 2, "a unit that had its record was computed again"


def test_a_poison_unit_fails_its_tomogram_and_the_cluster_lives(tmp_path: Path, executor: DaskExecutor) -> None:
    (outcome,) = run_jobs([toyunits.job(tmp_path / "a", "a", 1, call=toyunits.die_always)], executor)
    assert isinstance(outcome.error, TomogramError)
    assert "killed every worker" in str(outcome.error)
    (outcome,) = run_jobs([toyunits.job(tmp_path / "b", "b")], executor)
    assert outcome.summary == {"total": 14}


def test_a_unit_that_hangs_is_tried_elsewhere(
    tmp_path: Path, executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor._limits, "of", lambda stage: 1.5)
    (outcome,) = run_jobs([toyunits.job(tmp_path / "a", "a", 2, call=toyunits.hang_once)], executor)
    assert outcome.summary == {"total": 1}
    (outcome,) = run_jobs([toyunits.job(tmp_path / "b", "b", 1, call=toyunits.hang_always)], executor)
    assert isinstance(outcome.error, TomogramError)
    assert "or hung on it" in str(outcome.error)
    (outcome,) = run_jobs([toyunits.job(tmp_path / "c", "c")], executor)
    assert outcome.summary == {"total": 14}


def test_how_long_units_take_sets_how_long_the_next_may_take(tmp_path: Path, executor: DaskExecutor) -> None:
    before, slow = executor._limits.of("square"), executor._limits.of("never seen")
    list(run_jobs([toyunits.job(tmp_path, "a")], executor))
    assert executor._limits.of("square") == 1800 <= before <= slow == 6 * 3600


def test_the_dashboard_answers_and_groups_units_by_stage(tmp_path: Path, executor: DaskExecutor) -> None:
    import urllib.request

    list(run_jobs([toyunits.job(tmp_path, "a")], executor))
    # The progress bars of the dashboard are the scheduler's prefixes.
    assert {"square", "total"} <= set(executor._cluster.scheduler.task_prefixes)
    ours, theirs = executor.dashboard_links
    port = theirs.split(":")[2].split("/")[0]
    assert (ours, theirs) == (f"http://127.0.0.1:{port}/cryoscale", f"http://127.0.0.1:{port}/status")
    assert executor.tunnel == f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}"
    for link in (ours, theirs):
        with urllib.request.urlopen(link, timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("page", ["/status", "/cryoscale", "/cryoscale/status.json", "/cryoscale/page.js"])
def test_without_a_dashboard_there_is_none(page: str) -> None:
    import urllib.error
    import urllib.request

    with DaskExecutor(1) as plain, pytest.raises(urllib.error.HTTPError, match="404"):
        port = plain._cluster.scheduler.http_server.port
        urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10)


def test_a_scheduler_elsewhere_does_the_same(tmp_path: Path, executor: DaskExecutor) -> None:
    with DaskExecutor(address=executor._cluster.scheduler_address) as remote:
        (outcome,) = run_jobs([toyunits.job(tmp_path, "a")], remote)
    assert outcome.summary == {"total": 14}


def test_what_dask_says_of_a_lost_scheduler_pauses_the_run(tmp_path: Path, executor: DaskExecutor) -> None:
    """Whatever is asked of it first: units to send, workers to count, units to forget, an event to tell."""
    with DaskExecutor(address=executor._cluster.scheduler_address) as remote:
        remote.submit(Unit(("square", "a", 0), toyunits.square, (str(tmp_path), 0), 0), str(tmp_path), "")
        remote._go_on()
        remote._watched = True
        remote._client.close()
        remote.tell({"event": "end"})
        remote.submit(Unit(("square", "b", 0), toyunits.square, (str(tmp_path), 0), 0), str(tmp_path), "")
        with pytest.raises(PauseError, match="scheduler was lost"):
            remote.completed()
        remote._counted = -1e9
        with pytest.raises(PauseError, match="scheduler was lost"):
            remote.slots(gpu=False)


def test_workers_of_another_version_make_nothing(tmp_path: Path, executor: DaskExecutor) -> None:
    with DaskExecutor(address=executor._cluster.scheduler_address) as remote:
        remote._code = "another"
        with pytest.raises(PauseError, match="another version of cryoscale"):
            list(run_jobs([toyunits.job(tmp_path, "a")], remote))
    assert not list(tmp_path.rglob("*.json"))


def test_no_result_waits_on_a_worker_to_be_fetched(tmp_path: Path, executor: DaskExecutor) -> None:
    """One that dies with it is asked for a minute, and where no other comes the run would wait for ever."""
    asked, handlers = [], executor.scheduler.handlers
    plain = handlers["gather"]
    handlers["gather"] = lambda **options: (asked.append(options), plain(**options))[1]
    try:
        (outcome,) = run_jobs([toyunits.job(tmp_path, "a", 8)], executor)
    finally:
        handlers["gather"] = plain
    assert outcome.error is None
    assert asked == []
    assert not executor._awaited and not executor._results


@glibc_only
def test_workers_keep_what_units_free_where_there_is_room(tmp_path: Path, executor: DaskExecutor) -> None:
    for number, unit_bytes in enumerate((200, 1 << 50)):
        executor.submit(Unit(("stage", "t", number), noted_pages, (), unit_bytes), str(tmp_path), "")
    results = dict(executor.completed() for _ in range(2))
    kept, returned = (results["stage", "t", number].record.numbers["pages"] for number in range(2))
    assert kept < 10 * REPEATS < 20 * REPEATS <= returned


def test_what_is_dropped_is_forgotten(tmp_path: Path, executor: DaskExecutor) -> None:
    """A unit that is given up ends all the same; the same unit sent again must not be given what that one said."""
    units = [Unit(("slow", "a", i), toyunits.where, (str(tmp_path), i, 1), 0) for i in range(3)]
    for unit in units:
        executor.submit(unit, str(tmp_path), "f")
    executor._go_on()
    assert {unit.key for unit in executor.drop("a")} == {unit.key for unit in units}
    executor._told_by_worker((0.0, pickle.dumps((0, "late"))))
    assert not executor._awaited and not executor._results and not executor._units


def test_runs_on_one_scheduler_may_have_tomograms_of_the_same_name(tmp_path: Path, executor: DaskExecutor) -> None:
    unit = [Unit(("square", "a", 3), toyunits.square, (str(tmp_path / name), 3), 0) for name in "xy"]
    with DaskExecutor(address=executor._cluster.scheduler_address) as other:
        for one, runner, name in zip(unit, (executor, other), "xy", strict=True):
            (tmp_path / name).mkdir()
            runner.submit(one, str(tmp_path / name), "f")
        for runner in (executor, other):
            assert runner.completed()[0] == ("square", "a", 3)
    assert [(tmp_path / name / "square3.txt").is_file() for name in "xy"] == [True, True]


def test_a_scheduler_without_workers_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.cluster.addresses.WORKERS_SECONDS", 1)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(PauseError, match="no worker joined"),
    ):
        DaskExecutor(address=empty.scheduler_address)


def test_workers_that_do_not_start_pause_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*counts: int, **options: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("cryoscale.cluster.executor.local_cluster", none)
    with pytest.raises(PauseError, match="workers do not start"):
        DaskExecutor(2)


def test_in_the_moment_that_the_scheduler_is_lost_one_place_is_left(
    executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost is told by the units, not by asking how many workers there are."""
    monkeypatch.setattr(executor, "_counted", -1e9)
    monkeypatch.setattr(executor._client, "scheduler_info", lambda **options: {})
    assert (executor.slots(gpu=False), executor.slots(gpu=True)) == (1, 0)
    assert executor.dashboard_links == ()
    monkeypatch.undo()
    monkeypatch.setattr(executor, "_counted", -1e9)
    assert executor.slots(gpu=False) == 2


def test_a_wrong_address_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not a scheduler's address"):
        DaskExecutor(address="nonsense")


def test_no_scheduler_at_the_address_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.cluster.addresses._CONNECT_SECONDS", 1)
    with pytest.raises(PauseError, match="no Dask scheduler answers"):
        DaskExecutor(address="tcp://127.0.0.1:9")


@pytest.mark.parametrize("gpus", [0, 1])
def test_units_that_need_a_gpu_run_one_at_a_time_on_the_worker_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")

    def units() -> JobPlan:
        # Without a GPU the first two that run wait for each other, so that both workers must take one.
        together = 1 if gpus else 2
        made = tuple(
            Unit(("where", "a", i), toyunits.where, (str(tmp_path), i, together), 1 << 20, gpu=i % 2 == 0 or not gpus)
            for i in range(12)
        )
        yield Phase("where", str(tmp_path), "f", made)
        return {}

    with DaskExecutor(2, gpus=gpus) as executor:
        assert executor.gpu is (gpus > 0)
        list(run_jobs([Job("a", units())], executor))
    found = [json.loads((tmp_path / f"where{i}.json").read_text()) for i in range(12)]
    need = {(one["process"], one["devices"]) for one in (found[::2] if gpus else found)}
    if gpus:
        assert [devices for _, devices in need] == ["5"]
    else:
        assert len(need) == 2


def test_dask_says_no_word_while_a_run_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    """Lost workers are told by the run, in one line."""
    names = ("distributed.scheduler", "distributed.nanny", "tornado.application", "asyncio")
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with DaskExecutor(1) as executor:
        for name in names:
            logging.getLogger(name).error("no traceback of %s, please", name)
        executor._client.run(logging.getLogger("distributed.worker").error, "nor a worker's, please")
    assert "please" not in capfd.readouterr().err
    assert [logging.getLogger(name).level for name in names] == [logging.ERROR] * len(names)


def test_of_a_run_that_is_given_up_dask_says_no_word() -> None:
    found = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    levels = [logger.level for logger in found]
    # Two of these have levels and handlers of their own.
    names = ("distributed", "distributed.client", "distributed.core", "tornado.application", "asyncio")
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.WARNING)
        had = _hush()
        assert {had[logging.getLogger(name)] for name in names} == {logging.WARNING}
        assert not any(logging.getLogger(name).isEnabledFor(logging.CRITICAL) for name in names)
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


def test_what_is_too_large_for_a_worker_fails_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two tomograms one takes more than a worker has; the other is what a plain loop makes."""
    small, large = write_spheres(tmp_path / "spheres.mrc"), write_sparse(tmp_path / "large.mrc", (64, 2048, 2048))
    found, spec = entries([str(large), str(small)], "{path}"), RunSpec(merge=MergeSpec(distance_nm=3.0))
    monkeypatch.setattr("cryoscale.cluster.local.machine_bytes", lambda: 2 * (900 << 20))
    monkeypatch.setattr("cryoscale.cluster.executor.machine_bytes", lambda: 2 * (900 << 20))
    with DaskExecutor(2) as limited:
        assert limited.memory_bytes == 900 << 20
        result = run_collection(Collection(found, tmp_path / "dask", spec, until="merge"), limited)
    assert [outcome.id for outcome in result.failures] == ["large"]
    record = json.loads((tmp_path / "dask" / "large" / "failure.json").read_text())
    assert (record["class"], record["stage"]) == ("TOMOGRAM", "ingest-mask")
    assert (
        "allowed: up to 900 MiB; to do: --retry-failed with --workers 1; or chunks of fewer slices" in record["message"]
    )
    assert not list((tmp_path / "dask" / "large" / "records").glob("ingest-mask/*")), "none of its slabs was read"
    run_collection(Collection(found[1:], tmp_path / "loop", spec, until="merge"), LoopExecutor())
    ours, theirs = products(tmp_path / "dask"), products(tmp_path / "loop")
    assert ours.pop("failures.csv")
    assert {name: value for name, value in ours.items() if not name.startswith("large")} == theirs
    assert theirs
