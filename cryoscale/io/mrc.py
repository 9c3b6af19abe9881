"""MRC volumes: read by boxes, written by slabs.

Reading never maps the file into memory and never holds more than the box asked for and 16 MiB: runs of whole rows are
fetched with ``pread`` and laid straight into the z, y, x array, whatever order the file's axes have. Each read first
makes sure that the path still stands for the bytes that `read_header` judged.

Writing goes slab by slab into a temporary file that is renamed when it is complete. Stored types:

================================= =====================================================================
voxels                            stored as
================================= =====================================================================
bool, int8                        mode 0, signed bytes
uint8                             mode 0 where all are at most 127, else 6; always 6 from streamed slabs
int16, uint16, float16, float32   modes 1, 6, 12, 2
other integers                    mode 6; refused where one does not fit
float64                           mode 2
================================= =====================================================================
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import DTypeLike, NDArray

from cryoscale.io.files import atomic_write
from cryoscale.io.inputs import identity_of, open_regular, read_exactly, require_unchanged
from cryoscale.io.mrcfields import HEADER_BYTES
from cryoscale.io.mrcheader import MrcHeader, read_header

__all__ = ["MrcHeader", "read_box", "read_header", "unchanged", "write_mrc"]

_BLOCK_BYTES = 16 << 20
_MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}


def unchanged(header: MrcHeader) -> None:
    """Refuse a file that is no longer the one whose header was read.

    Raises
    ------
    InputError
        ``changed``: inode, size or modification time differ.
    """
    require_unchanged(header.identity, identity_of(header.path), header.path)


def read_box(header: MrcHeader, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """Read a box of voxels.

    Parameters
    ----------
    header
        From `read_header`.
    start, stop
        First voxel and one past the last, z, y, x.

    Returns
    -------
    NDArray
        Voxels z, y, x of ``header.dtype``, C order.

    Raises
    ------
    ValueError
        The box is not inside the volume.
    InputError
        ``changed``: the file is another than before; ``truncated``: it ends while it is read.
    """
    if not all(0 <= a <= b <= n for a, b, n in zip(start, stop, header.shape, strict=True)):
        msg = f"box {tuple(start)} to {tuple(stop)} is not inside a volume of {header.shape}"
        raise ValueError(msg)
    box = np.empty([b - a for a, b in zip(start, stop, strict=True)], header.dtype)
    order = tuple(header.axes.index(axis) for axis in range(3))
    in_file = box.transpose(order)
    low, high = [start[axis] for axis in order], [stop[axis] for axis in order]
    descriptor, identity = open_regular(header.path)
    try:
        require_unchanged(header.identity, identity, header.path)
        if box.size:
            for sections, rows in _runs(header, low, high):
                part = _read_rows(descriptor, header, sections, rows)[:, :, low[2] : high[2]]
                in_file[sections.start - low[0] : sections.stop - low[0], rows.start - low[1] : rows.stop - low[1]] = (
                    part
                )
    finally:
        os.close(descriptor)
    return box


def _runs(header: MrcHeader, low: Sequence[int], high: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Cut a box in file order into runs of rows that lie together: several whole sections, or rows of one."""
    rows_at_once = max(1, _BLOCK_BYTES // header.row_bytes)
    whole_sections = low[1] == 0 and high[1] == header.file_shape[1]
    sections_at_once = max(1, rows_at_once // header.file_shape[1]) if whole_sections else 1
    for section in range(low[0], high[0], sections_at_once):
        sections = range(section, min(section + sections_at_once, high[0]))
        if len(sections) > 1:
            yield sections, range(low[1], high[1])
            continue
        for row in range(low[1], high[1], rows_at_once):
            yield sections, range(row, min(row + rows_at_once, high[1]))


def _read_rows(descriptor: int, header: MrcHeader, sections: range, rows: range) -> NDArray[Any]:
    first = sections.start * header.file_shape[1] + rows.start
    offset = header.data_offset + first * header.row_bytes
    raw = read_exactly(descriptor, len(sections) * len(rows) * header.row_bytes, offset, header.path)
    if not header.nibbles:
        return raw.view(header.file_dtype).reshape(len(sections), len(rows), header.file_shape[2])
    pairs = np.empty((len(sections), len(rows), header.row_bytes, 2), np.uint8)
    packed = raw.reshape(len(sections), len(rows), header.row_bytes)
    np.bitwise_and(packed, 15, out=pairs[..., 0])
    np.right_shift(packed, 4, out=pairs[..., 1])
    return pairs.reshape(len(sections), len(rows), 2 * header.row_bytes)


def write_mrc(
    path: str | Path,
    data: NDArray[Any] | Iterable[NDArray[Any]],
    voxel_size_angstrom: float | Sequence[float],
    origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    dtype: DTypeLike | None = None,
) -> None:
    """Write a volume as MRC2014, little-endian; the file appears under its name when it is complete.

    Parameters
    ----------
    path
        The file.
    data
        Volume z, y, x, or slabs of it along z in order, each z, y, x.
    voxel_size_angstrom
        Edge of a voxel, or edges z, y, x.
    origin_angstrom
        Position of voxel (0, 0, 0), z, y, x.
    dtype
        int8, int16, uint16, float16 or float32; None chooses by the table above.

    Raises
    ------
    ValueError
        No voxels, slabs that differ in y, x, a type that MRC does not have, or an integer that does not fit.
    """
    if isinstance(data, np.ndarray):
        stored = _stored_dtype(data.dtype, dtype, int(data.max()) if data.dtype == np.uint8 and data.size else None)
        slabs: Iterable[NDArray[Any]] = _slabs(data)
    else:
        stored, slabs = None, data
    tally = _Tally()
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.write(bytes(HEADER_BYTES))
        for slab in slabs:
            stored = _stored_dtype(slab.dtype, dtype, None) if stored is None else stored
            _write_slab(stream, slab, stored, tally)
        if stored is None or 0 in tally.shape:
            msg = "no voxels to write"
            raise ValueError(msg)
        voxel = np.broadcast_to(np.asarray(voxel_size_angstrom, float), 3)
        stream.seek(0)
        stream.write(_header(tally, stored, voxel, np.asarray(origin_angstrom, float)))


class _Tally:
    """Shape and running statistics of the voxels written so far, in float64 (Chan, Golub, LeVeque 1983)."""

    def __init__(self) -> None:
        self.shape = (0, 0, 0)
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, slab: NDArray[Any]) -> None:
        if slab.ndim != 3 or (self.shape[0] and slab.shape[1:] != self.shape[1:]):
            msg = f"slab of shape {slab.shape} does not continue a volume of {self.shape}"
            raise ValueError(msg)
        self.shape = (self.shape[0] + slab.shape[0], slab.shape[1], slab.shape[2])
        for plane in slab:
            values = plane[np.isfinite(plane)].astype(np.float64)
            if values.size:
                self._merge(values)

    def _merge(self, values: NDArray[np.float64]) -> None:
        mean, total = float(values.mean()), self.count + values.size
        shift = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + shift * shift * self.count * values.size / total
        self.mean += shift * values.size / total
        self.count = total
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))


