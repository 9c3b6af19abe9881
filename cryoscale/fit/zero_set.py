r"""Which part of where the fitted field is zero the data support, and whether it closes.

A field known near its data has zeros elsewhere too. So the zero set is sampled (`samples`) and judged:

- *component*: samples joined through common cells; the one with most supported area is the membrane, others are kept
  only where at least half of them is supported;
- *supported*: within ``limit`` voxels of a selected raw point;
- *closed*: the component does not touch the border of the traced region, at least `LEAST_SEEN` of it is supported, and
  the normals of what is supported cancel: |sum n dA| / sum dA <= `MOST_OPEN`. That ratio is 0 for a whole sphere and
  for a belt without both polar caps, 0.25 without one cap of 60 degrees, 0.5 for half a sphere and 1 for a flat sheet.
  The beam hides what lies above and below, not what lies aside: there the ratio has to be at most `MOST_ASIDE`, or a
  cup that opens sideways would be closed;
- *hole* (of an open surface): a connected unsupported patch that does not reach the border of the traced region and
  has less than `HOLE_SHARE` of its component's supported area: it is bridged (inferred). Patches are told apart where
  the way from one to the other is nowhere farther than `NECK` limits from the points: a gap that opens to the outside
  through a narrow neck is a hole;
- *tube*: an open surface whose seen normals cancel, lie in a plane and point to all sides of its axis: what was not
  seen of it between its ends is a hole, however large, for the missing wedge takes strips along all of its length;
- *outside*: any other unsupported patch: an open surface is cut there. The posterior alone does not know the rim: on 80
  simulated sheets a cut where the position's sd exceeds twice its median at the control points ends up to 5 voxels
  beyond it, this one up to 3.

Where a membrane leaves the traced region only above and below its points, narrowing, the region was too small: it
*tapers*, and is to be traced once more. A closed surface is kept whole: the caps that the missing wedge hides are
inferred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryoscale.fit.nearest import PointGrid
from cryoscale.fit.samples import Samples

__all__ = ["Verdict", "all_round", "judge"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
HOLE_SHARE = 0.25
NECK = 1.5
MOST_OPEN = 0.38
MOST_ASIDE = 0.2
"""Of the ratio's part within a slice: a sphere's without a cap of `HOLE_SHARE` of the rest; real vesicles: 0.09."""
LEAST_SEEN = 0.25
SECOND_SHARE = 0.1
TUBE_ALONG, TUBE_ROUND = 0.06, 0.1
"""Mean square of the seen normals' components: at most along the axis of a tube, and at least along both others."""
TUBE_RADIAL = 0.75
"""Least mean of how radially they point from one axis: those of many tubes in one cloud do not."""
LEAST_TURN = 0.05
"""Mean of the normals' z component, above the middle less below it, of what narrows; 0 in tubes, 0.5 on a sphere."""
BORDER_RING = 3.0
"""Voxels along the volume's border in which a membrane must have been seen to be taken as cut by it."""
DEEP_STEPS = 2.5
"""Unsupported samples that are farther, in steps, from any deep one are in a small void."""


@dataclass(frozen=True)
class Verdict:
    """What `judge` found."""

    keep: NDArray[np.bool_]
    """(n,) samples that belong to the membrane."""
    hole: NDArray[np.bool_]
    """(n,) samples kept though nothing was seen near them."""
    support: Array
    """(n,) distance to the nearest selected raw point."""
    closed: bool
    inferred: float
    """Share of the kept area without support."""
    components: int
    """Components of the zero set that were dropped."""
    tapers: bool = False
    """Whether it is open only because it leaves the traced region above or below the points, while it narrows."""


