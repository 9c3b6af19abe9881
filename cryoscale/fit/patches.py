r"""Overlapping patches for a membrane too large for one matrix.

The control points are halved across the longest side of their box until a part has few enough; a part's patch is the
box around its own points, and it is fitted to every constraint within 1.5 overlaps of that box, so that inside the
zone where two patches are blended both know the same data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.constraints import Constraints
from cryoscale.fit.prepare import Prepared

__all__ = ["OVERLAP", "split"]

Array = NDArray[np.float64]
OVERLAP = 24.0
"""Voxels over which a patch's weight falls from 1 to 0 outside its box."""
DATA_REACH = 1.5
CORE_POINTS = 300


def split(prepared: Prepared) -> list[tuple[Constraints, Array, Array]]:
    """Return the patches of a membrane: their constraints and the corners of their boxes (infinite for one patch)."""
    constraints = prepared.constraints
    if not prepared.large:
        return [(constraints, np.full(3, -np.inf), np.full(3, np.inf))]
    surface = constraints.points[: constraints.surface]
    parts = []
    for rows in _halve(surface, np.arange(len(surface))):
        low, high = surface[rows].min(0), surface[rows].max(0)
        reach = DATA_REACH * OVERLAP
        inside = ((constraints.points >= low - reach) & (constraints.points <= high + reach)).all(1)
        keep = np.flatnonzero(inside)
        count = int((keep < constraints.surface).sum())
        parts.append(
            (
                Constraints(
                    constraints.points[keep],
                    constraints.values[keep],
                    constraints.noise[keep],
                    count,
                    constraints.reach,
                ),
                low,
                high,
            )
        )
    return parts


def _halve(points: Array, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if len(rows) <= CORE_POINTS:
        return [rows]
    axis = int(np.ptp(points[rows], axis=0).argmax())
    order = rows[np.argsort(points[rows, axis], kind="stable")]
    half = len(order) // 2
    return [*_halve(points, order[:half]), *_halve(points, order[half:])]
