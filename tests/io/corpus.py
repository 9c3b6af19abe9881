"""Bad inputs on purpose: the bytes of each row of the MRC tables, with the outcome it must end in.

A well-formed file is 8 x 12 x 16 float32 voxels of 13.48 Å; each row damages it in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

APIX = 13.48
SHAPE = (8, 12, 16)
BODY = np.random.default_rng(7).normal(100.0, 20.0, SHAPE).astype("f4")
MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
IMOD_STAMP = (1146047817).to_bytes(4, "little")


def header(shape=SHAPE, mode=2, order="<", patch=None, **fields) -> bytes:
    """Return 1,024 bytes; `fields` by mrcfile's names, `patch` as {offset: bytes}."""
    h = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    for name, n in zip("zyx", shape, strict=True):
        h["n" + name] = h["m" + name] = n
        h["cella"][name] = APIX * n
    h["mode"], h["ispg"], h["nversion"], h["map"] = mode, 1, 20141, b"MAP "
    h["cellb"], h["mapc"], h["mapr"], h["maps"] = (90, 90, 90), 1, 2, 3
    h["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    h["dmin"], h["dmax"], h["dmean"], h["rms"] = 0, -1, -2, -1
    for name, value in fields.items():
        h[name] = value
    raw = bytearray(h.tobytes())
    for offset, value in (patch or {}).items():
        raw[offset : offset + len(value)] = value
    return bytes(raw)


def mrc(body=BODY, *, order="<", extended=b"", patch=None, **fields) -> bytes:
    """Return a whole file of `body`."""
    fields.setdefault("nsymbt", len(extended))
    fields.setdefault("mode", MODES.get(body.dtype.str[1:], 0))
    shape = fields.pop("shape", body.shape)
    return (
        header(shape, order=order, patch=patch, **fields)
        + extended
        + body.astype(body.dtype.newbyteorder(order)).tobytes()
    )


def machine(stamp: bytes) -> dict[int, bytes]:
    return {212: stamp}


def imod(flags: int, **more: bytes) -> dict[int, bytes]:
    return {152: IMOD_STAMP + flags.to_bytes(4, "little")}


def tilt_header(angles, kind=b"SERI") -> tuple[bytes, dict[int, bytes]]:
    """Return an extended header with tilt angles in degrees and the patch of the main header."""
    if kind == b"SERI":
        records = np.zeros((len(angles), 4), "<i2")
        records[:, 0] = np.round(np.asarray(angles) * 100)
        return records.tobytes(), {128: np.array([8, 1], "<i2").tobytes()}
    records = np.zeros((len(angles), 768), "u1")
    records[:, 100:108] = np.asarray(angles, "<f8").reshape(-1, 1).view("u1")
    return records.tobytes(), {}


@dataclass(frozen=True)
class Case:
    """One file and what must become of it."""

    id: str
    content: bytes | Callable[[Path], None]
    outcome: str
    """OK, WARN, ASK or REJECT."""
    code: str = ""
    """Of the error, or of a warning that must be among them."""
    options: dict[str, object] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)
        return path


