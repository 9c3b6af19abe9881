r"""Whether a posterior is as certain as it should be: left-out blocks of its own data tell.

With C = K + noise, a block B of constraints is predicted from all others with residual and covariance

    r_B = ((C^-1)_BB)^-1 (C^-1 y)_B,     cov r_B = ((C^-1)_BB)^-1

(the block form of leave-one-out; S. Sundararajan & S. S. Keerthi, Neural Comput. 13 (2001) 1103). A block is all
constraints within `BLOCK_CELLS` control-point distances of one surface point, so that what predicts that point is
farther away than its neighbours, as in a hole or a cap. With z its residual over the predicted standard deviation,
the scale c = sqrt(mean z^2) makes left-out points as uncertain as they proved to be. Scaling kernel and noise by c^2
alike changes no mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["BLOCK_CELLS", "block_scale"]

Array = NDArray[np.float64]
BLOCK_CELLS = 1.7
BLOCKS = 120
LARGEST_Z = 3.0
"""Residuals beyond are outliers, which say nothing about the others."""
BOUNDS = (0.6, 1.6)
"""A hundred correlated residuals do not show more than that."""


def block_scale(points: Array, surface: int, alpha: Array, lower_inverse: Array, *, radius: float) -> float:
    """Return the factor c on the posterior's standard deviations.

    Parameters
    ----------
    points
        (n, 3) constraints, the first ``surface`` of them on the surface, in voxels.
    alpha, lower_inverse
        C^-1 y (n,) and L^-1 (n, n), C = L L^T.
    radius
        Of a block, in voxels.
    """
    tree = cKDTree(points)
    left: list[float] = []
    for centre in np.unique(np.linspace(0, surface - 1, min(surface, BLOCKS)).round().astype(int)):
        block = np.array(sorted(tree.query_ball_point(points[centre], radius)))
        if len(block) > len(points) // 2:
            continue
        columns = lower_inverse[:, block]
        covariance = np.linalg.inv(columns.T @ columns)
        place = int(np.searchsorted(block, centre))
        left.append(float(covariance[place] @ alpha[block] / np.sqrt(covariance[place, place])))
    if len(left) < 10:
        return 1.0
    z = np.clip(left, -LARGEST_Z, LARGEST_Z)
    return float(np.clip(np.sqrt((z * z).mean()), *BOUNDS))
