"""Who may speak to a run's scheduler and workers: those who hold a certificate of an authority made for this run.

Dask lets anyone who reaches a scheduler run code as its user. On loopback that is this machine; beyond it every
connection is mutual TLS. Dask looks at the authority alone, never at the name in a certificate, so the authority must
be this run's own: its key signs three certificates and is forgotten, never written. The folder (0700, its keys 0600)::

    ca.pem  {scheduler,worker,client}.pem  {scheduler,worker,client}-key.pem
    dask.yaml      what Dask reads where DASK_CONFIG names it
    owner.json     who made it; the next run removes what a killed one left

The certificates end with the run's time, so a copy that stays behind somewhere opens nothing later. `cryptography`
makes them, and not the program openssl: it is the library Dask itself takes for this, comes as a wheel wherever Python
runs, and hands over keys that were never in a file with other permissions.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed.security import Security

from cryoscale.errors import UsageError
from cryoscale.interrupt import shielded
from cryoscale.lock import holder_here, is_gone

__all__ = ["ROLES", "credentials_for_run", "make_credentials", "security_of"]

ROLES = ("scheduler", "worker", "client")


def make_credentials(
    folder: Path, hours: float, *, mounted_at: str = "", owner: Mapping[str, Any] | None = None
) -> None:
    """Make an authority and its three certificates; remove what dead runs left beside them.

    Parameters
    ----------
    folder
        Made, readable by its owner alone; must not exist.
    hours
        For how long the certificates hold.
    mounted_at
        Path that the processes will see the folder at, where that differs.
    owner
        Who needs them (lock.py): once that is gone, they go.

    Raises
    ------
    UsageError
        The folder exists or cannot be made, or `cryptography` is not installed.
    """
    chain = _chain_maker()
    with contextlib.suppress(OSError):
        _sweep(folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(
            "cannot make the folder of the certificates", where=str(folder), found=error.strerror, todo="name a new one"
        ) from error
    for name, content in chain(ROLES, datetime.timedelta(hours=hours)).items():
        _write_private(folder / name, content)
    config = _dask_config(Path(mounted_at) if mounted_at else folder.absolute())
    _write_private(folder / "dask.yaml", json.dumps(config, indent=2).encode())
    if owner is not None:
        _write_private(folder / "owner.json", json.dumps(owner).encode())


@contextlib.contextmanager
def credentials_for_run(parent: Path, hours: float) -> Iterator[Path]:
    """Give a folder of credentials below `parent`, which is removed at the end, and by the next run after a kill."""
    folder = parent / f"run-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with shielded():
            make_credentials(folder, hours, owner=holder_here())
        yield folder
    finally:
        with shielded():
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                parent.rmdir()


def security_of(folder: Path) -> Security:
    """Return what Dask needs to use the credentials in a folder.

    Raises
    ------
    UsageError
        One of them is missing.
    """
    names = _dask_config(folder.absolute())["distributed"]["comm"]["tls"]
    missing = [path for path in (names["ca-file"], *names["client"].values()) if not Path(path).is_file()]
    if missing:
        raise UsageError(
            "no credentials here",
            where=missing[0],
            allowed="a folder that `cryoscale credentials` made, or a job script",
        )
    parts = {f"tls_{role}_{part}": names[role][part] for role in ROLES for part in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=names["ca-file"], **parts)


def _dask_config(folder: Path) -> dict[str, Any]:
    roles = {role: {"cert": f"{folder}/{role}.pem", "key": f"{folder}/{role}-key.pem"} for role in ROLES}
    return {
        "distributed": {
            "comm": {"require-encryption": True, "tls": {"min-version": 1.3, "ca-file": f"{folder}/ca.pem", **roles}}
        },
        # All processes of a job speak into one file: tracebacks of connections that others closed would bury what a
        # run says of them. Dask's own loggers go on.
        "logging": {"tornado.application": "critical"},
    }


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _sweep(parent: Path) -> None:
    """Remove credentials that nobody uses: their time is over, or the run or job that made them is gone."""
    from cryoscale.cluster.authority import has_ended

    for path in parent.glob("*/owner.json"):
        with contextlib.suppress(OSError, ValueError):
            if is_gone(json.loads(path.read_text())) or has_ended((path.parent / "ca.pem").read_bytes()):
                shutil.rmtree(path.parent, ignore_errors=True)


def _chain_maker() -> Callable[[Sequence[str], datetime.timedelta], dict[str, bytes]]:
    try:
        from cryoscale.cluster.authority import chain
    except ImportError as error:
        raise UsageError(
            "mutual TLS needs a package that is not installed", found=error, todo="pip install 'cryoscale[cluster]'"
        ) from error
    return chain
