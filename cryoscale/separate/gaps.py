r"""Gaps: pieces of one membrane joined over gaps of any width, on evidence.

    log ratio = log(t / s) - excess^2 (1 / s^2 - 1 / t^2) / 2,     joined where it is above 0.3

with s^2 the variance of the excess if the two are one membrane, t^2 if they are two. s comes from the membranes
themselves: their own excess over a gap as long (`bridges`); 2.5 % of the gap is one more observation, of a third of the
weight, so that one lucky fit does not count as certainty. t = 0.5 + 6 % of the gap: what two unrelated surfaces give.
The ratio is short of 0.3, and nothing is joined, where the membranes are too bent or too rough to foretell anything
over such a gap: how far one may look follows from the data. On top of that a gap is never longer than the square root
of the smaller area, or 48 voxels, about the widest one of the simulated scenes that the numbers were chosen on: over
gaps of 90 voxels between real membranes the rule has been seen to join two that are not one.

A pair is not joined, however smooth, if the front between the two is short (less than half the square root of the
smaller area); if something stands in between; if one of the two has a rival, a membrane that faces it and goes on from
the other nearly as well or better: whoever cannot say which of two parallel sheets it is joins neither; or if they face
each other, counted over everything that was joined to either. The best pairs are joined first.

Lengths in voxels.
"""

from __future__ import annotations

import numpy as np

from cryoscale.separate.bridges import weigh_bridges
from cryoscale.separate.edges import find_fronts
from cryoscale.separate.evidence import facing
from cryoscale.separate.separate import ELEMENT_AREA, FACING, NARROW, join_best_first
from cryoscale.separate.surfels import Doubles, Ints, Surfels

__all__ = ["join_over_gaps", "log_ratio"]

REACH = 1.0
"""Longest gap, of the square root of the area;"""
LONGEST = 48.0
"""in voxels: about the widest gap of the scenes that the numbers were chosen on."""
SMALLEST = 30
"""Elements of a membrane with a front."""
FEWEST = 5
"""Contacts of a pair."""
RATIO = 0.3
ONE = 0.025
OWN = 3.0
"""Weight of what a membrane itself says, against `ONE`."""
TWO = 0.06
TWO_AT_LEAST = 0.5
ROUNDING = 0.05
"""Standard deviation of the excess of perfect surfaces, voxels."""
RIVAL = 0.5
"""A rival's log ratio may be worse by this."""
BLOCKED = 0.5
"""Share of the contacts with something in between."""


def log_ratio(gap: Doubles, excess: Doubles, own: Doubles) -> Doubles:
    """Return the log likelihood ratio of one membrane to two.

    Parameters
    ----------
    gap, excess : (k,) float64 arrays
        Voxels.
    own : (k, 2) float64 array
        Excess over the same gap within either membrane, voxels; NaN where unknown.

    Returns
    -------
    (k,) float64 array
        -inf where neither membrane is deep enough to tell its own.
    """
    known = ~np.isnan(own)
    squares = np.where(known, own, 0.0) ** 2
    one = ((ONE * gap) ** 2 + OWN * squares.sum(1)) / (1 + OWN * known.sum(1)) + ROUNDING**2
    two = (TWO * gap + TWO_AT_LEAST) ** 2 + one
    ratio = 0.5 * np.log(two / one) - 0.5 * excess**2 * (1.0 / one - 1.0 / two)
    return np.where(known.any(1), ratio, -np.inf)


def join_over_gaps(surfels: Surfels, count: int) -> Ints:
    """Join membranes that are pieces of one.

    Parameters
    ----------
    surfels : Surfels
        All of them in a membrane, 0, 1, ...; positions of all in one frame.
    count : int
        Number of membranes.

    Returns
    -------
    (p,) int64 array
        The smallest piece of the membrane each piece belongs to.
    """
    sizes = np.bincount(surfels.patch, minlength=count).astype(np.int64)
    reach = np.where(sizes >= SMALLEST, np.minimum(REACH * np.sqrt(ELEMENT_AREA * sizes), LONGEST), 0.0)
    bridges = weigh_bridges(surfels, find_fronts(surfels, reach), fewest=FEWEST)
    ratio = log_ratio(bridges.gap, bridges.excess, bridges.own)
    wide = bridges.front >= NARROW * np.sqrt(ELEMENT_AREA * sizes[bridges.pair].min(1))
    good = np.flatnonzero((ratio > RATIO) & wide & (bridges.blocked <= BLOCKED))
    if not good.size:
        return np.arange(sizes.size)
    order = good[np.argsort(-ratio[good], kind="stable")]
    element, faced = facing(surfels)
    looks, many = np.unique(np.stack([surfels.patch[element], faced], 1), axis=0, return_counts=True)
    pairs = _without_rivals(bridges.pair[order], ratio[order], looks[many > FACING * sizes[looks[:, 0]]])
    return join_best_first(sizes, pairs, looks, many)


def _without_rivals(pairs: Ints, ratio: Doubles, facing_pairs: Ints) -> Ints:
    """Leave out pairs (best first) of which one side has a rival."""
    apart = {frozenset(pair) for pair in facing_pairs.tolist()}
    partners: dict[int, list[tuple[int, float]]] = {}
    for (one, two), value in zip(pairs.tolist(), ratio.tolist(), strict=True):
        partners.setdefault(one, []).append((two, value))
        partners.setdefault(two, []).append((one, value))
    clear = [
        not any(
            frozenset((mine, other)) in apart and rival > value - RIVAL
            for side, mine in ((one, two), (two, one))
            for other, rival in partners[side]
        )
        for (one, two), value in zip(pairs.tolist(), ratio.tolist(), strict=True)
    ]
    return pairs[np.array(clear, np.bool_)]
