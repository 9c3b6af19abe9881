r"""What the field must be where: zero at control points, signed distances beside them.

    f(p_i) = 0         with noise sd 1 voxel / sqrt(min(w_i, 9)),   w_i the raw points merged into p_i
    f(p_i +- h n_i) = +-h   with noise sd h / 4,   h = min(8 voxels, 0.35 radius)

for every control point and about one pair per three of them. A pair that comes nearer to another sheet than to its own
is shortened until it does not. The pairs give the field its sign and its slope, so that its values are distances, and
they give open sheets a surface too; the paper's centroid anchors do neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Constraints", "signed_pairs", "subset"]

Array = NDArray[np.float64]
LONGEST_PAIR = 8.0
PAIR_SHARE = 0.35
SHORTEST_PAIR = 1.5
PAIR_NOISE = 0.25
"""Noise of a pair's value over its length: sd 2 at 8 voxels."""
MOST_MERGED = 9.0


@dataclass(frozen=True)
class Constraints:
    """Places (n, 3), values (n,) and noise standard deviations (n,), in voxels; the first ``surface`` lie on it."""

    points: Array
    values: Array
    noise: Array
    surface: int


def signed_pairs(points: Array, weights: Array, normals: Array, *, radius: float, spacing: float) -> Constraints:
    """Build the constraints of one membrane.

    Parameters
    ----------
    points, weights, normals
        Control points (m, 3), raw points each stands for (m,), oriented unit normals (m, 3).
    radius
        Size of the object, in voxels.
    spacing
        Typical distance between control points: pairs sit about 1.7 times as far apart.
    """
    chosen = _spread(points, 1.73 * spacing)
    reach = min(LONGEST_PAIR, PAIR_SHARE * radius)
    tree = cKDTree(points)
    places, values = [], []
    for side in (1.0, -1.0):
        length = np.full(len(chosen), reach)
        for _ in range(8):
            place = points[chosen] + side * length[:, None] * normals[chosen]
            crowded = tree.query(place)[0] < 0.85 * length
            if not crowded.any():
                break
            length[crowded] *= 0.8
        fine = length >= min(SHORTEST_PAIR, reach)
        places.append(place[fine])
        values.append(side * length[fine])
    value = np.concatenate(values)
    noise = np.concatenate([1 / np.sqrt(np.clip(weights, 1, MOST_MERGED)), PAIR_NOISE * np.abs(value)])
    return Constraints(
        np.concatenate([points, *places]), np.concatenate([np.zeros(len(points)), value]), noise, len(points)
    )


def subset(constraints: Constraints, most: int, seed: int) -> Constraints:
    """Return about ``most`` of the constraints, surface points and pairs in their proportion, drawn by ``seed``."""
    n = len(constraints.points)
    if n <= most:
        return constraints
    rng = np.random.default_rng(seed)
    surface = round(most * constraints.surface / n)
    first = rng.permutation(constraints.surface)[:surface]
    rest = constraints.surface + rng.permutation(n - constraints.surface)[: most - surface]
    keep = np.sort(np.concatenate([first, rest]))
    return Constraints(
        constraints.points[keep],
        constraints.values[keep],
        constraints.noise[keep],
        int((keep < constraints.surface).sum()),
    )


def _spread(points: Array, cell: float) -> NDArray[np.int64]:
    """Return the numbers of points nearest to the middle of each cell of a grid."""
    index = np.floor((points - points.min(0)) / cell + 0.5).astype(np.int64)
    _, where = np.unique(index, axis=0, return_inverse=True)
    where = where.ravel()
    count = np.bincount(where)
    means = np.stack([np.bincount(where, points[:, a]) / count for a in range(3)], 1)
    far = ((points - means[where]) ** 2).sum(1)
    order = np.lexsort((far, where))
    first = np.concatenate([[True], where[order][1:] != where[order][:-1]])
    return np.sort(order[first])
