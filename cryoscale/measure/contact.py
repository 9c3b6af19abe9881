"""Which membranes are near which, at every vertex: distance, angle, contact sites, double membranes.

    distance(v) = min over the triangles of the other surface of |v - foot|,    angle(v) = arccos |n(v) . n(foot)|

Distances are from mid-surface to mid-surface, exact to the triangles. Of a membrane's neighbours each vertex keeps the
nearest. A vertex *faces* the other membrane where that is its nearest and their normals agree within `FACING_DEGREES`;
two membranes that come within the contact distance are a *double membrane* if at least half of the smaller one's area
faces the other. Standard errors: `gaps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.errors import Sites
from cryoscale.measure.gaps import Gaps, PairErrors
from cryoscale.measure.nearest import Nearest, TriangleTree
from cryoscale.measure.shape import Membrane

__all__ = [
    "DOUBLE_SHARE",
    "FACING_DEGREES",
    "Contacts",
    "Facing",
    "Other",
    "find_contacts",
    "pair_errors",
    "weighted_quantile",
]

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
    sites: Sites | None = None
    """How the errors hang together."""


@dataclass(frozen=True)
class Facing:
    """One membrane as another one sees it; areas and distances are over the vertices of that other one."""

    smallest: float
    """nm."""
    smallest_error: float | None
    contact_area: float
    """Area within the contact distance, nm2."""
    contact_area_error: float | None
    area: float
    """Area that faces it, nm2."""
    mean: float | None
    mean_error: float | None
    mean_seen: float | None
    """Of the distance over what was seen of the area that faces it."""
    mean_seen_error: float | None
    median: float | None
    median_error: float | None
    sd: float | None
    """Of the distance, over the area that faces it."""
    angle_median: float | None
    """Degrees."""
    angle_median_error: float | None


@dataclass
class Contacts:
    """What is nearest to each vertex of a membrane."""

    gaps: Gaps
    """Of all n vertices."""
    angle: Array
    """(n,) degrees between the normals as lines, 0 to 90."""
    facing: dict[int, Facing] = field(default_factory=dict)
    sites: dict[int, Sites | None] = field(default_factory=dict)
    """Errors of each other membrane."""


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
    found = Contacts(Gaps.none(count), np.full(count, np.nan))
    near: dict[int, _Near] = {}
    for number, other in others:
        _look_at(found, membrane, area, number, other, limit_nm, contact_nm, near)
    for number, touching in near.items():
        rows = (found.gaps.number == number) & (found.angle <= FACING_DEGREES)
        distance, angle = found.gaps.distance[rows], found.angle[rows]
        weights = area[rows]
        mean, mean_error = _mean(found, membrane, area, rows)
        mean_seen, mean_seen_error = _mean(found, membrane, area, rows & membrane.seen)
        median, turn = (weighted_quantile(values, weights, 0.5) for values in (distance, angle))
        errors = pair_errors(found, membrane, area, rows)
        found.facing[number] = Facing(
            **dataclasses.asdict(touching),
            area=float(weights.sum()),
            mean=mean,
            mean_error=mean_error,
            mean_seen=mean_seen,
            mean_seen_error=mean_seen_error,
            median=median,
            median_error=None if median is None else errors.of_median(median),
            sd=None if mean is None else float(np.sqrt(weights @ (distance - mean) ** 2 / weights.sum())),
            angle_median=turn,
            angle_median_error=None if turn is None else errors.of_median_angle(angle, turn),
        )
    return found


@dataclass(frozen=True)
class _Near:
    """What of `Facing` does not depend on other membranes."""

    smallest: float
    smallest_error: float | None
    contact_area: float
    contact_area_error: float | None


def pair_errors(found: Contacts, membrane: Membrane, area: Array, rows: NDArray[np.bool_]) -> PairErrors:
    """Return what knows the errors of distances of some of a membrane's vertices (n,) to what is nearest to each."""
    return _errors(found.gaps.part(rows), membrane, area, np.flatnonzero(rows), found.sites)


def _errors(
    gaps: Gaps, membrane: Membrane, area: Array, rows: NDArray[np.intp], sites: Mapping[int, Sites | None]
) -> PairErrors:
    none = np.zeros(len(rows), np.int64)
    owner = none if membrane.sites is None else membrane.sites.owner(membrane.vertices[rows])
    return PairErrors(membrane.sites, sites, owner, area[rows], np.nan_to_num(membrane.mean[rows]), gaps)


