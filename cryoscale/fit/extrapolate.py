r"""How well a prior carries a surface beyond its data: sides of the points left out, and predicted from the rest.

The evidence judges a prior where points are dense; caps that nobody saw are another question. So sides of the points
are held out, B, with everything that belongs to them, and predicted from all others, with C = K + noise, by the block
form of leave-one-out (S. Sundararajan & S. S. Keerthi, Neural Comput. 13 (2001) 1103; prior mean included):

    f_B = y_B - ((C^-1)_BB)^-1 (C^-1 y)_B,     error = mean min(|f_i| / slope, 4 voxels)

over the surface points i of B, slope the least-squares slope of f over the values of B's pairs: a field that is nearly
flat there is not near the surface. Sides are the 15 % farthest along each direction of the axes, and the quarter of
the points that lie most to one side of their neighbours: the rim of what was seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["extrapolation_error", "sides"]

Array = NDArray[np.float64]
SIDE_SHARE = 0.15
RIM_SHARE = 0.25
RIM_NEIGHBOURS = 8
LEAST_HELD = 4
LARGEST_ERROR = 4.0
LEAST_SLOPE = 0.1
"""A field as flat as that has forgotten the surface, and its being about zero says nothing."""


def sides(points: Array, surface: int) -> list[tuple[NDArray[np.int64], int]]:
    """Return the sides that are held out.

    Parameters
    ----------
    points
        (n, 3) constraints, the first ``surface`` of them on the surface.

    Returns
    -------
    list
        Per side its rows, those on the surface first, and how many these are. A pair belongs to the side of the
        surface point nearest to it. None where there are too few points.
    """
    on = points[:surface]
    if surface <= RIM_NEIGHBOURS:
        return []
    tree = cKDTree(on)
    far, near = tree.query(on, k=RIM_NEIGHBOURS + 1)
    lean = np.linalg.norm(on[near[:, 1:]].mean(1) - on, axis=1) / far[:, 1:].mean(1)
    owner = tree.query(points[surface:])[1]
    ranks = [(lean, RIM_SHARE)]
    ranks += [(sign * on[:, axis], SIDE_SHARE) for axis in range(3) for sign in (1.0, -1.0)]
    found = []
    for rank, share in ranks:
        count = int(share * surface)
        held = np.zeros(surface, bool)
        held[np.argsort(-rank, kind="stable")[:count]] = True
        pairs = surface + np.flatnonzero(held[owner])
        if count >= LEAST_HELD and len(pairs) >= LEAST_HELD:
            found.append((np.concatenate([np.flatnonzero(held), pairs]), count))
    return found


def extrapolation_error(
    held: list[tuple[NDArray[np.int64], int]], values: Array, alpha: Array, lower_inverse: Array
) -> float:
    """Return the mean error, in voxels, of sides predicted from everything else; 0 where there are no sides.

    Parameters
    ----------
    held
        What `sides` returned.
    values
        (n,) of the constraints, the prior mean not taken off.
    alpha, lower_inverse
        C^-1 y (n,) and L^-1 (n, n), C = L L^T, y the values less the prior mean.
    """
    errors = []
    for rows, count in held:
        columns = lower_inverse[:, rows]
        field = values[rows] - np.linalg.solve(columns.T @ columns, alpha[rows])
        value = values[rows[count:]]
        slope = (value @ field[count:]) / (value @ value)
        far = np.abs(field[:count]) / slope if slope > LEAST_SLOPE else np.full(count, LARGEST_ERROR)
        errors.append(np.minimum(far, LARGEST_ERROR).mean())
    return float(np.mean(errors)) if errors else 0.0
