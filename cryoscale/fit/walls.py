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
OFF_CIRCLE = 0.06
"""Root mean square distance of a wall's places from the circle, at most, over its radius; 0.042 of a real one."""
BETTER_THAN_LINE = 0.6
"""That distance, at most, over the one from a straight line; 0.29 of a real one. A flat strip lies on no circle."""
LEAST_PLACES = 10
"""Of a wall that lie beside the other."""
BESIDE = 0.5
"""Of the shorter wall's length, how much at least lies beside the other."""
LARGEST_GAP_DEGREES = 150.0
"""Around the axis, without any wall."""


def is_wall(places: Array, most_radius: float) -> bool:
    """Tell whether places (n, 3) fill a strip, evenly bent at most, as narrow as the wall of a tube of that radius."""
    if len(places) < LEAST_PLACES:
        return False
    thinned = _thinned(places)
    directions = _directions([thinned])
    along = thinned @ directions[0]
    width = np.ptp(_sections([along - along.min()], [thinned @ directions[1:].T])[0][:, 0])
    return bool(width <= 2 * most_radius and np.ptp(along) >= LEAST_LENGTH * most_radius)


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
    if min(map(len, walls)) < LEAST_PLACES or _box_distance(*walls) > 2 * radii[1]:
        return None
    directions = _directions(walls)
    along = [wall @ directions[0] for wall in walls]
    low, high = max(t.min() for t in along), min(t.max() for t in along)
    beside = [(t >= low) & (t <= high) for t in along]
    if high - low < BESIDE * min(map(np.ptp, along)) or min(map(np.count_nonzero, beside)) < LEAST_PLACES:
        return None
    sections = _sections(
        [t[here] - low for t, here in zip(along, beside, strict=True)],
        [wall[here] @ directions[1:].T for wall, here in zip(walls, beside, strict=True)],
    )
    centre, radius = _circle(sections)
    if not radii[0] <= radius <= radii[1] or high - low < LEAST_LENGTH * radius:
        return None
    for section in sections:
        off = _root_mean_square(np.linalg.norm(section - centre, axis=1) - radius)
        if off > OFF_CIRCLE * radius or off > BETTER_THAN_LINE * _off_line(section):
            return None
    return radius if largest_gap_degrees(np.concatenate(sections) - centre) <= LARGEST_GAP_DEGREES else None


def _thinned(places: Array) -> Array:
    return places[:: max(1, len(places) // PLACES)]


def _box_distance(one: Array, other: Array) -> float:
    """Distance of two sets of places' bounding boxes."""
    gaps = np.maximum(one.min(0) - other.max(0), other.min(0) - one.max(0))
    return float(np.linalg.norm(np.maximum(gaps, 0.0)))


def _directions(walls: list[Array]) -> Array:
    """Rows: along the walls, and two across, the one that they are wider in first."""
    centred = np.concatenate([wall - wall.mean(0) for wall in walls])
    found: Array = np.linalg.svd(centred, full_matrices=False)[2]
    return found


def _sections(along: list[Array], across: list[Array]) -> list[Array]:
    """Return each wall's places across the tube, without the tilt and the bend that all have in common."""
    t, wall = np.concatenate(along), np.repeat(np.arange(len(along)), list(map(len, along)))
    terms = np.column_stack([wall[:, None] == np.arange(len(along)), t, t * t])
    common = np.linalg.lstsq(terms, np.concatenate(across), rcond=None)[0][-2:]
    return [places - np.column_stack([t, t * t]) @ common for t, places in zip(along, across, strict=True)]


def _circle(sections: list[Array]) -> tuple[Array, float]:
    """Fit a circle, each wall counting as much: its centre and its radius."""
    places = np.concatenate(sections)
    weight = np.concatenate([np.full(len(section), len(section) ** -0.5) for section in sections])
    middles = [section.mean(0) for section in sections]

    def off(guess: Array) -> Array:
        found: Array = weight * (np.linalg.norm(places - guess[:2], axis=1) - guess[2])
        return found

    found = least_squares(off, [*np.mean(middles, axis=0), np.linalg.norm(middles[0] - middles[1]) / 2]).x
    return found[:2], abs(float(found[2]))


def _off_line(section: Array) -> float:
    """Return the root mean square distance of places (n, 2) from a straight line."""
    return float(np.linalg.svd(section - section.mean(0))[1][1] / np.sqrt(len(section)))


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
