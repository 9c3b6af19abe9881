r"""Stacks: two membranes, one on the other, that go on as two beyond a gap.

    side = sign(h_p) sign(h_r) sign(n_r . m),     m = n_p - 2 (n_p . d) d,     the order is kept where side = +1

P and Q are a stack if each faces the other over most of its extent; R and S are one beyond the gap. Two membranes do
not pass through each other: of the two ways to continue, P to R and Q to S or P to S and Q to R, only one keeps the
order. h_p is how far Q lies above P at the edge, along P's normal n_p; h_r how far S lies above R; d the direction of
the step across the gap. m is n_p carried over it, mirrored as along an arc. So of four bridges that are equally smooth
two are left, and each is no rival of the other. Both must be good, by themselves, and the spacing h must be the same
at both edges, to within twice what it varies by in the two stacks. Lengths in voxels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from cryoscale.separate.edges import Fronts
from cryoscale.separate.surfels import Doubles, Ints, Surfels

__all__ = ["Assignment", "Sheaf", "pair_stacks", "stack_sheaves"]

MOST = 0.5
"""Share of either membrane of a stack that faces the other."""
SPREADS = 2.0
"""Spacings differ by no more than this many of their standard deviations."""
AGREE = 0.9
"""Share of the contacts that say the same about the order."""


@dataclass(frozen=True)
class Sheaf:
    """One membrane of a stack, where it faces the other."""

    tree: cKDTree
    """Of the elements that do."""
    normal: Doubles
    """(k, 3) theirs."""
    height: Doubles
    """(k,) of the other membrane, along the normal."""
    spread: float
    """Variance of the distance between the two."""


@dataclass(frozen=True)
class Assignment:
    """One stack that goes on as another."""

    ratio: float
    """The smaller one of two bridges."""
    straight: tuple[tuple[int, int], tuple[int, int]]
    """The membranes of these bridges."""

    @property
    def crossed(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The other way to pair the four."""
        (p, r), (q, s) = self.straight
        return (p, s), (q, r)


def stack_sheaves(surfels: Surfels, sizes: Ints, element: Ints, faced: Ints) -> dict[tuple[int, int], Sheaf]:
    """Find the stacks of two.

    Parameters
    ----------
    surfels : Surfels
        All of them in a membrane.
    sizes : (p,) int64 array
        Elements of each membrane.
    element, faced : (j,) int64 arrays
        From `evidence.facing`.

    Returns
    -------
    dict
        By membrane and the one it faces; both ways.
    """
    looker = surfels.patch[element]
    pairs, inverse, many = np.unique(np.stack([looker, faced], 1), axis=0, return_inverse=True, return_counts=True)
    most = {tuple(pair) for pair, n in zip(pairs.tolist(), many.tolist(), strict=True) if n > MOST * sizes[pair[0]]}
    found: dict[tuple[int, int], Sheaf] = {}
    for k, (one, two) in enumerate(pairs.tolist()):
        if (one, two) in most and (two, one) in most:
            here = element[inverse.ravel() == k]
            place, normal = surfels.position[here], surfels.normal[here]
            other = surfels.position[surfels.patch == two]
            height = ((other[cKDTree(other).query(place)[1]] - place) * normal).sum(1)
            found[one, two] = Sheaf(cKDTree(place), normal, height, float(np.abs(height).var()))
    return found


def _heights(surfels: Surfels, sheaf: Sheaf, edge: Ints) -> Doubles:
    """Return how far the other membrane lies above elements of an edge, along their normals."""
    nearest = sheaf.tree.query(surfels.position[edge])[1]
    return np.asarray(sheaf.height[nearest] * np.sign((sheaf.normal[nearest] * surfels.normal[edge]).sum(1)))


def _keeps_order(surfels: Surfels, contact: Ints, here: Sheaf, there: Sheaf) -> bool:
    """Say whether the others lie on the same side of, and as far from, the two that a bridge joins."""
    near, far = (_heights(surfels, sheaf, contact[:, k]) for k, sheaf in enumerate((here, there)))
    step = surfels.position[contact[:, 1]] - surfels.position[contact[:, 0]]
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    normal = surfels.normal[contact[:, 0]]
    carried = normal - 2 * (normal * step).sum(1, keepdims=True) * step
    side = near * far * (surfels.normal[contact[:, 1]] * carried).sum(1)
    off = abs(np.median(np.abs(near)) - np.median(np.abs(far)))
    return bool((side > 0).mean() >= AGREE and off <= SPREADS * np.sqrt(here.spread + there.spread))


def pair_stacks(
    surfels: Surfels, fronts: Fronts, good: dict[tuple[int, int], float], sheaves: dict[tuple[int, int], Sheaf]
) -> list[Assignment]:
    """Find stacks that go on as stacks.

    Parameters
    ----------
    surfels : Surfels
        All of them in a membrane.
    fronts : Fronts
        Between those.
    good : dict
        Log ratio of the bridges that may be used, by their membranes, first < second.
    sheaves : dict
        From `stack_sheaves`.

    Returns
    -------
    list of Assignment
        In the order of `good`.
    """
    others: dict[int, list[int]] = {}
    for one, two in sheaves:
        others.setdefault(one, []).append(two)
    rows = {(a, b): slice(fronts.first[k], fronts.first[k + 1]) for k, (a, b) in enumerate(fronts.pair.tolist())}

    def keeps(p: int, r: int, q: int, s: int) -> bool:
        contact = fronts.contact[rows[min(p, r), max(p, r)]]
        return _keeps_order(surfels, contact if p < r else contact[:, ::-1], sheaves[p, q], sheaves[r, s])

    found = []
    for (p, r), ratio in good.items():
        for q, s in itertools.product(others.get(p, []), others.get(r, [])):
            bridge = (min(q, s), max(q, s))
            if len({p, q, r, s}) < 4 or (p, r) > bridge or bridge not in good:
                continue
            if keeps(p, r, q, s) and keeps(q, s, p, r):
                found.append(Assignment(min(ratio, good[bridge]), ((p, r), (q, s))))
    return found
