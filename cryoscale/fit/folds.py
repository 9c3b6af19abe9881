r"""Whether neighbourhoods of some size hold one sheet of a membrane, or facing sheets whose middle is neither.

Across two sheets g apart, with z the distances from the neighbourhood's middle, points have a standard deviation of
g / 2 and a kurtosis

    mean z^4 / (mean z^2)^2

near 1. One sheet has 2 along itself, 1.8 across where it bends, and 3 by its noise; a thick mask has 1.8. A place is
folded where along one of the principal directions the kurtosis is at most `MOST_KURTOSIS` and the standard deviation
at least `LEAST_SPREAD`; or, of three sheets and more, which are as a thick mask is, where `EMPTY` voxels along it hold
no point between a tenth of them on either side. Smaller neighbourhoods are looked at as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["folded"]

Array = NDArray[np.float64]
MOST_KURTOSIS = 1.5
LEAST_SPREAD = 1.8
"""Voxels: of sheets 3.6 apart; nearer ones are not looked for."""
PLACES = 64
NEIGHBOURS = 16, 256
"""Fewest neighbours that tell, and about how many are looked at."""
MOST_FOLDED = 0.1
"""Share of the places that may be folded: sheets meet at folds and rims."""
EMPTY, MANY = 2.5, 64
"""How wide an empty layer must be, in voxels, and how many neighbours make one more than chance."""
SMALLER, LEAST_REACH = 0.6, 4.0
"""Ratio of the neighbourhoods that are looked at, and the least, in voxels."""


def folded(points: Array, reach: float) -> bool:
    """Return whether facing sheets of points (n, 3) come within this reach of each other, in voxels."""
    tree, centres = cKDTree(points), points[:: -(-len(points) // PLACES)]
    while reach >= LEAST_REACH:
        if _share_double(tree, centres, reach) > MOST_FOLDED:
            return True
        reach *= SMALLER
    return False


def _share_double(tree: cKDTree, centres: Array, reach: float) -> float:
    """Return the share of places (m, 3) with two sheets around them."""
    points, double = np.asarray(tree.data), 0
    for near in tree.query_ball_point(centres, reach):
        around = points[np.sort(near)[:: -(-len(near) // NEIGHBOURS[1])]]
        if len(around) >= NEIGHBOURS[0]:
            away = around - around.mean(0)
            squares, ways = np.linalg.eigh(away.T @ away / len(away))
            height = np.sort(away @ ways, axis=0)
            wide = (squares >= LEAST_SPREAD**2) & ((height**4).mean(0) <= MOST_KURTOSIS * squares**2)
            inner = height[len(height) // 10 : -(len(height) // 10)]
            double += bool(wide.any() or (len(height) >= MANY and (np.diff(inner, axis=0) >= EMPTY).any()))
    return double / len(centres)