def _sparse(size_bytes: int, shape: tuple[int, int, int], mode: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(header(shape, mode))
            stream.truncate(size_bytes)
            stream.seek(size_bytes - 1)
            stream.write(b"\x05")

    return write


def _bytes_body(low: int, high: int, kind: str) -> np.ndarray:
    return np.random.default_rng(3).integers(low, high, SHAPE).astype(kind)


def _swapped_axes(order: tuple[int, int, int]) -> bytes:
    """Write `BODY` so that columns, rows, sections run along the axes `order` (1 x, 2 y, 3 z)."""
    sections_rows_columns = [3 - axis for axis in reversed(order)]
    return mrc(
        np.ascontiguousarray(BODY.transpose(sections_rows_columns)),
        mapc=order[0],
        mapr=order[1],
        maps=order[2],
        mx=SHAPE[2],
        my=SHAPE[1],
        mz=SHAPE[0],
        cella=(APIX * SHAPE[2], APIX * SHAPE[1], APIX * SHAPE[0]),
    )


def _cell(x: float, y: float, z: float) -> tuple[float, float, float]:
    return x * SHAPE[2], y * SHAPE[1], z * SHAPE[0]


_SIGNED, _UNSIGNED = _bytes_body(-100, 100, "i1"), _bytes_body(0, 256, "u1")
_NIBBLES_EVEN = np.zeros((8, 12, 8), "u1")
_NIBBLES_ODD = np.zeros((8, 12, 8), "u1")
_TILTS, _TILT_PATCH = tilt_header(np.linspace(-60, 60, 8))
_FLAT, _FLAT_PATCH = tilt_header(np.zeros(8))
_FEI, _ = tilt_header(np.linspace(-60, 60, 8), b"FEI1")

SIZE_AND_ORDER = [
    Case("T01", b"", "REJECT", "empty"),
    Case("T02", header()[:1023], "REJECT", "short-header"),
    Case("T03", header(), "REJECT", "truncated"),
    Case("T04-half", mrc()[: 1024 + 3072], "REJECT", "truncated"),
    Case("T04-byte", mrc()[:-1], "REJECT", "truncated"),
    Case("T05-byte", mrc() + b"\0", "WARN", "trailing-bytes"),
    Case("T05-MiB", mrc() + bytes(1 << 20), "WARN", "trailing-bytes"),
    Case("T07", bytes(2048), "REJECT", "not-mrc"),
    Case("T08", b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n" * 50, "REJECT", "not-mrc"),
    Case("T09", np.random.default_rng(1).bytes(65536), "REJECT", "not-mrc"),
    Case("T10-fits", mrc(patch={208: bytes(4)}), "WARN", "no-map-mark"),
    Case("T10-not", mrc(patch={208: bytes(4)}) + b"\0", "REJECT", "not-mrc"),
    Case("T11", mrc(patch={208: b"MAP\0"}), "WARN", "no-map-mark"),
    Case("T12", mrc(patch=machine(bytes(4))), "WARN", "byte-order"),
    Case("T12-big", mrc(order=">", patch=machine(bytes(4))), "WARN", "byte-order"),
    Case("T13", mrc(patch=machine(b"\x44\x20\x20\x20")), "WARN", "machine-stamp"),
    Case("T14", mrc(patch=machine(b"\x44\x41\0\0")), "OK"),
    Case("T15", mrc(patch=machine(b"\x11\x11\0\0")), "WARN", "byte-order"),
    Case("T16", mrc(order=">"), "OK"),
    Case("T17", mrc(order=">", patch=machine(b"\x44\x44\0\0")), "WARN", "byte-order"),
    Case("T18-zero", mrc(nversion=0), "OK"),
    Case("T18-swapped", mrc(patch={108: (20141).to_bytes(4, "big")}), "OK"),
    Case("T19a", _sparse(1024 + 2_100_000_000, (2100, 1000, 1000), 0), "OK"),
    Case("T19b", _sparse(1024 + 5 * (1 << 30), (1280, 1024, 1024), 2), "OK"),
]

MODE = [
    Case("M01", mrc(_SIGNED), "OK"),
    Case("M01-ask", mrc(_UNSIGNED, mode=0, dmin=0, dmax=255), "ASK", "bytes-sign"),
    Case("M01-stated", mrc(_UNSIGNED, mode=0, dmin=0, dmax=255), "OK", options={"mode0_bytes": "unsigned"}),
    Case("M02", mrc(_UNSIGNED, mode=0, patch=imod(0)), "OK"),
    Case("M03", mrc(_SIGNED, patch=imod(1)), "OK"),
    *(Case(f"M04-{kind}", mrc(BODY.astype(kind)), "OK") for kind in ("i2", "f4", "u2", "f2")),
    Case("M05", mrc(np.where(BODY > 150, np.inf, BODY).astype("f2")), "OK"),
    Case("M06-3", mrc(np.zeros((8, 12, 32), "i2"), mode=3, shape=SHAPE), "REJECT", "mode-complex"),
    Case("M06-4", mrc(np.zeros((8, 12, 32), "f4"), mode=4, shape=SHAPE), "REJECT", "mode-complex"),
    Case("M07-even", mrc(_NIBBLES_EVEN, mode=101, shape=SHAPE), "OK"),
    Case("M07-odd", mrc(_NIBBLES_ODD, mode=101, shape=(8, 12, 15)), "OK"),
    *(Case(f"M08-{mode}", mrc(mode=mode), "REJECT", "mode") for mode in (5, -1, 999)),
    Case("M08-16", mrc(np.zeros((8, 12, 48), "u1"), mode=16, shape=SHAPE), "REJECT", "mode"),
    Case("M09-4", mrc(patch=imod(4), origin=(1, 2, 3)), "OK"),
    Case("M09-none", mrc(patch=imod(0), nversion=0, origin=(1, 2, 3)), "WARN", "origin-imod"),
    Case("M09-8", mrc(patch=imod(8), rms=-1), "OK"),
    Case("M09-16", mrc(_UNSIGNED, mode=0, patch=imod(16)), "REJECT", "mode-nibbles"),
]

_HUGE = 2**31 - 1
DIMENSIONS = [
    Case("D01-nx", mrc(nx=0), "REJECT", "dimensions"),
    Case("D01-nz", mrc(nz=0), "REJECT", "dimensions"),
    Case("D02-nx", mrc(nx=-16), "REJECT", "dimensions"),
    Case("D02-nz", mrc(nz=-8), "REJECT", "dimensions"),
    Case("D02-nx-ny", mrc(nx=-16, ny=-12), "REJECT", "dimensions"),
    Case("D03-cube", mrc(nx=_HUGE, ny=_HUGE, nz=_HUGE), "REJECT", "too-large"),
    Case("D03-image", mrc(nx=65536, ny=65536, nz=1), "REJECT", "truncated"),
    Case("D04-1", mrc(BODY[:1]), "REJECT", "single-image"),
    Case("D04-0", mrc(BODY[:1], ispg=0), "REJECT", "single-image"),
    Case("D05", mrc(BODY[:1, :1, :1]), "REJECT", "too-small"),
    Case("D06", mrc(ispg=0), "WARN", "space-group-0"),
    Case("D07", mrc(ispg=401, mz=4), "REJECT", "volume-stack"),
    Case("D08", mrc(ispg=401, mz=0), "REJECT", "volume-stack"),
    Case("D09", mrc(ispg=401, mz=3), "REJECT", "volume-stack"),
    Case("D10-SERI", mrc(extended=_TILTS, exttyp=b"SERI", patch=_TILT_PATCH, ispg=0, mz=1), "REJECT", "tilt-series"),
    Case("D10-FEI1", mrc(extended=_FEI, exttyp=b"FEI1"), "REJECT", "tilt-series"),
]

GEOMETRY = [
    Case("V01", mrc(cella=(0, 0, 0)), "ASK", "voxel-size-zero"),
    Case("V02", mrc(cella=_cell(1, 1, 1)), "ASK", "voxel-size-placeholder"),
    Case("V03", mrc(mx=0, my=0, mz=0), "WARN", "intervals-missing"),
    Case("V03-ask", mrc(mx=0, my=0, mz=0, cella=_cell(200, 200, 200)), "ASK", "voxel-size-range"),
    Case("V04", mrc(mx=8, cella=(8 * APIX, 12 * APIX, 8 * APIX)), "WARN", "intervals"),
    *(
        Case(f"V05-{v}", mrc(cella=_cell(v, v, v)), "ASK", "voxel-size-zero" if v < 0 else "voxel-size-not-finite")
        for v in (np.nan, np.inf, -APIX)
    ),
    Case("V06", mrc(cella=_cell(10, 10, 20)), "ASK", "voxel-size-anisotropic"),
    Case("V07", mrc(cella=_cell(13.28, 13.28, 13.27992)), "OK"),
    Case("V08-metres", mrc(cella=_cell(1e-9, 1e-9, 1e-9)), "ASK", "voxel-size-range"),
    Case("V08-nm", mrc(cella=_cell(0.3, 0.3, 0.3)), "ASK", "voxel-size-range"),
    Case("V09", mrc(cella=_cell(1, 1, 1)), "WARN", "voxel-size-stated", {"stated": APIX}),
    Case("V10", mrc(), "REJECT", "voxel-size-factor-10", {"stated": 1.348}),
    Case("V10-force", mrc(), "WARN", "voxel-size-stated", {"stated": 1.348, "force": True}),
    Case("V11-zero", mrc(cellb=(0, 0, 0)), "OK"),
    Case("V11-oblique", mrc(cellb=(90, 60, 90)), "REJECT", "cell-angles"),
    Case("A01", mrc(mapc=0, mapr=0, maps=0), "WARN", "axes-missing"),
    *(
        Case(f"A02-{c}{r}{s}", _swapped_axes((c, r, s)), "WARN", "axes-permuted")
        for c, r, s in ((3, 2, 1), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2))
    ),
    Case("A03-112", mrc(mapc=1, mapr=1, maps=2), "REJECT", "axes"),
    Case("A03-124", mrc(mapc=1, mapr=2, maps=4), "REJECT", "axes"),
    Case("A03-minus", mrc(mapc=-1, mapr=-1, maps=-1), "REJECT", "axes"),
    Case("A04", mrc(mapr=-2), "REJECT", "axes-inverted"),
    Case("A05", mrc(np.ascontiguousarray(BODY.transpose(1, 0, 2))), "WARN", "thin-y"),
    Case("A06", mrc(BODY[::-1]), "OK"),
    Case("A07-start", mrc(nxstart=-5, origin=(1e6, 0, 0)), "OK"),
    Case("A07-huge", mrc(origin=(3.4e38, 0, 0)), "OK"),
    Case("A07-nan", mrc(origin=(np.nan, 0, 0)), "WARN", "origin-not-finite"),
    Case("A07-nstart", mrc(nxstart=-5), "WARN", "nstart"),
]

EXTENDED = [
    Case("X01-SERI", mrc(extended=_FLAT, exttyp=b"SERI", patch=_FLAT_PATCH), "OK"),
    Case("X01-1440", mrc(extended=bytes(1440), exttyp=b"SERI"), "OK"),
    Case("X01-FEI1", mrc(extended=bytes(768 * 8), exttyp=b"FEI1"), "OK"),
    Case("X01-odd", mrc(extended=b"abc"), "OK"),
    Case("X02", mrc(nsymbt=_HUGE), "REJECT", "extended-missing"),
    Case("X02-cut", mrc(nsymbt=_HUGE)[:-1], "REJECT", "extended-header"),
    Case("X03", mrc(nsymbt=-4)[:-1], "REJECT", "extended-header"),
    Case("X04", mrc(nsymbt=10_000) + b"\0", "REJECT", "extended-header"),
    Case("X05", mrc(nsymbt=1440), "REJECT", "extended-missing"),
    Case("X05-repaired", mrc(nsymbt=1440), "OK", options={"ignore_extended_header": True}),
    Case("X06", mrc(extended=bytes(64), exttyp=b"\xff\xfe\x01\x80"), "OK"),
    Case("L01-minus", mrc(nlabl=-1), "OK"),
    Case("L01-huge", mrc(nlabl=_HUGE), "OK"),
    Case("L02", mrc(patch={224: b"\xc3\xa9<script>alert(1)</script>\x1b]0;owned\x07"}), "OK"),
    Case("S01-wrong", mrc(dmin=5, dmax=-5, dmean=1e30), "OK"),
    Case("S01-nan", mrc(dmin=np.nan, dmax=np.nan, dmean=np.nan, rms=np.nan), "OK"),
    Case("S01-zero", mrc(dmin=0, dmax=0, dmean=0, rms=0), "OK"),
]

CASES = [*SIZE_AND_ORDER, *MODE, *DIMENSIONS, *GEOMETRY, *EXTENDED]
