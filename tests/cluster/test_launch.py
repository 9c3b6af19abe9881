"""Where workers are: what is refused before anything starts, and schedulers that speak TLS alone."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from cryoscale.cli import main
from cryoscale.cluster import executor_on
from cryoscale.cluster.board import TOPIC
from cryoscale.cluster.credentials import credentials_for_run, make_credentials, security_of
from cryoscale.cluster.launch import _persistent, _Submissions
from cryoscale.driver import run_jobs
from cryoscale.errors import PauseError, UsageError
from tests import toyunits
from tests.cluster.listening import beyond_loopback, listening

_PATIENCE = "distributed.deploy.lost-worker-timeout"


@pytest.mark.parametrize(
    "address",
    [
        "tcp://10.0.0.1:8786", "10.0.0.1:8786", "tcp://node7:8786", "tcp://[fe80::1]:8786", "tcp://127.example.org:8786",
        "ucx://10.0.0.1:8786", "TCP://node7:8786",
    ],
)  # fmt: skip
def test_the_network_takes_tls(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="without TLS"), executor_on(address, 1, folder=tmp_path):
        pass
    (tmp_path / "mask.mrc").write_bytes(b"x")
    words = ["run", str(tmp_path / "mask.mrc"), "--output", str(tmp_path / "out"), "--cluster", address]
    assert main(words) == 2
    assert "cryoscale credentials" in capsys.readouterr().err


def test_a_scheduler_with_tls_takes_the_run_that_has_its_certificates(tmp_path: Path) -> None:
    with (
        credentials_for_run(tmp_path / "tls", 1.0) as folder,
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, host="tls://127.0.0.1", security=security_of(folder),
            dashboard_address="127.0.0.1:0",
        ) as cluster,
    ):  # fmt: skip
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with executor_on(address, 1, folder=tmp_path, credentials=folder) as executor:
            (outcome,) = run_jobs([toyunits.job(tmp_path, "a")], executor)
        assert outcome.summary == {"total": 14}
        written = tmp_path / "scheduler.json"
        cluster.scheduler.scheduler_file = str(written)
        written.write_text(f'{{"type": "Scheduler", "address": "{address}", "id": "x", "workers": {{}}}}')
        with executor_on(str(written), 1, folder=tmp_path, credentials=folder) as executor:
            (outcome,) = run_jobs([toyunits.job(tmp_path / "b", "b")], executor)
        assert outcome.summary == {"total": 14}


def test_without_the_scheduler_s_certificates_it_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.cluster.addresses._CONNECT_SECONDS", 1)
    make_credentials(tmp_path / "theirs", 1.0)
    make_credentials(tmp_path / "ours", 1.0)
    with LocalCluster(
        n_workers=0, host="tls://127.0.0.1", security=security_of(tmp_path / "theirs"), dashboard_address="127.0.0.1:0"
    ) as cluster:
        for credentials in (tmp_path / "ours", None):
            with (
                pytest.raises((PauseError, UsageError)),
                executor_on(cluster.scheduler_address, 1, folder=tmp_path, credentials=credentials),
            ):
                pass


@pytest.mark.parametrize(
    ("place", "package", "extra"), [("slurm", "dask_jobqueue", "cluster"), ("local-cuda", "dask_cuda", "local-cuda")]
)
def test_a_missing_package_is_named(
    place: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"cryoscale\[{extra}\]"), executor_on(place, 1, folder=tmp_path):
        pass


@pytest.mark.parametrize(
    ("place", "option", "complaint"),
    [
        ("slurm", "wall time", "allowed: name=value"),
        ("slurm", "walltimes=2:00:00", "walltimes"),
        ("local", "walltime=2:00:00", "dask-jobqueue or dask-cuda"),
        ("tcp://127.0.0.1:1", "memory=8GB", "dask-jobqueue or dask-cuda"),
    ],
)
def test_options_are_for_those_that_take_them(place: str, option: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint), executor_on(place, 1, folder=tmp_path, options=[option]):
        pass
    assert not list(tmp_path.rglob("*.pem"))


def test_a_scheduler_file_that_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.cluster.addresses._CONNECT_SECONDS", 1)
    with (
        pytest.raises(PauseError, match="no scheduler has written"),
        executor_on(str(tmp_path / "none.json"), 1, folder=tmp_path),
    ):
        pass
    (tmp_path / "odd.json").write_text("{}")
    with (
        pytest.raises(UsageError, match="not a scheduler's address"),
        executor_on(str(tmp_path / "odd.json"), 1, folder=tmp_path),
    ):
        pass


def test_a_worker_per_gpu_by_dask_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package that this machine has no GPU for: how it is asked, and that units run there."""
    asked = {}

    def stand_in(**given: object) -> LocalCluster:
        asked.update(given)
        return LocalCluster(n_workers=1, processes=False, **given)

    monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=stand_in))
    with (
        dask.config.set({_PATIENCE: "15s"}),
        executor_on("local-cuda", 9, folder=tmp_path, options=["memory_limit=2GiB"]) as executor,
    ):
        assert dask.config.get(_PATIENCE) == "300s"
        assert executor.gpu
        assert executor.slots(gpu=True) == 1
        assert beyond_loopback(listening(psutil.Process())) == set()
        (outcome,) = run_jobs([toyunits.job(tmp_path, "a")], executor)
    assert outcome.summary == {"total": 14}
    assert (asked["memory_limit"], asked["threads_per_worker"], asked["host"]) == ("2GiB", 1, "127.0.0.1")
    assert not listening(psutil.Process()), "all is closed"


