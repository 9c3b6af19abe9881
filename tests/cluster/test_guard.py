"""The dashboard answers a browser that was sent here, and no page that found its way here by a trick."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from distributed import LocalCluster

from cryoscale.cluster.guard import is_here, is_ours
from tests.cluster.watching import scheduler_with_pages

ROUTES = (
    "/status", "/workers", "/individual-plots.json", "/info/main/workers.html", "/json/counts.json", "/metrics",
    "/health", "/statics/css/base.css", "/", "/cryoscale", "/cryoscale/status.json", "/cryoscale/page.js",
)  # fmt: skip


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with scheduler_with_pages() as scheduler:
        yield scheduler.http_server.port


def code_of(port: int, route: str, *, at: str = "127.0.0.1", **headers: str) -> int:
    request = urllib.request.Request(f"http://{at}:{port}{route}", headers=headers)
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


def test_another_machine_is_refused_whatever_it_says() -> None:
    """Where somebody else starts the scheduler, its pages may listen to all."""
    others = [one.address for some in psutil.net_if_addrs().values() for one in some if one.family == socket.AF_INET]
    beyond = next((address for address in others if not address.startswith("127.")), None)
    if beyond is None:
        pytest.skip("this machine has no network")
    with scheduler_with_pages("0.0.0.0:0") as scheduler:
        port = scheduler.http_server.port
        assert code_of(port, "/cryoscale/status.json") == 200
        assert code_of(port, "/cryoscale/status.json", at=beyond, Host="localhost") == 403
    assert is_here("127.0.0.9") and is_here("::1") and is_here("::ffff:127.0.0.1") and is_here("::1%lo")
    assert not any(map(is_here, ("10.0.0.1", "::", "0.0.0.0", "::ffff:10.0.0.1", "fe80::1%eth0", "", "localhost")))


def test_names() -> None:
    assert is_ours("127.0.0.1:8787", "")
    assert is_ours("[::1]:8787", "http://localhost")
    assert not is_ours("", "")
    assert not is_ours("[evil", "")
    assert not is_ours("127.0.0.1", "null")
    assert not is_ours("127.0.0.1@evil.example", "")
