r"""Normals of a cloud of control points: directions by local PCA, signs by a minimum spanning tree.

The sign travels along the tree from point i to point j by reflection: with e the unit vector from i to j,

    n_i' = n_i - 2 (n_i . e) e,     n_j <- sign(n_j . n_i') n_j

On a circle n_i' is exactly n_j for any two points, in a plane it is n_i, and across a gap between two facing sheets
it is -n_i, which is right for consecutive sheets of one surface. So the rule also bridges missing caps. The cost of an
edge is 1 - |n_j . n_i'| plus terms that prefer short edges which run along the surface.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from cryoscale.fit.moments import fit_paraboloids
from cryoscale.fit.noise import BEAM_DOUBT, MOST_STRETCH, LocalFit, PointNoise, point_noise, pulled_noise

__all__ = ["centre_line", "local_planes", "orient"]

Array = NDArray[np.float64]
GRAPH_NEIGHBOURS = 10
PLANE_POINTS = 64
CLOUD_SHARE = 10
ROUNDS, SAME_STRETCH = 4, 0.05
"""Most fits of a neighbourhood, each with z shrunk by what the one before it showed; and when that is enough."""
LIKELY, TRIAL_STRETCH = 0.0, 2.0
"""Standard errors from which worse noise along z is tried, and how much worse."""
SAMPLED_AGAIN = 500
"""Neighbourhoods whose residuals are looked at then."""
MOST_HEIGHT = 0.5
"""Farthest that a control point is moved, over the reach of its neighbourhood."""
LEAST_OWN = 1e-4
"""Least variance of a raw point, in squared voxels."""
QUADRATIC_PRIOR = 1e-3
"""Ridge on the paraboloid's terms, of lengths over the radius: decides only where the points do not."""


def local_planes(
    centres: Array,
    points: Array,
    weights: Array,
    *,
    radius: float,
    seed: int = 0,
    stretch: float = 1.0,
) -> LocalFit:
    """Fit planes, then paraboloids, around control points.

    Parameters
    ----------
    centres
        (m, 3) control points.
    points, weights
        (n, 3), (n,) the cloud they stand for; about 10 of them per control point are used, drawn by ``seed``.
    radius
        Reach of a neighbourhood, in the unit of the points; wider where it would hold fewer than 8 points.
    stretch
        How many times worse points are along z than across it (standard deviations): planes are fitted with z shrunk
        until noise is alike in all axes.

    Returns
    -------
    LocalFit
        Unit normals (m, 3), of arbitrary sign, the heights (m,) of the cloud's middle along them, above the control
        points (where the paraboloid crosses the normal; a mean would lie inside a curved surface, by
        radius^2 / 8 R), and what their errors follow from.
    """
    local, share, distance = _around(centres, points, weights, seed)
    reach = np.maximum(radius, 1.1 * distance[:, min(distance.shape[1], 8) - 1])[:, None]
    taper = np.clip(1 - (distance / reach) ** 2, 0, None) ** 2 * share + 1e-12
    taper /= taper.sum(1, keepdims=True)
    even = local * [1 / stretch, 1.0, 1.0]
    spread = even - (taper[..., None] * even).sum(1)[:, None]
    frames = np.linalg.eigh(np.einsum("mk,mki,mkj->mij", taper, spread, spread))[1]
    height = np.einsum("mki,mi->mk", even, frames[:, :, 0]) / reach
    # Lengths of the frame's axes where z is as it was; exactly 1 without a stretch.
    length = np.sqrt(1 + (stretch**2 - 1) * frames[:, 0] ** 2)
    u, v = (length[:, axis, None] * np.einsum("mki,mi->mk", even, frames[:, :, axis]) / reach for axis in (2, 1))
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    normal_matrix = np.einsum("mk,mki,mkj->mij", taper, terms, terms) + np.diag([0, *[QUADRATIC_PRIOR] * 5])
    inverse = np.linalg.inv(normal_matrix)
    found = (inverse @ np.einsum("mkj,mk->mj", terms, taper * height)[..., None])[..., 0]
    back = 1 / np.sqrt(1 + (stretch**-2 - 1) * frames[:, 0, 0] ** 2)
    normals = frames[:, :, 0] / [stretch, 1.0, 1.0] * back[:, None]
    heights = np.clip(found[:, 0] * reach[:, 0] * back, -MOST_HEIGHT * radius, MOST_HEIGHT * radius)
    along = np.stack([u, v], -1) * reach[..., None]
    beam = frames[:, 0, 0] ** 2
    return LocalFit(normals, heights, terms, inverse, taper, height * reach, along, back, beam)


def centre_line(
    centres: Array, points: Array, weights: Array, *, radius: float, seed: int = 0
) -> tuple[Array, Array, PointNoise]:
    """Return control points moved along their normals to the middle of the cloud around them, normals and noise."""

    @functools.cache
    def planes(stretch: float) -> LocalFit:
        return local_planes(centres, points, weights, radius=radius, seed=seed, stretch=stretch)

    @functools.cache
    def measured(stretch: float) -> tuple[LocalFit, PointNoise]:
        return planes(stretch), point_noise(planes(stretch), sampled=SAMPLED_AGAIN)

    fit = planes(1.0)
    noise = point_noise(fit)
    stretch = _stretch(measured, noise)
    if stretch == 1:
        return centres + fit.heights[:, None] * fit.normals, fit.normals, noise
    fit, noise = measured(stretch)
    local, share, distance = _around(centres, points, weights, seed)
    reach = np.maximum(radius, 1.1 * distance[:, min(distance.shape[1], 8) - 1])
    if distance.shape[1] < len(points):
        reach = np.minimum(reach, distance[:, -1])
    covariance = max(noise.own, LEAST_OWN) * np.diag([stretch**2, 1, 1])
    most = MOST_HEIGHT * radius
    found = fit_paraboloids(centres, local, share, reach, fit.normals, noise=covariance, most=most)
    sd = pulled_noise(found.pull, found.along, noise.own, noise.common)
    return found.places, found.normals, replace(noise, sd=sd, whole=found.whole)


