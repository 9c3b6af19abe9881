"""What others would fit to the same points: the paper's convention, SciPy's radial basis functions, screened Poisson.

Each gets what our fit made of the raw points (selection, control points, signed pairs, normals): on the raw cloud 2 %
of outliers ruin them all. Peers that are not installed give None; nothing of the project depends on them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import distance_transform_edt, label, map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from cryoscale.fit import evaluate
from cryoscale.fit.covariance import Kernel, covariance
from cryoscale.fit.prepare import Prepared
from tests.fit.shapes import Shape

__all__ = [
    "Field",
    "dice",
    "optional",
    "paper_field",
    "poisson_surface",
    "rbf_field",
    "sampled",
    "shell_of",
    "zero_surface",
]

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
PACKAGES = ("gpytorch", "pymeshlab", "scikit-learn", "scipy")
ALPHA = 1.2
JITTER = 1e-4
POISSON_DEPTH = 7
ZERO_STEP = 3.0


def optional(name: str) -> ModuleType | None:
    """Import a peer, or return None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def peer_versions() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def paper_field(prepared: Prepared) -> Field:
    """Return the field of the paper's anchors (section 5.2), with the corrected kernel."""
    control = prepared.constraints.points[: prepared.constraints.surface]
    centre = control.mean(0)
    x = np.concatenate([control, centre + ALPHA * (control - centre), centre[None]])
    y = np.concatenate([np.zeros(len(control)), np.ones(len(control)), np.zeros(1)])
    diagonal = float(np.linalg.norm(np.ptp(x, axis=0) + 2 * prepared.radius))
    kernel = Kernel("cubic", 1.0, 1.5 * diagonal)
    matrix = covariance(kernel, x - centre, x - centre, np)
    weights = np.asarray(cho_solve(cho_factor(matrix + JITTER * np.eye(len(x))), y))
    return lambda q: evaluate.field(kernel, x, weights, q)


def rbf_field(prepared: Prepared) -> Field:
    """Return SciPy's cubic radial basis functions on our constraints."""
    c = prepared.constraints
    model = RBFInterpolator(c.points, c.values, kernel="cubic", smoothing=1.0)
    return lambda q: np.concatenate([model(part) for part in np.array_split(q, max(1, len(q) // 2_000))])


def poisson_surface(prepared: Prepared) -> Array | None:
    """Return points on the screened Poisson surface of the selected raw points.

    Every raw point gets the oriented normal of its nearest control point.
    """
    meshlab = optional("pymeshlab")
    if meshlab is None:
        return None
    raw = prepared.selection.points
    control = prepared.constraints.points[: prepared.constraints.surface]
    normals = prepared.normals[cKDTree(control).query(raw)[1]]
    scene = meshlab.MeshSet(verbose=False)
    scene.add_mesh(meshlab.Mesh(vertex_matrix=raw, v_normals_matrix=normals))
    scene.generate_surface_reconstruction_screened_poisson(depth=POISSON_DEPTH, threads=1)
    mesh = scene.current_mesh()
    vertices = np.asarray(mesh.vertex_matrix())
    return sampled(vertices, _supported_part(vertices, np.asarray(mesh.face_matrix()), raw))


def sampled(vertices: NDArray[np.floating], faces: NDArray[Any]) -> Array:
    """Return points on a mesh no more than half a voxel apart along any edge: a distance to them errs by under 0.05."""
    corners = vertices[faces]
    edge = np.ceil(2 * np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)).astype(int)
    found = [corners.reshape(-1, 3).astype(np.float64)]
    for parts in np.unique(edge):
        rows = corners[edge == parts]
        steps = [(i / parts, j / parts) for i in range(parts + 1) for j in range(parts + 1 - i)]
        found += [rows[:, 0] * (1 - u - v) + rows[:, 1] * u + rows[:, 2] * v for u, v in steps] if parts > 1 else []
    return np.concatenate(found)


def dice(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the overlap of two sets of voxels (n, 3)."""
    place = np.array([10**8, 10**4, 1])
    a, b = (left.astype(np.int64) + 2000) @ place, (right.astype(np.int64) + 2000) @ place
    return 2 * len(np.intersect1d(a, b)) / max(len(a) + len(b), 1)


def shell_of(field: Field, shape: Shape) -> NDArray[np.int64]:
    """Return the voxels within 1.5 of a field's zero set, its largest component, in the shape's box."""
    half = 2 * ((np.array(shape.half).astype(int) + 12) // 2)
    coarse = np.stack(np.meshgrid(*[np.arange(-h, h + 1, 2.0) for h in half], indexing="ij"), -1)
    grid = np.stack(np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij"), -1)
    known = field(coarse.reshape(-1, 3)).reshape(coarse.shape[:3])
    value = map_coordinates(known, (np.moveaxis(grid, -1, 0) + half[:, None, None, None]) / 2, order=3, mode="nearest")
    slope = np.sqrt(sum(g**2 for g in np.gradient(value)))
    near = np.abs(value) <= 1.5 * np.maximum(slope, 1e-12)
    labels, count = label(near, np.ones((3, 3, 3)))
    if not count:
        return np.zeros((0, 3), np.int64)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(grid[labels == largest])


@dataclass(frozen=True)
class _Grid:
    low: Array
    shape: tuple[int, ...]
    near: NDArray[np.bool_]


def zero_surface(field: Field, around: Array, data: Array, reach: float) -> Array:
    """Return points of a field's zero set within ``reach`` of given points, from a grid of 3 voxels.

    Of its components the one with most of its surface near the ``data`` is kept: others would only be near by chance.
    On a surface of radius 15 voxels linear interpolation over 3 voxels is wrong by at most 0.08 voxel.
    """
    grid = _grid_near(around, reach)
    values = np.zeros(grid.shape)
    values[grid.near] = field(np.argwhere(grid.near) * ZERO_STEP + grid.low)
    mask = np.zeros(grid.shape, bool)
    # scikit-image asks the mask at a cell's last corner.
    whole = np.ones(tuple(n - 1 for n in grid.shape), bool)
    for corner in np.ndindex(2, 2, 2):
        whole &= grid.near[tuple(slice(c, c + n) for c, n in zip(corner, whole.shape, strict=True))]
    mask[1:, 1:, 1:] = whole
    if not (values[grid.near].min() < 0 < values[grid.near].max()):
        return np.zeros((0, 3))
    found, faces, _, _ = marching_cubes(values, 0.0, mask=mask)
    vertices = np.asarray(found, np.float64) * ZERO_STEP + grid.low
    return sampled(vertices, _supported_part(vertices, faces, data))


def _supported_part(vertices: Array, faces: NDArray[Any], data: Array) -> NDArray[Any]:
    """Return the faces of the component with most vertices within 4 voxels of the data."""
    size = (len(vertices), len(vertices))
    edges = coo_matrix((np.ones(2 * len(faces), bool), (np.tile(faces[:, 0], 2), faces[:, 1:].T.ravel())), size)
    count, part = connected_components(edges, directed=False)
    near = cKDTree(data).query(vertices, distance_upper_bound=4.0)[0] < np.inf
    return np.asarray(faces[part[faces[:, 0]] == np.bincount(part, near, count).argmax()])


def _grid_near(around: Array, reach: float) -> _Grid:
    low = around.min(0) - reach
    shape = tuple((np.ceil((around.max(0) + reach - low) / ZERO_STEP).astype(int) + 1).tolist())
    empty = np.ones(shape, bool)
    empty[tuple(np.round((around - low) / ZERO_STEP).astype(int).T)] = False
    return _Grid(low, shape, distance_transform_edt(empty) <= reach / ZERO_STEP)
