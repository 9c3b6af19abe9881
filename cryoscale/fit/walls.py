r"""Whether two pieces are the walls of one tube whose top and bottom the missing wedge has hidden, and how wide it is.

    p = c_w + a t + b t^2 + R (cos u, sin u)      for a place p of wall w, across the tube, at t along it

a and b, the tilt and the bend, are what both walls have in common; with them gone, both lie on one circle. Of a
microtubule that lies in the slices a network may leave no more than that: two narrow straight strips, each too narrow
for its own curvature to tell what it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cryoscale.fit.tube import LEAST_LENGTH, largest_gap_degrees

__all__ = ["is_wall", "tube_of_walls"]

Array = NDArray[np.float64]
PLACES = 400
"""Of a wall, at most, that are looked at."""
OFF_CIRCLE = 0.15
"""Root mean square distance of the places from the circle, at most, over its radius."""
BETTER_THAN_LINES = 0.7
"""That distance, at most, over the one from a straight line a wall: flat sheets side by side lie on no circle."""
LEAST_PLACES = 10
"""Of a wall that lie beside the other."""
BESIDE = 0.5
"""Of the shorter wall's length, how much at least lies beside the other."""
LARGEST_GAP_DEGREES = 150.0
"""Around the axis, without any wall: each of two covers about 60 degrees or more."""


def is_wall(places: Array, most_radius: float) -> bool:
    """Tell whether places (n, 3) fill a straight strip as narrow as a wall of a tube of a radius at most."""
    if len(places) < 3:
        return False
    thinned = _thinned(places)
    extents = np.ptp(thinned @ _directions([thinned]).T, axis=0)
    return bool(extents[1] <= 2 * most_radius and extents[0] >= max(LEAST_LENGTH * most_radius, 2 * extents[1]))


def tube_of_walls(one: Array, other: Array, radii: tuple[float, float]) -> float | None:
    """Return the radius of the tube that two strips are the opposite walls of; None where they are not.

    Parameters
    ----------
    one, other
        Places on each, (n, 3) and (m, 3), spread evenly.
    radii
        Least and greatest radius that the tube may have, in the places' unit.
    """
    walls = [_thinned(one), _thinned(other)]
    directions = _directions(walls)
    along = [wall @ directions[0] for wall in walls]
    apart = np.linalg.norm((walls[0].mean(0) - walls[1].mean(0)) @ directions[1:].T)
    low, high = max(t.min() for t in along), min(t.max() for t in along)
    if apart > 2 * radii[1] or high - low < BESIDE * min(np.ptp(t) for t in along):
        return None
    beside = [(t >= low) & (t <= high) for t in along]
    if min(map(np.count_nonzero, beside)) < LEAST_PLACES:
        return None
    sections = _sections(
        [t[here] - low for t, here in zip(along, beside, strict=True)],
        [wall[here] @ directions[1:].T for wall, here in zip(walls, beside, strict=True)],
    )
    centre, radius, off = _circle(sections)
    if (
        off > OFF_CIRCLE * radius
        or off > BETTER_THAN_LINES * _off_lines(sections)
        or high - low < LEAST_LENGTH * radius
    ):
        return None
    outward = np.concatenate(sections) - centre
    goes_round = largest_gap_degrees(outward) <= LARGEST_GAP_DEGREES
    return radius if goes_round and radii[0] <= radius <= radii[1] else None


def _thinned(places: Array) -> Array:
    return places[:: max(1, len(places) // PLACES)]


def _directions(walls: list[Array]) -> Array:
    """Rows: along the walls, and two across; the walls' places in a frame of one direction each."""
    centred = np.concatenate([wall - wall.mean(0) for wall in walls])
    found: Array = np.linalg.svd(centred, full_matrices=False)[2]
    return found


def _sections(along: list[Array], across: list[Array]) -> list[Array]:
    """Return each wall's places across the tube, without the tilt and the bend that both have in common."""
    t, wall = np.concatenate(along), np.repeat(np.arange(2), list(map(len, along)))
    terms = np.column_stack([wall == 0, wall == 1, t, t * t])
    common = np.linalg.lstsq(terms, np.concatenate(across), rcond=None)[0][2:]
    return [places - np.column_stack([t, t * t]) @ common for t, places in zip(along, across, strict=True)]


def _circle(sections: list[Array]) -> tuple[Array, float, float]:
    """Fit a circle, each wall counting as much: its centre, its radius and the root mean square distance from it."""
    places = np.concatenate(sections)
    weight = np.concatenate([np.full(len(section), (2 * len(section)) ** -0.5) for section in sections])
    middle = np.mean([section.mean(0) for section in sections], axis=0)
    first = float(np.linalg.norm(sections[0].mean(0) - sections[1].mean(0)) / 2)

    def off(guess: Array) -> Array:
        found: Array = weight * (np.linalg.norm(places - guess[:2], axis=1) - guess[2])
        return found

    found = least_squares(off, [*middle, first], loss="soft_l1", f_scale=max(0.1 * first, 1e-9) * float(weight.max()))
    return found.x[:2], abs(float(found.x[2])), float(np.linalg.norm(off(found.x)))


def _off_lines(sections: list[Array]) -> float:
    """Return the root mean square distance of each wall's places from a straight line of its own."""
    squares = [np.linalg.svd(section - section.mean(0))[1][1] ** 2 / len(section) for section in sections]
    return float(np.sqrt(np.mean(squares)))
