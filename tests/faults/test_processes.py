"""Processes killed, stopped, poisoned: the same command finishes, no product differs, little is done twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
from dask.utils import parse_timedelta

from cryoscale.cluster import DaskExecutor
from cryoscale.collection import Result
from cryoscale.errors import LockedError, PauseError, TomogramError
from tests.faults.harness import UNITS, Scene

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def executor() -> Iterator[DaskExecutor]:
    with DaskExecutor(2) as executor:
        yield executor


def worker_pids(executor: DaskExecutor) -> list[int]:
    return [nanny.pid for nanny in executor._cluster.workers.values() if nanny.pid]


def test_workers_killed_at_random(tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str]) -> None:
    scene, rng, killed = Scene(tmp_path, 0.1), np.random.default_rng(1), []

    def kill() -> None:
        for _ in range(3):
            time.sleep(float(rng.uniform(0.1, 0.8)))
            while not (pids := worker_pids(executor)):
                # Both died, and a busy machine takes its time to start others.
                time.sleep(0.05)
            killed.append(pids[int(rng.integers(len(pids)))])
            os.kill(killed[-1], signal.SIGKILL)

    thread = scene.when(4, kill)
    assert scene.run(executor).exit_code == 0
    thread.join()
    assert len(killed) == 3
    scene.require_whole(undisturbed, repeats=3)


def test_every_worker_killed_at_once(tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str]) -> None:
    scene = Scene(tmp_path, 0.1)
    thread = scene.when(9, lambda: [os.kill(pid, signal.SIGKILL) for pid in worker_pids(executor)])
    assert scene.run(executor).exit_code == 0
    thread.join()
    scene.require_whole(undisturbed, repeats=2)


def test_a_poison_unit_fails_its_tomogram_alone(
    tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str]
) -> None:
    scene = Scene(tmp_path, 0.02)
    order = scene.order("merge", "b", 3, "die")
    result = scene.run(executor)
    assert result.exit_code == 3
    (failed,) = result.failures
    assert failed.id == "b"
    assert isinstance(failed.error, TomogramError)
    assert "killed every worker" in str(failed.error)
    for name in ("a", "c"):
        theirs = {path: value for path, value in undisturbed.items() if path.startswith(f"{name}/")}
        assert {path: value for path, value in scene.products().items() if path.startswith(f"{name}/")} == theirs
    order.unlink()
    (scene.output / "b" / "failure.json").unlink()
    scene.require_whole(undisturbed, repeats=12)


def test_a_stopped_worker_is_replaced(tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str]) -> None:
    scene, stopped, scheduler = Scene(tmp_path, 0.05), [], executor.scheduler

    def stop() -> None:
        executor._client.wait_for_workers(2)
        nanny = next(iter(executor._cluster.workers.values()))
        os.kill(nanny.pid, signal.SIGSTOP)
        # Seconds in which nothing is heard of it, and of nobody else: the wait is not ours to measure here, where any
        # worker may be silent for a while because the machine is busy. What it sent before has arrived by then.
        time.sleep(1.0)
        scheduler.workers[nanny.worker_address].last_seen -= scheduler.worker_ttl + 1
        stopped.append(nanny.pid)
        scheduler.loop.add_callback(scheduler.check_worker_ttl)

    thread = scene.when(4, stop)
    assert scheduler.worker_ttl == 40
    assert scheduler.periodic_callbacks["worker-ttl"].callback_time == 10_000, "replaced within a minute"
    assert scene.run(executor).exit_code == 0
    thread.join()
    psutil.wait_procs([psutil.Process(pid) for pid in stopped if psutil.pid_exists(pid)], timeout=60)
    assert [psutil.pid_exists(pid) for pid in stopped] == [False]
    executor._client.wait_for_workers(2, timeout=60)
    scene.require_whole(undisturbed, repeats=2)


def kept_after_a_kill(executor: DaskExecutor) -> int:
    """Kill the only worker; return how many keepers are left when a worker is back, or when there is none left."""
    keepers, began = executor._cluster.workers, time.monotonic()
    (before,) = worker_pids(executor)
    os.kill(before, signal.SIGKILL)
    while keepers and time.monotonic() - began < 120:
        if executor._cluster.scheduler.workers and worker_pids(executor) not in ([before], []):
            break
        time.sleep(0.1)
    return len(keepers)


@pytest.mark.parametrize(("seconds", "kept"), [(None, 1), (0.0, 0)], ids=["as-it-is", "without-patience"])
def test_a_worker_comes_back_however_long_it_takes_to_start(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, kept: int
) -> None:
    if seconds is not None:
        monkeypatch.setattr("cryoscale.cluster.local._RETURN_SECONDS", seconds)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "15s"}), DaskExecutor(1) as executor:
        assert kept_after_a_kill(executor) == kept
        waits = dask.config.get("distributed.deploy.lost-worker-timeout")
    assert seconds is not None or parse_timedelta(waits) >= 300


def test_a_killed_client_leaves_nothing_running(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    scene = Scene(tmp_path, 0.3)
    words = [sys.executable, "-m", "tests.faults.client", str(tmp_path), "0.3"]
    client = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while scene.executions() < 5 and client.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(client.pid).children(recursive=True)
    with pytest.raises(LockedError, match=str(client.pid)):
        scene.run()
    client.kill()
    client.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    # Each of two workers held a unit.
    scene.require_whole(undisturbed, repeats=2)


def _dask(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def test_a_killed_scheduler_pauses_the_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address, scene = f"tcp://127.0.0.1:{port}", Scene(tmp_path, 0.2)
    scheduler = _dask("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    worker = _dask(
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
        "--death-timeout",
        "5",
    )
    try:
        with DaskExecutor(address=address) as executor:
            scene.when(5, scheduler.kill)
            with pytest.raises(PauseError, match="scheduler was lost"):
                scene.run(executor)
        worker.wait(20)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    scene.require_whole(undisturbed, repeats=1)


def test_two_clients_on_one_folder(tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str]) -> None:
    scene, refused = Scene(tmp_path, 0.05), []

    def second() -> None:
        try:
            scene.run()
        except LockedError as error:
            refused.append(error)

    thread = scene.when(6, second)
    assert scene.run(executor).exit_code == 0
    thread.join()
    assert [error.exit_code for error in refused] == [5]
    assert str(os.getpid()) in str(refused[0])
    scene.require_whole(undisturbed, repeats=0)


@pytest.mark.parametrize("change", ["truncated", "replaced"])
def test_an_input_that_changes_while_it_is_read(
    tmp_path: Path, executor: DaskExecutor, undisturbed: dict[str, str], change: str
) -> None:
    scene = Scene(tmp_path, 0.05)
    whole, path = scene.mask("b").read_bytes(), scene.mask("b")
    times = path.stat().st_mtime_ns

    def disturb() -> None:
        if change == "truncated":
            os.truncate(path, 5000)
        else:
            path.with_suffix(".new").write_bytes(whole[:-1] + b"\1")
            path.with_suffix(".new").replace(path)

    result: list[Result] = []
    thread = threading.Thread(target=lambda: None)
    while not any(name.startswith("ingest-mask-b") for name in scene.notes()):
        # From the first slab of b on: disturbed once that has begun.
        if not thread.is_alive() and not result:
            scene.order("hold", "b", 0, "none")
            thread = threading.Thread(target=lambda: result.append(scene.run(executor)))
            thread.start()
        time.sleep(0.01)
    disturb()
    thread.join()
    if change == "truncated":
        (failed,) = result[0].failures
        assert failed.id == "b"
        assert failed.error.code in ("truncated", "changed")
    else:
        # Read anew at the end, whole: nothing is a mixture of the two.
        assert result[0].failures == []
        assert scene.notes()["ingest-mask-open-b-0"] == 2
    for name in ("a", "c"):
        assert scene.notes()[f"fit-{name}-0"] == 1
    path.write_bytes(whole)
    os.utime(path, ns=(times, times))
    scene.require_whole(undisturbed, repeats=2 * UNITS // 3)
