"""Units of the ingest stage: any volume that a user has becomes chunked, checksummed OME-Zarr.

::

    ingest-open   one unit: judge the file, unpack it to scratch if it is packed
    ingest        a unit per slab of whole slices: read, clean, describe, write level 0 and its part of every level

A tomogram keeps small integers and becomes float32 otherwise; its grey values are described for the stages after.
A mask keeps its integers (int8 becomes uint8, for labels are not negative) and is not described.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.ingest.values import (
    LARGEST_NON_FINITE,
    Intensity,
    byte_bands,
    clean_slices,
    combine,
    halve,
    signed_bytes_contradicted,
    spans,
    stored_dtype,
)
from cryoscale.io.files import relative_files
from cryoscale.io.inputs import AskError, InputError, Notes, printable, wait_folder_stable, wait_stable
from cryoscale.io.omezarr import create_image, level_region, require_no_links, write_region
from cryoscale.io.source import Source, open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import IngestSpec

__all__ = [
    "MASK", "TOMOGRAM", "Opening", "clean_mask", "ingest_slab", "mask_dtype", "open_unit", "plan", "projected_bytes",
    "slab_voxels",
]  # fmt: skip

TOMOGRAM, MASK = "tomogram.ome.zarr", "mask.ome.zarr"

_READ_BYTES = 32 << 20
_SMALL_VOXELS, _LARGE_VOXELS = 1 << 22, 1 << 25


@dataclass(frozen=True)
class Opening:
    """How an input is opened, the same in every unit."""

    path: str
    """What the user named."""
    scratch: str
    """Where a packed input is unpacked to."""
    mode0_bytes: str
    ignore_extended_header: bool

    def open(self) -> Source:
        """Open the input; unpacks it where the scratch file is gone."""
        return open_source(
            self.path,
            scratch=self.scratch,
            mode0_bytes=self.mode0_bytes,
            ignore_extended_header=self.ignore_extended_header,
        )


def projected_bytes(slab: Sequence[int], chunk_voxels: Sequence[int], read_itemsize: int, stored_itemsize: int) -> int:
    """Peak memory of a unit: the slab as read and as stored, its chunks being compressed, a slice's statistics.

    Parameters
    ----------
    slab, chunk_voxels
        Shape of the slab and of a chunk, z, y, x.
    read_itemsize, stored_itemsize
        Bytes of a voxel in the file and in the store.
    """
    as_read = 0 if read_itemsize == stored_itemsize else math.prod(slab) * read_itemsize
    # All chunks of the slab may be in the compressor at once, each at its full size.
    chunks = math.prod(-(-n // c) * c for n, c in zip(slab, chunk_voxels, strict=True))
    return as_read + (math.prod(slab) + chunks) * stored_itemsize + slab[1] * slab[2] * 8 * 5 + _READ_BYTES


def slab_voxels(shape: Sequence[int], chunk_voxels: Sequence[int]) -> tuple[int, int, int]:
    """Return what one unit reads, and a file holds: whole slices, one chunk deep, or two where that is no large file.

    Small tomograms stay in thin slabs: they are few files anyway, and more units share the work.
    """
    depth, height, width = chunk_voxels[0], shape[1], shape[2]
    twice = _SMALL_VOXELS <= depth * height * width <= _LARGE_VOXELS // 2
    return depth * (1 + twice), height, width


def plan(tomogram: Tomogram, spec: IngestSpec, *, mask: str = "", mode0_bytes: str = "") -> Plan:
    """Plan the conversion of a tomogram, or of a mask of it.

    Parameters
    ----------
    tomogram
        Where the products go. Where `mask` is given and its geometry is known, the mask must have its shape, and
        gets its voxel size and origin.
    spec
        Options of the stage.
    mask
        Path of a mask, to be converted instead of the tomogram's source.
    mode0_bytes
        ``"signed"`` or ``"unsigned"`` states how the bytes of MRC mode 0 are meant.

    Raises
    ------
    InputError
        The volume cannot be used; `AskError` where the user has to state a value.
    """
    stage, name = ("ingest-mask", MASK) if mask else ("ingest", TOMOGRAM)
    path = mask or tomogram.source
    scratch = tomogram.path(f".{name}.unpacked")
    opening = Opening(path, str(scratch), mode0_bytes, spec.ignore_extended_header)
    try:
        (opened,) = yield [
            Unit((f"{stage}-open", tomogram.id, 0), open_unit, (opening, spec.wait_stable_seconds), _READ_BYTES)
        ]
        found = opened.numbers
        geometry, notes = _geometry(tomogram if mask else None, found, spec, printable(path))
        dtype = mask_dtype(np.dtype(found["dtype"])) if mask else stored_dtype(np.dtype(found["dtype"]))
        levels, labels = spec.pyramid_levels, bool(mask) and dtype.kind == "u"
        slab = slab_voxels(geometry.shape, spec.chunk_voxels)
        create_image(tomogram.path(name), geometry, dtype, spec.chunk_voxels, shards=slab, levels=levels, labels=labels)
        regions = blocks(geometry.shape, slab)
        receipts = yield [
            Unit(
                (stage, tomogram.id, index),
                ingest_slab,
                (opening, found["identity"], tomogram.folder, name, region, dtype.str, levels, bool(mask)),
                projected_bytes(region.shape, spec.chunk_voxels, np.dtype(found["dtype"]).itemsize, dtype.itemsize),
            )
            for index, region in enumerate(regions)
        ]
    finally:
        scratch.unlink(missing_ok=True)
    warnings = [*(tuple(note) for note in found["warnings"]), *notes]
    values, more = _mask_summary(receipts) if mask else _tomogram_summary(receipts, geometry, opening, printable(path))
    return {
        "volume": name,
        "geometry": geometry.to_json(),
        "dtype": dtype.name,
        "source": {"path": printable(path), "kind": found["kind"], **found["identity"]},
        "warnings": [f"{code}: {text}" for code, text in (*warnings, *more)],
        **values,
    }


def open_unit(opening: Opening, wait_stable_seconds: float = 0.0) -> Receipt:
    """Judge an input, unpacking it first where it is packed, and return what is known before it is read."""
    if wait_stable_seconds:
        (wait_folder_stable if Path(opening.path).is_dir() else wait_stable)(opening.path, wait_stable_seconds)
    Path(opening.scratch).unlink(missing_ok=True)
    source = opening.open()
    if source.kind == "omezarr":
        require_no_links(opening.path)
    numbers = {
        "kind": source.kind,
        "shape": list(source.shape),
        "dtype": source.dtype.name,
        "voxel_size_angstrom": _finite_text(source.voxel_size_found_angstrom),
        "origin_angstrom": list(source.origin_angstrom),
        "warnings": [list(note) for note in source.warnings],
        "identity": source.identity.to_json(),
    }
    return Receipt(numbers=numbers)


def _finite_text(values: Sequence[float] | None) -> list[str] | None:
    """Return numbers as text: JSON has no NaN."""
    return None if values is None else [repr(float(v)) for v in values]


def _geometry(known: Tomogram | None, found: dict[str, Any], spec: IngestSpec, where: str) -> tuple[Geometry, Notes]:
    shape = tuple(int(n) for n in found["shape"])
    assert len(shape) == 3
    if known is not None and known.geometry is not None:
        if known.geometry.shape != shape:
            raise InputError(
                "mask-shape",
                "the mask is not the tomogram's size",
                where=where,
                found=f"z, y, x = {shape}",
                allowed=f"{known.geometry.shape}",
                todo="give the mask that was made from this tomogram, at its full size",
            )
        return known.geometry, ()
    stated = found["voxel_size_angstrom"]
    voxel = None if stated is None else (float(stated[0]), float(stated[1]), float(stated[2]))
    value, notes = resolve_voxel_size(voxel, spec.apix, force=spec.force_apix, where=f"{where}: voxel size")
    z, y, x = (float(v) for v in found["origin_angstrom"])
    # What had to be asked for was answered: the doubt itself is no longer news.
    found["warnings"] = [note for note in found["warnings"] if not str(note[0]).startswith("voxel-size")]
    return Geometry(shape, value, (z, y, x)), notes


def mask_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type a mask is kept in: unsigned integers, or float32 for scores."""
    if dtype.kind in "iu":
        return np.dtype(f"u{dtype.itemsize}")
    return np.dtype(np.float32)


