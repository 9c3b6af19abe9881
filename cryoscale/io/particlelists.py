"""Lists of particles as text: one a line, ``class x y z``, whatever follows (angles) left alone.

The format of the SHREC challenges' truth and submissions: columns between blanks, positions in voxels, 0 the centre
of the first voxel. In a truth the number of a line, from 1, is the particle's number in its occupancy mask, so that
no line may be empty or a comment: skipping one would renumber all that follow.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import UsageError
from cryoscale.io.inputs import open_regular, printable

__all__ = ["ParticleList", "read_class_radii", "read_particle_list"]

_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class ParticleList:
    """Particles in the order of their file."""

    classes: tuple[str, ...]
    """Name of each one's class, as it is written."""
    positions: NDArray[np.float64]
    """(n, 3) z, y, x in voxels."""


def read_particle_list(path: str | Path) -> ParticleList:
    """Read a list of particles; an empty file is a list of none.

    Raises
    ------
    InputError
        The file cannot be opened.
    UsageError
        A line is not ``class x y z``; the text names its number.
    """
    classes, positions = [], []
    for number, line in enumerate(_lines(path), 1):
        name, *numbers = line.split() or [""]
        x, y, z = _numbers(numbers[:3], 3, f"{printable(path)} line {number}", line, "class x y z")
        classes.append(name)
        positions.append((z, y, x))
    return ParticleList(tuple(classes), np.array(positions, np.float64).reshape(-1, 3))


def read_class_radii(path: str | Path) -> dict[str, tuple[float, float]]:
    """Read ``class radius [weight]`` a line: of each class, its radius in ångström and its weight (1 if left out).

    Raises
    ------
    InputError
        The file cannot be opened.
    UsageError
        A line is not of that form, a radius is not positive, a weight is negative, or a class comes twice.
    """
    found: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(_lines(path), 1):
        where, form = f"{printable(path)} line {number}", "class radius_angstrom [weight], each class once"
        name, *words = line.split() or [""]
        radius, weight = _numbers([*words, "1"][:2], 2, where, line, form) if len(words) < 3 else (0.0, 0.0)
        if radius <= 0 or weight < 0 or name.casefold() in found:
            raise UsageError("not a line of radii", where=where, found=repr(line), allowed=form)
        found[name.casefold()] = radius, weight
    return found


def _lines(path: str | Path) -> list[str]:
    descriptor, identity = open_regular(path)
    with os.fdopen(descriptor, "rb") as stream:
        if identity.size > _MOST_BYTES:
            raise UsageError("too long for a list of particles", where=printable(path), found=f"{identity.size} bytes")
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("not a text file", where=printable(path), found=error) from error
    return text.rstrip().split("\n") if text.strip() else []


def _numbers(words: list[str], count: int, where: str, line: str, form: str) -> list[float]:
    try:
        # Python's own float takes 1_000, which no other program reads.
        values = [float(word) if "_" not in word else math.nan for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise UsageError("malformed line", where=where, found=repr(line[:80]), allowed=f"{form}, finite numbers")
    return values
