"""Opening files that nobody vouches for, and saying why one is refused.

An input is opened without blocking and read with ``pread`` only when it is a regular file: a FIFO named ``.mrc``
never hangs the run, and a file that shrinks while it is read is a short read, not a SIGBUS (reliability.md F5 to F7).
Its `Identity` (device, inode, size, modification time) is compared again at each read.

======= ================ =================================================================
outcome how it is told   meaning
======= ================ =================================================================
OK      nothing          read as it is
WARN    ``warnings``     read; each entry is (code, text) and goes into the report
ASK     `AskError`       refused until the user states a value; the text names the option
REJECT  `InputError`     refused; the collection goes on without it
======= ================ =================================================================
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import TomogramError, TransientError

__all__ = [
    "AskError",
    "Identity",
    "InputError",
    "Notes",
    "identity_of",
    "open_regular",
    "printable",
    "read_exactly",
    "require_unchanged",
    "wait_folder_stable",
    "wait_stable",
]

Notes = tuple[tuple[str, str], ...]
"""Warnings as (code, text)."""

_TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}


class InputError(TomogramError):
    """An input that cannot be read as a volume; `code` is the documented short name of the reason."""

    def __init__(
        self, code: str, what: str, *, where: str = "", found: object = None, allowed: str = "", todo: str = ""
    ) -> None:
        self.code = code
        super().__init__(what, where=where, found=found, allowed=allowed, todo=todo)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the fields, code included."""
        return _rebuild, (type(self), self.code, self.what, self.where, self.found, self.allowed, self.todo)


def _rebuild(
    cls: type[InputError], code: str, what: str, where: str, found: object, allowed: str, todo: str
) -> InputError:
    return cls(code, what, where=where, found=found, allowed=allowed, todo=todo)


class AskError(InputError):
    """An input that lacks a value which is never guessed: it is read once the user states it."""


@dataclass(frozen=True)
class Identity:
    """Which bytes a path stood for when it was first looked at."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    def to_json(self) -> dict[str, int]:
        """Return a JSON-able form; device and inode stay out, for they differ between nodes and copies."""
        return {"size": self.size, "mtime_ns": self.mtime_ns}


def printable(text: object) -> str:
    """Return a text with control characters and undecodable bytes escaped, safe in a terminal and a log."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def open_regular(path: str | Path) -> tuple[int, Identity]:
    """Open a regular file for reading and return its descriptor and identity; the caller closes it.

    Raises
    ------
    InputError
        Missing, unreadable, a loop of links, a folder, FIFO, socket or device.
    TransientError
        The disk or network failed; a second try may succeed.
    """
    where = printable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _TRANSIENT:
            raise TransientError("cannot be opened", where=where, found=error.strerror) from error
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            "unreadable", "cannot be opened", where=where, found=found, todo="check the path and its permissions"
        ) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError(
            "not-a-file", "not a regular file", where=where, found=_kind(status.st_mode), allowed="a regular file"
        )
    return descriptor, _identity(status)


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> str:
    for name, test in (("folder", stat.S_ISDIR), ("FIFO", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if test(mode):
            return name
    return "device"


def identity_of(path: str | Path) -> Identity:
    """Return the identity of the regular file at `path` now; raises as `open_regular`."""
    descriptor, identity = open_regular(path)
    os.close(descriptor)
    return identity


def require_unchanged(before: Identity, now: Identity, path: str | Path) -> None:
    """Refuse a file that was replaced, grew, shrank or was written to since it was first looked at.

    Raises
    ------
    InputError
        ``changed``: the identities differ.
    """
    if now != before:
        raise InputError(
            "changed",
            "changed during the run",
            where=printable(path),
            found=f"{now.size} bytes, modified {now.mtime_ns}, inode {now.inode}",
            allowed=f"{before.size} bytes, modified {before.mtime_ns}, inode {before.inode}",
            todo="wait until it is complete and run again",
        )


def wait_stable(path: str | Path, seconds: float) -> Identity:
    """Return the file's identity after it stayed the same for `seconds`; refuse one that is still being written.

    What its last change, of content or of name, is longer ago than is not waited for. A change that another machine's
    clock puts into the future counts as one of now.

    Raises
    ------
    InputError
        ``changed``: it changed meanwhile.
    """
    before = identity_of(path)
    status = os.stat(path)  # noqa: PTH116 - a path may hold bytes that pathlib refuses
    rest = _missing(max(status.st_mtime, status.st_ctime), seconds)
    if rest > 0:
        time.sleep(rest)
        require_unchanged(before, identity_of(path), path)
    return before


def wait_folder_stable(folder: str | Path, seconds: float) -> None:
    """Wait as `wait_stable` does for all that is in a folder, which must stay the same for `seconds`.

    Raises
    ------
    InputError
        ``changed``: a file came, went or was written to meanwhile; ``unreadable``: one may not be looked at.
    TransientError
        The disk or network failed; a second try may succeed.
    """
    before = _changes(folder)
    rest = _missing(max(before.values(), default=(0.0, 0))[0], seconds)
    if rest <= 0:
        return
    time.sleep(rest)
    after = _changes(folder)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        raise InputError(
            "changed",
            "changed during the run",
            where=printable(changed[0]),
            found=f"{len(changed)} files and folders came, went or were written to",
            allowed=f"a folder at rest for {seconds:g} s",
            todo="wait until it is complete and run again",
        )


def _changes(folder: str | Path) -> dict[str, tuple[float, int]]:
    """Last change, of content or name, and size of all that is in a folder, and of the folder."""
    found: dict[str, tuple[float, int]] = {}
    try:
        for root, _, files in os.walk(folder, onerror=_raise):
            for path in (root, *(os.path.join(root, name) for name in files)):  # noqa: PTH118 - ten times as fast
                status = os.lstat(path)
                found[path] = (max(status.st_mtime, status.st_ctime), status.st_size)
    except FileNotFoundError as error:
        # It went between being listed and being looked at: a change of now.
        found[str(error.filename)] = (math.inf, 0)
    except OSError as error:
        where = printable(error.filename or folder)
        if error.errno in _TRANSIENT:
            raise TransientError("cannot be opened", where=where, found=error.strerror) from error
        raise InputError(
            "unreadable",
            "cannot be opened",
            where=where,
            found=error.strerror,
            todo="check the path and its permissions",
        ) from error
    return found


def _raise(error: OSError) -> None:
    raise error


def _missing(last_change: float, seconds: float) -> float:
    """Seconds for which something must still stay as it is."""
    return min(seconds, seconds - (time.time() - last_change))


def read_exactly(descriptor: int, count: int, offset: int, path: str | Path) -> NDArray[np.uint8]:
    """Read `count` bytes at `offset`.

    Raises
    ------
    InputError
        ``truncated``: the file ends before.
    TransientError
        The disk or network failed.
    """
    buffer = np.empty(count, np.uint8)
    view, done = buffer.data, 0
    while done < count:
        try:
            got = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise TransientError("cannot be read", where=printable(path), found=error.strerror) from error
        if not got:
            raise InputError(
                "truncated",
                "truncated while read",
                where=f"{printable(path)}: byte {offset}",
                found=f"{done} bytes",
                allowed=f"{count} bytes",
                todo="copy the file again",
            )
        done += got
    return buffer
