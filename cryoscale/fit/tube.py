r"""Whether a surface is a slender straight tube, and how wide: microtubules are, and their walls look like membranes.

    one principal curvature is 1 / R and the other 0, nearly everywhere, and the normals go all the way round the axis

A network that looks at slices sees two dark lines; only the whole surface tells a microtubule from a sheet. R is that
of the middle of the wall, 11.3 nm in a real tomogram of 13 protofilaments; it goes with their number, of which cells
and test tubes have 11 to 15.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.surface import Surface

__all__ = ["MICROTUBULE_NM", "largest_gap_degrees", "tube_radius"]

Array = NDArray[np.float64]
MICROTUBULE_NM = (9.2, 13.2)
"""Least and greatest radius of the middle of a microtubule's wall."""
ALIKE = 0.25
"""How far the radius at a place may be from the median, as a share of it; and the other curvature, times the radius."""
MOST_ALIKE = 0.75
"""Share of the places that must be so."""
LEAST_LENGTH = 4.0
"""Length of a tube over its radius."""
LARGEST_GAP_DEGREES = 120.0
"""Around the axis, without any normal: a groove is no tube."""
PLACES = 300


def tube_radius(surface: Surface) -> float | None:
    """Return the radius of a straight tube, in the unit of the points; None for any other surface.

    Parameters
    ----------
    surface
        A fitted surface, closed or open; what was inferred counts as what was seen.
    """
    points = surface.samples.points[surface.verdict.keep] * surface.unit
    points = points[:: max(1, len(points) // PLACES)]
    if len(points) < PLACES // 10:
        return None
    axis = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    found = surface.curvature(points)
    straight, bent = np.sort(np.abs(found.principal), axis=1).T
    radius = 1.0 / max(float(np.median(bent)), 1e-12)
    round_here = (np.abs(bent * radius - 1) <= ALIKE) & (straight * radius <= ALIKE)
    if round_here.mean() < MOST_ALIKE or np.ptp(points @ axis) < LEAST_LENGTH * radius:
        return None
    across = np.linalg.svd(axis[None])[2][1:]
    return (
        radius if largest_gap_degrees(surface.normals(points[round_here]) @ across.T) <= LARGEST_GAP_DEGREES else None
    )


def largest_gap_degrees(outward: Array) -> float:
    """Return the widest angle that none of some directions (n, 2) points to."""
    turn = np.sort(np.degrees(np.arctan2(outward[:, 1], outward[:, 0])))
    return float(np.diff(np.concatenate([turn, turn[:1] + 360.0])).max())
