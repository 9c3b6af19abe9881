"""Rows of the corpus that are not bare MRC files: packed, TIFF, HDF5, OME-Zarr."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cryoscale.chunks import whole
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry
from tests.faults.corpus import Make, Row, content, tomogram
from tests.io.corpus import APIX, header, mrc

PACKED = gzip.compress(mrc(), mtime=0)


def _bomb(start: bytes) -> bytes:
    """Return 260 kB of gzip that unpack to 256 MiB."""
    return gzip.compress(start + bytes(256 << 20), mtime=0)


def _bad_sum(data: bytes) -> bytes:
    return data[:-8] + bytes(4) + data[-4:]


# ------------------------------------------------------------------------------------------------------------- TIFF


def tiff(change: Callable[[bytearray], object] | None = None, body: Any = None, **options: Any) -> Make:
    """Make a TIFF stack of 1.5 nm voxels, and change its bytes."""

    def make(folder: Path) -> Sequence[str]:
        path, values = folder / "case.tif", tomogram().astype("u2") if body is None else body
        chosen = {"photometric": "minisblack"} | options
        tifffile.imwrite(path, values, **chosen)
        raw = bytearray(path.read_bytes())
        if change is not None:
            raw = change(raw) or raw
        path.write_bytes(raw)
        return [str(path), "--apix", "13.48"]

    return make


def _pages(raw: bytearray) -> list[tuple[int, int]]:
    """Return where each page's directory is, and how many tags it has."""
    found, offset = [], struct.unpack_from("<I", raw, 4)[0]
    while offset:
        count = struct.unpack_from("<H", raw, offset)[0]
        found.append((offset, count))
        offset = struct.unpack_from("<I", raw, offset + 2 + 12 * count)[0]
    return found


def _declare(edge: int) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        for offset, count in _pages(raw):
            for entry in range(offset + 2, offset + 2 + 12 * count, 12):
                if struct.unpack_from("<H", raw, entry)[0] in (256, 257, 278):
                    struct.pack_into("<HII", raw, entry + 2, 4, 1, edge)

    return change


def _loop(raw: bytearray) -> None:
    offset, count = _pages(raw)[0]
    struct.pack_into("<I", raw, offset + 2 + 12 * count, offset)


_PIXELS = '<OME><Image><Pixels SizeZ="16" SizeC="1" SizeT="1">{}</Pixels></Image></OME>'
_LAUGHS = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + _PIXELS.format("")
_ELSEWHERE = _PIXELS.format('<TiffData><UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData>')
_RGB = np.zeros((16, 48, 48, 3), "u1")


# ------------------------------------------------------------------------------------------------------------ Zarr


def zarr(change: Callable[[Path], object] | None = None, *, chunks: tuple[int, int, int] = (8, 24, 24)) -> Make:
    """Make an OME-Zarr image, and change its files."""

    def make(folder: Path) -> Sequence[str]:
        path = folder / "case.ome.zarr"
        values = tomogram()
        create_image(path, Geometry(values.shape, (APIX,) * 3), "f4", chunks)
        write_region(path, whole(values.shape), values)
        if change is not None:
            change(path)
        return [str(path)]

    return make


def _edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        data = json.loads((path / name).read_text())
        change(data)
        (path / name).write_text(json.dumps(data))

    return edit


def ome(change: Callable[[dict[str, Any]], object]) -> Make:
    """Make an image whose OME metadata are changed."""
    return zarr(_edit("zarr.json", lambda data: change(data["attributes"]["ome"]["multiscales"][0])))


def array(change: Callable[[dict[str, Any]], object]) -> Make:
    """Make an image whose array's metadata are changed."""
    return zarr(_edit("0/zarr.json", change))


def _chunk(path: Path) -> Path:
    return path / "0" / "c" / "1" / "0" / "1"


