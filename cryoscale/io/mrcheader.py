"""An MRC header, judged before a byte of data is read or allocated.

What the file is worth is told as in `cryoscale.io.inputs`. What the format leaves open is decided so:

- Mode 0 is signed, as MRC2014 says; unsigned where IMOD's flags say so, or where the user does. It is asked for (ASK)
  when the header's own minimum and maximum cannot be signed bytes.
- Mode 101 (4 bits, low nibble first) is decoded; IMOD's flag for 4-bit values in mode 0 is refused, for programs
  disagree on what nx counts there.
- The header's statistics (dmin, dmax, dmean, rms) are used for nothing but the question above.
- A voxel size that must be asked for leaves ``voxel_size_angstrom`` None; `cryoscale.io.voxelsize` asks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoscale.io.inputs import AskError, Identity, InputError, Notes, open_regular, printable
from cryoscale.io.mrcextended import data_offset, refuse_tilt_series
from cryoscale.io.mrcfields import HEADER_BYTES, ITEM_TYPES, LARGEST_VOXELS, byte_order, fields, imod_flags
from cryoscale.io.mrcgeometry import check_cell, file_axes, header_origin, header_voxel_size, shape_notes
from cryoscale.io.voxelsize import VoxelSize

__all__ = ["SMALLEST_SIDE", "MrcHeader", "interpret", "read_header"]

SMALLEST_SIDE = 4
_SIGNED_FLAG, _NIBBLE_FLAG = 1, 16
_REFUSED_MODES = {3: "complex 16-bit integers", 4: "complex 32-bit floats", 16: "RGB colours"}


@dataclass(frozen=True)
class MrcHeader:
    """What a readable MRC file holds and where."""

    path: str
    """The file that is read."""
    identity: Identity
    """Which bytes were judged."""
    shape: tuple[int, int, int]
    """Voxels along z, y, x."""
    dtype: np.dtype[Any]
    """Type of the voxels as handed out, native byte order."""
    byte_order: str
    """``"<"`` or ``">"``."""
    file_dtype: np.dtype[Any]
    """Type of what the file holds: the voxels, or bytes of two voxels where `nibbles`."""
    nibbles: bool
    """Whether each byte holds two 4-bit voxels, low nibble first."""
    file_shape: tuple[int, int, int]
    """Sections, rows, columns."""
    axes: tuple[int, int, int]
    """Which of sections (0), rows (1), columns (2) is z, y, x."""
    data_offset: int
    """Byte of the first voxel."""
    voxel_size_found_angstrom: VoxelSize
    """Edges as the header has them, z, y, x; may be anything."""
    voxel_size_angstrom: VoxelSize | None
    """Edges z, y, x, or None where they must be asked for."""
    origin_angstrom: tuple[float, float, float]
    """Position of voxel (0, 0, 0), z, y, x."""
    start_voxels: tuple[int, int, int]
    """nstart along z, y, x, carried for information."""
    warnings: Notes
    """Each (code, text)."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of columns in the file."""
        columns = self.file_shape[2]
        return (columns + 1) // 2 if self.nibbles else columns * self.file_dtype.itemsize


def read_header(
    path: str | Path, *, mode0_bytes: str = "", ignore_extended_header: bool = False, where: str = ""
) -> MrcHeader:
    """Read and judge the header of an uncompressed MRC file; nothing larger than its extended header is allocated.

    Parameters
    ----------
    path
        The file.
    mode0_bytes
        ``"signed"`` or ``"unsigned"`` states how the bytes of mode 0 are meant; empty follows the file.
    ignore_extended_header
        Read the data right after the header, for files that declare an extended header they do not have.
    where
        Name of the input in messages, where it is not `path`.

    Raises
    ------
    AskError
        ``bytes-sign``: signed or unsigned bytes cannot be told.
    InputError
        The file is not a readable tomogram; `code` says why.
    """
    where = where or printable(path)
    descriptor, identity = open_regular(path)
    try:
        raw = os.pread(descriptor, HEADER_BYTES, 0)
        header = interpret(
            raw, identity, str(path), where, mode0_bytes=mode0_bytes, ignore_extended_header=ignore_extended_header
        )
        extended = header.data_offset - HEADER_BYTES
        if extended:
            refuse_tilt_series(descriptor, fields(raw, header.byte_order), header.byte_order, extended, where)
    finally:
        os.close(descriptor)
    return header


