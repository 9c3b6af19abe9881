"""What is near what: neighbouring membranes, and the membrane nearest to each protein.

distance(A, B) = min over vertices a of A, b of B of |a - b|

between the vertices of meshes whose edges are about one voxel, so it is too large by at most about half a voxel; a
distance is from mid-surface to mid-surface (or from a protein's centre to the mid-surface).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["box_pairs", "nearest_surface", "smallest_distance"]


def smallest_distance(a: NDArray[np.floating], b: NDArray[np.floating], limit: float) -> float | None:
    """Smallest distance between two sets of (n, 3) points, None where it is above `limit`; one unit for all."""
    low, high = a.min(axis=0) - limit, a.max(axis=0) + limit
    # Of two large membranes mostly a small part is near the other's box; one ulp wider, for sums that round.
    near = b[((b >= np.nextafter(low, -np.inf)) & (b <= np.nextafter(high, np.inf))).all(axis=1)]
    if not len(near):
        return None
    distance = float(cKDTree(a).query(near, distance_upper_bound=np.nextafter(limit, np.inf))[0].min())
    return distance if distance <= limit else None


def box_pairs(low: NDArray[np.floating], high: NDArray[np.floating], limit: float) -> list[tuple[int, list[int]]]:
    """Pairs of boxes that come within `limit` of each other, the candidates for neighbours.

    Parameters
    ----------
    low, high : (n, 3) arrays
        Corners of the boxes.
    limit : float
        In the unit of the corners.

    Returns
    -------
    list
        For each box that has any, its row and the later rows it pairs with, ascending.
    """
    pairs = []
    for row in range(len(low)):
        gap = np.maximum(low[row + 1 :] - high[row], low[row] - high[row + 1 :]).clip(min=0)
        near = np.flatnonzero(np.linalg.norm(gap, axis=1) <= limit) + row + 1
        if len(near):
            pairs.append((row, [int(other) for other in near]))
    return pairs


def nearest_surface(
    points: NDArray[np.floating], surfaces: Iterable[tuple[int, NDArray[np.floating]]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance and number of the surface nearest to each point.

    Parameters
    ----------
    points : (p, 3) array
    surfaces : iterable of (number, (n, 3) vertices)
        Taken one at a time; of equally near ones the smaller number wins.

    Returns
    -------
    distance : (p,) array
        Infinite where there are no surfaces.
    number : (p,) array
        0 where there are no surfaces.
    """
    distance, number = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    for candidate, vertices in surfaces:
        found = cKDTree(vertices).query(points)[0] if len(points) else distance
        better = (found < distance) | ((found == distance) & np.isfinite(found) & (candidate < number))
        distance[better], number[better] = found[better], candidate
    return distance, number
