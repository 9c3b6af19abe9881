"""A run's own certificates: for its eyes only, gone with it, and nobody else's open anything."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed.comm import connect, listen
from distributed.security import Security

from cryoscale.cli import main
from cryoscale.cluster.authority import chain
from cryoscale.cluster.credentials import ROLES, credentials_for_run, make_credentials, security_of
from cryoscale.errors import UsageError
from cryoscale.lock import holder_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tls"
    make_credentials(path, 1.0)
    return path


def greeting(server: Security, client: Security | None, *, scheme: str = "tls") -> str:
    """What a client hears from a scheduler's listener; raises where it is turned away."""

    async def answer(comm: Any) -> None:
        await comm.write("welcome")

    async def meet() -> str:
        listener = listen("tls://127.0.0.1:0", answer, **server.get_listen_args("scheduler"))
        async with listener:
            address = listener.contact_address.replace("tls://", f"{scheme}://")
            arguments = client.get_connection_args("client") if client else {}
            comm = await connect(address, timeout=2, **arguments)
            try:
                return str(await asyncio.wait_for(comm.read(), 2))
            finally:
                comm.abort()

    with dask.config.set({"distributed.comm.retry.count": 0}):
        return asyncio.run(meet())


def test_the_run_s_own_certificate_opens(folder: Path) -> None:
    assert greeting(security_of(folder), security_of(folder)) == "welcome"


def test_what_reads_them_prints_no_traceback_of_a_lost_connection(folder: Path) -> None:
    say = "import logging, distributed; [logging.getLogger(n).error(n) for n in ('tornado.application', 'distributed')]"
    environment = os.environ | {"DASK_CONFIG": str(folder / "dask.yaml"), "DASK_LOGGING__DISTRIBUTED": "warning"}
    done = subprocess.run([sys.executable, "-c", say], env=environment, capture_output=True, text=True, check=True)
    assert "tornado" not in done.stderr
    assert "distributed - ERROR - distributed" in done.stderr
    plain = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True)
    assert "tornado.application" in plain.stderr, "without them"


def test_no_certificate_another_authority_s_or_a_late_one_does_not(folder: Path, tmp_path: Path) -> None:
    ours = security_of(folder)
    with pytest.raises(OSError):
        greeting(ours, None, scheme="tcp")
    make_credentials(tmp_path / "other", 1.0)
    with pytest.raises(OSError):
        greeting(ours, security_of(tmp_path / "other"))
    # Theirs may look as it likes: it knows our authority, and shows a certificate of its own.
    forged = security_of(tmp_path / "other")
    forged.tls_ca_file = ours.tls_ca_file
    with pytest.raises(OSError):
        greeting(ours, forged)
    make_credentials(tmp_path / "late", -1.0)
    late = security_of(tmp_path / "late")
    with pytest.raises(OSError):
        greeting(late, late)


def test_old_tls_is_refused(folder: Path) -> None:
    # As Dask reads the file that DASK_CONFIG names.
    given = dask.config.collect(paths=[str(folder / "dask.yaml")], env={})
    with dask.config.set(dask.config.merge(dask.config.config, given)):
        configured = Security()
    assert configured.require_encryption
    assert configured.tls_min_version == ssl.TLSVersion.TLSv1_3
    old = security_of(folder)
    old.tls_min_version = old.tls_max_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        greeting(configured, old)


def test_the_folder_is_for_its_owner_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.glob("*-key.pem")} == {f"{role}-key.pem" for role in ROLES}


def test_the_authority_s_key_is_nowhere() -> None:
    files = chain(ROLES, datetime.timedelta(hours=1))
    assert "ca-key.pem" not in files
    assert b"PRIVATE" not in files["ca.pem"]


def test_they_end_with_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), credentials_for_run(tmp_path / ".cluster", 1.0) as folder:
        assert (folder / "client-key.pem").is_file()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cryoscale.cluster.credentials import credentials_for_run\n"
        f"with credentials_for_run(Path({str(tmp_path)!r}) / 'c', 1.0): os.kill(os.getpid(), {signal.SIGKILL})"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = (tmp_path / "c").iterdir()
    with credentials_for_run(tmp_path / "c", 1.0) as folder:
        assert list((tmp_path / "c").iterdir()) == [folder]
    assert not left.exists()


def test_live_ones_stay_and_ended_ones_go(tmp_path: Path) -> None:
    elsewhere = holder_here() | {"host": "elsewhere"}
    make_credentials(tmp_path / "live", 1.0, owner=holder_here())
    make_credentials(tmp_path / "elsewhere", 1.0, owner=elsewhere)
    make_credentials(tmp_path / "ended", -1.0, owner=elsewhere)
    make_credentials(tmp_path / "kept", -1.0)
    make_credentials(tmp_path / "new", 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"live", "elsewhere", "kept", "new"}


def test_an_earlier_attempt_of_the_same_job_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"host": "", "job": "slurm-7", "attempt": "1"}
    make_credentials(tmp_path / "first", 1.0, owner=first)
    make_credentials(tmp_path / "other", 1.0, owner=first | {"job": "slurm-8"})
    monkeypatch.setenv("CRYOSCALE_JOB", "slurm-7")
    monkeypatch.setenv("CRYOSCALE_ATTEMPT", "2")
    make_credentials(tmp_path / "second", 1.0, owner=first | {"attempt": "2"})
    assert {path.name for path in tmp_path.iterdir()} == {"other", "second"}


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="File exists"):
        make_credentials(tmp_path / "taken", 1.0)
    with pytest.raises(UsageError, match="cryoscale credentials"):
        security_of(tmp_path / "taken")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "cryoscale.cluster.authority")
    with pytest.raises(UsageError, match=r"cryoscale\[cluster\]"):
        make_credentials(tmp_path / "new", 1.0)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("hours", ["nan", "inf", "1e9", "0", "-1", "day"])
def test_hours_that_are_none_make_nothing(tmp_path: Path, hours: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["credentials", str(tmp_path / "new"), "--hours", hours])
    assert end.value.code == 2
    assert not (tmp_path / "new").exists()


def test_a_lock_of_an_earlier_attempt_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoscale.errors import LockedError
    from cryoscale.lock import is_held, run_lock

    dead = {"host": "a-node-that-died", "pid": 1, "started": 0.0, "job": "slurm-7", "attempt": "1"}
    (tmp_path / "run.lock").write_text(json.dumps(dead))
    assert is_held(tmp_path)
    with pytest.raises(LockedError), run_lock(tmp_path):
        pass
    monkeypatch.setenv("CRYOSCALE_JOB", "slurm-7")
    monkeypatch.setenv("CRYOSCALE_ATTEMPT", "2")
    with run_lock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
