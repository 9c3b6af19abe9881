"""Surfaces for the page's own viewer: few triangles, two bytes a coordinate, one compressed block.

coordinate = low + (high - low) stored / 65535

The block is one zlib stream of little-endian columns, one after the other: x, y, z of all vertices (uint16,
differences from the vertex before), the three corners of all faces (uint16, differences from the corner before),
x, y, z of the proteins (uint16), whether each vertex is inferred (uint8, 255 or 0), its standard deviation (uint8, in
255ths of the largest that is told apart) and, where it is known, its mean curvature (uint8, 128 is flat, 1 and 255 are
the largest that are told apart). Membranes follow one another; their numbers and sizes are in the facts.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.report.decimate import cluster
from cryoscale.report.render import Surface

__all__ = ["Scene", "pack_scene"]

_MOST_VERTICES = 1 << 16
_COORDINATES = 65535


@dataclass(frozen=True)
class Scene:
    """What the viewer shows of one tomogram."""

    block: bytes
    """Compressed columns."""
    facts: dict[str, Any]
    """Plain numbers: ``vertices``, ``faces``, ``proteins``, ``low`` and ``high`` (x, y, z in nm), ``box`` (x, y, z in
    nm), ``sd_top_nm``, ``curvature_top_per_nm`` (0: not known), and ``membranes``: number, vertices and faces of
    each."""


def pack_scene(
    surfaces: Sequence[Surface],
    box_nm: tuple[float, float, float],
    proteins_nm: NDArray[np.floating],
    *,
    most_faces: int = 40_000,
) -> Scene:
    """Thin surfaces to a budget and pack them.

    Parameters
    ----------
    surfaces
        Columns of the values: 0 seen to 1 inferred; standard deviation in nm; mean curvature in 1/nm, all 0 where it is
        not known. Any orientation of faces.
    box_nm
        Lengths z, y, x of the tomogram.
    proteins_nm
        (n, 3) centres z, y, x.
    most_faces
        Of all surfaces together.

    Raises
    ------
    ValueError
        The budget is not positive, or would need more vertices than two bytes can number.
    """
    if not 0 < most_faces <= 2 * _MOST_VERTICES - 20_000:
        msg = f"most_faces must be 1 to {2 * _MOST_VERTICES - 20_000}, not {most_faces}"
        raise ValueError(msg)
    thin = [surface for surface in _within(surfaces, most_faces) if len(surface.faces)]
    points = np.concatenate([np.zeros((0, 3), np.float32), *(s.vertices for s in thin)])
    every = np.concatenate([points, proteins_nm, np.zeros((1, 3)), np.array([box_nm])])
    low, high = every.min(axis=0), every.max(axis=0)
    values = np.concatenate([np.zeros((0, 3), np.float32), *(s.values for s in thin)])
    top_nm, bend = (float(np.percentile(np.abs(values[:, k]), 95)) if len(values) else 0.0 for k in (1, 2))
    first = np.cumsum([0, *(len(s.vertices) for s in thin)])
    corners = [_ordered(s.faces) + start for s, start in zip(thin, first, strict=False)]
    faces = np.concatenate([np.zeros((0, 3), np.int64), *corners])
    columns = [
        *(_differences(column) for column in _stored(points, low, high).T),
        _differences(faces.reshape(-1)),
        *(column.astype("<u2") for column in _stored(proteins_nm, low, high).T),
        np.where(values[:, 0] > 0.5, 255, 0).astype(np.uint8),
        np.rint(255 * np.clip(values[:, 1] / (top_nm or 1.0), 0, 1)).astype(np.uint8),
    ]
    if bend:
        columns.append(np.rint(128 + 127 * np.clip(values[:, 2] / bend, -1, 1)).astype(np.uint8))
    facts = {
        "vertices": len(points),
        "faces": len(faces),
        "proteins": len(proteins_nm),
        "low": [float(v) for v in low[::-1]],
        "high": [float(v) for v in high[::-1]],
        "box": list(box_nm[::-1]),
        "sd_top_nm": top_nm,
        "curvature_top_per_nm": bend,
        "membranes": [[s.number, len(s.vertices), len(s.faces)] for s in thin],
    }
    return Scene(zlib.compress(b"".join(column.tobytes() for column in columns), 9), facts)


def _within(surfaces: Sequence[Surface], most_faces: int) -> list[Surface]:
    """Thin all surfaces by one grid until they fit, so that none is finer than another."""
    thin, found = list(surfaces), sum(len(s.faces) for s in surfaces)
    if found <= most_faces and sum(len(s.vertices) for s in surfaces) < _MOST_VERTICES:
        return thin
    area = sum(_area(s) for s in surfaces)
    # A grid of cells h is passed in about 1.5 A / h^2 cells, each a vertex and so two faces.
    cell_nm = math.sqrt(3.0 * max(area, 1e-6) / most_faces)
    while True:
        thin = [cluster(surface, cell_nm) for surface in surfaces]
        faces, vertices = sum(len(s.faces) for s in thin), sum(len(s.vertices) for s in thin)
        if faces <= most_faces and vertices < _MOST_VERTICES:
            return thin
        cell_nm *= 1.15


def _area(surface: Surface) -> float:
    a, b, c = (surface.vertices[surface.faces[:, corner]] for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum(dtype=np.float64) / 2)


def _stored(points: NDArray[np.floating], low: NDArray[np.floating], high: NDArray[np.floating]) -> NDArray[np.int64]:
    """(n, 3) x, y, z as whole numbers up to 65535."""
    span = np.maximum(high - low, 1e-9)
    return np.rint((points - low) / span * _COORDINATES).astype(np.int64)[:, ::-1]


def _differences(values: NDArray[np.integer]) -> NDArray[np.uint16]:
    return np.diff(values.astype(np.int64), prepend=0).astype("<u2")


def _ordered(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """Turn each face so that its smallest corner comes first, and sort: what compresses best; z, y, x to x, y, z."""
    turned = np.take_along_axis(faces, (np.argmin(faces, axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    # Swapping two axes is a reflection, and so is swapping two corners.
    return turned[np.lexsort(turned.T[::-1])][:, [0, 2, 1]].astype(np.int64)
