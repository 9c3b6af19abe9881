"""Localisation by distance: predictions matched one to one with true particles, and CZII's F-beta.

F-beta = (1 + beta^2) TP / ((1 + beta^2) TP + beta^2 FN + FP)

`match_positions` pairs predictions and particles that are within the particle's radius of each other, so that as many
pairs as possible are made and, of all such pairings, the sum of distance over radius is smallest: no prediction counts
twice, and no order of the file decides. The pairs in question are sparse, and so is what is solved (R. Jonker and
A. Volgenant's shortest augmenting paths, as SciPy has them): never a table of all predictions by all particles.

`count_within` counts as the CZII challenge of 2024 does: TP is the number of particles with any prediction of their
class within half their radius, FP is what is left of the predictions, so a second prediction on a particle costs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from cryoscale.evaluate.overlap import Counts

__all__ = ["CZII_RADIUS_AND_WEIGHT", "count_within", "f_beta", "match_positions"]

CZII_RADIUS_AND_WEIGHT = {
    "apo-ferritin": (60.0, 1.0),
    "beta-amylase": (65.0, 0.0),
    "beta-galactosidase": (90.0, 2.0),
    "ribosome": (150.0, 1.0),
    "thyroglobulin": (130.0, 2.0),
    "virus-like-particle": (135.0, 1.0),
}
"""Radius in ångström and weight of the challenge's classes."""


def match_positions(
    truth: NDArray[np.floating], radius: NDArray[np.floating], prediction: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Match predictions with true particles, one to one.

    Parameters
    ----------
    truth : (n, 3) array
        Centres of the particles.
    radius : (n,) array
        How far a prediction of each may be, that distance included; positive.
    prediction : (m, 3) array
        In the same unit.

    Returns
    -------
    true, predicted : (k,) arrays
        Rows of the pairs, by particle.
    distance : (k,) array
    """
    rows, columns, distance = _candidates(truth, radius, prediction)
    if not len(rows):
        return rows, columns, distance
    # Only those in question take part. A dummy for each particle, dearer than all pairs together, makes sure that a
    # full matching exists and that as many real pairs as possible are in it.
    partners, column = np.unique(columns, return_inverse=True)
    particles, row = np.unique(rows, return_inverse=True)
    count = len(particles)
    cost = np.concatenate([1.0 + distance / radius[rows], np.full(count, 2.0 * count + 2.0)])
    start = np.concatenate([row, np.arange(count)])
    end = np.concatenate([column, len(partners) + np.arange(count)])
    graph = csr_array(coo_array((cost, (start, end)), shape=(count, len(partners) + count)))
    chosen, partner = min_weight_full_bipartite_matching(graph)
    real = partner < len(partners)
    true, predicted = particles[chosen[real]], partners[partner[real]]
    return true, predicted, np.linalg.norm(truth[true] - prediction[predicted], axis=1)


def _candidates(
    truth: NDArray[np.floating], radius: NDArray[np.floating], prediction: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows, columns and distances of the pairs within the radius."""
    if not len(truth) or not len(prediction):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    near = cKDTree(prediction).query_ball_point(truth, np.nextafter(radius * (1 + 1e-12), np.inf))
    rows = np.repeat(np.arange(len(truth)), [len(found) for found in near])
    columns = np.fromiter((column for found in near for column in found), np.int64, len(rows))
    distance = np.linalg.norm(truth[rows] - prediction[columns], axis=1)
    # The tree's own rounding must not decide what lies exactly on the radius.
    within = distance <= radius[rows]
    return rows[within], columns[within], distance[within]


def count_within(truth: NDArray[np.floating], reach: float, prediction: NDArray[np.floating]) -> Counts:
    """Count particles of one class as CZII does: found where any prediction is within `reach`, that included."""
    rows, _, _ = _candidates(truth, np.full(len(truth), reach), prediction)
    found = len(np.unique(rows))
    return Counts(found, len(prediction) - found, len(truth) - found)


def f_beta(counts: Counts, beta: float) -> float:
    """F-beta of counts, 0 to 1; NaN where there is neither a particle nor a prediction."""
    square = beta * beta
    weighted = (1 + square) * counts.true_positive
    whole = weighted + square * counts.false_negative + counts.false_positive
    return weighted / whole if whole else math.nan
