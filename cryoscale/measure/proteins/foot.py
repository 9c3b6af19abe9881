"""Where a point meets a membrane: the nearest point of the mesh itself, not of its vertices.

foot = argmin over the triangles (a, b, c) of |p - (u a + v b + w c)|,   u + v + w = 1, none negative
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.nearest import TriangleTree

__all__ = ["Feet", "corner_table", "nearest_feet"]


@dataclass(frozen=True)
class Feet:
    """Points of a mesh, one for each point asked about."""

    face: NDArray[np.int64]
    """(n,) triangle the foot lies in."""
    weights: NDArray[np.float64]
    """(n, 3) shares of its corners, summing to 1."""
    position: NDArray[np.float64]
    """(n, 3) in the unit of the vertices."""
    distance: NDArray[np.float64]
    """(n,) from the point asked about."""

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Feet:
        """Return some of them, by row or mask."""
        return Feet(self.face[rows], self.weights[rows], self.position[rows], self.distance[rows])

    def interpolate(self, values: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, k) values of the vertices at the feet."""
        found: NDArray[np.float64] = np.einsum("nc,nck->nk", self.weights, values[faces[self.face]])
        return found


def corner_table(faces: NDArray[np.integer], vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces around each vertex: those of vertex v are ``around[start[v]:start[v + 1]]``."""
    corners = faces.ravel()
    around = np.argsort(corners, kind="stable") // 3
    return np.concatenate([[0], np.cumsum(np.bincount(corners, minlength=vertices))]), around


def nearest_feet(points: NDArray[np.floating], vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Feet:
    """Find the nearest point of a mesh for each of (n, 3) points; all in one unit.

    Raises
    ------
    ValueError
        If the mesh has no faces.
    """
    found = TriangleTree.of(vertices, faces).nearest(points)
    position = np.einsum("nc,nck->nk", found.weights, vertices.astype(np.float64)[faces[found.face]])
    return Feet(found.face, found.weights, position, found.distance)
