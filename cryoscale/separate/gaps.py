r"""Gaps: pieces of one membrane joined over wide gaps, on evidence.

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

Two that lie on each other and go on as two (`stacks`) are joined before, and are evidence enough for more: the order
of the two says which goes on to which, so that neither is the other's rival; and if both log ratios are above 1.5 the
gap may have up to 128 voxels and the front may be short. Of 200 simulated pairs of double membranes that end towards
each other and are not one, 14 keep their order with both ratios above 0.3, and one with both above 1.5; the 1.5 was
chosen on these, knowing the ratios of one real pair (1.75). Of 84 others, aimed at each other, one is joined wrongly.

Lengths in voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.separate.bridges import Bridges, weigh_bridges
from cryoscale.separate.edges import Fronts, find_fronts
from cryoscale.separate.evidence import facing
from cryoscale.separate.separate import ELEMENT_AREA, FACING, NARROW, join_best_first
from cryoscale.separate.stacks import Assignment, pair_stacks, stack_sheaves
from cryoscale.separate.surfels import Doubles, Ints, Surfels

__all__ = ["join_over_gaps", "log_ratio"]

REACH = 1.0
"""Longest gap, of the square root of the area;"""
LONGEST = 48.0
"""in voxels: about the widest gap of the scenes that the numbers were chosen on."""
LONGEST_STACKED = 128.0
"""The same of two that lie on each other."""
SMALLEST = 30
"""Elements of a membrane with a front."""
FEWEST = 5
"""Contacts of a pair."""
RATIO = 0.3
SURE = 1.5
"""Ratio of two that lie on each other, over a gap or along a front that would not do for one alone."""
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
    element, faced = facing(surfels)
    looks, many = np.unique(np.stack([surfels.patch[element], faced], 1), axis=0, return_counts=True)
    apart = {frozenset(pair) for pair in looks[many > FACING * sizes[looks[:, 0]]].tolist()}
    stacked, crossed = _stacked(surfels, sizes, element, faced, apart)
    _, bridges, ratio, wide = _weighed(surfels, sizes, LONGEST)
    good = np.flatnonzero((ratio > RATIO) & wide & (bridges.blocked <= BLOCKED))
    order = good[np.argsort(-ratio[good], kind="stable")]
    pairs = _without_rivals(bridges.pair[order], ratio[order], apart, crossed)
    return join_best_first(sizes, np.concatenate([stacked, pairs]), looks, many)


def _weighed(surfels: Surfels, sizes: Ints, longest: float) -> tuple[Fronts, Bridges, Doubles, NDArray[np.bool_]]:
    """Fronts and bridges up to a length, the log ratio of each bridge, and whether its front is wide."""
    reach = np.where(sizes >= SMALLEST, np.minimum(REACH * np.sqrt(ELEMENT_AREA * sizes), longest), 0.0)
    fronts = find_fronts(surfels, reach)
    bridges = weigh_bridges(surfels, fronts, fewest=FEWEST)
    wide = bridges.front >= NARROW * np.sqrt(ELEMENT_AREA * sizes[bridges.pair].min(1))
    return fronts, bridges, log_ratio(bridges.gap, bridges.excess, bridges.own), wide


def _stacked(
    surfels: Surfels, sizes: Ints, element: Ints, faced: Ints, apart: set[frozenset[int]]
) -> tuple[Ints, set[frozenset[int]]]:
    """Pairs that go on two by two, the best first, and the pairs that this forbids."""
    sheaves = stack_sheaves(surfels, sizes, element, faced)
    if len(sheaves) < 4:  # Each stack counts twice.
        return np.zeros((0, 2), np.int64), set()
    fronts, bridges, ratio, wide = _weighed(surfels, sizes, LONGEST_STACKED)
    free = np.flatnonzero((ratio > RATIO) & (bridges.blocked <= BLOCKED))
    order = free[np.argsort(-ratio[free], kind="stable")]
    fit = order[ratio[order] > np.where(wide & (bridges.gap <= LONGEST), RATIO, SURE)[order]]
    good = {(one, two): float(ratio[k]) for k, (one, two) in zip(fit, bridges.pair[fit].tolist(), strict=True)}
    found = _unrivalled(pair_stacks(surfels, fronts, good, sheaves), apart)
    crossed = {frozenset(pair) for each in found for pair in each.crossed}
    pairs = _without_rivals(bridges.pair[order], ratio[order], apart, crossed)
    clear = {frozenset(pair) for pair in pairs.tolist()}
    kept = [each for each in found if all(frozenset(pair) in clear for pair in each.straight)]
    joined = np.array([pair for each in kept for pair in each.straight], np.int64).reshape(-1, 2)
    return joined, {frozenset(pair) for each in kept for pair in each.crossed}


def _unrivalled(found: list[Assignment], apart: set[frozenset[int]]) -> list[Assignment]:
    """Leave out assignments (best first) that another one, nearly as good, contradicts."""

    def contradict(first: Assignment, second: Assignment) -> bool:
        return any(
            len(one := frozenset(a) - frozenset(b)) == 1 and one | (frozenset(b) - frozenset(a)) in apart
            for a in first.straight
            for b in second.straight
        )

    return [each for each in found if not any(o.ratio > each.ratio - RIVAL and contradict(each, o) for o in found)]


def _without_rivals(pairs: Ints, ratio: Doubles, apart: set[frozenset[int]], crossed: set[frozenset[int]]) -> Ints:
    """Leave out pairs (best first) that are crossed, and those of which one side has a rival that is not."""
    rows = [k for k, pair in enumerate(pairs.tolist()) if frozenset(pair) not in crossed]
    pairs, ratio = pairs[rows], ratio[rows]
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