def _mean(
    found: Contacts, membrane: Membrane, area: Array, rows: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """Return the mean distance over some vertices, and its error."""
    total = float(area[rows].sum())
    if total <= 0:
        return None, None
    mean = float(area[rows] @ found.gaps.distance[rows] / total)
    return mean, pair_errors(found, membrane, area, rows).of_mean(mean)


def _look_at(
    found: Contacts,
    membrane: Membrane,
    area: Array,
    number: int,
    other: Other,
    limit: float,
    contact: float,
    near: dict[int, _Near],
) -> None:
    """Enter one candidate where it is nearer than those before it; of equally near ones the first stays."""
    low, high = other.vertices.min(axis=0) - limit, other.vertices.max(axis=0) + limit
    rows = np.flatnonzero(((membrane.vertices >= low) & (membrane.vertices <= high)).all(axis=1))
    if not len(rows):
        return
    feet = _nearest(membrane.vertices[rows], other, limit)
    fine = feet.face >= 0
    rows = rows[fine]
    if not len(rows):
        return
    gaps, cosine = _gaps(membrane, rows, number, other, feet, fine)
    least = int(gaps.distance.argmin())
    known = bool(np.isfinite(gaps.error[least]))
    touching = float(area[rows[gaps.distance <= contact]].sum())
    error = _errors(gaps, membrane, area, rows, {number: other.sites}).of_area_within(contact)
    near[number] = _Near(float(gaps.distance[least]), float(gaps.error[least]) if known else None, touching, error)
    better = ~(found.gaps.distance[rows] <= gaps.distance)
    found.gaps.put(rows[better], gaps.part(better))
    found.angle[rows[better]] = np.degrees(np.arccos(np.clip(cosine[better], 0, 1)))
    found.sites[number] = other.sites


def _nearest(points: Array, other: Other, limit: float) -> Nearest:
    """Find what of another membrane is nearest to points, from its faces that may be within the limit of any."""
    low, high = points.min(axis=0) - limit, points.max(axis=0) + limit
    beyond = np.concatenate([other.vertices < low, other.vertices > high], axis=1)
    # A face all of whose corners are beyond one side of the box lies there itself.
    one, two, three = (beyond[other.faces[:, corner]] for corner in range(3))
    kept = np.flatnonzero(~(one & two & three).any(axis=1))
    if not len(kept):
        return Nearest.none(len(points))
    found = TriangleTree.of(other.vertices, other.faces[kept]).nearest(points, limit)
    seen = found.face >= 0
    found.face[seen] = kept[found.face[seen]]
    return found


def _gaps(
    membrane: Membrane, rows: NDArray[np.intp], number: int, other: Other, feet: Nearest, fine: NDArray[np.bool_]
) -> tuple[Gaps, Array]:
    """Return the gaps of some vertices, and the cosine between the normals as lines."""
    distance, corners, weights = feet.distance[fine], other.faces[feet.face[fine]], feet.weights[fine]
    error = np.full(len(rows), np.nan)
    if membrane.sd is not None and other.sd is not None:
        error = np.hypot(membrane.sd[rows], np.einsum("nc,nc->n", weights, other.sd[corners]))
    foot = np.einsum("nc,nck->nk", weights, other.vertices[corners])
    normal = np.einsum("nc,nck->nk", weights, other.normals[corners])
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None]
    way = (membrane.vertices[rows] - foot) / np.maximum(distance, 1e-12)[:, None]
    own, far = (np.einsum("nk,nk->n", way, one) for one in (membrane.normals[rows], normal))
    site = np.zeros(len(rows), np.int64) if other.sites is None else other.sites.owner(foot)
    cosine = np.abs(np.einsum("nk,nk->n", membrane.normals[rows], normal))
    turn = np.full(len(rows), np.nan)
    if membrane.sites is not None and other.sites is not None:
        mine = membrane.sites.turn(membrane.sites.owner(membrane.vertices[rows]))
        turn = np.degrees(np.hypot(mine, other.sites.turn(site)))
    return Gaps(distance, error, own, -far, site, np.full(len(rows), number, np.int32), turn), cosine


def weighted_quantile(values: NDArray[np.floating], weights: Array, share: float) -> float | None:
    """Return the value below which `share` of the weight lies, None where there is none; NaN values do not count."""
    fine = np.isfinite(values) & (weights > 0)
    if not fine.any():
        return None
    values, weights = values[fine], weights[fine]
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(order) - 1)])
