"""Nothing of a run listens beyond this machine; where it must, nobody without the run's certificate is heard."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from cryoscale.cluster import DaskExecutor
from cryoscale.cluster.credentials import make_credentials, security_of
from tests.cluster.listening import beyond_loopback, listening, turned_away

LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], 0)); print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[None]:
    command = [sys.executable, "-c", LISTEN, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        assert process.stdin is not None
        process.stdin.close()


def test_a_run_listens_on_loopback_only() -> None:
    with DaskExecutor(2, dashboard=True):
        found = listening(psutil.Process())
    # A scheduler, its pages, and two workers with a nanny each.
    assert len(found) >= 6
    assert beyond_loopback(found) == set()


@pytest.mark.parametrize("child", ["0.0.0.0"], indirect=True)
def test_a_child_that_listens_to_all_is_found(child: None) -> None:
    assert len(beyond_loopback(listening(psutil.Process()))) == 1


@pytest.mark.parametrize("child", ["127.0.0.1"], indirect=True)
def test_a_child_that_listens_on_loopback_is_fine(child: None) -> None:
    assert beyond_loopback(listening(psutil.Process())) == set()


def test_dask_s_own_defaults_are_found() -> None:
    with LocalCluster(n_workers=0, dashboard_address=":0"):
        assert beyond_loopback(listening(psutil.Process())) != set()


def test_sockets_of_the_newer_protocol_and_datagrams_count() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("0.0.0.0", 0))
        assert len(beyond_loopback(listening(psutil.Process()))) == 2


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_stranger_is_turned_away_by_tls_alone(scheme: str, tmp_path: Path) -> None:
    make_credentials(tmp_path / "own", 1.0)
    security = security_of(tmp_path / "own") if scheme == "tls" else None
    with LocalCluster(
        n_workers=0, host=f"{scheme}://127.0.0.1", security=security, dashboard_address="127.0.0.1:0"
    ) as cluster:
        host, _, port = cluster.scheduler_address.rpartition("://")[2].rpartition(":")
        assert turned_away(host, int(port), tmp_path) == (scheme == "tls")
