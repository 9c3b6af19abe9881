"""Particles for RELION and Warp: STAR files, each program's positions in its own words.

========= ================================= ====================================================================
file      position                          origin
========= ================================= ====================================================================
RELION 5  rlnCenteredCoordinate?Angst       ångström from the tomogram's middle, shape / 2 voxels from voxel 0
RELION 4  rlnCoordinate?                    voxels of this tomogram, 0 the middle of the first; RELION counts unbinned
                                            pixels, and multiplies by the binning where coordinates are imported
Warp      rlnCoordinate?                    voxels of this tomogram (``--coords_angpix`` is its voxel size)
========= ================================= ====================================================================

Angles are rlnAngleRot, Tilt, Psi (intrinsic ZYZ, degrees); tilt and psi are repeated as priors, for they come from a
membrane. rlnClassNumber is 1 for particles on a membrane and 2 for others, whose angles mean nothing. STAR holds only
numbers and safe names: RELION breaks on anything else. Coordinates and angles have 6 decimals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import TomogramError
from cryoscale.io.files import atomic_write
from cryoscale.records import Geometry

__all__ = ["Oriented", "read_star", "relion4_columns", "relion5_columns", "warp_columns", "write_star"]

_SAFE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")
_LABEL = re.compile(r"rln[A-Za-z0-9]+")

Columns = dict[str, Sequence[str | float]]


@dataclass(frozen=True)
class Oriented:
    """Particles of one tomogram."""

    centres_voxels: NDArray[np.floating]
    """(n, 3) z, y, x; 0 is the centre of the first voxel."""
    angles: NDArray[np.floating]
    """(n, 3) rot, tilt, psi in degrees."""
    on_membrane: NDArray[np.bool_]
    """(n,) whether the angles come from a membrane that the particle touches."""


def relion5_columns(name: str, particles: Oriented, geometry: Geometry) -> Columns:
    """Return the particles of tomogram `name` as RELION 5 reads them."""
    centred = particles.centres_voxels - np.array(geometry.shape) / 2
    angstrom = centred * np.array(geometry.voxel_size_angstrom)
    return {
        "rlnTomoName": [name] * len(angstrom),
        **_axes("rlnCenteredCoordinate{}Angst", angstrom),
        **_rest(particles),
    }


def relion4_columns(name: str, particles: Oriented) -> Columns:
    """Return the particles of tomogram `name` as RELION 4 imports them."""
    voxels = particles.centres_voxels
    return {"rlnTomoName": [name] * len(voxels), **_axes("rlnCoordinate{}", voxels), **_rest(particles)}


def warp_columns(name: str, particles: Oriented) -> Columns:
    """Return the particles of tilt series `name` as WarpTools exports from."""
    voxels = particles.centres_voxels
    return {
        "rlnMicrographName": [f"{name}.tomostar"] * len(voxels),
        **_axes("rlnCoordinate{}", voxels),
        **_rest(particles),
    }


def _axes(label: str, zyx: NDArray[np.floating]) -> Columns:
    return {label.format(letter): zyx[:, axis].tolist() for axis, letter in ((2, "X"), (1, "Y"), (0, "Z"))}


def _rest(particles: Oriented) -> Columns:
    rot, tilt, psi = (particles.angles[:, k].tolist() for k in range(3))
    zeros = np.zeros_like(particles.centres_voxels)
    return {
        **_axes("rlnOrigin{}Angst", zeros),
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnAngleTiltPrior": tilt,
        "rlnAnglePsiPrior": psi,
        "rlnClassNumber": np.where(particles.on_membrane, 1, 2).tolist(),
    }


def write_star(path: str | Path, columns: Mapping[str, Sequence[str | float]], *, block: str = "particles") -> None:
    """Write one STAR loop, whole or not at all.

    Parameters
    ----------
    path
    columns
        Values under RELION's labels, without the leading underscore; floats get 6 decimals.
    block
        Name of the data block.

    Raises
    ------
    ValueError
        If lengths differ, or a label, text or number is not one RELION reads back as it is.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or not all(_LABEL.fullmatch(name) for name in columns) or not _SAFE.fullmatch(block):
        msg = (
            f"columns must be RELION labels of one length, not { ({n: len(v) for n, v in columns.items()}) } in {block}"
        )
        raise ValueError(msg)
    with atomic_write(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(f"\ndata_{block}\n\nloop_\n")
        stream.writelines(f"_{name} #{number}\n" for number, name in enumerate(columns, 1))
        for row in zip(*columns.values(), strict=True):
            stream.write(" ".join(_star_value(value) for value in row) + "\n")
        stream.write("\n")


def _star_value(value: str | float) -> str:
    if isinstance(value, str):
        # A name of the form of a label or block would be taken for one.
        if not _SAFE.fullmatch(value) or value.startswith(("_", "data_", "loop_")):
            msg = f"{value!r} is not a safe name"
            raise ValueError(msg)
        return value
    if not math.isfinite(value):
        msg = f"{value} is not a finite number"
        raise ValueError(msg)
    return str(int(value)) if isinstance(value, int | np.integer) else f"{value:.6f}"


def read_star(path: str | Path, *, block: str = "particles") -> dict[str, list[str]]:
    """Read one STAR loop as columns of text.

    Raises
    ------
    TomogramError
        If the block is not there, or a row has another number of values than there are labels.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        start = lines.index(f"data_{block}") + 1
    except ValueError as error:
        raise TomogramError("STAR block missing", where=str(path), allowed=f"data_{block}") from error
    names: list[str] = []
    rows: list[list[str]] = []
    for line in lines[start:]:
        words = line.split()
        if line.startswith("data_"):
            break
        if line.startswith("_"):
            names.append(words[0][1:])
        elif words and words[0] != "loop_" and not line.startswith("#"):
            rows.append(words)
    if not names or any(len(row) != len(names) for row in rows):
        raise TomogramError("STAR loop damaged", where=f"{path}: data_{block}", allowed=f"{len(names)} values a row")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}
