r"""Do two groupings agree, voxel by voxel? Adjusted Rand index and variation of information.

With :math:`n_{ij}` voxels in predicted instance i and true instance j, :math:`a_i` and :math:`b_j` the sums over j
and over i, n the sum of all, and :math:`\binom{m}{2}` pairs in m voxels:

.. math::

    \mathrm{ARI} = \frac{\sum_{ij} \binom{n_{ij}}{2} - E}{\tfrac12 (A + B) - E}, \quad A = \sum_i \binom{a_i}{2},
    \quad B = \sum_j \binom{b_j}{2}, \quad E = A B / \binom{n}{2}

    \mathrm{VI} = H(P | T) + H(T | P), \qquad
    H(P | T) = -\sum_{ij} \frac{n_{ij}}{n} \log_2 \frac{n_{ij}}{b_j}, \quad
    H(T | P) = -\sum_{ij} \frac{n_{ij}}{n} \log_2 \frac{n_{ij}}{a_i}

ARI (L. Hubert and P. Arabie, Comparing partitions, J. Classification 2 (1985) 193) asks how often two voxels that
belong together were put together: 1 is perfect, 0 is what chance gives, less is worse than chance. VI (M. Meilă,
Comparing clusterings, J. Multivariate Analysis 98 (2007) 873) is measured in bits, 0 is perfect, and its two halves
tell the two mistakes apart: H(P | T) grows when one membrane falls into pieces, H(T | P) when membranes are fused.

Instance matching (`instances`) sees only whether each membrane has one good partner; here a piece that is missing or
fused costs as much as its share of the voxels, whether or not it tips a match.

Voxels without truth (number 0) are left out: nobody knows which membrane they are. Voxels that have a truth but no
prediction count as one more predicted instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.evaluate.instances import Contingency

__all__ = ["Variation", "adjusted_rand_index", "variation_of_information"]


@dataclass(frozen=True)
class Variation:
    """Variation of information by its two halves, in bits."""

    split: float
    """H(P | T): membranes that fell into pieces; NaN where no voxel has a truth."""
    fused: float
    """H(T | P): membranes that became one; NaN where no voxel has a truth."""

    @property
    def total(self) -> float:
        """The variation of information: the sum of the halves, a distance between groupings."""
        return self.split + self.fused


def _sums(table: Contingency) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return voxels of each pair, of its predicted instance, and of its true instance; each (k,)."""
    known = table.truth > 0
    voxels = table.voxels[known].astype(np.float64)

    def whole(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        row = np.unique(numbers, return_inverse=True)[1]
        return np.bincount(row, voxels).astype(np.float64)[row]

    return voxels, whole(table.prediction[known]), whole(table.truth[known])


def adjusted_rand_index(table: Contingency) -> float:
    """Measure how often two voxels agree on belonging together, corrected for chance.

    Parameters
    ----------
    table : Contingency
        Voxels by pair of predicted and true instance; pairs with truth 0 are left out.

    Returns
    -------
    float
        At most 1; 1 where the groupings are the same, NaN where no voxel has a truth.

    Notes
    -----
    Hubert and Arabie 1985, eq. 5.

    Examples
    --------
    >>> from cryoscale.evaluate import contingency
    >>> adjusted_rand_index(contingency(np.array([7, 7, 8, 8]), np.array([1, 1, 2, 2])))
    1.0
    """
    both, predicted, true = _sums(table)
    n = both.sum()
    if not n:
        return math.nan
    # Each instance occurs once per pair that it is in: weighting with the pair's share counts it once.
    together = (both * (both - 1)).sum()
    a, b = (both * (predicted - 1)).sum(), (both * (true - 1)).sum()
    if a == b == together:
        return 1.0
    chance = a * b / (n * (n - 1))
    return float((together - chance) / ((a + b) / 2 - chance))


def variation_of_information(table: Contingency) -> Variation:
    """Measure what one grouping leaves unsaid of the other, split into its two mistakes.

    Parameters
    ----------
    table : Contingency
        Voxels by pair of predicted and true instance; pairs with truth 0 are left out.

    Returns
    -------
    Variation
        `split` and `fused`, in bits, each from 0 (perfect).

    Notes
    -----
    Meilă 2007, eq. 16 and 17.

    Examples
    --------
    >>> from cryoscale.evaluate import contingency
    >>> variation_of_information(contingency(np.array([3, 3, 3, 3]), np.array([1, 1, 2, 2])))
    Variation(split=0.0, fused=1.0)
    """
    both, predicted, true = _sums(table)
    n = both.sum()
    if not n:
        return Variation(math.nan, math.nan)
    split, fused = (float((both * np.log2(whole / both)).sum() / n) for whole in (true, predicted))
    return Variation(split, fused)
