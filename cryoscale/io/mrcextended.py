"""The extended header: where the data begin, and tilt angles that say the file is a tilt series.

SerialEM (``SERI``) writes ``nint`` bytes per section whose first 16-bit integer is 100 times the tilt angle when
bit 1 of ``nreal`` is set; FEI writes 768 (``FEI1``) or 888 (``FEI2``) bytes per section with the tilt angle in degrees
as a 64-bit float at byte 100. A tomogram may carry either, with angles that are all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.io.inputs import InputError, Notes, read_exactly
from cryoscale.io.mrcfields import HEADER_BYTES, data_bytes

__all__ = ["LARGEST_EXTENDED_BYTES", "data_offset", "refuse_tilt_series", "tilt_angles"]

LARGEST_EXTENDED_BYTES = 64 << 20
_FEI_RECORD_BYTES = {b"FEI1": 768, b"FEI2": 888}
_FEI_ALPHA_OFFSET = 100
_SMALLEST_TILT_RANGE = 1.0


def data_offset(header: Any, size: int, where: str, *, ignore_extended_header: bool) -> tuple[int, Notes]:
    """Return the byte of the first voxel after checking the file's size against the header.

    Parameters
    ----------
    header
        Fields of a header with positive dimensions and a known mode.
    size
        Bytes of the file.
    where
        The file, for messages.
    ignore_extended_header
        Take the data to begin right after the header.

    Raises
    ------
    InputError
        ``extended-header``, ``extended-missing`` or ``truncated``.
    """
    extended, data = int(header["nsymbt"]), data_bytes(header)
    if ignore_extended_header:
        extended = 0
    elif extended and size - HEADER_BYTES == data:
        raise InputError(
            "extended-missing",
            "the header declares an extended header, but the file has none: the data fill it exactly",
            where=f"{where}: nsymbt",
            found=extended,
            allowed="0",
            todo="add --ignore-extended-header",
        )
    elif not 0 <= extended <= min(size - HEADER_BYTES, LARGEST_EXTENDED_BYTES):
        raise InputError(
            "extended-header",
            "the extended header cannot be that long",
            where=f"{where}: nsymbt",
            found=extended,
            allowed=f"0 to {min(size - HEADER_BYTES, LARGEST_EXTENDED_BYTES)} bytes",
            todo="copy or export the file again",
        )
    held = size - HEADER_BYTES - extended
    if held < data:
        raise InputError(
            "truncated",
            "the file is shorter than its header says",
            where=where,
            found=f"{held} of {data} bytes of data",
            allowed=f"{data} bytes",
            todo="it may still be being written, or its copy was cut: copy it again",
        )
    if held > data:
        return HEADER_BYTES + extended, (("trailing-bytes", f"{held - data} bytes after the data are ignored"),)
    return HEADER_BYTES + extended, ()


def tilt_angles(extended: NDArray[np.uint8], header: Any, order: str) -> NDArray[np.float64] | None:
    """Return the tilt angle of each section in degrees, None where the extended header has none.

    Parameters
    ----------
    extended
        Bytes of the extended header.
    header
        Fields of the header.
    order
        ``"<"`` or ``">"``.
    """
    sections, kind, raw = int(header["nz"]), bytes(header["exttyp"]), bytes(header["extra2"])
    if kind in _FEI_RECORD_BYTES:
        step, offset, item = _FEI_RECORD_BYTES[kind], _FEI_ALPHA_OFFSET, np.dtype(order + "f8")
    elif kind == b"SERI":
        # extra2 begins at byte 112 of the header; nint and nreal are at 128.
        step, flags = (int(n) for n in np.frombuffer(raw[16:20], order + "i2"))
        if not flags & 1:
            return None
        offset, item = 0, np.dtype(order + "i2")
    else:
        return None
    if step < offset + item.itemsize or extended.size < step * sections:
        return None
    records = extended[: step * sections].reshape(sections, step)[:, offset : offset + item.itemsize]
    angles = np.ascontiguousarray(records).view(item)[:, 0].astype(np.float64)
    return angles if kind in _FEI_RECORD_BYTES else angles / 100.0


def refuse_tilt_series(descriptor: int, header: Any, order: str, count: int, where: str) -> None:
    """Refuse a file whose extended header has tilt angles that differ from section to section.

    Parameters
    ----------
    descriptor
        Of the open file.
    header, order
        Fields of the header and their byte order.
    count
        Bytes of the extended header, at most `LARGEST_EXTENDED_BYTES`.
    where
        The file, for messages.

    Raises
    ------
    InputError
        ``tilt-series``.
    """
    if bytes(header["exttyp"]) not in (b"SERI", *_FEI_RECORD_BYTES):
        return
    angles = tilt_angles(read_exactly(descriptor, count, HEADER_BYTES, where), header, order)
    if angles is None or not np.isfinite(angles).all() or np.abs(angles).max() > 360.0:
        return
    if np.ptp(angles) >= _SMALLEST_TILT_RANGE:
        raise InputError(
            "tilt-series",
            "this is a tilt series, not a tomogram",
            where=f"{where}: extended header",
            found=f"tilt angles from {angles.min():.1f} to {angles.max():.1f} degrees",
            allowed="one angle, or none",
            todo="reconstruct the tomogram first",
        )
