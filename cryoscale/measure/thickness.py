r"""How thick a membrane is, from the raw density along its normals.

    p(s) = b0 + b1 s + A1 exp(-(s - c - t/2)^2 / 2 w^2) + A2 exp(-(s - c + t/2)^2 / 2 w^2)

Two peaks of one width stand for the two layers of head groups; t, the distance between them, is the thickness, c how
far the middle lies from the surface. Profiles are averaged over patches of the surface, for a single one is noise. The
width is what the microscope, the voxels and the surface's own errors leave of a layer, much the same all over a
membrane: it is found once, from the mean of all patches moved to their own middles, and then held, and so t is known
of patches where both could not be. Standard errors are those of least squares with the covariance that the profiles of
small cells within the patch show (of patches within the membrane), so that noise correlated along s counts as it is.

A patch is **good** unless it is

- ``beam``: its normal is within 30 degrees of the beam, where the missing wedge blurs a membrane along its normal;
- ``faint``: either peak is below four times its standard error, or they have different signs;
- ``unresolved``: t is below two widths, where two peaks are one, or its standard error is above 0.5 nm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

__all__ = ["QUALITIES", "Peaks", "Thickness", "fit_peaks", "geodesic_patches", "measure_thickness", "profiles_at"]

Array = NDArray[np.float64]
QUALITIES = ("good", "beam", "faint", "unresolved")
BEAM_DEGREES = 30.0
LEAST_CONTRAST = 4.0
LARGEST_ERROR_NM = 0.5
RESOLVED_WIDTHS = 2.0
STARTS_NM = (2.5, 4.0, 6.0)
WIDTHS_NM = (0.4, 3.0)
THICKNESS_NM = (0.5, 9.0)
MOST_OFF_NM = 2.5
_STEPS = 40
_LEAST_CELLS = 4
_FLAT = 1e-9
"""A profile that varies by less than this share of the density is constant."""


@dataclass(frozen=True)
class Peaks:
    """Fits to p profiles."""

    values: Array
    """(p, 7): b0, b1, A1, A2, t, c, w."""
    errors: Array
    """(p, 7) standard errors."""


@dataclass(frozen=True)
class Thickness:
    """Thickness of a membrane and of its p patches, in nm."""

    whole: float | None
    """Of the mean of the patches that lie across the beam; None where two peaks cannot be told in it."""
    whole_error: float | None
    patch: Array
    """(p,) NaN where there was nothing to fit."""
    error: Array
    contrast: Array
    """(p,) the smaller peak over its standard error."""
    quality: NDArray[np.int64]
    """(p,) row of `QUALITIES`."""


def geodesic_patches(vertices: NDArray[np.floating], faces: NDArray[np.integer], pitch: float) -> NDArray[np.int64]:
    """Divide a mesh into patches of about one edge length: (n,) number of each vertex's patch, from 0.

    One vertex is a seed in each occupied cube of edge `pitch`; every vertex belongs to the seed nearest to it along the
    edges of the mesh, so that a patch never has two sheets that lie close to each other.
    """
    cube = np.floor((vertices - vertices.min(axis=0)) / pitch).astype(np.int64)
    keys = np.ravel_multi_index(tuple(cube.T), tuple(cube.max(axis=0) + 1))
    _, seeds = np.unique(keys, return_index=True)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    length = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1).astype(np.float64)
    graph = coo_array((np.maximum(length, 1e-9), tuple(ends.T)), shape=(len(vertices),) * 2).tocsr()
    _, _, source = dijkstra(graph, directed=False, indices=seeds, min_only=True, return_predecessors=True)
    # A vertex without an edge to any seed is its own patch, and has no face.
    found, patch = np.unique(np.where(source < 0, np.arange(len(vertices)), source), return_inverse=True)
    del found
    return np.asarray(patch.reshape(-1), np.int64)


def profiles_at(
    block: NDArray[np.floating], places: NDArray[np.floating], normals: NDArray[np.floating], offsets: Array
) -> Array:
    """Return the density (n, k) along normals, by linear interpolation; NaN beyond the block.

    Parameters
    ----------
    block
        Density, z, y, x.
    places, normals
        (n, 3) in voxels of the block, and unit normals.
    offsets
        (k,) distances along the normals, in voxels.
    """
    along = places[:, None] + offsets[:, None] * normals[:, None]
    found: Array = map_coordinates(
        block.astype(np.float64, copy=False), along.reshape(-1, 3).T, order=1, mode="constant", cval=np.nan
    )
    return found.reshape(len(places), len(offsets))


def measure_thickness(
    cells: Array, counts: NDArray[np.integer], patch: NDArray[np.int64], angle_degrees: Array, offsets_nm: Array
) -> Thickness:
    """Return the thickness of a membrane and of its patches.

    Parameters
    ----------
    cells
        (m, k) mean profile of each small cell of the surface.
    counts
        (m,) vertices it is the mean of.
    patch
        (m,) patch of each cell, from 0; ascending.
    angle_degrees
        (p,) angle between each patch's normal and the beam.
    offsets_nm
        (k,) evenly spaced distances along the normals.
    """
    total = len(angle_degrees)
    mean, covariance = _mean_profiles(cells, counts.astype(np.float64), patch, total)
    finite = np.asarray(np.isfinite(mean).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2)))
    # Where a tomogram was padded its density is one constant, in which there is nothing to fit.
    known = finite & (
        np.ptp(np.where(finite[:, None], mean, 0.0), axis=1) > _FLAT * np.nanmax(np.abs(cells), initial=0)
    )
    empty = np.full(total, np.nan)
    quality = np.full(total, QUALITIES.index("faint"))
    side = np.flatnonzero(known & (angle_degrees >= BEAM_DEGREES))
    if not len(side):
        quality[known] = QUALITIES.index("beam")
        return Thickness(None, None, empty, empty.copy(), empty.copy(), quality)
    whole = _whole_membrane(mean[side], covariance[side], offsets_nm)
    rows = np.flatnonzero(known)
    found = fit_peaks(mean[rows], covariance[rows], offsets_nm, width=float(whole.values[0, 6]))
    quality[rows] = _judge(found, angle_degrees[rows])
    thick, error, contrast = empty.copy(), empty.copy(), empty.copy()
    thick[rows], error[rows], contrast[rows] = found.values[:, 4], found.errors[:, 4], _contrast(found)
    if _judge(whole, np.array([90.0]))[0]:
        quality[quality == 0] = QUALITIES.index("unresolved")
        return Thickness(None, None, thick, error, contrast, quality)
    return Thickness(float(whole.values[0, 4]), float(whole.errors[0, 4]), thick, error, contrast, quality)


def _mean_profiles(cells: Array, counts: Array, patch: NDArray[np.int64], total: int) -> tuple[Array, Array]:
    """Mean profile of each patch (p, k) and its covariance (p, k, k) from the scatter of its cells; NaN for few."""
    length = cells.shape[1]
    mean, covariance = np.full((total, length), np.nan), np.full((total, length, length), np.nan)
    fine = np.isfinite(cells).all(axis=1) & (counts > 0)
    cells, counts, patch = cells[fine], counts[fine], patch[fine]
    starts = np.searchsorted(patch, np.arange(total + 1))
    for number in range(total):
        rows = slice(starts[number], starts[number + 1])
        weights = counts[rows]
        if len(weights) < _LEAST_CELLS:
            continue
        share = weights / weights.sum()
        mean[number] = share @ cells[rows]
        off = share[:, None] * (cells[rows] - mean[number])
        covariance[number] = off.T @ off * len(weights) / (len(weights) - 1)
    return mean, covariance


def _whole_membrane(mean: Array, covariance: Array, offsets: Array) -> Peaks:
    """Fit the mean of patches, each moved to its own middle; its error is from the scatter of the patches."""
    share = np.full(len(mean), 1 / len(mean))
    whole, spread = share @ mean, covariance.mean(axis=0) / len(mean)
    rough = fit_peaks(whole[None], spread[None], offsets)
    if len(mean) == 1:
        return rough
    each = fit_peaks(mean, covariance, offsets, width=float(rough.values[0, 6]))
    # A middle that noise has set is worse than none: moved only where it is known to a fraction of the thickness.
    sure = (each.errors[:, 5] < LARGEST_ERROR_NM) & (_contrast(each) > LEAST_CONTRAST)
    middle = np.where(sure, each.values[:, 5], rough.values[0, 5])
    moved = np.stack([np.interp(offsets + c, offsets, row) for c, row in zip(middle, mean, strict=True)])
    off = (moved - moved.mean(axis=0)) / len(moved)
    return fit_peaks(moved.mean(axis=0)[None], (off.T @ off * len(moved) / (len(moved) - 1))[None], offsets)


def _contrast(found: Peaks) -> Array:
    return np.asarray((np.abs(found.values[:, 2:4]) / np.maximum(found.errors[:, 2:4], 1e-300)).min(axis=1))


def _judge(found: Peaks, angle_degrees: Array) -> NDArray[np.int64]:
    thick, width = found.values[:, 4], found.values[:, 6]
    quality = np.zeros(len(thick), np.int64)
    lost = (
        (thick < RESOLVED_WIDTHS * width) | (found.errors[:, 4] > LARGEST_ERROR_NM) | (thick >= THICKNESS_NM[1] - 0.01)
    )
    quality[lost] = QUALITIES.index("unresolved")
    faint = (_contrast(found) < LEAST_CONTRAST) | (found.values[:, 2] * found.values[:, 3] <= 0)
    quality[faint] = QUALITIES.index("faint")
    quality[angle_degrees < BEAM_DEGREES] = QUALITIES.index("beam")
    return quality


def fit_peaks(profiles: Array, covariance: Array, offsets: Array, *, width: float | None = None) -> Peaks:
    """Fit two peaks to each of p profiles by least squares, all at once.

    Parameters
    ----------
    profiles
        (p, k).
    covariance
        (p, k, k) of each profile's values.
    offsets
        (k,) in nm.
    width
        Of the peaks, in nm, where it is known.
    """
    best: Array | None = None
    least = np.full(len(profiles), np.inf)
    scale = np.maximum(np.ptp(profiles, axis=1), 1e-300)
    scaled = (profiles - profiles.mean(axis=1, keepdims=True)) / scale[:, None]
    for start in STARTS_NM:
        values, cost = _descend(scaled, offsets, start, width)
        if best is None:
            best = values.copy()
        better = cost < least
        best[better], least[better] = values[better], cost[better]
    assert best is not None
    _, slopes = _model(best, offsets)
    if width is not None:
        slopes = slopes[:, :, :6]
    normal = np.swapaxes(slopes, 1, 2) @ slopes
    normal += 1e-12 * np.eye(normal.shape[1]) * np.trace(normal, axis1=1, axis2=2)[:, None, None]
    gain = np.linalg.solve(normal, np.swapaxes(slopes, 1, 2))
    spread = gain @ (covariance / scale[:, None, None] ** 2) @ np.swapaxes(gain, 1, 2)
    errors = np.zeros_like(best)
    errors[:, : spread.shape[1]] = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0))
    best[:, :4] *= scale[:, None]
    errors[:, :4] *= scale[:, None]
    best[:, 0] += profiles.mean(axis=1)
    return Peaks(best, errors)


def _descend(profiles: Array, offsets: Array, start: float, width: float | None) -> tuple[Array, Array]:
    """Levenberg-Marquardt for all profiles side by side, within bounds; returns (p, 7) and (p,) sums of squares."""
    count = len(profiles)
    free = 7 if width is None else 6
    ends = (profiles[:, 0] + profiles[:, -1]) / 2
    middle = np.abs(offsets) <= 3.0
    height = (profiles[:, middle] - ends[:, None]).mean(axis=1)
    values = np.zeros((count, 7))
    values[:, 0], values[:, 2], values[:, 3] = ends, height, height
    values[:, 4], values[:, 6] = start, 1.0 if width is None else width
    low = np.array([-np.inf] * 4 + [THICKNESS_NM[0], -MOST_OFF_NM, WIDTHS_NM[0]])
    high = np.array([np.inf] * 4 + [THICKNESS_NM[1], MOST_OFF_NM, WIDTHS_NM[1]])
    damping = np.full(count, 1e-2)
    model, slopes = _model(values, offsets)
    cost = ((profiles - model) ** 2).sum(axis=1)
    for _ in range(_STEPS):
        slope = slopes[:, :, :free]
        normal = np.swapaxes(slope, 1, 2) @ slope
        right = np.einsum("pkf,pk->pf", slope, profiles - model)
        size = np.diagonal(normal, axis1=1, axis2=2) + 1e-9
        step = np.linalg.solve(normal + damping[:, None, None] * size[:, :, None] * np.eye(free), right[:, :, None])
        trial = values.copy()
        trial[:, :free] += step[:, :, 0]
        trial = np.clip(trial, low, high)
        ahead, lean = _model(trial, offsets)
        tried = ((profiles - ahead) ** 2).sum(axis=1)
        better = tried < cost
        values[better], model[better], slopes[better], cost[better] = (
            trial[better], ahead[better], lean[better], tried[better]
        )  # fmt: skip
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
    return values, cost


def _model(values: Array, offsets: Array) -> tuple[Array, Array]:
    """Return the profiles (p, k) and their derivatives (p, k, 7)."""
    b0, b1, a1, a2, t, c, w = (values[:, k, None] for k in range(7))
    s = offsets[None]
    x1, x2 = s - c - t / 2, s - c + t / 2
    e1, e2 = np.exp(-0.5 * (x1 / w) ** 2), np.exp(-0.5 * (x2 / w) ** 2)
    d1, d2 = a1 * e1 * x1 / w**2, a2 * e2 * x2 / w**2
    broad = (a1 * e1 * x1**2 + a2 * e2 * x2**2) / w**3
    one = np.broadcast_to(1.0, e1.shape)
    slopes = np.stack([one, np.broadcast_to(s, e1.shape), e1, e2, (d1 - d2) / 2, d1 + d2, broad], 2)
    return b0 + b1 * s + a1 * e1 + a2 * e2, slopes
