"""What the description of a TIFF's first page declares: number of planes and voxel size.

ImageJ writes lines ``key=value`` (images, slices, unit, spacing) and pixels per unit into the resolution tags; OME
writes XML; tifffile writes the array's shape as JSON. Whoever declares a number of planes is held to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from cryoscale.io.inputs import InputError, Notes
from cryoscale.io.voxelsize import VoxelSize

__all__ = ["DescribedStack", "describe"]

_LARGEST_DESCRIPTION = 4 << 20
_UNITS_ANGSTROM = {
    "pm": 0.01,
    "picometer": 0.01,
    "a": 1.0,
    "å": 1.0,
    "angstrom": 1.0,
    "angstroms": 1.0,
    "ångström": 1.0,
    "nm": 10.0,
    "nanometer": 10.0,
    "nanometers": 10.0,
    "um": 1e4,
    "µm": 1e4,
    "μm": 1e4,
    "micron": 1e4,
    "microns": 1e4,
    "micrometer": 1e4,
    "mm": 1e7,
    "cm": 1e8,
    "m": 1e10,
}


@dataclass(frozen=True)
class DescribedStack:
    """What a description declares."""

    planes: int | None
    """Planes along z, None where nothing is declared."""
    voxel_size_angstrom: VoxelSize | None
    """Edges z, y, x as declared, None where there are none."""
    warnings: Notes = ()
    """Each (code, text)."""


def describe(page: Any, pages: int, where: str) -> DescribedStack:
    """Read the description of a stack's first page.

    Parameters
    ----------
    page
        tifffile's first page.
    pages
        Number of pages in the file.
    where
        The file, for messages.

    Raises
    ------
    InputError
        ``tiff-planes``: another number of planes than there are pages; ``tiff-hyperstack``: channels or times;
        ``ome-xml``: OME metadata that is damaged, defines entities or names other files.
    """
    text = str(page.description or "")
    if len(text) > _LARGEST_DESCRIPTION:
        raise InputError(
            "ome-xml",
            "the description is too long",
            where=where,
            found=f"{len(text)} characters",
            allowed=f"{_LARGEST_DESCRIPTION}",
        )
    if text.startswith("ImageJ="):
        return _imagej(text, page, pages, where)
    if "<OME" in text[:4096] or "<!" in text[:4096]:
        return _ome(text, pages, where)
    if text.startswith('{"shape":'):
        return DescribedStack(_shaped(text, pages, where), None)
    return DescribedStack(None, None)


def _require_planes(declared: int, pages: int, where: str, *, one_page_will_do: bool = False) -> int:
    if declared == pages or (one_page_will_do and pages == 1):
        return declared
    raise InputError(
        "tiff-planes",
        "the number of pages is not the declared number of planes",
        where=where,
        found=f"{pages} pages",
        allowed=f"{declared} as declared",
        todo="the file may be cut: copy or export it again",
    )


def _refuse_hyperstack(where: str, found: str) -> InputError:
    return InputError(
        "tiff-hyperstack",
        "several channels or times, not one tomogram",
        where=where,
        found=found,
        allowed="one channel, one time",
        todo="export one channel as a stack of its own",
    )


def _imagej(text: str, page: Any, pages: int, where: str) -> DescribedStack:
    entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    along = [name for name in ("channels", "slices", "frames") if _integer(entries.get(name, "1")) != 1]
    if len(along) > 1:
        raise _refuse_hyperstack(where, ", ".join(f"{name}={entries[name]}" for name in along)[:200])
    notes: Notes = ()
    if along and along != ["slices"]:
        notes = (("tiff-axis", f"the stack runs along {along[0]}: taken as z"),)
    planes = _require_planes(_integer(entries.get("images", "1")), pages, where, one_page_will_do=True)
    unit = entries.get("unit", "").replace("\\u00B5", "µ").strip().lower()
    factor = _UNITS_ANGSTROM.get(unit)
    resolution = [page.tags.get(name) for name in ("YResolution", "XResolution")]
    if factor is None or any(tag is None for tag in resolution):
        return DescribedStack(planes, None, notes)
    edges = [_over(*tag.value) for tag in resolution]
    spacing = _number(entries.get("spacing", "nan"))
    return DescribedStack(planes, (spacing * factor, edges[0] * factor, edges[1] * factor), notes)


def _over(pixels: int, units: int) -> float:
    return float(units) / float(pixels) if pixels else float("inf")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _integer(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*\d{1,9}\s*", text) else 0


def _shaped(text: str, pages: int, where: str) -> int:
    try:
        shape = [int(n) for n in json.loads(text)["shape"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return pages
    if len(shape) == 2:
        return pages
    if len(shape) != 3:
        raise _refuse_hyperstack(where, f"shape {shape}"[:200])
    return _require_planes(shape[0], pages, where, one_page_will_do=True)


def _ome(text: str, pages: int, where: str) -> DescribedStack:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _bad_xml(where, "a document type or entity definition", "plain OME-XML")
    try:
        root = ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, ValueError) as error:
        raise _bad_xml(where, error, "well-formed OME-XML") from error
    images = [node for node in root.iter() if node.tag.endswith("}Pixels") or node.tag == "Pixels"]
    if len(images) != 1:
        raise _bad_xml(where, f"{len(images)} images", "one image")
    names = {node.get("FileName", "") for node in root.iter() if node.tag.endswith("UUID")} - {""}
    if len(names) > 1 or any("/" in name or "\\" in name for name in names):
        raise _bad_xml(where, f"references to {sorted(names)[:3]}", "all planes in this file")
    pixels = images[0]
    for name in ("SizeC", "SizeT"):
        if _integer(pixels.get(name, "1")) != 1:
            raise _refuse_hyperstack(where, f"{name}={pixels.get(name)}")
    planes = _require_planes(_integer(pixels.get("SizeZ", "0")), pages, where)
    z, y, x = (_physical(pixels, axis) for axis in "ZYX")
    return DescribedStack(planes, None if z is None or y is None or x is None else (z, y, x))


def _physical(pixels: ElementTree.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    factor = _UNITS_ANGSTROM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
    return None if size is None or factor is None else _number(size) * factor


def _bad_xml(where: str, found: object, allowed: str) -> InputError:
    return InputError(
        "ome-xml",
        "the OME metadata cannot be used",
        where=where,
        found=found,
        allowed=allowed,
        todo="export the volume as one TIFF stack",
    )
