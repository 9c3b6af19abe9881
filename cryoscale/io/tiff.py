"""TIFF stacks: one page per z, judged before a page is decoded.

The chain of pages is walked first, so that a file cut in half is an error and never a shorter volume; every page has
to have the same shape and type, and their number has to be the one that ImageJ or OME metadata declare. Pages that
are stored plainly are read with ``pread``; zlib and PackBits ones are decoded by tifffile, a page at a time.

Voxel size: ImageJ's resolution, spacing and unit, or OME's PhysicalSize; resolution tags in inches or centimetres
are printers' and are not believed. OME-XML that defines entities or spreads over several files is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cryoscale.io.inputs import (
    Identity,
    InputError,
    Notes,
    open_regular,
    printable,
    read_exactly,
    require_unchanged,
)
from cryoscale.io.mrcfields import LARGEST_VOXELS
from cryoscale.io.mrcheader import SMALLEST_SIDE
from cryoscale.io.tiffmeta import DescribedStack, describe
from cryoscale.io.voxelsize import VoxelSize, doubt

__all__ = ["TiffStack", "is_tiff", "page_offsets", "read_stack", "read_stack_header"]

_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_LARGEST_PAGES = 100_000
_LARGEST_SEGMENT_BYTES = 256 << 20
_LARGEST_RATIO = 1000
_FREE_BYTES = 64 << 20


@dataclass(frozen=True)
class TiffStack:
    """What a readable TIFF stack holds and where."""

    path: str
    """The file that is read."""
    identity: Identity
    """Which bytes were judged."""
    shape: tuple[int, int, int]
    """Voxels along z, y, x."""
    dtype: np.dtype[Any]
    """Type of the voxels as handed out, native byte order."""
    file_dtype: np.dtype[Any]
    """Type of the voxels in the file."""
    plane_offsets: tuple[int, ...]
    """Byte of each plane where they are stored plainly; empty where they must be decoded."""
    voxel_size_found_angstrom: VoxelSize | None
    """Edges z, y, x as the file has them."""
    voxel_size_angstrom: VoxelSize | None
    """Edges z, y, x, or None where they must be asked for."""
    warnings: Notes
    """Each (code, text)."""


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins so is a TIFF."""
    return start[:4] in _MAGIC


def page_offsets(descriptor: int, size: int, where: str) -> list[int]:
    """Walk the chain of pages (image file directories) and return their offsets.

    Raises
    ------
    InputError
        ``tiff-pages``: the chain leaves the file, loops or does not end.
    """
    head = bytes(read_exactly(descriptor, min(16, size), 0, where))
    order, big = _MAGIC[head[:4]]
    pointer, count_type, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset = int(struct.unpack_from(order + pointer, head, 8 if big else 4)[0]) if size >= 16 else 0
    found: dict[int, None] = {}
    while offset:
        if offset in found or len(found) >= _LARGEST_PAGES:
            raise _bad_pages(where, f"page {len(found)} leads back to byte {offset}", "a chain that ends")
        head_bytes = struct.calcsize(order + count_type)
        if offset + head_bytes > size:
            raise _bad_pages(where, f"page {len(found)} at byte {offset} of {size}", "pages inside the file")
        count = struct.unpack(order + count_type, bytes(read_exactly(descriptor, head_bytes, offset, where)))[0]
        link = offset + head_bytes + count * entry
        if link + struct.calcsize(order + pointer) > size:
            raise _bad_pages(where, f"page {len(found)} of {count} tags at byte {offset} of {size}", "whole pages")
        found[offset] = None
        raw = bytes(read_exactly(descriptor, struct.calcsize(order + pointer), link, where))
        offset = int(struct.unpack(order + pointer, raw)[0])
    if not found:
        raise _bad_pages(where, "none", "at least one page")
    return list(found)


def _bad_pages(where: str, found: str, allowed: str) -> InputError:
    return InputError(
        "tiff-pages",
        "the chain of TIFF pages is broken",
        where=where,
        found=found,
        allowed=allowed,
        todo="the file may be cut: copy or export it again",
    )