def _slabs(volume: NDArray[Any]) -> Iterator[NDArray[Any]]:
    planes = max(1, _BLOCK_BYTES // max(1, volume[:1].nbytes))
    for start in range(0, volume.shape[0], planes):
        yield volume[start : start + planes]


def _stored_dtype(given: np.dtype[Any], wanted: DTypeLike | None, largest: int | None) -> np.dtype[Any]:
    if wanted is not None:
        stored = np.dtype(wanted)
    elif given == np.bool_ or (given == np.uint8 and largest is not None and largest <= 127):
        stored = np.dtype("i1")
    elif given.kind in "iu" and given not in (np.dtype("i1"), np.dtype("i2")):
        stored = np.dtype("u2")
    else:
        stored = np.dtype("f4") if given == np.float64 else given
    if stored.str[1:] not in _MODES:
        msg = f"voxels of type {stored} cannot be written as MRC; allowed: int8, int16, uint16, float16, float32"
        raise ValueError(msg)
    return stored.newbyteorder("<")


def _write_slab(stream: Any, slab: NDArray[Any], stored: np.dtype[Any], tally: _Tally) -> None:
    if stored.kind in "iu" and slab.dtype != np.bool_ and slab.size:
        limits = np.iinfo(stored)
        low, high = slab.min(), slab.max()
        if low < limits.min or high > limits.max:
            msg = f"values {low} to {high} do not fit into {stored.name} ({limits.min} to {limits.max})"
            raise ValueError(msg)
    converted = np.ascontiguousarray(slab, dtype=stored)
    tally.add(converted)
    stream.write(converted.data)


def _header(tally: _Tally, stored: np.dtype[Any], voxel: NDArray[Any], origin: NDArray[Any]) -> bytes:
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    header["mode"] = _MODES[stored.str[1:]]
    for name, axis in (("x", 2), ("y", 1), ("z", 0)):
        header["n" + name] = header["m" + name] = tally.shape[axis]
        header["cella"][name] = voxel[axis] * tally.shape[axis]
        header["origin"][name] = origin[axis]
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"], header["ispg"] = 1, 2, 3, 1
    if tally.count:
        header["dmin"], header["dmax"], header["dmean"] = tally.low, tally.high, tally.mean
        header["rms"] = np.sqrt(tally.squares / tally.count)
    else:
        # What MRC2014 prescribes for "not known": there is no finite voxel.
        header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0.0, -1.0, -2.0, -1.0
    header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", (0x44, 0x44, 0, 0)
    header["nlabl"] = 1
    header["label"][0] = b"cryoscale"
    return header.tobytes()
