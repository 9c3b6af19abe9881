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

import numpy as np
import psutil
import pytest

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
            pids = worker_pids(executor)
            if pids:
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


def test_a_stopped_worker_is_replaced(
    tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoscale.cluster.executor._SILENT_SECONDS", 15)
    scene, stopped = Scene(tmp_path, 0.05), []

    def stop() -> None:
        stopped.append(worker_pids(executor)[0])
        os.kill(stopped[0], signal.SIGSTOP)

    with DaskExecutor(2) as executor:
        thread = scene.when(4, stop)
        result = scene.run(executor)
        thread.join()
        assert result.exit_code == 0
    assert not psutil.pid_exists(stopped[0])
    scene.require_whole(undisturbed, repeats=2)


def test_a_killed_client_leaves_nothing_running(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    scene = Scene(tmp_path, 0.3)
    client = subprocess.Popen([sys.executable, "-m", "tests.faults.harness", str(tmp_path)], stderr=subprocess.DEVNULL)
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
