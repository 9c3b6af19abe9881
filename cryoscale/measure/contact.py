"""Which membranes are near which, at every vertex: distance, angle, contact sites, double membranes.

    distance(v) = min over the triangles of the other surface of |v - foot|,    angle(v) = arccos |n(v) . n(foot)|

Distances are from mid-surface to mid-surface, exact to the triangles. Of a membrane's neighbours each vertex keeps the
nearest. A vertex *faces* the other membrane where that is its nearest and their normals agree within `FACING_DEGREES`;
two membranes that come within the contact distance are a *double membrane* if at least half of the smaller one's area
faces the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.nearest import TriangleTree
from cryoscale.measure.shape import Membrane

__all__ = ["DOUBLE_SHARE", "FACING_DEGREES", "Contacts", "Facing", "Other", "find_contacts", "weighted_quantile"]

Array = NDArray[np.float64]
FACING_DEGREES = 45.0
DOUBLE_SHARE = 0.5


@dataclass(frozen=True)
class Other:
    """A membrane that may be near: where it lies, how it is directed, and how sure that is; in nm."""

    vertices: Array
    """(n, 3)."""
    faces: NDArray[np.integer]
    """(m, 3)."""
    normals: NDArray[np.floating]
    """(n, 3)."""
    sd: NDArray[np.floating] | None = None
    """(n,) standard deviation of the position."""


@dataclass(frozen=True)
class Facing:
    """One membrane as another one sees it; areas and distances are over the vertices of that other one."""

    smallest: float
    """nm."""
    smallest_error: float | None
    contact_area: float
    """Area within the contact distance, nm2."""
    area: float
    """Area that faces it, nm2."""
    mean: float | None
    mean_seen: float | None
    """Of the distance over what was seen of the area that faces it."""
    median: float | None
    sd: float | None
    """Of the distance, over the area that faces it."""
    angle_median: float | None
    """Degrees."""


@dataclass
class Contacts:
    """What is nearest to each vertex of a membrane."""

    distance: Array
    """(n,) nm, NaN where no other membrane is within the limit."""
    error: Array
    """(n,) from both surfaces; NaN where one of them has none."""
    angle: Array
    """(n,) degrees between the normals as lines, 0 to 90."""
    number: NDArray[np.int32]
    """(n,) which membrane, 0 where there is none."""
    facing: dict[int, Facing] = field(default_factory=dict)


def find_contacts(
    membrane: Membrane, area: Array, others: Iterable[tuple[int, Other]], *, limit_nm: float, contact_nm: float
) -> Contacts:
    """Find what is near a membrane.

    Parameters
    ----------
    membrane
    area
        (n,) of its vertices, nm2.
    others
        Number and surface of each candidate, ascending; taken one at a time.
    limit_nm
        Nothing farther is looked at.
    contact_nm
        A contact site is surface within this of the other.
    """
    count = len(membrane.vertices)
    blank = np.full(count, np.nan)
    found = Contacts(blank, blank.copy(), blank.copy(), np.zeros(count, np.int32))
    near: dict[int, tuple[float, float | None, float]] = {}
    for number, other in others:
        _look_at(found, membrane, area, number, other, limit_nm, contact_nm, near)
    for number, (smallest, error, contact) in near.items():
        rows = np.flatnonzero((found.number == number) & (found.angle <= FACING_DEGREES))
        weights, distance = area[rows], found.distance[rows]
        known, in_sight = weights.sum() > 0, weights * membrane.seen[rows]
        mean = float(weights @ distance / weights.sum()) if known else None
        found.facing[number] = Facing(
            smallest,
            error,
            contact,
            float(weights.sum()),
            mean,
            float(in_sight @ distance / in_sight.sum()) if in_sight.sum() > 0 else None,
            weighted_quantile(distance, weights, 0.5),
            None if mean is None else float(np.sqrt(weights @ (distance - mean) ** 2 / weights.sum())),
            weighted_quantile(found.angle[rows], weights, 0.5),
        )
    return found


def _look_at(
    found: Contacts,
    membrane: Membrane,
    area: Array,
    number: int,
    other: Other,
    limit: float,
    contact: float,
    near: dict[int, tuple[float, float | None, float]],
) -> None:
    """Enter one candidate where it is nearer than those before it; of equally near ones the first stays."""
    low, high = other.vertices.min(axis=0) - limit, other.vertices.max(axis=0) + limit
    rows = np.flatnonzero(((membrane.vertices >= low) & (membrane.vertices <= high)).all(axis=1))
    if not len(rows):
        return
    feet = TriangleTree.of(other.vertices, other.faces).nearest(membrane.vertices[rows], limit)
    fine = feet.face >= 0
    rows, distance = rows[fine], feet.distance[fine]
    if not len(rows):
        return
    corners, weights = other.faces[feet.face[fine]], feet.weights[fine]
    error = np.full(len(rows), np.nan)
    if membrane.sd is not None and other.sd is not None:
        error = np.hypot(membrane.sd[rows], np.einsum("nc,nc->n", weights, other.sd[corners]))
    least = int(distance.argmin())
    known = bool(np.isfinite(error[least]))
    touching = float(area[rows[distance <= contact]].sum())
    near[number] = float(distance[least]), float(error[least]) if known else None, touching
    better = ~(found.distance[rows] <= distance)
    normal = np.einsum("nc,nck->nk", weights[better], other.normals[corners[better]])
    length = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    rows = rows[better]
    cosine = np.abs(np.einsum("nk,nk->n", membrane.normals[rows], normal)) / length
    found.distance[rows], found.error[rows], found.number[rows] = distance[better], error[better], number
    found.angle[rows] = np.degrees(np.arccos(np.clip(cosine, 0, 1)))


def weighted_quantile(values: NDArray[np.floating], weights: Array, share: float) -> float | None:
    """Return the value below which `share` of the weight lies, None where there is none; NaN values do not count."""
    fine = np.isfinite(values) & (weights > 0)
    if not fine.any():
        return None
    values, weights = values[fine], weights[fine]
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)])
