"""Which sockets a process and all that it started listen on, and whether a stranger is heard there."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed.comm import connect

from cryoscale.cluster.credentials import make_credentials, security_of


def listening(root: psutil.Process) -> set[tuple[int, str, int]]:
    """Process, address and port of every TCP socket that a process tree listens on, and of every open UDP one."""
    found = set()
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in process.net_connections("inet"):
                if one.laddr and (one.status == psutil.CONN_LISTEN or one.type.name == "SOCK_DGRAM"):
                    found.add((process.pid, one.laddr.ip, one.laddr.port))
    return found


def beyond_loopback(found: set[tuple[int, str, int]]) -> set[tuple[int, str, int]]:
    """Those that another machine could reach."""
    return {entry for entry in found if not ipaddress.ip_address(entry[1].partition("%")[0]).is_loopback}


def turned_away(host: str, port: int, folder: Path) -> bool:
    """Whether Dask's own words reach nobody there: in the clear, or with certificates of another authority."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    strange = folder / f"strange-{secrets.token_hex(4)}"
    make_credentials(strange, 1.0)
    tls: dict[str, Any] = security_of(strange).get_connection_args("client")
    tls["ssl_context"].verify_mode = 0
    return not _heard(f"tcp://{host}:{port}", {}) and not _heard(f"tls://{host}:{port}", tls)


def _heard(address: str, arguments: dict[str, Any]) -> bool:
    async def meet() -> None:
        comm = await connect(address, timeout=5, **arguments)
        comm.abort()

    with dask.config.set({"distributed.comm.retry.count": 0}):
        try:
            asyncio.run(meet())
        except OSError:
            return False
    return True