def test_a_machine_without_a_driver_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pynvml raises where there is no driver, seen with dask-cuda 26.10: no OSError and no RuntimeError."""
    missing = type("NVMLError_LibraryNotFound", (Exception,), {"__module__": "pynvml"})

    def raises(error: Exception) -> SimpleNamespace:
        def stand_in(**_: object) -> None:
            raise error

        return SimpleNamespace(LocalCUDACluster=stand_in)

    monkeypatch.setitem(sys.modules, "dask_cuda", raises(missing("NVML Shared Library Not Found")))
    with pytest.raises(UsageError, match="nvidia-smi") as told, executor_on("local-cuda", 1, folder=tmp_path):
        pass
    assert "NVML Shared Library Not Found" in str(told.value)
    monkeypatch.setitem(sys.modules, "dask_cuda", raises(LookupError("a fault of ours")))
    with pytest.raises(LookupError), executor_on("local-cuda", 1, folder=tmp_path):
        pass


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **shell: str) -> None:
    """Put commands of a queue where they are found first."""
    for name, text in shell.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(folder)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_queue_that_refuses_the_jobs_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, sbatch="echo sbatch: error: no such partition >&2; exit 1", scancel="true")
    with (
        pytest.raises(PauseError, match="no such partition"),
        executor_on("slurm", 2, folder=tmp_path, options=["walltime=2:00:00"]),
    ):
        pass
    assert not list(tmp_path.rglob("*.pem"))


def test_a_queue_that_is_left_while_it_waits_keeps_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(
        tmp_path, monkeypatch, sbatch='cp "$1" {0}/job; echo Submitted batch job 7', scancel='echo "$@" > {0}/cancelled'
    )

    def stopped(client: Client, *_: object, **__: object) -> None:
        heard.extend(client.get_events(TOPIC))
        patience.append(dask.config.get(_PATIENCE))
        raise KeyboardInterrupt

    heard: list[object] = []
    patience: list[object] = []
    monkeypatch.setattr("cryoscale.cluster.executor.Client.wait_for_workers", stopped)
    options = ["walltime=2:00:00", 'worker_extra_args=["--resources", "GPU=1"]']
    with (
        dask.config.set({_PATIENCE: "15s"}),
        pytest.raises(KeyboardInterrupt),
        executor_on("slurm", 1, folder=tmp_path / "out", options=options),
    ):
        pass
    assert patience == ["300s"], "the same as everywhere"
    assert len(heard) == 1, "its scheduler has the pages"
    assert (tmp_path / "cancelled").read_text() == "7\n"
    assert not list(tmp_path.rglob("*.pem"))
    job = (tmp_path / "job").read_text()
    for needed in (
        "#SBATCH -t 2:00:00", "export OMP_NUM_THREADS=1", " tls://", "--nthreads 1", "--resources GPU=1", "--tls-key ",
        "--dashboard-address 127.0.0.1:0", "--no-dashboard", "--death-timeout 120",
    ):  # fmt: skip
        assert needed in job


class _RefusingJob:
    """Of a queue that refuses a job so many times."""

    refusals = 3

    async def _submit_job(self, script_filename: str) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError("sbatch: error: Unable to contact slurm controller")
        return f"Submitted batch job 7 of {script_filename}"


class _RefusingQueue:
    job_cls = _RefusingJob


@pytest.mark.parametrize("patience_seconds", [120.0, 0.0])
def test_a_lost_job_is_asked_for_until_the_queue_takes_it(
    monkeypatch: pytest.MonkeyPatch, patience_seconds: float
) -> None:
    """Dask asks once; a run whose workers are all lost then waited for ever."""
    monkeypatch.setattr("cryoscale.cluster.launch.WORKERS_SECONDS", patience_seconds)
    monkeypatch.setattr("cryoscale.cluster.launch._AGAIN_SECONDS", 0.01)
    told: list[float | None] = []

    class Scheduler:
        def __setattr__(self, name: str, value: float | None) -> None:
            assert name == "no_workers_timeout"
            told.append(value)

    submissions = _Submissions(Scheduler())
    job = _persistent(_RefusingQueue, submissions).job_cls()
    assert asyncio.run(job._submit_job("job")) == "Submitted batch job 7 of job"
    # Without workers the run pauses only while the queue has been refusing for long, and not once it takes jobs.
    assert told == ([None] if patience_seconds else [0.01, 0.01, 0.01, None])
    # The first jobs, and those of a run that is over, are not asked for again.
    with submissions:
        pass
    refused = _persistent(_RefusingQueue, submissions).job_cls()
    with pytest.raises(RuntimeError, match="slurm controller"):
        asyncio.run(refused._submit_job("job"))
    assert refused.refusals == 2
