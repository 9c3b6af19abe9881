"""Who may ask the dashboard: a browser that was sent to this machine, or to a tunnel that ends here.

Dask's pages have no password and answer whoever reaches them, so they listen on loopback (executor.py, jobscript.py).
A page open in the user's browser still reaches loopback, by a name that it has made point there, or by a socket of its
own; it cannot choose the ``Host`` and ``Origin`` that the browser sends. Requests under another name than this
machine's get 403, and so do those from another machine, to a scheduler that somebody started without minding this;
``/proxy``, which fetches from any host, does not exist. Every scheduler of ours loads this module, with dashboard.py:
importing it restricts the routes before the server is there, ``dask_setup`` puts the check before them.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import dask
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerConnectionDelegate, ResponseStartLine

__all__ = ["dask_setup", "is_here", "is_ours", "restrict_routes"]

_HERE = {"localhost", "127.0.0.1", "::1"}


def is_ours(host: str, origin: str) -> bool:
    """Whether a browser that sends this ``Host``, and this ``Origin`` if any, was sent here by its user."""
    return _name(f"//{host}") in _HERE and (not origin or _name(origin) in _HERE)


def is_here(peer: str) -> bool:
    """Whether a connection from this address began on this machine, or in a tunnel that ends here."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def restrict_routes() -> None:
    """Leave out the route that fetches from other hosts, from now on."""
    routes = [name for name in dask.config.get("distributed.scheduler.http.routes") if not name.endswith(".proxy")]
    dask.config.set({"distributed.scheduler.http.routes": routes})


def dask_setup(scheduler: Any) -> None:
    """Put the check before everything that a scheduler's HTTP server answers."""
    scheduler.http_server.request_callback = _Guard(scheduler.http_server.request_callback)


class _Guard(HTTPServerConnectionDelegate):  # type: ignore[misc]
    def __init__(self, behind: Any) -> None:
        self._behind = behind

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        return _Request(self._behind.start_request(server_conn, request_conn), request_conn)

    def on_close(self, server_conn: object) -> None:
        self._behind.on_close(server_conn)


class _Request(HTTPMessageDelegate):  # type: ignore[misc]
    """One request: handed on, or answered 403 and never heard of behind the guard."""

    def __init__(self, behind: Any, connection: Any) -> None:
        self._behind: Any = behind
        self._connection = connection

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:
        here = is_here(str(self._connection.context.remote_ip))
        if here and is_ours(headers.get("Host", ""), headers.get("Origin", "")):
            return self._behind.headers_received(start_line, headers)
        self._behind = None
        self._connection.write_headers(
            ResponseStartLine("HTTP/1.1", 403, "Forbidden"), HTTPHeaders({"Content-Length": "0"})
        )
        self._connection.finish()
        return None

    def data_received(self, chunk: bytes) -> Any:
        return self._behind.data_received(chunk) if self._behind else None

    def finish(self) -> None:
        if self._behind:
            self._behind.finish()

    def on_connection_close(self) -> None:
        if self._behind:
            self._behind.on_connection_close()


restrict_routes()