def ingest_slab(
    opening: Opening,
    identity: dict[str, int],
    folder: str,
    name: str,
    region: Region,
    dtype: str,
    levels: int,
    mask: bool,
) -> Receipt:
    """Read one slab of whole slices, clean it, and write its part of every level.

    Raises
    ------
    InputError
        ``changed``: the input is not the one that was judged; ``mask-negative``; what reading it raises.
    """
    source = opening.open()
    if source.identity.to_json() != identity:
        raise InputError(
            "changed",
            "changed during the run",
            where=printable(opening.path),
            found=source.identity.to_json(),
            allowed=str(identity),
            todo="wait until it is complete and run again",
        )
    raw = source.read(region.start, region.stop)
    source.require_same()
    numbers: dict[str, Any] = {}
    if raw.dtype == np.int8 and not mask:
        numbers["bands"] = byte_bands(raw)
    if mask:
        level = clean_mask(raw, np.dtype(dtype), printable(opening.path))
        numbers["largest"] = float(level.max())
    else:
        level, statistics = clean_slices(raw, np.dtype(dtype))
        numbers["statistics"] = statistics.tolist()
    del raw
    files = []
    for index in range(levels):
        if index:
            level = halve(level, labels=mask)
        files += write_region(f"{folder}/{name}", level_region(region, index), level, index)
    return Receipt(relative_files(folder, files), numbers)