def interpret(
    raw: bytes, identity: Identity, path: str, where: str, *, mode0_bytes: str, ignore_extended_header: bool
) -> MrcHeader:
    """Judge the first 1,024 bytes of a file; parameters, result and errors as `read_header`."""
    size = identity.size
    if len(raw) < HEADER_BYTES:
        code, what = ("short-header", "shorter than an MRC header") if size else ("empty", "the file is empty")
        raise InputError(code, what, where=where, found=f"{size} bytes", allowed=f"at least {HEADER_BYTES} bytes")
    order, notes = byte_order(raw, size, where)
    header, flags = fields(raw, order), imod_flags(raw, order)
    _check_mode(int(header["mode"]), flags, where)
    _check_dimensions(header, where)
    offset, size_notes = data_offset(header, size, where, ignore_extended_header=ignore_extended_header)
    cell_notes = check_cell(header, where)
    axes, axes_notes = file_axes(header, where)
    file_shape = _triple(header, "nz", "ny", "nx")
    shape = (file_shape[axes[0]], file_shape[axes[1]], file_shape[axes[2]])
    _check_shape(shape, where)
    file_starts = _triple(header, "nzstart", "nystart", "nxstart")
    starts = (file_starts[axes[0]], file_starts[axes[1]], file_starts[axes[2]])
    found, voxel_size, voxel_notes = header_voxel_size(header, shape)
    origin, origin_notes = header_origin(header, flags, starts)
    file_dtype = _file_dtype(header, flags, order, mode0_bytes, where)
    notes += size_notes + cell_notes + axes_notes + voxel_notes + origin_notes + shape_notes(shape)
    return MrcHeader(
        path=path,
        identity=identity,
        shape=shape,
        dtype=file_dtype.newbyteorder("="),
        byte_order=order,
        file_dtype=file_dtype,
        nibbles=int(header["mode"]) == 101,
        file_shape=file_shape,
        axes=axes,
        data_offset=offset,
        voxel_size_found_angstrom=found,
        voxel_size_angstrom=voxel_size,
        origin_angstrom=origin,
        start_voxels=starts,
        warnings=notes,
    )


def _triple(header: Any, first: str, second: str, third: str) -> tuple[int, int, int]:
    return int(header[first]), int(header[second]), int(header[third])


def _check_mode(mode: int, flags: int | None, where: str) -> None:
    if mode not in ITEM_TYPES:
        kind = _REFUSED_MODES.get(mode, "unknown")
        raise InputError(
            "mode-complex" if mode in (3, 4) else "mode",
            f"the voxels are not real numbers of a known type ({kind})",
            where=f"{where}: mode",
            found=mode,
            allowed="0, 1, 2, 6, 12, 101",
            todo="convert it to mode 2 (32-bit floats)",
        )
    if mode == 0 and flags is not None and flags & _NIBBLE_FLAG:
        raise InputError(
            "mode-nibbles",
            "two 4-bit values in each byte of mode 0, whose width programs count differently",
            where=f"{where}: IMOD flags",
            found=flags,
            todo="convert it to bytes: newstack -mode 0",
        )


def _check_dimensions(header: Any, where: str) -> None:
    sections, rows, columns = _triple(header, "nz", "ny", "nx")
    if min(sections, rows, columns) < 1:
        code, what, allowed = "dimensions", "a dimension is not positive", "at least 1"
    elif sections * rows * columns > LARGEST_VOXELS:
        code, what, allowed = "too-large", "more voxels than any tomogram has", f"{LARGEST_VOXELS} voxels"
    else:
        return
    raise InputError(code, what, where=f"{where}: nx, ny, nz", found=f"{columns}, {rows}, {sections}", allowed=allowed)


def _check_shape(shape: tuple[int, int, int], where: str) -> None:
    if min(shape) >= SMALLEST_SIDE:
        return
    single = shape[0] == 1 and min(shape[1:]) >= SMALLEST_SIDE
    raise InputError(
        "single-image" if single else "too-small",
        "a single image, not a tomogram" if single else "smaller than what the stages look at around a voxel",
        where=f"{where}: nx, ny, nz",
        found="z, y, x = " + ", ".join(str(n) for n in shape),
        allowed=f"at least {SMALLEST_SIDE} voxels along z, y and x",
        todo="give the whole tomogram",
    )


def _file_dtype(header: Any, flags: int | None, order: str, mode0_bytes: str, where: str) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode != 0:
        return np.dtype(order + ITEM_TYPES[mode])
    if mode0_bytes:
        return np.dtype("i1" if mode0_bytes == "signed" else "u1")
    if flags is not None:
        return np.dtype("i1" if flags & _SIGNED_FLAG else "u1")
    low, high = float(header["dmin"]), float(header["dmax"])
    # Above 255 the statistics are not of these bytes, and say nothing.
    if low >= 0.0 and 127.0 < high <= 255.0:
        raise AskError(
            "bytes-sign",
            "bytes that the format calls signed, with a stated maximum that only unsigned bytes reach",
            where=f"{where}: mode 0, dmin, dmax",
            found=f"{low:g}, {high:g}",
            allowed="-128 to 127 for signed bytes",
            todo="state mode0_bytes = 'unsigned' or 'signed', or convert it to 16 bits: newstack -mode 1",
        )
    return np.dtype("i1")
