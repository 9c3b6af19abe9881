"""Proteins and the membrane they are nearest to: how far, on which side, pointing where, and how they are spread.

    distance = |p - f|,   side = sign((p - f) . n),   on the membrane: distance <= radius + thickness / 2

f is the point of the surface nearest to the protein's centre p, n the surface's normal there, turned to the side that
p is on. The radius of a protein is that of the ball with its volume, (3 V / 4 pi)^(1/3). Density, neighbours and
pairs (`cryoscale.measure.proteins.pattern`) are of the proteins that are on the membrane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.proteins.foot import Feet, nearest_feet
from cryoscale.measure.proteins.geodesic import Sheet
from cryoscale.measure.proteins.pattern import PairStatistics, nearest_neighbours, pair_statistics

__all__ = ["Placed", "Spread", "ball_radius", "place", "spread"]


@dataclass(frozen=True)
class Placed:
    """n proteins and the membrane they are nearest to; lengths in the unit of the mesh."""

    feet: Feet
    normal: NDArray[np.float64]
    """(n, 3) unit normal at the foot, z, y, x, to the protein's side."""
    outside: NDArray[np.bool_]
    """(n,) on the side that the surface's own normals point to."""
    on: NDArray[np.bool_]
    """(n,) on the membrane."""


@dataclass(frozen=True)
class Spread:
    """The k proteins that are on one membrane."""

    area: float
    """Of the membrane, in the mesh's unit squared."""
    nearest: NDArray[np.float64]
    """(k,) distance along the surface to the nearest other one; infinite where there is none."""
    other: NDArray[np.int64]
    """(k,) which of them, -1 where there is none."""
    pairs: PairStatistics | None
    """None for fewer than 5."""


def ball_radius(volume: NDArray[np.floating]) -> NDArray[np.float64]:
    """Radius of the ball of each volume."""
    return np.cbrt(3.0 * volume.astype(np.float64) / (4.0 * np.pi))


def place(
    centres: NDArray[np.floating],
    radii: NDArray[np.floating],
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    normals: NDArray[np.floating],
    *,
    thickness: float,
) -> Placed:
    """Place proteins on the mesh of their membrane.

    Parameters
    ----------
    centres : (n, 3) array
        z, y, x.
    radii : (n,) array
    vertices, faces, normals : arrays
        The mesh, in the same unit; normals are of the vertices.
    thickness : float
        Of the membrane.
    """
    feet = nearest_feet(centres, vertices, faces)
    normal = feet.interpolate(normals, faces)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # Opposite normals of a fold's two sides may cancel between them: then the triangle's own.
    a, b, c = (vertices[faces[feet.face, corner]].astype(np.float64) for corner in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(float).tiny)
    normal = np.where(length > 0.1, normal / np.maximum(length, 0.1), flat)
    outside = ((centres - feet.position) * normal).sum(axis=1) >= 0
    on = feet.distance <= radii + thickness / 2
    return Placed(feet, np.where(outside[:, None], normal, -normal), outside, on)


def spread(
    placed: Placed,
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    radii: Sequence[float],
    *,
    simulations: int,
    seed: int | Sequence[int],
) -> Spread:
    """Say how the proteins on a membrane lie to each other, at the given radii along the surface."""
    sheet, feet = Sheet.of(vertices, faces), placed.feet.take(placed.on)
    nearest, other = nearest_neighbours(sheet, feet, radii[0])
    pairs = pair_statistics(sheet, feet, radii, simulations=simulations, seed=seed)
    return Spread(float(sheet.face_areas().sum()), nearest, other, pairs)
