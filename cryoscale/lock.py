"""One run per output folder: a lock file that names its holder (reliability.md P11).

The holder touches it once a minute. A lock on another host that nobody touches may still be held, by a machine that was
cut off: it is told as silent, and left for a person to remove.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from cryoscale.errors import LockedError, UsageError
from cryoscale.interrupt import shielded

__all__ = ["holder_here", "is_gone", "is_held", "require_free", "run_lock", "silent_seconds"]

_SETTLED_SECONDS = 0.5
_TOUCH_SECONDS = 60.0
_SILENT_SECONDS = 600.0
"""Clocks of machines differ, and a busy file system is late."""


@contextlib.contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold ``run.lock`` in `folder`; take over a lock whose process on this host is gone.

    Raises
    ------
    LockedError
        Another live run, or one on another host, holds it.
    UsageError
        The folder cannot be made.
    """
    path = Path(folder) / "run.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("cannot make the output folder", where=str(folder), found=error.strerror) from error
    holder, ended = None, threading.Event()
    try:
        with shielded():
            holder = _take(path.parent)
            threading.Thread(target=_keep_touching, args=(path, ended), daemon=True).start()
        yield
    finally:
        with shielded():
            ended.set()
            if holder is not None and _holder(path) == holder:
                path.unlink(missing_ok=True)


def is_held(folder: str | Path) -> bool:
    """Whether a run holds `folder`; one on another host is taken to be alive."""
    path = Path(folder) / "run.lock"
    return path.exists() and not is_gone(_holder(path))


def silent_seconds(folder: str | Path) -> float:
    """Return for how long nobody has touched a lock, by this machine's clock; 0 where that is not worth a word."""
    try:
        age = time.time() - (Path(folder) / "run.lock").stat().st_mtime
    except OSError:
        return 0.0
    return age if age > _SILENT_SECONDS else 0.0


def _keep_touching(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_TOUCH_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def require_free(folder: str | Path) -> None:
    """Refuse a folder that a run holds.

    Raises
    ------
    LockedError
        Another live run, or one on another host, holds it.
    """
    path = Path(folder) / "run.lock"
    if is_held(folder):
        raise LockedError(
            "another run holds this output folder",
            where=str(path),
            found=_holder(path) or "an unreadable lock",
            todo="wait for it, choose another --output, or delete the lock file if that run is gone",
        )


def holder_here() -> dict[str, Any]:
    """Return who this process is, for the world to see: host, process, and the batch job where there is one."""
    job = {"job": os.environ.get("CRYOSCALE_JOB", ""), "attempt": os.environ.get("CRYOSCALE_ATTEMPT", "")}
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time(), **job}


def _take(folder: Path) -> dict[str, Any]:
    """Write the lock file, or raise; return what it says."""
    path, holder, taken_over = folder / "run.lock", holder_here(), False
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            break
        except FileExistsError:
            require_free(folder)
            path.unlink(missing_ok=True)
            taken_over = True
    else:
        raise LockedError("another run took this output folder just now", where=str(path))
    try:
        with os.fdopen(descriptor, "w") as stream:
            json.dump(holder, stream)
    except OSError:
        # On a full disk an empty file is left, which would name nobody and hold the folder for ever.
        path.unlink(missing_ok=True)
        raise
    if taken_over:
        # Who looked at the old lock at the same moment may remove this one for it: the last to write it holds it.
        time.sleep(_SETTLED_SECONDS)
        if _holder(path) != holder:
            raise LockedError("another run took this output folder just now", where=str(path), found=_holder(path))
    return holder


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def is_gone(other: dict[str, Any] | None) -> bool:
    """Whether a holder has ended, as far as can be known here.

    It ran on this host and its process is gone; or it was an earlier attempt of the batch job that this process is
    part of: a scheduler starts a job again only when it has ended it. A lock torn by a crash names nobody and stays.
    """
    if other is None:
        return False
    me = holder_here()
    earlier = me["job"] and other.get("job") == me["job"] and other.get("attempt") != me["attempt"]
    return bool(earlier) or _has_ended(other, me["host"])


def _has_ended(other: dict[str, Any], here: str) -> bool:
    if other.get("host") != here:
        return False
    try:
        return bool(psutil.Process(int(other["pid"])).create_time() != other.get("started"))
    except (psutil.NoSuchProcess, KeyError, ValueError, TypeError, OverflowError):
        return True
