"""Triangles of a VTK XML PolyData file (.vtp), as VTK, ParaView, PyVista and surface_morphometrics write them.

Numbers are text, base64 in their place, or appended at the end as base64 or as they are; each as a whole or in blocks
packed by zlib, in either byte order:

    whole:  [bytes][data]
    packed: [blocks][bytes of a block][bytes of the last, 0: whole][packed bytes of each][blocks]

(VTK File Formats, XML.) Polygons become fans of triangles; lines, strips and values of points are left aside.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_vtp"]

_KINDS = {"Float32": "f4", "Float64": "f8"} | {
    f"{sign}Int{bits}": f"{sign or 'i'}{bits // 8}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)
}
_APPENDED = re.compile(rb'<AppendedData[^>]*encoding="(raw|base64)"[^>]*>\s*_', re.ASCII)
_ZLIB = "vtkZLibDataCompressor"


def read_vtp(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the points (n, 3), x, y, z as they are stored, and triangles (m, 3) of a file.

    Raises
    ------
    ValueError
        It is no such file, is damaged, or is packed by something else than zlib.
    """
    content = Path(path).read_bytes()
    found = _APPENDED.search(content)
    xml = content if found is None else content[: found.start()] + b"</VTKFile>"
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        msg = f"no XML: {error}"
        raise ValueError(msg) from error
    if root.tag != "VTKFile" or root.get("type") != "PolyData":
        msg = f"{root.tag} of type {root.get('type')}, not a VTKFile of PolyData"
        raise ValueError(msg)
    packer = root.get("compressor", "")
    if packer not in ("", _ZLIB):
        msg = f"packed by {packer}; only zlib is read"
        raise ValueError(msg)
    order = ">" if root.get("byte_order") == "BigEndian" else "<"
    word = np.dtype(order + ("u8" if root.get("header_type") == "UInt64" else "u4"))
    appended = b"" if found is None else content[found.end() :]
    numbers = _Numbers(appended, found is not None and found[1] == b"raw", order, word, bool(packer))
    pieces = [_piece(piece, numbers) for piece in root.iter("Piece")]
    starts = np.cumsum([0, *(len(points) for points, _ in pieces)])
    points = np.concatenate([np.zeros((0, 3)), *(points for points, _ in pieces)])
    faces = [faces + start for (_, faces), start in zip(pieces, starts, strict=False)]
    return points, np.concatenate([np.zeros((0, 3), np.int64), *faces])


@dataclass(frozen=True)
class _Numbers:
    """How the numbers of a file are stored."""

    appended: bytes
    raw: bool
    """Whether what is appended is so as it is, not as base64."""
    order: str
    word: np.dtype[np.unsignedinteger]
    """Of the counts before the data."""
    packed: bool

    def of(self, array: ElementTree.Element) -> NDArray[np.generic]:
        kind = np.dtype(self.order + _KINDS[array.get("type", "")])
        form, text = array.get("format", "ascii"), (array.text or "").strip()
        if form == "ascii":
            return np.array(text.split(), kind)
        data = self.appended[int(array.get("offset", "0")) :] if form == "appended" else text.encode()
        raw = form == "appended" and self.raw
        return np.frombuffer(self._unpacked(data, raw) if self.packed else self._whole(data, raw), kind)

    def _whole(self, data: bytes, raw: bool) -> bytes:
        head = self.word.itemsize
        count = int(self._words(data, 1, raw)[0])
        if raw:
            return _exactly(data[head:], count)
        # Count and data are one stretch of base64, unless padding parts them.
        parted = b"=" in data[: _letters(head)]
        return _decoded(data[_letters(head) :], count) if parted else _decoded(data, head + count)[head:]

    def _unpacked(self, data: bytes, raw: bool) -> bytes:
        blocks = int(self._words(data, 1, raw)[0])
        head = self._words(data, 3 + blocks, raw).astype(np.int64)
        size, last, sizes = int(head[1]), int(head[2]), head[3:]
        start = (3 + blocks) * self.word.itemsize
        body = data[start:] if raw else _decoded(data[_letters(start) :], int(sizes.sum()))
        ends = np.cumsum(sizes)
        whole = b"".join(zlib.decompress(body[end - n : end]) for n, end in zip(sizes, ends, strict=True))
        return _exactly(whole, blocks * size - (size - last if last else 0))

    def _words(self, data: bytes, count: int, raw: bool) -> NDArray[np.unsignedinteger]:
        size = count * self.word.itemsize
        return np.frombuffer(_exactly(data, size) if raw else _decoded(data, size), self.word)


def _letters(count: int) -> int:
    """How many letters of base64 so many bytes are."""
    return -(-count // 3) * 4


def _decoded(data: bytes, count: int) -> bytes:
    return _exactly(base64.b64decode(data[: _letters(count)]), count)


def _exactly(data: bytes, count: int) -> bytes:
    if len(data) < count:
        msg = f"{len(data)} of {count} bytes are there"
        raise ValueError(msg)
    return data[:count]


def _piece(piece: ElementTree.Element, numbers: _Numbers) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    place = piece.find("Points/DataArray")
    named = {array.get("Name"): array for array in piece.iterfind("Polys/DataArray")}
    if place is None or int(piece.get("NumberOfPolys", "0")) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    points = numbers.of(place).reshape(-1, 3).astype(np.float64)
    corners = numbers.of(named["connectivity"]).astype(np.int64)
    ends = numbers.of(named["offsets"]).astype(np.int64)
    sizes = np.diff(ends, prepend=0)
    if len(ends) and (sizes.min() < 0 or ends[-1] > len(corners)):
        msg = f"polygons that end at up to {ends.max()} of {len(corners)} corners"
        raise ValueError(msg)
    if len(corners) and not 0 <= int(corners.min()) <= int(corners.max()) < len(points):
        msg = f"corners {corners.min()} to {corners.max()} of {len(points)} points"
        raise ValueError(msg)
    fans = np.maximum(sizes - 2, 0)
    first = np.repeat(ends - sizes, fans)
    step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans)
    return points, np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)