def judge(samples: Samples, data: Array, *, limit: float, box: tuple[Array, Array] | None = None) -> Verdict:
    """Decide which part of a zero set is the membrane.

    Parameters
    ----------
    samples
        The zero set.
    data
        (m, 3) selected raw points.
    limit
        Distance within which a sample counts as supported.
    box
        Corners of the volume, where it is known: where the border cuts a membrane that was seen up to it, what lies
        outside cannot have been seen and does not count against closing.
    """
    n = len(samples.points)
    if not n:
        none = np.zeros(0, bool)
        return Verdict(none, none, np.zeros(0), False, 0.0, 0)
    support = PointGrid.of(data).distance(samples.points)
    seen = support <= limit
    if box is not None:
        seen = seen | _beyond_the_volume(samples, seen, box)
    label, count = _join(samples.cells, np.ones(n, bool))
    supported = np.bincount(label, samples.areas * seen, count).astype(np.float64)
    total = np.bincount(label, samples.areas, count).astype(np.float64)
    keep = (supported >= SECOND_SHARE * supported.max()) & (supported > 0.5 * total)
    keep[supported.argmax()] = True
    closes = _closes(samples, seen, label, supported, total)
    cut = _outside(samples, seen, support > NECK * limit, label, supported) & ~closes[label]
    cut &= ~_within_tubes(samples, seen, label, supported, limit)
    kept = keep[label] & ~cut
    area = samples.areas * kept
    inferred = float((area * ~seen).sum() / max(area.sum(), 1e-12))
    closed = bool(closes[keep].all())
    tapers = not closed and bool((closes | _tapers(samples, support <= limit, label, data, box))[keep].all())
    return Verdict(kept, kept & ~seen, support, closed, inferred, int(count - keep.sum()), tapers)


def all_round(mean_normal: Array) -> NDArray[np.bool_]:
    """Return whether surfaces were seen from all sides, by the means (.., 3) of the normals of what was seen."""
    aside = np.linalg.norm(mean_normal[..., 1:], axis=-1)
    return np.asarray((np.linalg.norm(mean_normal, axis=-1) <= MOST_OPEN) & (aside <= MOST_ASIDE))


def _beyond_the_volume(samples: Samples, seen: NDArray[np.bool_], box: tuple[Array, Array]) -> NDArray[np.bool_]:
    """Return which samples lie outside the volume where a membrane that was seen goes on."""
    low, high = np.asarray(box[0], float), np.asarray(box[1], float)
    beyond = np.maximum(low - samples.points, samples.points - high).max(1)
    outside, ring = beyond > 0, (beyond <= 0) & (beyond > -BORDER_RING)
    patch, count = _join(samples.cells, outside | ring)
    ring_area = np.bincount(patch, samples.areas * ring, count)
    # A patch whose foot on the border was mostly not seen is a mere continuation of the field.
    cut = np.bincount(patch, samples.areas * (ring & seen), count) > 0.5 * ring_area
    return np.asarray(outside & cut[patch])


def _closes(
    samples: Samples, seen: NDArray[np.bool_], label: Index, supported: Array, total: Array
) -> NDArray[np.bool_]:
    """Return which components are closed surfaces."""
    border = np.bincount(label, samples.border, len(total)) > 0
    return ~border & _surrounds(samples, seen, label, supported, total)


def _surrounds(
    samples: Samples, seen: NDArray[np.bool_], label: Index, supported: Array, total: Array
) -> NDArray[np.bool_]:
    """Return which components were seen from all sides."""
    return np.asarray(_balanced(samples, seen, label, supported) & (supported >= LEAST_SEEN * total))


def _balanced(samples: Samples, seen: NDArray[np.bool_], label: Index, supported: Array) -> NDArray[np.bool_]:
    """Return the components whose seen normals cancel."""
    area, count = samples.areas * seen, len(supported)
    net = np.stack([np.bincount(label, area * samples.normals[:, axis], count) for axis in range(3)], 1)
    return all_round(net / np.maximum(supported, 1e-12)[:, None])