def read_stack_header(path: str | Path, where: str = "") -> TiffStack:
    """Read and judge a TIFF stack; no page is decoded.

    Parameters
    ----------
    path
        The file.
    where
        Name of the input in messages, where it is not `path`.

    Raises
    ------
    InputError
        It is not a readable stack; `code` says why.
    """
    where = where or printable(path)
    descriptor, identity = open_regular(path)
    with os.fdopen(descriptor, "rb") as stream:
        offsets = page_offsets(descriptor, identity.size, where)
        try:
            with tifffile.TiffFile(stream, name=where) as tiff:
                pages = list(tiff.pages)
                if len(pages) != len(offsets):
                    raise _bad_pages(where, f"{len(pages)} readable pages", f"{len(offsets)} pages")
                return _judge(pages, str(path), identity, where)
        except InputError:
            raise
        except Exception as error:  # tifffile raises many kinds for damaged tags
            raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> InputError:
    return InputError(
        "tiff-unreadable",
        "the TIFF file cannot be read",
        where=where,
        found=f"{type(error).__name__}: {printable(error)[:200]}",
        todo="open it in Fiji and save it as an uncompressed TIFF stack",
    )


def _judge(pages: list[Any], path: str, identity: Identity, where: str) -> TiffStack:
    first = pages[0]
    dtype, notes = _voxel_type(first, where)
    for index, page in enumerate(pages):
        if (page.shape, page.dtype, page.compression) != (first.shape, first.dtype, first.compression):
            raise InputError(
                "tiff-mixed",
                "the pages differ in shape or type",
                where=f"{where}: page {index}",
                found=f"{page.shape} {page.dtype}",
                allowed=f"{first.shape} {first.dtype} as on page 0",
                todo="export the volume alone, without thumbnails or pyramid levels",
            )
    described = describe(first, len(pages), where)
    shape = (described.planes or len(pages), int(first.imagelength), int(first.imagewidth))
    _check_shape(shape, where)
    plain = _plain_offsets(pages, shape, identity.size, where)
    if not plain:
        _check_packed(pages, shape, identity.size, where)
    notes += described.warnings + _voxel_notes(described)
    found = described.voxel_size_angstrom
    return TiffStack(
        path=path,
        identity=identity,
        shape=shape,
        dtype=dtype.newbyteorder("="),
        file_dtype=dtype,
        plane_offsets=plain,
        voxel_size_found_angstrom=found,
        voxel_size_angstrom=None if doubt(found) else found,
        warnings=notes,
    )


def _voxel_notes(described: DescribedStack) -> Notes:
    problem = doubt(described.voxel_size_angstrom)
    return (problem,) if problem else ()


def _voxel_type(page: Any, where: str) -> tuple[np.dtype[Any], Notes]:
    photometric = int(page.photometric)
    if page.samplesperpixel != 1 or photometric not in (0, 1, 3) or page.imagedepth != 1:
        raise InputError(
            "tiff-colour",
            "not a stack of grey images",
            where=where,
            found=f"{page.samplesperpixel} samples per pixel, photometric {photometric}",
            allowed="one sample per pixel, grey",
            todo="convert it to 8, 16 or 32-bit grey",
        )
    dtype = page.dtype
    if dtype is None or page.bitspersample not in (8, 16, 32, 64) or dtype.str.lstrip("<>=|") not in _TYPES:
        raise InputError(
            "mode-complex" if dtype is not None and dtype.kind == "c" else "tiff-type",
            "the voxels are not real numbers of a known type",
            where=where,
            found=f"{page.bitspersample} bits, {dtype}",
            allowed="8, 16, 32-bit integers, 16, 32, 64-bit floats",
            todo="convert it to 8, 16 or 32-bit grey",
        )
    notes: Notes = ()
    if photometric == 3:
        notes = (("tiff-palette", "colours of a palette are ignored: its indices are the voxels"),)
    elif photometric == 0:
        notes = (("tiff-min-is-white", "the file says that small values are white: values are taken as they are"),)
    order = page.parent.byteorder
    return np.dtype(dtype).newbyteorder(order), notes


_TYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"}


def _check_shape(shape: tuple[int, int, int], where: str) -> None:
    voxels = shape[0] * shape[1] * shape[2]
    if min(shape) >= SMALLEST_SIDE and voxels <= LARGEST_VOXELS:
        return
    single = shape[0] == 1 and voxels <= LARGEST_VOXELS
    code, what = ("single-image", "a single image, not a tomogram") if single else ("dimensions", "no tomogram's shape")
    raise InputError(
        code,
        what,
        where=where,
        found="z, y, x = " + ", ".join(str(n) for n in shape),
        allowed=f"{SMALLEST_SIDE} voxels or more along each axis, at most {LARGEST_VOXELS} in all",
        todo="give the whole tomogram as one stack, a page per z",
    )


