r"""Whether neighbourhoods of some size hold one sheet of a membrane, or facing sheets whose middle is neither.

Across two sheets g apart, with z the distances from the neighbourhood's middle, points have a standard deviation of
g / 2 and a kurtosis

    mean z^4 / (mean z^2)^2

near 1. One sheet has 2 along itself, 1.8 across where it bends, and 3 by its noise; a thick mask has 1.8. A place is
folded where along one of the principal directions the kurtosis is at most `MOST_KURTOSIS` and the standard deviation
at least `LEAST_SPREAD`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["folded"]

Array = NDArray[np.float64]
MOST_KURTOSIS = 1.5
LEAST_SPREAD = 1.8
"""Voxels: sheets nearer than 3.6 cannot be told apart by any neighbourhood."""
PLACES = 200
NEIGHBOURS = 16, 256
"""Fewest neighbours that tell, and about how many are looked at."""
MOST_FOLDED = 0.1
"""Share of the places that may be folded: sheets meet at folds and rims."""


def folded(points: Array, reach: float) -> bool:
    """Return whether facing sheets of points (n, 3) come within this reach of each other, in voxels."""
    tree = cKDTree(points)
    centres = points[:: -(-len(points) // PLACES)]
    double = 0
    for near in tree.query_ball_point(centres, reach):
        around = points[np.sort(near)[:: -(-len(near) // NEIGHBOURS[1])]]
        if len(around) >= NEIGHBOURS[0]:
            away = around - around.mean(0)
            squares, ways = np.linalg.eigh(away.T @ away / len(away))
            fourth = ((away @ ways) ** 4).mean(0)
            double += bool(((squares >= LEAST_SPREAD**2) & (fourth <= MOST_KURTOSIS * squares**2)).any())
    return double > MOST_FOLDED * len(centres)