def _tapers(
    samples: Samples, seen: NDArray[np.bool_], label: Index, data: Array, box: tuple[Array, Array] | None
) -> NDArray[np.bool_]:
    """Return which components narrow to where the beam hides their caps, and leave the traced region only there.

    A tube is as balanced as a belt, but its normals do not turn up above and down below. What was seen up to the
    volume's border is cut there.
    """
    count = int(label.max()) + 1
    area = samples.areas * seen
    supported, total = (np.bincount(label, a, count).astype(np.float64) for a in (area, samples.areas))
    z, low, high = samples.points[:, 0], data[:, 0].min(), data[:, 0].max()
    turn = np.bincount(label, area * samples.normals[:, 0] * np.sign(z - (low + high) / 2), count)
    aside = np.bincount(label, samples.border & (z > low) & (z < high), count) > 0
    fits = _surrounds(samples, seen, label, supported, total)
    if box is not None:
        inner = np.minimum(samples.points - np.asarray(box[0], float), np.asarray(box[1], float) - samples.points)
        aside |= np.bincount(label, seen & (inner.min(1) < BORDER_RING), count) > 0
    return np.asarray(fits & ~aside & (turn >= LEAST_TURN * supported))


def _within_tubes(
    samples: Samples, seen: NDArray[np.bool_], label: Index, supported: Array, limit: float
) -> NDArray[np.bool_]:
    """Return which samples lie between the ends of a tube: what was seen reaches beyond them by the limit."""
    inside = np.zeros(len(seen), bool)
    area, balanced = samples.areas * seen, _balanced(samples, seen, label, supported)
    for number in np.flatnonzero(balanced & (supported >= SECOND_SHARE * supported.max())):
        rows = np.flatnonzero((label == number) & seen)
        normals, weights = samples.normals[rows], area[rows] / area[rows].sum()
        spread, axes = np.linalg.eigh((normals * weights[:, None]).T @ normals)
        if spread[0] <= TUBE_ALONG and spread[1] >= TUBE_ROUND and _radial(samples, rows, weights, axes) >= TUBE_RADIAL:
            along = samples.points @ axes[:, 0]
            ends = along[rows].min() + limit, along[rows].max() - limit
            between = (label == number) & (along >= ends[0]) & (along <= ends[1])
            if supported[number] >= LEAST_SEEN * samples.areas[between].sum():
                inside |= between
    return inside


def _radial(samples: Samples, rows: Index, weights: Array, axes: Array) -> float:
    """Return the mean of |n . r|, r from the axis that runs along ``axes[:, 0]`` through the middle of some samples."""
    away = (samples.points[rows] - weights @ samples.points[rows]) @ axes[:, 1:]
    size = np.maximum(np.linalg.norm(away, axis=1), 1e-12)
    return float(weights @ np.abs(((samples.normals[rows] @ axes[:, 1:]) * away).sum(1) / size))


def _outside(
    samples: Samples, seen: NDArray[np.bool_], deep: NDArray[np.bool_], label: Index, supported: Array
) -> NDArray[np.bool_]:
    """Return which samples lie in an unsupported patch that is not a hole, from which are far from the points."""
    cut = np.zeros(len(seen), bool)
    core = np.flatnonzero(~seen & deep)
    if not len(core):
        return cut
    blind = np.flatnonzero(~seen)
    joined, count = _join(samples.cells, ~seen & deep)
    far, near = cKDTree(samples.points[core]).query(samples.points[blind])
    patch = joined[core[near]]
    area = np.bincount(patch, samples.areas[blind], count)
    border = np.bincount(patch, samples.border[blind], count) > 0
    owner = np.zeros(count, np.int64)
    owner[joined[core]] = label[core]
    cut[blind] = (border | (area > HOLE_SHARE * supported[owner]))[patch] & (far <= DEEP_STEPS * samples.step)
    return cut


def _join(cells: Index, live: NDArray[np.bool_]) -> tuple[Index, int]:
    """Return component numbers (n,) of live samples joined through common cells (0 for the others), and the count."""
    rows = np.flatnonzero(live)
    label = np.zeros(len(live), np.int64)
    if not len(rows):
        return label, 0
    used, where = np.unique(cells[rows], return_inverse=True)
    left = np.repeat(np.arange(len(rows)), cells.shape[1])
    size = len(rows) + len(used)
    graph = coo_matrix((np.ones(len(left), np.int8), (left, len(rows) + where.ravel())), (size, size))
    count, labels = connected_components(graph, directed=False)
    label[rows] = labels[: len(rows)]
    return label, int(count)
