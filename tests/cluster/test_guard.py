"""The dashboard answers a browser that was sent here, and no page that found its way here by a trick."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from distributed import LocalCluster

from cryoscale.cluster import DaskExecutor
from cryoscale.cluster.guard import is_ours

ROUTES = (
    "/status", "/workers", "/individual-plots.json", "/info/main/workers.html", "/json/counts.json", "/metrics",
    "/health", "/statics/css/base.css", "/",
)  # fmt: skip


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with DaskExecutor(1, dashboard=True) as executor:
        yield executor.scheduler.http_server.port


def code_of(port: int, route: str, **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{route}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("route", ROUTES)
def test_only_this_machine_s_names_are_answered(port: int, route: str) -> None:
    assert code_of(port, route) == 200
    assert code_of(port, route, Host="evil.example") == 403
    assert code_of(port, route, Host=f"localhost.evil.example:{port}") == 403
    assert code_of(port, route, Origin="http://evil.example") == 403
    # Through ssh -L the browser knows it by another port.
    assert code_of(port, route, Host="localhost:9999", Origin="http://localhost:9999") == 200


def test_nothing_is_fetched_from_elsewhere(port: int) -> None:
    assert code_of(port, "/proxy/8787/127.0.0.1/status") == 404


def test_a_websocket_of_another_page_is_refused(port: int) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert code_of(port, "/status/ws", Origin="http://evil.example", **upgrade, **key) == 403


def test_without_the_guard_they_would_be_answered() -> None:
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as plain:
        assert code_of(plain.scheduler.http_server.port, "/json/counts.json", Host="evil.example") == 200


def test_names() -> None:
    assert is_ours("127.0.0.1:8787", "")
    assert is_ours("[::1]:8787", "http://localhost")
    assert not is_ours("", "")
    assert not is_ours("[evil", "")
    assert not is_ours("127.0.0.1", "null")
    assert not is_ours("127.0.0.1@evil.example", "")
