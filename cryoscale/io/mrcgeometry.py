"""Where an MRC file's voxels are in space: axes, cell, voxel size, origin.

    voxel size = cella / m along x, y, z;    position of voxel (z, y, x) = origin + voxel size * (z, y, x)

``mapc, mapr, maps`` name the axis (1 x, 2 y, 3 z) that columns, rows and sections run along; cell, intervals (m) and
origin are always in x, y, z, and leave here as z, y, x. The origin is handed out in MRC2014's sense. IMOD keeps it
with the opposite sign in files that bear its stamp, unless its flag 4 or a format version says MRC2014's: those are
turned round, with a warning. An axis given as negative (-2: inverted) is refused: a silent flip changes handedness.
"""

from __future__ import annotations

import math
from typing import Any

from cryoscale.io.inputs import InputError, Notes
from cryoscale.io.voxelsize import VoxelSize, doubt

__all__ = ["check_cell", "file_axes", "header_origin", "header_voxel_size", "shape_notes"]

_INVERTED_ORIGIN_FLAG = 4
_STACK_GROUPS = range(401, 631)
_RIGHT_ANGLE_TOLERANCE = 0.1


def file_axes(header: Any, where: str) -> tuple[tuple[int, int, int], Notes]:
    """Return which of sections (0), rows (1), columns (2) is z, y, x.

    Raises
    ------
    InputError
        ``axes-inverted`` or ``axes``: not a permutation of 1, 2, 3.
    """
    order = tuple(int(header[name]) for name in ("maps", "mapr", "mapc"))
    if order == (0, 0, 0):
        return (0, 1, 2), (("axes-missing", "mapc, mapr, maps are 0, 0, 0: taken as 1, 2, 3"),)
    if sorted(order) != [1, 2, 3]:
        inverted = sorted(abs(n) for n in order) == [1, 2, 3]
        raise InputError(
            "axes-inverted" if inverted else "axes",
            "an axis is inverted" if inverted else "the axis order is not a permutation",
            where=f"{where}: mapc, mapr, maps",
            found=", ".join(str(n) for n in reversed(order)),
            allowed="1, 2, 3 in any order",
            todo="flip the volume into the standard order with the program that wrote it"
            if inverted
            else "correct the header with the program that wrote it",
        )
    axes = (order.index(3), order.index(2), order.index(1))
    if axes == (0, 1, 2):
        return axes, ()
    text = f"axis order mapc, mapr, maps = {', '.join(str(n) for n in reversed(order))}: read transposed to z, y, x"
    return axes, (("axes-permuted", text),)


def check_cell(header: Any, where: str) -> Notes:
    """Refuse stacks of volumes and oblique cells.

    Raises
    ------
    InputError
        ``volume-stack``, ``cell-angles``.
    """
    group, sections, intervals = int(header["ispg"]), int(header["nz"]), int(header["mz"])
    if group in _STACK_GROUPS and intervals != sections:
        raise InputError(
            "volume-stack",
            "a stack of volumes, not one tomogram",
            where=f"{where}: ispg, mz, nz",
            found=f"{group}, {intervals}, {sections}",
            allowed="ispg 1, or mz equal to nz",
            todo="split the stack into one file per volume",
        )
    angles = [float(header["cellb"][name]) for name in ("alpha", "beta", "gamma")]
    if not all(angle == 0.0 or abs(angle - 90.0) <= _RIGHT_ANGLE_TOLERANCE for angle in angles):
        raise InputError(
            "cell-angles",
            "the cell is not rectangular",
            where=f"{where}: cellb",
            found=", ".join(f"{angle:g}" for angle in angles),
            allowed="90, 90, 90 degrees",
            todo="resample the map onto a rectangular grid",
        )
    if group == 0:
        return (("space-group-0", "space group 0 (image stack) taken as a volume"),)
    return ()


def header_voxel_size(header: Any, shape: tuple[int, int, int]) -> tuple[VoxelSize, VoxelSize | None, Notes]:
    """Return the voxel size as the header has it, the same or None where it must be asked for, and warnings.

    Parameters
    ----------
    header
        Fields of the header.
    shape
        Voxels along z, y, x.
    """
    cell = [float(header["cella"][name]) for name in ("z", "y", "x")]
    intervals = [int(header[name]) for name in ("mz", "my", "mx")]
    notes: list[tuple[str, str]] = []
    if intervals == [0, 0, 0]:
        intervals = list(shape)
        notes.append(("intervals-missing", "mx, my, mz are 0: the voxel size is the cell over the number of voxels"))
    found = tuple(length / m if m else math.inf for length, m in zip(cell, intervals, strict=True))
    assert len(found) == 3
    problem = doubt(found)
    if problem is not None:
        text = f"{problem[1]}: z, y, x = {', '.join(f'{v:.6g}' for v in found)} Å"
        return found, None, (*notes, (problem[0], text))
    if not notes and intervals != list(shape):
        text = f"mx, my, mz = {', '.join(str(m) for m in reversed(intervals))} differ from the number of voxels"
        notes.append(("intervals", f"{text}: the voxel size is the cell over them"))
    return found, found, tuple(notes)


def header_origin(
    header: Any, flags: int | None, starts: tuple[int, int, int]
) -> tuple[tuple[float, float, float], Notes]:
    """Return the origin in MRC2014's sense, z, y, x in ångström.

    Parameters
    ----------
    header
        Fields of the header.
    flags
        IMOD's flags, None where the file does not bear IMOD's stamp.
    starts
        nstart along z, y, x.
    """
    z, y, x = (float(header["origin"][name]) for name in ("z", "y", "x"))
    if not all(math.isfinite(v) for v in (z, y, x)):
        return (0.0, 0.0, 0.0), (("origin-not-finite", f"origin z, y, x = {z:g}, {y:g}, {x:g}: taken as 0"),)
    imod_sense = flags is not None and not flags & _INVERTED_ORIGIN_FLAG and int(header["nversion"]) <= 0
    if imod_sense and (z, y, x) != (0.0, 0.0, 0.0):
        text = f"IMOD's origin z, y, x = {z:g}, {y:g}, {x:g} Å has the opposite sign of MRC2014's: turned round"
        return (0.0 - z, 0.0 - y, 0.0 - x), (("origin-imod", text),)
    if (z, y, x) == (0.0, 0.0, 0.0) and any(starts):
        text = f"nstart z, y, x = {', '.join(str(n) for n in starts)} with origin 0: positions start from 0"
        return (0.0, 0.0, 0.0), (("nstart", text),)
    return (z, y, x), ()


def shape_notes(shape: tuple[int, int, int]) -> Notes:
    """Return a warning where y is the shortest side: a reconstruction that was not rotated, perhaps."""
    z, y, x = shape
    if y >= min(z, x):
        return ()
    return (("thin-y", f"ny = {y} is the shortest side: a reconstruction whose y and z were not exchanged?"),)
