"""What may be near what: membranes whose boxes come close, and the membrane nearest to each protein.

distance(p, B) = min over vertices b of B of |p - b|

of meshes whose edges are about one voxel, so it is too large by at most about half a voxel: enough to tell which
membrane a protein belongs to, whose distance to it is then exact (`proteins.foot`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["box_pairs", "nearest_surface"]


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
