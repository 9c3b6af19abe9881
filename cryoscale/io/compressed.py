"""gzip and bzip2, told by content and unpacked by streaming, with limits that a bomb meets and real data does not.

Unpacked bytes are limited by

1. twice what the MRC header at the front declares (and 64 MiB where there is no such header), and
2. once past 64 MiB, 1000 times the packed bytes for gzip and 5000 times for bzip2. Labels of real tomograms pack
   463 to 1 (gzip) and 2002 to 1 (bzip2); zeros pack 1027 to 1 and a million to 1.

A cut file or a wrong checksum is refused; nothing is left under the target's name.
"""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from pathlib import Path
from typing import IO, cast

from cryoscale.io.files import atomic_write
from cryoscale.io.inputs import InputError, identity_of, open_regular, printable, require_unchanged
from cryoscale.io.mrcfields import HEADER_BYTES, declared_bytes

__all__ = ["FREE_BYTES", "compression_of", "head", "unpack"]

FREE_BYTES = 64 << 20
_LARGEST_RATIO = {"gzip": 1000, "bzip2": 5000}
_BLOCK_BYTES = 4 << 20


def compression_of(path: str | Path) -> str:
    """Return ``"gzip"``, ``"bzip2"`` or ``""``, by the first bytes of a regular file; raises as `open_regular`."""
    descriptor, _ = open_regular(path)
    try:
        start = os.pread(descriptor, 4, 0)
    finally:
        os.close(descriptor)
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    return "bzip2" if start[:3] == b"BZh" and start[3:].isdigit() else ""


def head(path: str | Path, count: int) -> bytes:
    """Return the first `count` unpacked bytes of a gzip or bzip2 file, fewer where it is shorter.

    Raises
    ------
    InputError
        ``archive-damaged``.
    """
    kind = compression_of(path)
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb") as packed, _stream(packed, kind) as stream:
        return _read(stream, count, printable(path))


def _stream(packed: IO[bytes], kind: str) -> IO[bytes]:
    if kind == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
    return cast("IO[bytes]", bz2.BZ2File(packed))


def unpack(path: str | Path, target: str | Path) -> int:
    """Unpack a gzip or bzip2 file to `target`, which appears when it is complete.

    Parameters
    ----------
    path
        Packed file.
    target
        File to write.

    Returns
    -------
    int
        Bytes of the unpacked file.

    Raises
    ------
    InputError
        ``archive-damaged``: cut, or a checksum does not match. ``expansion``: beyond the limits above.
        ``changed``: it was written to meanwhile.
    ValueError
        It is neither gzip nor bzip2.
    """
    kind = compression_of(path)
    if not kind:
        msg = f"{path} is neither gzip nor bzip2"
        raise ValueError(msg)
    descriptor, identity = open_regular(path)
    with os.fdopen(descriptor, "rb") as packed:
        ratio_limit = max(FREE_BYTES, _LARGEST_RATIO[kind] * identity.size)
        with _stream(packed, kind) as stream, atomic_write(target) as temporary, temporary.open("wb") as out:
            written = _copy(stream, out, ratio_limit, printable(path))
            require_unchanged(identity, identity_of(path), path)
    return written


def _copy(stream: IO[bytes], out: IO[bytes], ratio_limit: int, where: str) -> int:
    start = _read(stream, HEADER_BYTES, where)
    limit = min(ratio_limit, _declared_limit(start))
    written = out.write(start)
    while block := _read(stream, _BLOCK_BYTES, where):
        written += out.write(block)
        if written > limit:
            raise InputError(
                "expansion",
                "unpacks to more than a tomogram of its header and packed size can be",
                where=where,
                found=f"more than {limit} bytes",
                allowed=f"{limit} bytes",
                todo="where the file is trusted, unpack it and give the unpacked file",
            )
    return written


def _declared_limit(start: bytes) -> int:
    declared = declared_bytes(start)
    return FREE_BYTES if declared is None else 2 * declared


def _read(stream: IO[bytes], count: int, where: str) -> bytes:
    try:
        return stream.read(count)
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            "archive-damaged",
            "the packed file is cut or damaged",
            where=where,
            found=str(error),
            todo="copy or download it again",
        ) from error
