"""Which bytes of an MRC header mean what: byte order, voxel type, size of the file they describe.

::

    file = header (1024 bytes) + extended header (nsymbt bytes) + nz sections of ny rows of nx columns
    bytes = 1024 + nsymbt + row_bytes * ny * nz,   row_bytes = nx * itemsize, or (nx + 1) // 2 for 4-bit data

The layout is MRC2014 (Cheng et al., J. Struct. Biol. 192 (2015) 146), with IMOD's additions (mrc_format.txt). The
byte order follows the machine stamp, unless only the other order gives a header that fits the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryoscale.io.inputs import InputError, Notes

__all__ = [
    "HEADER_BYTES",
    "ITEM_TYPES",
    "LARGEST_VOXELS",
    "byte_order",
    "data_bytes",
    "declared_bytes",
    "fields",
    "imod_flags",
]

HEADER_BYTES = 1024
LARGEST_VOXELS = 1 << 37
ITEM_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
"""Type of what the file holds, by mode; each byte of mode 101 is two voxels."""

_ITEM_BYTES = {**{mode: np.dtype(name).itemsize for mode, name in ITEM_TYPES.items()}, 3: 4, 4: 8, 16: 3}
_IMOD_STAMP = 1146047817
_STAMPS = {b"\x44": "<", b"\x11": ">"}
_USUAL_STAMPS = {b"\x44\x44", b"\x44\x41", b"\x11\x11"}
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"PK\x03\x04": "a zip archive",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"%PDF": "a PDF",
}


def fields(raw: bytes, order: str) -> Any:
    """Return the header's fields, by mrcfile's names, in byte order ``"<"`` or ``">"``."""
    return np.frombuffer(raw[:HEADER_BYTES], HEADER_DTYPE.newbyteorder(order))[0]


def imod_flags(raw: bytes, order: str) -> int | None:
    """Return IMOD's flags, or None where the file does not bear IMOD's stamp."""
    stamp, flags = np.frombuffer(raw[152:160], order + "i4")
    return int(flags) if int(stamp) == _IMOD_STAMP else None


def data_bytes(header: Any) -> int:
    """Return the bytes of all voxels; exact, whatever the numbers."""
    columns, mode = int(header["nx"]), int(header["mode"])
    row = (columns + 1) // 2 if mode == 101 else columns * _ITEM_BYTES[mode]
    return row * int(header["ny"]) * int(header["nz"])


def declared_bytes(raw: bytes) -> int | None:
    """Return the largest size that a header could describe in either byte order, None where it is none."""
    if len(raw) < HEADER_BYTES:
        return None
    sizes = [
        HEADER_BYTES + int(header["nsymbt"]) + data_bytes(header)
        for header in (fields(raw, "<"), fields(raw, ">"))
        if _plausible(header)
    ]
    return max(sizes, default=None)


def _plausible(header: Any) -> bool:
    sides = [int(header[name]) for name in ("nx", "ny", "nz")]
    return (
        int(header["mode"]) in _ITEM_BYTES
        and min(sides) > 0
        and sides[0] * sides[1] * sides[2] <= LARGEST_VOXELS
        and int(header["nsymbt"]) >= 0
    )


def _excess(header: Any, size: int) -> int | None:
    """Return the bytes of the file beyond what the header describes, None where it does not fit."""
    if not _plausible(header):
        return None
    excess = size - HEADER_BYTES - int(header["nsymbt"]) - data_bytes(header)
    return excess if excess >= 0 else None


def byte_order(raw: bytes, size: int, where: str) -> tuple[str, Notes]:
    """Decide the byte order of a header.

    Parameters
    ----------
    raw
        The first 1,024 bytes.
    size
        Bytes of the file.
    where
        The file, for messages.

    Returns
    -------
    order, warnings
        ``"<"`` or ``">"``.

    Raises
    ------
    InputError
        ``not-mrc``: neither order gives a header.
    """
    marked = raw[208:212] in (b"MAP ", b"MAP\0")
    claimed = _STAMPS.get(raw[212:213])
    orders = [claimed or "<", "<" if claimed == ">" else ">"]
    fitting = [order for order in orders if _excess(fields(raw, order), size) is not None]
    exact = [order for order in fitting if _excess(fields(raw, order), size) == 0]
    plausible = [order for order in orders if _plausible(fields(raw, order))]
    if marked:
        stated = [claimed] if claimed else []
        chosen = [*(stated if claimed in fitting else exact + fitting), *plausible, *stated]
    else:
        # Without the mark only an exact size tells an old file from anything; a cut one is told its size.
        chosen = exact or [order for order in plausible if order not in fitting]
    if not chosen:
        raise _not_mrc(raw, size, where)
    return chosen[0], _stamp_notes(raw, claimed, chosen[0])


def _stamp_notes(raw: bytes, claimed: str | None, order: str) -> Notes:
    name = "little-endian" if order == "<" else "big-endian"
    notes = []
    if raw[208:212] != b"MAP ":
        notes.append(("no-map-mark", "the header lacks the mark 'MAP ' of MRC2014; size, mode and dimensions agree"))
    if claimed != order:
        notes.append(("byte-order", f"machine stamp {raw[212:216].hex(' ')}; the header only makes sense as {name}"))
    elif raw[212:214] not in _USUAL_STAMPS:
        notes.append(("machine-stamp", f"unusual machine stamp {raw[212:216].hex(' ')}, read as {name}"))
    return tuple(notes)


def _not_mrc(raw: bytes, size: int, where: str) -> InputError:
    start = raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    looks = next((name for magic, name in _MAGIC.items() if raw.startswith(magic)), "")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        looks = "HTML: perhaps an error page saved under the name of a tomogram"
    return InputError(
        "not-mrc",
        f"not an MRC file{'; it looks like ' + looks if looks else ''}",
        where=where,
        found=f"{size} bytes beginning {raw[:8].hex(' ')}",
        allowed="an MRC2014 header: positive nx, ny, nz, a known mode, 'MAP ' at byte 208",
        todo="download or export the file again, or convert it to MRC",
    )
