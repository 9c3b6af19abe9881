"""The voxel size: taken from a header that states it, asked for otherwise, never guessed.

======================================== ==============================================================
the header says                          outcome
======================================== ==============================================================
0, negative, NaN or infinite             ASK
1.0, 1.0, 1.0                            ASK: what programs write that do not know it
outside 0.5 to 100 Å                     ASK: metres, nanometres or a wrong number of intervals
edges that differ by more than 1e-3      ASK: the maths wants cubes
anything else                            OK
======================================== ==============================================================

A stated value (``--apix``) wins, and says so with both values; where it differs from a sound header by a factor of
ten within 1 % (nanometres for ångström) it is refused unless forced.
"""

from __future__ import annotations

import math

from cryoscale.errors import UsageError
from cryoscale.io.inputs import AskError, InputError, Notes

__all__ = ["LARGEST_ANGSTROM", "SMALLEST_ANGSTROM", "VoxelSize", "doubt", "resolve_voxel_size"]

VoxelSize = tuple[float, float, float]
"""Edges in ångström, z, y, x."""

SMALLEST_ANGSTROM, LARGEST_ANGSTROM = 0.5, 100.0
_ANISOTROPY, _PLACEHOLDER, _FACTOR_TEN = 1e-3, 1e-6, 0.01


def doubt(found: VoxelSize | None) -> tuple[str, str] | None:
    """Return (code, text) of why a voxel size cannot be believed, or None where it can.

    Parameters
    ----------
    found
        Edges in ångström, z, y, x, as a header has them; None where it has none.
    """
    if found is None:
        return "voxel-size-missing", "the file states no voxel size"
    low, high = min(found), max(found)
    if not all(math.isfinite(v) for v in found):
        return "voxel-size-not-finite", "the voxel size is not a number"
    if low <= 0:
        return "voxel-size-zero", "the voxel size is not positive"
    if max(abs(v - 1.0) for v in found) < _PLACEHOLDER:
        return "voxel-size-placeholder", "a voxel size of exactly 1 Å is what programs write that do not know it"
    if low < SMALLEST_ANGSTROM or high > LARGEST_ANGSTROM:
        return "voxel-size-range", "the voxel size is outside the range of tomograms"
    if high / low - 1.0 > _ANISOTROPY:
        return "voxel-size-anisotropic", "the voxels are not cubes"
    return None


def resolve_voxel_size(
    found: VoxelSize | None, stated: float | None, *, force: bool = False, where: str = ""
) -> tuple[VoxelSize, Notes]:
    """Decide the voxel size from what the header says and what the user stated.

    Parameters
    ----------
    found
        Edges in ångström, z, y, x, as the header has them; None where it has none.
    stated
        The user's value in ångström; None or 0 where there is none.
    force
        Take the stated value even where it differs by a factor of ten.
    where
        File and field, for the message.

    Returns
    -------
    value, warnings
        Edges in ångström, z, y, x.

    Raises
    ------
    AskError
        Nothing stated, and the header cannot be believed.
    InputError
        ``voxel-size-factor-10``.
    UsageError
        The stated value is not between 0.5 and 100 Å.
    """
    problem = doubt(found)
    if not stated:
        if problem is not None or found is None:
            code, text = problem or ("voxel-size-missing", "")
            raise AskError(code, text, where=where, found=_text(found), allowed=_ALLOWED, todo=_TODO)
        return found, ()
    value = float(stated)
    if not SMALLEST_ANGSTROM <= value <= LARGEST_ANGSTROM:
        raise UsageError("voxel size outside the range of tomograms", where="--apix", found=value, allowed=_ALLOWED)
    return (value, value, value), _compare(found, value, problem, force, where)


_ALLOWED = f"{SMALLEST_ANGSTROM:g} to {LARGEST_ANGSTROM:g} Å, equal within 1e-3 on all axes"
_TODO = "state the voxel size in ångström with --apix"


def _text(found: VoxelSize | None) -> str:
    return "nothing" if found is None else "z, y, x = " + ", ".join(f"{v:.6g}" for v in found) + " Å"


def _compare(found: VoxelSize | None, value: float, problem: tuple[str, str] | None, force: bool, where: str) -> Notes:
    if found is None:
        return ()
    note = ("voxel-size-stated", f"stated voxel size {value:g} Å replaces the header's {_text(found)}")
    if problem is not None:
        return (note,)
    ratio = value / (sum(found) / 3.0)
    if not force and min(abs(ratio / 10.0 - 1.0), abs(ratio * 10.0 - 1.0)) <= _FACTOR_TEN:
        raise InputError(
            "voxel-size-factor-10",
            "the stated voxel size differs from the header's by a factor of ten: nanometres for ångström?",
            where=where,
            found=f"stated {value:g} Å, header {_text(found)}",
            todo="correct --apix, or add --force-apix where the header is wrong",
        )
    return (note,) if abs(ratio - 1.0) > _ANISOTROPY else ()
