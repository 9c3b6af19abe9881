"""Files that are complete or absent.

Every product is written under a temporary name in its own folder, flushed to disk, and renamed: a file under its
final name is whole, whatever was killed (reliability.md D6, R4).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "atomic_write",
    "crc32c",
    "crc32c_of",
    "fsync_file",
    "fsync_folder",
    "load_npz",
    "relative_files",
    "save_npz",
    "write_text",
]

_READ_BYTES = 1 << 22


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it and rename it to `path`, on failure remove it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield temporary
        fsync_file(temporary)
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_file(path: str | Path) -> None:
    """Force a file's bytes to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: str | Path) -> None:
    """Force a folder's entries to disk, so that a rename outlives a power cut."""
    fsync_file(path)


def crc32c(path: str | Path) -> tuple[int, int]:
    """Return a file's length in bytes and crc32c."""
    with Path(path).open("rb") as stream:
        return crc32c_of(stream)


def crc32c_of(stream: IO[bytes]) -> tuple[int, int]:
    """Return the length in bytes and crc32c of what is left of a stream."""
    checksum, length = google_crc32c.Checksum(), 0
    while block := stream.read(_READ_BYTES):
        checksum.update(block)
        length += len(block)
    return length, int.from_bytes(checksum.digest(), "big")


def write_text(path: str | Path, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_npz(path: str | Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays, uncompressed, whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def load_npz(path: str | Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read what `save_npz` wrote, or some of its arrays by their names; never unpickles."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive.files}


def relative_files(folder: str | Path, files: Iterable[str]) -> tuple[str, ...]:
    """Return paths relative to a tomogram's folder, as receipts name them."""
    root = Path(folder).absolute()
    return tuple(str(Path(name).absolute().relative_to(root)) for name in files)
