r"""From raw points to the task of choosing a prior: selection, control points, normals, pairs, ellipsoid.

The number of control points follows the area: about one per 35 square voxels, at least 150 where the points allow it,
at most the cap; more does not make caps better. Areas worth more than `LARGE` control points are kept at that density
and fitted in patches instead; what no patch is near of, as the caps of a large vesicle, is left to a fit of the whole
with as many control points as the cap allows. Where facing sheets are so near that one neighbourhood would hold both
(`folds`), control points are made denser, and patches are used for more of them than the cap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.fit.constraints import Constraints, signed_pairs
from cryoscale.fit.ellipsoid import Ellipsoid, fit_ellipsoid
from cryoscale.fit.folds import folded
from cryoscale.fit.normals import centre_line, orient
from cryoscale.fit.select import Selection, check_points, infer_spacing, merge_cells, select_points, thin
from cryoscale.fit.systematic import Systematic
from cryoscale.fit.zero_set import all_round

__all__ = ["LARGE", "Prepared", "prepare"]

Array = NDArray[np.float64]
CELL = 7.0
FINEST_CELL = 2.5
LEAST_POINTS = 150
LARGE = 1500
LEAST_CONTROL = 3
MOST_SLENDER = 6.0
"""Ratio of its half axes up to which an ellipsoid is offered as the prior mean."""
FARTHEST_OFF = 0.2
"""Spread of the control points about it, over its least half axis, up to which it is.

Seen are 0.01 for ellipsoids, 0.02 to 0.16 for bumpy shapes, peanuts and real vesicles, and 0.27 to 0.6 for bent ones:
one of those was given a cap four times as high as it should have been.
"""
PLANE_REACH = 1.2
"""Radius of a plane's neighbourhood over the distance of control points."""
EXACT = 0.1
EXACT_REACH = 0.8
"""Where control points are nearly exact, what a paraboloid misses of the surface matters more than noise."""


@dataclass(frozen=True)
class Prepared:
    """One membrane ready to be fitted; lengths in voxels."""

    unit: float
    selection: Selection
    constraints: Constraints
    normals: Array
    """(surface points, 3) oriented."""
    cell: float
    """Distance of control points."""
    radius: float
    ellipsoid: Ellipsoid | None
    limit: float
    """Distance to the raw points within which the surface counts as seen."""
    large: bool
    systematic: Systematic
    """What the points have wrong in common."""
    whole: Prepared | None = None
    """Of a large membrane: the same with few control points, to be fitted in one piece; None where it is folded."""


def prepare(
    points: object, *, weights: object = None, spacing: float | None = None, cap: int = 500, seed: int = 0
) -> Prepared:
    """Select, thin and orient; arguments and errors as in `fit_surface`."""
    array, share = check_points(points, weights)
    unit = infer_spacing(array) if spacing is None else float(spacing)
    if not (np.isfinite(unit) and unit > 0):
        msg = f"spacing must be a positive length, found {spacing}"
        raise ValueError(msg)
    raw = select_points(array / unit, share)
    step = float(np.median(cKDTree(raw.points).query(raw.points[:: max(1, len(raw.points) // 2000)], k=2)[0][:, 1]))
    limit = max(3.0, 2.5 * step)
    fine = _prepared(raw, _control_points(raw, cap), unit=unit, limit=limit, seed=seed)
    if not fine.large:
        return fine
    few = (*thin(raw.points, raw.weights, cap=cap, cell=CELL), False)
    if folded(raw.points, PLANE_REACH * few[2]):
        return fine
    return replace(fine, whole=_prepared(raw, few, unit=unit, limit=limit, seed=seed, like=fine))


def _prepared(
    raw: Selection,
    control_points: tuple[Array, Array, float, bool],
    *,
    unit: float,
    limit: float,
    seed: int,
    like: Prepared | None = None,
) -> Prepared:
    """Make constraints of control points, their normals turned as those of a finer preparation are."""
    means, merged, cell, large = control_points
    control, normals, noise = centre_line(means, raw.points, raw.weights, radius=PLANE_REACH * cell, seed=seed)
    if np.median(noise.sd) < EXACT:
        control, normals, noise = centre_line(means, raw.points, raw.weights, radius=EXACT_REACH * cell, seed=seed)
    keep = noise.whole.copy()
    keep[keep] = _distinct(control[keep])
    control, merged, sd = control[keep], merged[keep], noise.sd[keep]
    if len(control) < LEAST_CONTROL:
        msg = (
            f"the {len(raw.points)} points make {len(control)} control points {cell:g} voxels apart, voxel {unit:g}; "
            f"a surface needs {LEAST_CONTROL}: give more points, or the voxel size where points are sparser than voxels"
        )
        raise ValueError(msg)
    normals = orient(control, normals[keep])
    if like is not None:
        near = cKDTree(like.constraints.points[: like.constraints.surface]).query(control)[1]
        normals = normals * (1.0 if (normals * like.normals[near]).sum() >= 0 else -1.0)
    middle = np.average(control, axis=0, weights=np.minimum(merged, 9))
    radius = float(np.median(np.linalg.norm(control - middle, axis=1)))
    closed = bool(all_round(normals.mean(0)))
    systematic = Systematic(noise.common_share, closed, radius)
    shift = systematic.shift(normals)
    constraints = signed_pairs(control, sd, normals, radius=radius, spacing=cell, shift=shift)
    ellipsoid = None
    if not large and len(control) >= 12:
        found, spread = fit_ellipsoid(control, weights=np.minimum(merged, 9))
        # Beyond the edge of a flatter one the first-order distance is none, and has zeros of its own.
        fits = found.axes.max() <= MOST_SLENDER * found.axes.min() and spread <= FARTHEST_OFF * found.axes.min()
        ellipsoid = found if fits else None
    return Prepared(unit, raw, constraints, normals, cell, radius, ellipsoid, limit, large, systematic)


def _control_points(raw: Selection, cap: int) -> tuple[Array, Array, float, bool]:
    """Return control points, the weights of the points each stands for, their distance, and whether to use patches."""
    cell, most = CELL, LARGE
    means, merged = merge_cells(raw.points, raw.weights, cell)
    if cap < len(means) <= LARGE:
        thinned = thin(raw.points, raw.weights, cap=cap, cell=cell)
        if not folded(raw.points, PLANE_REACH * thinned[2]):
            return *thinned, False
        most = cap
    while len(means) < min(LEAST_POINTS, len(raw.points)) and cell > FINEST_CELL:
        cell = max(FINEST_CELL, cell * 0.85)
        means, merged = merge_cells(raw.points, raw.weights, cell)
    while cell > FINEST_CELL and folded(raw.points, PLANE_REACH * cell):
        cell, most = max(FINEST_CELL, cell * 0.75), cap
        means, merged = merge_cells(raw.points, raw.weights, cell)
    return means, merged, cell, len(means) > most


def _distinct(points: Array) -> NDArray[np.bool_]:
    """Return which control points to keep of those that came to lie within half a voxel of each other."""
    pairs = cKDTree(points).query_pairs(0.5, output_type="ndarray")
    keep = np.ones(len(points), bool)
    for first, second in pairs:
        if keep[first] and keep[second]:
            keep[second] = False
    return keep