def clean_mask(raw: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Return a mask's values in the type that `mask_dtype` gave for them; scores that are not finite become 0.

    Raises
    ------
    InputError
        ``bytes-sign`` or ``mask-negative``: labels are not negative.
    """
    if dtype.kind == "f":
        scores = raw.astype(dtype)
        scores[~np.isfinite(scores)] = 0.0
        return scores
    if raw.dtype.kind == "i" and (lowest := int(raw.min())) < 0:
        kind = AskError if raw.dtype == np.int8 else InputError
        raise kind(
            "bytes-sign" if raw.dtype == np.int8 else "mask-negative",
            "a mask with negative values",
            where=where,
            found=lowest,
            allowed="0 for background, positive labels",
            todo="state mode0_bytes = 'unsigned' where 255 is meant, or write the labels as positive integers",
        )
    return raw.view(dtype)


def _mask_summary(receipts: list[Receipt]) -> tuple[dict[str, Any], Notes]:
    largest = max(float(receipt.numbers["largest"]) for receipt in receipts)
    notes: Notes = () if largest > 0 else (("mask-empty", "the mask is empty: no voxel is above 0"),)
    return {"largest": largest}, notes


def _tomogram_summary(
    receipts: list[Receipt], geometry: Geometry, opening: Opening, where: str
) -> tuple[dict[str, Any], Notes]:
    slice_voxels = geometry.shape[1] * geometry.shape[2]
    voxels = slice_voxels * geometry.shape[0]
    bands = [receipt.numbers["bands"] for receipt in receipts if "bands" in receipt.numbers]
    if bands and not opening.mode0_bytes:
        _check_sign([int(n) for n in np.sum(bands, axis=0)], voxels, where)
    statistics = np.concatenate([np.asarray(receipt.numbers["statistics"], float) for receipt in receipts])
    intensity = combine(statistics, slice_voxels)
    notes = _judge(intensity, voxels, where)
    return {"centre": intensity.centre, "scale": intensity.scale, "low": intensity.low, "high": intensity.high}, notes


def _check_sign(bands: list[int], voxels: int, where: str) -> None:
    low, middle, high = bands
    if signed_bytes_contradicted(low, middle, high, voxels):
        raise AskError(
            "bytes-sign",
            "bytes read as signed pile up at both ends of their range: unsigned ones, by the look of it",
            where=where,
            found=f"{low} voxels below -112, {middle} around 0, {high} above 111 of {voxels}",
            todo="state mode0_bytes = 'unsigned' or 'signed', or convert it to 16 bits: newstack -mode 1",
        )


def _judge(intensity: Intensity, voxels: int, where: str) -> Notes:
    """Return warnings about the values of a tomogram; refuse values that nothing can be made of."""
    if intensity.non_finite > LARGEST_NON_FINITE * voxels:
        raise InputError(
            "non-finite",
            "too many voxels are NaN or infinite",
            where=where,
            found=f"{intensity.non_finite} of {voxels}",
            allowed=f"{LARGEST_NON_FINITE:.0%}",
            todo="reconstruct the tomogram again",
        )
    if intensity.low == intensity.high:
        raise InputError(
            "constant",
            "all voxels have one value",
            where=where,
            found=intensity.low,
            todo="the file may still be being written, or its reconstruction failed",
        )
    notes = []
    if intensity.non_finite:
        text = f"{intensity.non_finite} of {voxels} voxels are NaN or infinite: replaced by their slice's median"
        notes.append(("non-finite", text))
    if intensity.unfilled:
        notes.append(("unfilled", f"slices of one value only: z = {spans(intensity.unfilled)}"))
    return tuple(notes)