def _stretch(measured: Callable[[float], tuple[LocalFit, PointNoise]], noise: PointNoise) -> float:
    """Return how many times worse points are along z, 1 where that does not show.

    Planes tilt with noise along z and hide it; planes fitted as if it were there tilt the other way where it is not. So
    where it hardly shows, the ratios of both ways together decide: of 100 clouds of five shapes with twice the noise
    along z and caps missing beyond |n_z| = 0.5, 97 are told, and 7 of 100 whose noise is alike are taken for such.
    """
    stretch = 1.0
    if noise.ratio_shows < BEAM_DOUBT:
        if noise.ratio_shows < LIKELY:
            return 1.0
        stretch, noise = TRIAL_STRETCH, measured(TRIAL_STRETCH)[1]
        # Which is farther from noise that is alike in all axes: what is left of it with the trial, or without?
        if noise.ratio * measured(1.0)[1].ratio < 1:
            return 1.0
    for _ in range(ROUNDS):
        wanted = min(max(stretch * noise.ratio**0.5, 1.0), MOST_STRETCH)
        if abs(wanted / stretch - 1) < SAME_STRETCH:
            break
        stretch, noise = wanted, measured(wanted)[1]
    return stretch


def _around(centres: Array, points: Array, weights: Array, seed: int) -> tuple[Array, Array, Array]:
    """Return points around control points (m, k, 3), from these, their weights and distances (m, k)."""
    most = max(CLOUD_SHARE * len(centres), 4 * PLANE_POINTS)
    if len(points) > most:
        rows = np.random.default_rng(seed).permutation(len(points))[:most]
        points, weights = points[rows], weights[rows]
    k = min(PLANE_POINTS, len(points))
    distance, near = cKDTree(points).query(centres, k=k)
    distance, near = distance.reshape(len(centres), k), near.reshape(len(centres), k)
    return points[near] - centres[:, None], weights[near], distance


def orient(points: Array, normals: Array) -> Array:
    """Return normals (n, 2) or (n, 3) with consistent signs, pointing outward where the points enclose something.

    Raises
    ------
    ValueError
        If there are fewer than two points.
    """
    if len(points) < 2:
        msg = f"normals are oriented by their neighbours; found {len(points)} point"
        raise ValueError(msg)
    left, right = _edges(points)
    step = points[right] - points[left]
    length = np.linalg.norm(step, axis=1)
    e = step / np.maximum(length, 1e-12)[:, None]
    across = (normals[left] * e).sum(1)
    agreement = (normals[right] * normals[left]).sum(1) - 2 * across * (normals[right] * e).sum(1)
    lean = 0.5 * (np.abs(across) + np.abs((normals[right] * e).sum(1)))
    typical = float(np.median(length))
    cost = 1 - np.abs(agreement) + 0.3 * lean + 0.05 * (length / typical) ** 2 + 1e-6
    n = len(points)
    tree = minimum_spanning_tree(coo_matrix((cost, (left, right)), (n, n)).tocsr())
    order, parent = breadth_first_order(tree, 0, directed=False)
    signs: Array = _walk(points, normals, order, parent)
    oriented = normals * signs[:, None]
    flux = ((points - points.mean(0)) * oriented).sum()
    return oriented if flux >= 0 else -oriented


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(points: Any, normals: Any, order: Any, parent: Any) -> Any:
    """Return the sign of each normal (n,), handed from parents to children."""
    signs = np.ones(len(points))
    for child in order[1:]:
        i = parent[child]
        length = across = agreement = 0.0
        for axis in range(points.shape[1]):
            length += (points[child, axis] - points[i, axis]) ** 2
            across += (points[child, axis] - points[i, axis]) * normals[i, axis]
        for axis in range(points.shape[1]):
            step = points[child, axis] - points[i, axis]
            agreement += (normals[i, axis] - 2 * across * step / max(length, 1e-24)) * normals[child, axis]
        signs[child] = signs[i] if agreement >= 0 else -signs[i]
    return signs


def _edges(points: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges of the neighbour graph, its components joined by their shortest links."""
    n = len(points)
    k = min(GRAPH_NEIGHBOURS, n - 1)
    near = cKDTree(points).query(points, k=k + 1)[1].reshape(n, k + 1)[:, 1:]
    left, right = np.repeat(np.arange(n), k), near.ravel()
    while True:
        count, labels = connected_components(coo_matrix((np.ones(len(left)), (left, right)), (n, n)), directed=False)
        if count == 1:
            break
        inside = labels == np.argmin(np.bincount(labels))
        distance, other = cKDTree(points[~inside]).query(points[inside])
        shortest = np.argsort(distance)[:3]
        left = np.concatenate([left, np.flatnonzero(inside)[shortest]])
        right = np.concatenate([right, np.flatnonzero(~inside)[other[shortest]]])
    low, high = np.minimum(left, right), np.maximum(left, right)
    unique = np.unique(np.stack([low, high], 1)[low != high], axis=0)
    return unique[:, 0], unique[:, 1]