def _flip(path: Path) -> None:
    raw = bytearray(_chunk(path).read_bytes())
    raw[len(raw) // 2] ^= 8
    _chunk(path).write_bytes(raw)


def _link_chunks(path: Path) -> None:
    shutil.move(path / "0" / "c", path.parent / "elsewhere")
    (path / "0" / "c").symlink_to(path.parent / "elsewhere")


def _link_level(path: Path) -> None:
    shutil.move(path / "0", path.parent / "elsewhere")
    (path / "0").symlink_to(path.parent / "elsewhere")


def _units(unit: str | None) -> Callable[[dict[str, Any]], None]:
    def change(image: dict[str, Any]) -> None:
        for axis in image["axes"]:
            axis.pop("unit")
            if unit is not None:
                axis["unit"] = unit

    return change


def _pickled(path: Path) -> None:
    """Turn the array into Zarr 2 with a filter that would run code."""
    shutil.rmtree(path / "0")
    (path / "0").mkdir()
    meta = {"zarr_format": 2, "shape": [16, 48, 48], "chunks": [16, 48, 48], "dtype": "|O", "fill_value": None}
    meta |= {"order": "C", "compressor": None, "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]}
    (path / "0" / ".zarray").write_text(json.dumps(meta))
    (path / "0" / "0.0.0").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")


def _path(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda image: image["datasets"][0].update(path=name)


ROWS = [
    Row("Z01-gz", content(PACKED, "case.mrc.gz"), "OK"),
    Row("Z01-bz2", content(bz2.compress(mrc()), "case.mrc.bz2"), "OK"),
    Row("Z01-named-mrc", content(PACKED), "OK"),
    Row("Z02-cut", content(PACKED[:-100]), "REJECT", "archive-damaged"),
    Row("Z02-sum", content(_bad_sum(PACKED)), "REJECT", "archive-damaged"),
    Row("Z02-bz2", content(bz2.compress(mrc())[:-20]), "REJECT", "archive-damaged"),
    Row("Z03", content(_bomb(b"")), "REJECT", "expansion"),
    Row("Z03-declared", content(_bomb(header())), "REJECT", "expansion"),
    Row("I00", tiff(), "OK"),
    Row("I01-2^31", tiff(_declare(2**31 - 1)), "REJECT"),
    Row("I01-60000", tiff(_declare(60000)), "REJECT"),
    Row("I02", tiff(lambda raw: raw[: len(raw) // 2], compression="zlib"), "REJECT"),
    Row("I03", tiff(_loop, compression="zlib"), "REJECT", "tiff-pages"),
    Row("I04", tiff(description=_LAUGHS, metadata=None), "REJECT", "ome-xml"),
    Row("I05", tiff(description=_ELSEWHERE, metadata=None), "REJECT", "ome-xml"),
    Row("I06-rgb", tiff(body=_RGB, photometric="rgb"), "REJECT", "tiff-colour"),
    Row("I06-hyperstack", tiff(body=np.zeros((8, 3, 16, 16), "u2"), imagej=True), "REJECT", "tiff-hyperstack"),
    Row("501-506", content(b"\x89HDF\r\n\x1a\n" + bytes(2048), "case.h5"), "REJECT", "not-mrc"),
    Row("Q00", zarr(), "OK"),
    Row("Q01-flipped", zarr(_flip), "REJECT", "chunk damaged"),
    Row("Q01-empty", zarr(lambda path: _chunk(path).write_bytes(b"")), "REJECT", "chunk damaged"),
    *(
        Row(f"Q01-{name}", zarr(lambda path, text=text: (path / "0" / "zarr.json").write_text(text)), "REJECT")
        for name, text in (("torn", "{"), ("no-bytes", ""), ("zeros", "\0" * 40), ("list", "[]"), ("deep", "[" * 9999))
    ),
    *(
        Row(f"Q01-group-{name}", zarr(lambda path, text=text: (path / "zarr.json").write_text(text)), "REJECT")
        for name, text in (("torn", "{"), ("list", "[]"), ("number", '{"attributes": 3}'), ("deep", "[" * 99999))
    ),
    Row("Q02", array(lambda meta: meta.update(shape=[2**40, 2**40, 9])), "REJECT"),
    Row("Q03", array(lambda meta: meta["chunk_grid"]["configuration"].update(chunk_shape=[2**10] * 3)), "REJECT"),
    Row("Q04-v2", zarr(_pickled), "REJECT"),
    Row("Q04-v3", array(lambda meta: meta["codecs"].append({"name": "numcodecs.pickle"})), "REJECT"),
    *(Row(f"Q05-{n}", ome(_path(name)), "REJECT") for n, name in enumerate(("../other", "/etc", "..\\x", "1"))),
    Row("Q06-chunks", zarr(_link_chunks), "REJECT", "link"),
    Row("Q06-level", zarr(_link_level), "REJECT", "link"),
    Row("Q07-no-axes", ome(lambda image: image.pop("axes")), "REJECT"),
    Row("Q07-xyz", ome(lambda image: image["axes"].reverse()), "REJECT"),
    Row("Q07-nm", ome(_units("nanometer")), "ASK", "voxel-size-range"),
    Row("Q07-no-unit", ome(_units(None)), "REJECT"),
    Row("Q07-no-scale", ome(lambda image: image["datasets"][0].pop("coordinateTransformations")), "REJECT"),
    Row("Q07-nan", ome(lambda i: i["datasets"][0]["coordinateTransformations"][0].update(scale=[float("nan")] * 3)),
        "ASK", "voxel-size-not-finite"),
    Row("Q08-no-image", lambda folder: [str(folder / "none.ome.zarr")], "USAGE", "no such file"),
]  # fmt: skip
