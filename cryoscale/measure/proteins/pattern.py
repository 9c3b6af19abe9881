"""How proteins lie on a membrane: density, nearest neighbours along the surface, and whether they cluster.

    ratio(r) = sum_i N_i(r) / sum_i (n - 1) A_i(r) / A,        L(r) = r sqrt(ratio(r))

N_i(r) is the number of proteins within the geodesic distance r of protein i, A_i(r) the area of the membrane within r
of it and A the whole area. On an unbounded plane A_i = pi r^2 and L is Ripley's; here A_i is measured on the mesh
itself, so that edges, holes and curvature correct themselves: 1 is what chance gives, more is clustering, less is
keeping apart. How far chance strays is measured too: random points on the same mesh, as many, with a seed.

(B. Ripley, J. R. Stat. Soc. B 39 (1977) 172; P. Diggle, Statistical Analysis of Spatial Point Patterns, 2003.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.proteins.foot import Feet
from cryoscale.measure.proteins.geodesic import Sheet, distances_from, distances_to

__all__ = ["Neighbours", "PairStatistics", "find_neighbours", "nearest_neighbours", "pair_statistics", "random_feet"]

_ENVELOPE = (2.5, 97.5)
_LEAST_POINTS = 5
"""Fewer say nothing about a pattern."""
_MOST_POINTS = 500
"""Of more a random part is taken: leaving points out at random does not change the ratio."""
_LEAST_POOL, _ENOUGH_POOL = 100, 400


@dataclass(frozen=True)
class Neighbours:
    """Of each of n points the others on the same mesh, up to a distance."""

    pairs: NDArray[np.int64]
    """(k, 2) rows of a point and of another within the limit, both ways."""
    distance: NDArray[np.float64]
    """(k,) along the surface."""
    area_within: NDArray[np.float64]
    """(n, r) area of the mesh within each radius."""


@dataclass(frozen=True)
class PairStatistics:
    """The pattern at each radius."""

    radius: NDArray[np.float64]
    pairs: NDArray[np.int64]
    """Ordered pairs seen within the radius, among 500 proteins at most."""
    expected: NDArray[np.float64]
    """What chance gives with the same surroundings."""
    low: NDArray[np.float64]
    """2.5 % of random patterns have a ratio below this."""
    high: NDArray[np.float64]
    """2.5 % of random patterns have a ratio above this."""

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Pairs seen over expected; NaN where none are expected."""
        ratio = np.full(len(self.pairs), np.nan)
        np.divide(self.pairs, self.expected, ratio, where=self.expected > 0)
        return ratio


def random_feet(sheet: Sheet, count: int, rng: np.random.Generator) -> Feet:
    """Points spread evenly over the area of a mesh."""
    areas = sheet.face_areas()
    face = rng.choice(len(areas), count, p=areas / areas.sum())
    weights = rng.dirichlet((1.0, 1.0, 1.0), count)
    position = np.einsum("nc,nck->nk", weights, sheet.vertices[sheet.faces[face]])
    return Feet(face, weights, position, np.zeros(count))


def find_neighbours(sheet: Sheet, feet: Feet, radii: Sequence[float]) -> Neighbours:
    """Walk from every foot to the largest radius."""
    limit, areas = max(radii), sheet.vertex_areas()
    # The corners of a face may be beyond the limit where a point in it is not.
    slack = sheet.longest_edge
    pairs, found, within = [], [], np.zeros((len(feet.face), len(radii)))
    for row in range(len(feet.face)):
        distance = distances_from(sheet, feet, row, limit + slack)
        reached = np.flatnonzero(np.isfinite(distance))
        order = reached[np.argsort(distance[reached])]
        sums = np.concatenate([[0.0], np.cumsum(areas[order])])
        within[row] = sums[np.searchsorted(distance[order], radii, side="right")]
        to = distances_to(sheet, distance, feet, row)
        others = np.flatnonzero((to <= limit) & (np.arange(len(to)) != row))
        pairs.append(np.column_stack([np.full(len(others), row), others]))
        found.append(to[others])
    return Neighbours(np.concatenate(pairs), np.concatenate(found), within)


def nearest_neighbours(sheet: Sheet, feet: Feet, first_limit: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance along the surface to the nearest other foot, and its row; infinite and -1 where no way leads to one.

    Parameters
    ----------
    first_limit : float
        How far to walk at first; doubled for those that find nobody. Changes no result.
    """
    count, slack = len(feet.face), sheet.longest_edge
    nearest, other = np.full(count, np.inf), np.full(count, -1)
    for row in range(count if count > 1 else 0):
        limit, before = max(first_limit, 2 * slack), -1
        while True:
            distance = distances_from(sheet, feet, row, limit)
            to = distances_to(sheet, distance, feet, row)
            to[row] = np.inf
            best, reached = int(to.argmin()), int(np.isfinite(distance).sum())
            # A front twice as far that reaches no more vertices has been everywhere.
            if to[best] <= limit - slack or reached == before:
                break
            limit, before = 2 * limit, reached
        if np.isfinite(to[best]):
            nearest[row], other[row] = to[best], best
    return nearest, other


def pair_statistics(
    sheet: Sheet, feet: Feet, radii: Sequence[float], *, simulations: int, seed: int | Sequence[int]
) -> PairStatistics | None:
    """Count pairs within each radius and compare with random points on the same mesh.

    Parameters
    ----------
    sheet : Sheet
    feet : Feet
        The proteins.
    radii : sequence of float
        Ascending, in the unit of the mesh.
    simulations : int
        Random patterns.
    seed : int or sequence of int
        Decides all of them.

    Returns
    -------
    PairStatistics or None
        None for fewer than 5 points.

    Notes
    -----
    Random patterns are drawn without replacement from one pool of random points whose distances are found once:
    100 at least, else 4 times as many as there are proteins, or 400, or twice their number, whichever comes first.
    Of more than 500 proteins 500 are taken at random, so that time and memory are bounded.
    """
    if len(feet.face) < _LEAST_POINTS:
        return None
    rng = np.random.default_rng(seed)
    if len(feet.face) > _MOST_POINTS:
        feet = feet.take(np.sort(rng.choice(len(feet.face), _MOST_POINTS, replace=False)))
    count, area = len(feet.face), float(sheet.face_areas().sum())
    seen, expected = _tally(find_neighbours(sheet, feet, radii), np.arange(count), radii, area)
    pool = random_feet(sheet, max(2 * count, min(max(4 * count, _LEAST_POOL), _ENOUGH_POOL)), rng)
    chance = find_neighbours(sheet, pool, radii)
    ratios = np.ones((simulations, len(radii)))
    for row in range(simulations):
        chosen = np.sort(rng.choice(len(pool.face), count, replace=False))
        pairs, mean = _tally(chance, chosen, radii, area)
        np.divide(pairs, mean, ratios[row], where=mean > 0)
    low, high = np.percentile(ratios, _ENVELOPE, axis=0)
    return PairStatistics(np.array(radii, float), seen, expected, low, high)


def _tally(
    found: Neighbours, chosen: NDArray[np.int64], radii: Sequence[float], area: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs among the chosen points within each radius, and how many chance would give."""
    inside = np.zeros(len(found.area_within), bool)
    inside[chosen] = True
    distance = np.sort(found.distance[inside[found.pairs].all(axis=1)])
    return (
        np.searchsorted(distance, radii, side="right"),
        found.area_within[chosen].sum(axis=0) * (len(chosen) - 1) / area,
    )
