r"""What the field must be where: about zero at control points, signed distances beside them.

    f(p_i) = b_i            with the noise measured at p_i (see `noise`), shared by neighbours as exp(-r / 0.45 cell)
    f(p_i +- h n_i) = +-h + b_i   with noise sd h / 4,   h = min(8 voxels, 0.35 radius)

b_i is how far outward of the surface p_i is expected (see `systematic`), 0 where nothing is known. Noise is shared
because control points a cell apart are made from common raw points; cells that a sheet just touches lie nearer still,
and would say the same thing twice.

for every control point and about one pair per three of them. A pair that comes nearer to another sheet than to its own
is shortened until it does not. The pairs give the field its sign and its slope, so that its values are distances, and
they give open sheets a surface too; the paper's centroid anchors do neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Constraints", "innermost", "signed_pairs", "subset", "within"]

Array = NDArray[np.float64]
LONGEST_PAIR = 8.0
PAIR_SHARE = 0.35
SHORTEST_PAIR = 1.5
PAIR_NOISE = 0.25
"""Noise of a pair's value over its length: sd 2 at 8 voxels."""
SHARED_CELLS = 0.45
"""Distance over which control points share their noise, over their own distance."""


@dataclass(frozen=True)
class Constraints:
    """Places (n, 3), values (n,) and noise standard deviations (n,), in voxels; the first ``surface`` lie on it."""

    points: Array
    values: Array
    noise: Array
    surface: int
    reach: float = 0.0
    """Distance over which the noise of surface points is shared, in voxels; 0 where every point errs alone."""


def signed_pairs(
    points: Array, noise: Array, normals: Array, *, radius: float, spacing: float, shift: Array | None = None
) -> Constraints:
    """Build the constraints of one membrane.

    Parameters
    ----------
    points, noise, normals
        Control points (m, 3), the standard deviations (m,) of their positions, oriented unit normals (m, 3).
    radius
        Size of the object, in voxels.
    spacing
        Typical distance between control points: pairs sit about 1.7 times as far apart.
    shift
        (m,) how far outward of the surface the control points are expected.
    """
    chosen = _spread(points, 1.73 * spacing)
    reach = min(LONGEST_PAIR, PAIR_SHARE * radius)
    tree = cKDTree(points)
    outward = np.zeros(len(points)) if shift is None else shift
    places, values, owners = [], [], []
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
        owners.append(chosen[fine])
    value = np.concatenate(values)
    return Constraints(
        np.concatenate([points, *places]),
        np.concatenate([outward, value + outward[np.concatenate(owners)]]),
        np.concatenate([noise, PAIR_NOISE * np.abs(value)]),
        len(points),
        SHARED_CELLS * spacing,
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
    return _kept(constraints, np.sort(np.concatenate([first, rest])))


def innermost(constraints: Constraints, most: int) -> Constraints:
    """Return the ``most`` constraints that are nearest to the surface point in their midst: as dense as all are."""
    on = constraints.points[: constraints.surface]
    middle = on[((on - on.mean(0)) ** 2).sum(1).argmin()]
    far = ((constraints.points - middle) ** 2).sum(1)
    return _kept(constraints, np.sort(np.argsort(far, kind="stable")[:most]))


def within(constraints: Constraints, keep: NDArray[np.bool_]) -> Constraints:
    """Return the constraints that are marked."""
    return _kept(constraints, np.flatnonzero(keep))


def _kept(constraints: Constraints, rows: NDArray[np.int64]) -> Constraints:
    points, values, noise = constraints.points[rows], constraints.values[rows], constraints.noise[rows]
    return Constraints(points, values, noise, int((rows < constraints.surface).sum()), constraints.reach)


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
