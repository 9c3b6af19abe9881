"""Schedulers that are already there: their addresses, whether they may be spoken to, whether anybody works for them."""

from __future__ import annotations

import contextlib
import json
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from dask.utils import parse_timedelta
from distributed import Client

from cryoscale.cluster.credentials import security_of
from cryoscale.errors import PauseError, UsageError

__all__ = ["WORKERS_SECONDS", "client_at", "require_workers"]

_CONNECT_SECONDS = 20
WORKERS_SECONDS = 120
"""So long a run waits for the first worker, and for one to come back when all are lost."""


def client_at(address: str, credentials: Path | None) -> Any:
    """Return a Dask client of the scheduler at an address, or of the file that it wrote.

    Raises
    ------
    UsageError
        That is no address, one beyond this machine without TLS, or `credentials` lack something.
    PauseError
        Nobody answers there.
    """
    options: dict[str, Any] = {"address": address}
    if address.endswith(".json"):
        options = {"scheduler_file": address}
        if not Path(address).is_file() and not _appears(Path(address)):
            raise PauseError("no scheduler has written this file", where=address, todo="start one, check the path")
    try:
        _refuse_open_network(json.loads(Path(address).read_text())["address"] if address.endswith(".json") else address)
        security = security_of(credentials) if credentials else None
        return Client(**options, security=security, timeout=_CONNECT_SECONDS)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "not a scheduler's address",
            where=address,
            found=error,
            allowed="tls://host:port, or a scheduler's .json file",
        ) from error
    except OSError as error:
        raise PauseError(
            "no Dask scheduler answers",
            where=address,
            found=error,
            todo="start one with `dask scheduler`, check the address and --tls",
        ) from error


def _appears(path: Path) -> bool:
    """Wait for a scheduler that starts at this moment to say where it is."""
    end = time.monotonic() + _CONNECT_SECONDS
    while not path.is_file() and time.monotonic() < end:
        time.sleep(0.5)
    return path.is_file()


def _refuse_open_network(address: str) -> None:
    """Refuse to speak in the clear, and to anybody, to what is not on this machine."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.port is None:
        msg = "no port"
        raise ValueError(msg)
    if parts.scheme not in ("tls", "wss") and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            "a scheduler on the network without TLS",
            where="--cluster",
            found=address,
            allowed="tls://host:port with --tls DIR, or an address on this machine",
            todo="`cryoscale credentials DIR`; start scheduler and workers with DASK_CONFIG=DIR/dask.yaml",
        )


def _is_loopback(host: str) -> bool:
    # A name may begin like a number: 127.example.org is anywhere.
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def require_workers(client: Any, address: str) -> None:
    """Wait for a scheduler's first worker.

    Raises
    ------
    PauseError
        None came.
    """
    seconds = parse_timedelta(dask.config.get("distributed.scheduler.no-workers-timeout")) or WORKERS_SECONDS
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        client.close()
        raise PauseError(
            f"no worker joined the scheduler within {seconds} s",
            where=address,
            todo=f"start one with `dask worker {address}`, then run the same command again",
        ) from error
