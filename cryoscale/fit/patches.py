r"""Overlapping patches for a membrane too large for one matrix.

The control points are halved across the longest side of their box, and the halves again, down to `CORE_POINTS`; a
part's patch is the box around its own points, and it is fitted to every constraint within 1.5 overlaps of that box, so
that inside the zone where two patches are blended both know the same data. Of all ways to cut so, the one is taken that
evaluates cheapest: a variance costs the square of a patch's constraints, at each place where the patch counts. A dense
stack of sheets, whose parts would all know most of the rest, is cut least.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.constraints import Constraints, within
from cryoscale.fit.prepare import Prepared

__all__ = ["overlap_of", "split"]

Array = NDArray[np.float64]
Box = tuple[Array, Array]
OVERLAP_CELLS = 24.0 / 7.0
"""Distances of control points over which a patch's weight falls from 1 to 0 outside its box."""
LEAST_OVERLAP = 18.0
"""Voxels."""
DATA_REACH = 1.5
CORE_POINTS = 300
"""Parts of at most so many control points are not halved."""
MOST_CONSTRAINTS = 4000
"""Of a patch, unless its part is not halved."""


def split(prepared: Prepared) -> list[tuple[Constraints, Array, Array]]:
    """Return the patches of a membrane: their constraints and the corners of their boxes (infinite for one patch)."""
    constraints = prepared.constraints
    if not prepared.large:
        return [(constraints, np.full(3, -np.inf), np.full(3, np.inf))]
    surface, overlap = constraints.points[: constraints.surface], overlap_of(prepared)
    boxes = _cheapest(constraints, _box(surface), surface, overlap)[1]
    return [(within(constraints, _near(constraints.points, box, DATA_REACH * overlap)), *box) for box in boxes]


def overlap_of(prepared: Prepared) -> float:
    """Return the voxels over which a patch's weight falls from 1 to 0 outside its box."""
    return max(LEAST_OVERLAP, OVERLAP_CELLS * prepared.cell)


def _cheapest(constraints: Constraints, box: Box, points: Array, overlap: float) -> tuple[float, list[Box]]:
    """Return what it costs to evaluate the part of the surface with these points, and the boxes it is best cut into."""
    known = int(_near(constraints.points, box, DATA_REACH * overlap).sum())
    asked = int(_near(constraints.points[: constraints.surface], box, overlap).sum())
    whole = float(asked) * known**2
    if len(points) <= CORE_POINTS:
        return whole, [box]
    axis = int(np.ptp(points, axis=0).argmax())
    order = points[np.argsort(points[:, axis], kind="stable")]
    halves = [_cheapest(constraints, _box(half), half, overlap) for half in np.array_split(order, 2)]
    cost = sum(half[0] for half in halves)
    return (whole, [box]) if whole <= cost and known <= MOST_CONSTRAINTS else (cost, halves[0][1] + halves[1][1])


def _box(points: Array) -> Box:
    return points.min(0), points.max(0)


def _near(points: Array, box: Box, reach: float) -> NDArray[np.bool_]:
    return np.asarray(((points >= box[0] - reach) & (points <= box[1] + reach)).all(1))
