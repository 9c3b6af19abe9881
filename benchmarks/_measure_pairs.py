"""From inner membranes to outer ones: every distance of a run, against brute force.

Two searches that know nothing of our tree: over all vertices of the outer membranes, one by one, which gives distances
that are too large by what lies between vertices; and, of each inner vertex, over every triangle that could be nearer
than that nearest vertex (its centroid no farther than that, plus the largest triangle's radius), which is exact.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.io.meshes import read_ply
from cryoscale.io.tables import read_csv
from cryoscale.measure.nearest import TriangleTree
from cryoscale.spec import MeasureSpec

__all__ = ["inner_to_outer"]

Array = NDArray[np.float64]
_ROWS = 2000
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def inner_to_outer(folder: Path, inner: int, outer: int) -> list[dict[str, Any]]:
    """Return rows for ours and both searches, over inner vertices within the limit of the tables (60 nm)."""
    limit = MeasureSpec().distance_nm
    points, _ = _joined(folder, inner)
    vertices, faces = _joined(folder, outer)
    start = time.process_time()
    feet = TriangleTree.of(vertices, faces).nearest(points, limit)
    ours, spent = feet.distance, time.process_time() - start
    start = time.process_time()
    nearest = _nearest_vertex(points, vertices)
    over_vertices = time.process_time() - start
    rows = np.flatnonzero(nearest <= limit)
    start = time.process_time()
    exact = _over_triangles(points[rows], nearest[rows], vertices[faces])
    over_triangles = time.process_time() - start
    size = {"vertices": len(rows), "of": len(points), "triangles": len(faces)}
    found, within = np.abs(ours[rows] - exact), {"part": "inner to outer", **size}
    return [
        {**within, "who": "ours", "seconds": spent, **_quantiles(ours[rows]), "error": float(found.max())},
        {**within, "who": "brute force over triangles", "seconds": over_triangles, **_quantiles(exact)},
        {**within, "who": "brute force over vertices", "seconds": over_vertices, **_quantiles(nearest[rows]),
         "error": float((nearest[rows] - exact).max()), "nearer": int((nearest[rows] < exact - 1e-9).sum())},
    ]  # fmt: skip


def _joined(folder: Path, label: int) -> tuple[Array, NDArray[np.int64]]:
    """Vertices (nm) and faces of all membranes of a label."""
    meshes = [read_ply(folder / row["mesh"]) for row in read_csv(folder / "membranes.csv")
              if row["mesh"] and row["label"] == str(label)]  # fmt: skip
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces.astype(np.int64) + start for mesh, start in zip(meshes, first, strict=False)]
    return np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float64) / 10, np.concatenate(faces)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nearest_vertex(points: Array, vertices: Array) -> Array:
    """Distance of each point to the nearest vertex, by looking at each."""
    out = np.empty(len(points))
    for k in range(len(points)):
        z, y, x = points[k]
        least = np.inf
        for v in range(len(vertices)):
            square = (vertices[v, 0] - z) ** 2 + (vertices[v, 1] - y) ** 2 + (vertices[v, 2] - x) ** 2
            least = min(least, square)
        out[k] = np.sqrt(least)
    return out


def _over_triangles(points: Array, bound: Array, triangles: Array) -> Array:
    centroid = triangles.mean(axis=1)
    radius = np.linalg.norm(triangles - centroid[:, None], axis=2).max()
    tree, out = cKDTree(centroid), np.empty(len(points))
    for start in range(0, len(points), _ROWS):
        part = slice(start, start + _ROWS)
        listed = tree.query_ball_point(points[part], bound[part] + radius + 1e-9)
        counts = np.array([len(one) for one in listed])
        faces = np.concatenate([np.array(one, np.int64) for one in listed])
        spread = np.repeat(points[part], counts, axis=0)
        distance = np.linalg.norm(trimesh.triangles.closest_point(triangles[faces], spread) - spread, axis=1)
        out[part] = np.minimum.reduceat(distance, np.concatenate([[0], np.cumsum(counts)[:-1]]))
    return out


def _quantiles(values: Array) -> dict[str, float]:
    found = {f"p{100 * share:.0f}_nm": float(np.quantile(values, share)) for share in _SHARES}
    return {**found, "mean_nm": float(values.mean())}
