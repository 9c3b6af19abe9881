"""Closed and open shapes with known surfaces, and the ways a tomogram degrades them (z, y, x; z is the beam)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

Array = NDArray[np.float64]

__all__ = [
    "SHAPES",
    "Shape",
    "beyond_rim",
    "degrade",
    "dome_points",
    "rim_points",
    "sphere_points",
    "surface_points",
    "truth_shell",
]


STRIP = 6.0
"""Width beyond a rim from which places walk to it, in voxels."""
WALK, ON_RIM = 40, 1e-3
"""Steps of that walk, and how near to the surface it must end, in voxels."""
RIM_PIECES = 7


@dataclass(frozen=True)
class Shape:
    """An implicit surface: about the signed distance at places (m, 3), and the half box that holds it."""

    field: Callable[[Array], Array]
    half: tuple[float, float, float]
    closed: bool = True

    def distance(self, q: Array) -> Array:
        """Return the first-order distance, exact near the surface."""
        g = self.gradient(q)
        return np.asarray(self.field(q) / np.maximum(np.linalg.norm(g, axis=1), 1e-9))

    def gradient(self, q: Array) -> Array:
        """Return the gradient of the field by central differences."""
        e = 1e-3 * np.eye(3)
        return np.stack([(self.field(q + e[a]) - self.field(q - e[a])) / 2e-3 for a in range(3)], 1)

    def foot(self, q: Array, steps: int = 4) -> Array:
        """Return the places on the surface, whole or continued beyond its rim, next to places (m, 3)."""
        for _ in range(steps):
            g = self.gradient(q)
            q = q - (self.field(q) / np.maximum((g * g).sum(1), 1e-12))[:, None] * g
        return q


def _ellipsoid(q: Array) -> Array:
    axes = np.array([28.0, 32.0, 40.0])
    g = np.sqrt(((q / axes) ** 2).sum(1))
    return np.asarray((g - 1) * 28.0)


def _bumpy(q: Array) -> Array:
    r = np.maximum(np.linalg.norm(q, axis=1), 1e-6)
    z, y, x = (q / r[:, None]).T
    b = x**3 - 3 * x * y**2 + 1.8 * x * z**2 + 1.6 * y**3 * z - 0.8 * x * y * z + 0.35 * y * (3 * z**2 - 1)
    return np.asarray(r - 34 * (1 + 0.10 * b))


def _peanut(q: Array) -> Array:
    a = np.linalg.norm(q - np.array([4.0, 0.0, -20.0]), axis=1) - 24.0
    b = np.linalg.norm(q - np.array([-4.0, 0.0, 20.0]), axis=1) - 20.4
    return np.asarray(-6 * np.logaddexp(-a / 6, -b / 6))


def _banana(q: Array) -> Array:
    z, y, x = q[:, 0] * 0.85, q[:, 1], q[:, 2]
    angle = np.clip(np.arctan2(y, x), -np.deg2rad(115), np.deg2rad(115))
    return np.asarray(np.sqrt((x - 30 * np.cos(angle)) ** 2 + (y - 30 * np.sin(angle)) ** 2 + z**2) - 13.0)


def _sheet(q: Array) -> Array:
    z, y, x = q.T
    return np.asarray(x - (7 * np.sin(2 * np.pi * y / 170 + 0.4) + 0.004 * z**2 + 0.1 * z))


SHAPES = {
    "ellipsoid": Shape(_ellipsoid, (31, 35, 43)),
    "bumpy": Shape(_bumpy, (44, 44, 44)),
    "peanut": Shape(_peanut, (34, 32, 50)),
    "banana": Shape(_banana, (19, 47, 47)),
    "sheet": Shape(_sheet, (40, 60, 30), closed=False),
}


def surface_points(shape: Shape, density: float, rng: np.random.Generator) -> Array:
    """Return points spread uniformly over the surface, ``density`` per square voxel."""
    half = np.array(shape.half)
    size = (2 * half).astype(int) + 1
    grid = np.stack(np.meshgrid(*[np.arange(s) for s in size], indexing="ij"), -1).reshape(-1, 3) - half
    vertices, faces, _, _ = marching_cubes(shape.field(grid).reshape(size), 0.0)
    corners = (vertices - half)[faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    count = rng.poisson(density * area.sum())
    face = rng.choice(len(faces), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    share = np.stack([1 - u, u * (1 - v), u * v], 1)
    q = (corners[face] * share[..., None]).sum(1)
    return shape.foot(q, 2)


def rim_points(shape: Shape, *, density: float = 8.0, seed: int = 0) -> Array:
    """Return places along the rim of an open shape, which is where its surface meets its half box.

    Places beyond the rim walk there: into the box, back onto the surface, and so on.
    """
    half = np.array(shape.half)
    wider = replace(shape, half=tuple((half + STRIP).tolist()))
    q = surface_points(wider, density, np.random.default_rng(seed))
    q = q[(np.abs(q) > half).any(1)]
    for _ in range(WALK):
        q = np.clip(shape.foot(q, 1), -half, half)
    return q[np.abs(shape.distance(q)) < ON_RIM]


def beyond_rim(shape: Shape, rim: Array, q: Array) -> Array:
    """Return how far (m,) the surface's places next to q (m, 3) lie beyond its rim, 0 inside it.

    The rim is what `rim_points` returned, taken as the short straight pieces between neighbours. Random points of the
    surface itself would not do: at 4 a square voxel the outermost lie 0.2 voxel within the rim, some of them 0.9.
    """
    foot = shape.foot(q)
    near = rim[cKDTree(rim).query(foot, k=RIM_PIECES + 1)[1]]
    along, across = near[:, 1:] - near[:, :1], foot[:, None] - near[:, :1]
    share = (along * across).sum(2) / np.maximum((along * along).sum(2), 1e-12)
    far = np.linalg.norm(across - np.clip(share, 0, 1)[..., None] * along, axis=2).min(1)
    return np.asarray(np.where((np.abs(foot) <= np.array(shape.half)).all(1), 0.0, far))


def degrade(
    shape: Shape,
    *,
    seed: int,
    cap: float = 0.7,
    noise: float | tuple[float, float, float] = 0.5,
    holes: int = 6,
    outliers: float = 0.02,
    density: float = 0.43,
    hole_radius: tuple[float, float] = (5.7, 9.8),
) -> tuple[Array, Array]:
    """Return the degraded cloud (n, 3) and the clean points that it came from (before noise and outliers).

    Points with |n_z| >= ``cap`` are removed (not for an open sheet), then holes, then noise, of one standard deviation
    or of one along each axis, and outliers are added.
    """
    rng = np.random.default_rng(seed)
    q = surface_points(shape, density, rng)
    if shape.closed:
        g = shape.gradient(q)
        q = q[np.abs(g[:, 0]) / np.linalg.norm(g, axis=1) < cap]
    centres = q[rng.integers(len(q), size=holes)]
    for centre in centres:
        q = q[np.linalg.norm(q - centre, axis=1) > rng.uniform(*hole_radius)]
    cloud = q + rng.normal(0, noise, q.shape)
    low, high = q.min(0) - 10, q.max(0) + 10
    return np.concatenate([cloud, rng.uniform(low, high, (round(outliers * len(q)), 3))]), q


def truth_shell(shape: Shape, thickness: float = 3.0, margin: int = 12) -> NDArray[np.int64]:
    """Return the voxels (m, 3) within half a thickness of the true surface."""
    half = np.array(shape.half).astype(int) + (margin if shape.closed else 0)
    grid = np.stack(np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij"), -1).reshape(-1, 3)
    coarse = np.abs(shape.field(grid.astype(float))) < 4 * thickness
    grid = grid[coarse]
    return np.asarray(grid[np.abs(shape.distance(grid.astype(float))) <= thickness / 2])


def sphere_points(radius: float, count: int, *, seed: int, cap: float = 2.0, noise: float = 0.0) -> Array:
    """Return points on a sphere, those with |n_z| >= ``cap`` left out."""
    rng = np.random.default_rng(seed)
    n = rng.normal(size=(count, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    n = n[np.abs(n[:, 0]) < cap]
    return np.asarray(radius * n + rng.normal(0, noise, n.shape) if noise else radius * n)


def dome_points(radius: float, count: int, *, seed: int, lowest: float = 0.0, noise: float = 0.0) -> Array:
    """Return points on the part of a sphere with n_z > ``lowest``."""
    q = sphere_points(radius, count, seed=seed, noise=noise)
    return q[q[:, 0] > lowest * radius]
