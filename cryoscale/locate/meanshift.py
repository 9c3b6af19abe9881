"""Mean shift: the places where the voxels of a clump are densest, one for each ball it is made of.

x <- sum_i w(|x - x_i|) x_i / sum_i w(|x - x_i|),   w(d) = exp(-2 d^2 / radius^2) up to d = 1.5 radius

(K. Fukunaga and L. Hostetler, IEEE Trans. Inf. Theory 21 (1975) 32; D. Comaniciu and P. Meer, IEEE TPAMI 24 (2002)
603.) A Gaussian of half the radius has one peak in a ball of that radius and two in a pair that touches. Walks start
from the clump's voxels thinned to a grid of half the radius; places nearer to each other than the radius are one,
the denser of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["assign", "modes"]

_REACH = 1.5
_STEPS = 200
_STILL = 1e-3
"""A walk is over when a step is shorter than this part of the radius."""


def modes(points: NDArray[np.integer], radius: float) -> NDArray[np.float64]:
    """Find the densest places of a clump of voxels.

    Parameters
    ----------
    points : (n, 3) array
        Voxels, in any order: it changes nothing.
    radius : float
        Of one ball, in voxels.

    Returns
    -------
    (k, 3) array
        At least one, the densest first.
    """
    ordered = points[np.lexsort(points.T[::-1])].astype(np.float64)
    cell = np.floor(ordered / max(radius / 2, 1.0)).astype(np.int64)
    _, first = np.unique(cell, axis=0, return_index=True)
    found, density = _walk(ordered, ordered[np.sort(first)], radius, _STEPS)
    return _apart(found, density, radius)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(
    points: NDArray[np.float64], start: NDArray[np.float64], radius: float, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Walk to the end and return the density there too; `points` are sorted by z: those in reach lie together."""
    found, density, reach = start.copy(), np.zeros(len(start)), _REACH * radius
    height = points[:, 0].copy()
    for row in range(len(found)):
        at = found[row]
        for _ in range(steps):
            low, high = np.searchsorted(height, at[0] - reach), np.searchsorted(height, at[0] + reach, side="right")
            total, z, y, x = 0.0, 0.0, 0.0, 0.0
            for k in range(low, high):
                square = (points[k, 0] - at[0]) ** 2 + (points[k, 1] - at[1]) ** 2 + (points[k, 2] - at[2]) ** 2
                if square <= reach * reach:
                    weight = np.exp(-2.0 * square / (radius * radius))
                    total += weight
                    z += weight * points[k, 0]
                    y += weight * points[k, 1]
                    x += weight * points[k, 2]
            moved = np.sqrt((z / total - at[0]) ** 2 + (y / total - at[1]) ** 2 + (x / total - at[2]) ** 2)
            at[0], at[1], at[2], density[row] = z / total, y / total, x / total, total
            if moved < _STILL * radius:
                break
    return found, density


def _apart(found: NDArray[np.float64], density: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Of places nearer to each other than the radius, the densest; ties by position."""
    # Rounded, for walks that end at one place end there within the tolerance only.
    order = np.lexsort((*np.round(found, 2).T[::-1], -np.round(density, 6)))
    kept: list[int] = []
    for row in order:
        if not kept or np.linalg.norm(found[kept] - found[row], axis=1).min() >= radius:
            kept.append(int(row))
    return found[kept]


def assign(points: NDArray[np.integer], centres: NDArray[np.floating]) -> NDArray[np.int64]:
    """(n,) row of the centre nearest to each voxel."""
    rows: NDArray[np.int64] = cKDTree(centres).query(points)[1].astype(np.int64)
    return rows