def _plain_offsets(pages: list[Any], shape: tuple[int, int, int], size: int, where: str) -> tuple[int, ...]:
    """Return the byte of each plane where all are stored plainly, empty where they must be decoded."""
    first = pages[0]
    plane_bytes = shape[1] * shape[2] * first.dtype.itemsize
    if int(first.compression) != 1 or not all(page.is_contiguous for page in pages):
        return ()
    if len(pages) == shape[0]:
        offsets = tuple(int(page.dataoffsets[0]) for page in pages)
    elif len(pages) == 1:
        # ImageJ keeps stacks beyond 4 GiB as one page with the other planes right after it.
        offsets = tuple(int(first.dataoffsets[0]) + plane_bytes * z for z in range(shape[0]))
    else:
        return ()
    if max(offsets) + plane_bytes > size:
        raise InputError(
            "truncated",
            "the file is shorter than its pages say",
            where=where,
            found=f"{size} bytes",
            allowed=f"{max(offsets) + plane_bytes} bytes",
            todo="copy or export it again",
        )
    return offsets


def _check_packed(pages: list[Any], shape: tuple[int, int, int], size: int, where: str) -> None:
    first = pages[0]
    item = first.dtype.itemsize
    if first.compression not in tifffile.TIFF.DECOMPRESSORS or first.predictor not in tifffile.TIFF.UNPREDICTORS:
        found, allowed, code = f"compression {first.compression!r}", "none, zlib, PackBits", "tiff-compression"
    elif len(pages) != shape[0]:
        found, allowed, code = f"{len(pages)} pages", f"{shape[0]} pages", "tiff-pages"
    elif int(np.prod(first.chunks, dtype=object)) * item > _LARGEST_SEGMENT_BYTES:
        found, allowed, code = f"strips of {first.chunks} voxels", f"{_LARGEST_SEGMENT_BYTES} bytes", "too-large"
    elif shape[0] * shape[1] * shape[2] * item > max(_FREE_BYTES, _LARGEST_RATIO * size):
        found, allowed, code = f"{shape} voxels in {size} bytes", f"{_LARGEST_RATIO} times the file", "expansion"
    elif any(o + n > size for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        found, allowed, code = f"{size} bytes", "all strips inside the file", "truncated"
    else:
        return
    raise InputError(
        code,
        "the pages cannot be decoded",
        where=where,
        found=found,
        allowed=allowed,
        todo="save it as an uncompressed TIFF stack",
    )


def read_stack(stack: TiffStack, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """Read a box of voxels, z, y, x.

    Parameters
    ----------
    stack
        From `read_stack_header`.
    start, stop
        First voxel and one past the last, z, y, x.

    Raises
    ------
    ValueError
        The box is not inside the volume.
    InputError
        ``changed``, ``truncated`` or ``tiff-unreadable``.
    """
    if not all(0 <= a <= b <= n for a, b, n in zip(start, stop, stack.shape, strict=True)):
        msg = f"box {tuple(start)} to {tuple(stop)} is not inside a volume of {stack.shape}"
        raise ValueError(msg)
    box = np.empty([b - a for a, b in zip(start, stop, strict=True)], stack.dtype)
    descriptor, identity = open_regular(stack.path)
    with os.fdopen(descriptor, "rb") as stream:
        require_unchanged(stack.identity, identity, stack.path)
        if stack.plane_offsets:
            _read_plain(descriptor, stack, start, stop, box)
        else:
            _decode(stream, stack, start, stop, box)
    return box


def _read_plain(
    descriptor: int, stack: TiffStack, start: Sequence[int], stop: Sequence[int], box: NDArray[Any]
) -> None:
    row_bytes = stack.shape[2] * stack.file_dtype.itemsize
    for z in range(start[0], stop[0]):
        offset = stack.plane_offsets[z] + start[1] * row_bytes
        raw = read_exactly(descriptor, (stop[1] - start[1]) * row_bytes, offset, stack.path)
        box[z - start[0]] = raw.view(stack.file_dtype).reshape(-1, stack.shape[2])[:, start[2] : stop[2]]


def _decode(stream: Any, stack: TiffStack, start: Sequence[int], stop: Sequence[int], box: NDArray[Any]) -> None:
    where, z = printable(stack.path), start[0]
    try:
        with tifffile.TiffFile(stream, name=where) as tiff:
            for z in range(start[0], stop[0]):
                plane = tiff.pages[z].asarray(maxworkers=1)
                if plane.shape != stack.shape[1:]:
                    raise _bad_pages(f"{where}: page {z}", f"{plane.shape}", f"{stack.shape[1:]}")
                box[z - start[0]] = plane[start[1] : stop[1], start[2] : stop[2]]
    except InputError:
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds for damaged pages
        raise _unreadable(f"{where}: page {z}", error) from error
