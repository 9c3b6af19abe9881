r"""How thick a membrane is, from the raw density along its normals.

Two peaks of one width (`cryoscale.measure.peaks`) stand for the two layers of head groups; t, the distance between
them, is the thickness, c how far the middle lies from the surface. Profiles are averaged over patches of the surface,
for a single one is noise.

**Width.** It is what the voxels, the missing wedge, the alignment and the surface's own errors leave of a layer, so it
differs with the direction of the normal; held the same all over, it makes t of patches 0.09 nm wrong, of single ones
0.2. It is found from the mean of all patches moved to their own middles; then each patch's is drawn towards the mean
of the patches' by the share of noise in how far it is off, as the scatter of all patches' has it (empirical Bayes).

**Errors.** Those of least squares, with the covariance that the profiles of small cells within the patch show and the
scatter of widths. Cells do not show all: noise hangs together beyond them, fringes of other things cross a patch, the
microscope is not quite the model's. All this leaves residuals larger than the cells tell, and the variances of a patch
grow as these do, by `OWN_SHARE` as its own and for the rest as the median of the membrane's patches; never below 1.

**Whole membranes.** t is the mean of the good patches, weighted by their errors, and its error is theirs or that of
their scatter, whichever is larger. Where fewer than `LEAST_PATCHES` are good it is that of the mean profile. What the
model gets wrong over all of a membrane, `SYSTEMATIC_NM` on simulated tomograms, joins every error.

What the microscope's defocus does to a bilayer is undone: without it, t of simulated bilayers of 3 to 5 nm comes out up
to 0.5 nm too large. Where the defocus is not stated, it is the one of `DEFOCUS_UM` whose fringes explain the mean
profile best, or none where it explains less than half of what plain peaks leave; what t would be at the values beside
it is then part of the error.

`OWN_SHARE` and `SYSTEMATIC_NM` were chosen on 18 membranes of two simulated tomograms, SNR 0.1 to 0.5; `python -m
benchmarks measure` scores the errors on spheres of other thicknesses, voxels and defocus.

Not part of the model: a trough between the layers, where tails are thinner than ice. One half as deep as the layers are
high adds up to 0.8 nm; to the spheres of that benchmark 0.2 nm on average, several times the stated errors.

A patch is **good** unless it is

- ``beam``: its normal is within 30 degrees of the beam, where the missing wedge blurs a membrane along its normal;
- ``faint``: either peak is below four times its standard error, or they have different signs;
- ``unresolved``: t is below two widths, where two peaks are one, or its standard error is above 0.5 nm.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from cryoscale.measure.peaks import THICKNESS_NM, WIDTHS_NM, Peaks, fit_peaks, transfer_at

__all__ = ["DEFOCUS_UM", "QUALITIES", "Thickness", "geodesic_patches", "measure_thickness", "profiles_at"]

Array = NDArray[np.float64]
QUALITIES = ("good", "beam", "faint", "unresolved")
BEAM_DEGREES = 30.0
LEAST_CONTRAST = 4.0
LARGEST_ERROR_NM = 0.5
RESOLVED_WIDTHS = 2.0
DEFOCUS_UM = np.arange(1.0, 8.01, 0.25)
"""Tried where it is not stated."""
LARGEST_MISFIT = 0.5
"""Of a defocus, in misfits of plain peaks."""
LEAST_PATCHES = 4
OWN_SHARE = 2 / 3
SYSTEMATIC_NM = 0.01
USUAL_WIDTH_SD_NM, LEAST_WIDTH_SD_NM = 0.1, 0.02
"""How much widths scatter where too few patches tell, and at least."""
_HALF_WITHIN = 0.4549
"""Median of the square of a standard normal number."""
_LEAST_CELLS = 4
_FLAT = 1e-9
"""A profile that varies by less than this share of the density is constant."""


@dataclass(frozen=True)
class Thickness:
    """Thickness of a membrane and of its p patches, in nm."""

    whole: float | None
    """None where two peaks cannot be told in the mean profile of the patches that lie across the beam."""
    whole_error: float | None
    patch: Array
    """(p,) NaN where there was nothing to fit."""
    error: Array
    contrast: Array
    """(p,) the smaller peak over its standard error."""
    quality: NDArray[np.int64]
    """(p,) row of `QUALITIES`."""
    defocus_um: float | None = None
    """That was undone; None where there was none, or nothing to fit."""


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
    cells: Array,
    counts: NDArray[np.integer],
    patch: NDArray[np.int64],
    angle_degrees: Array,
    offsets_nm: Array,
    *,
    defocus_um: float = 0.0,
    voltage_kv: float = 300.0,
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
    defocus_um
        Of the microscope; 0 where it is to be found.
    voltage_kv
        Of the microscope.
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
    tried = np.array([defocus_um]) if defocus_um else np.concatenate([[0.0], DEFOCUS_UM])
    whole, unsure_nm, defocus_um = _mean_profile(mean[side], covariance[side], offsets_nm, tried, voltage_kv)
    rows = np.flatnonzero(known)
    transfer, width = transfer_at(defocus_um, voltage_kv), float(whole.values[0, 6])
    found = _patches(mean, covariance, offsets_nm, transfer, width, rows, side)
    quality[rows] = _judge(found, angle_degrees[rows])
    thick, error, contrast = empty.copy(), empty.copy(), empty.copy()
    thick[rows], error[rows], contrast[rows] = found.values[:, 4], found.errors[:, 4], _contrast(found)
    stated = np.hypot(error, SYSTEMATIC_NM)
    undone = defocus_um or None
    if _judge(whole, np.array([90.0]))[0]:
        quality[quality == 0] = QUALITIES.index("unresolved")
        return Thickness(None, None, thick, stated, contrast, quality, undone)
    good = quality == 0
    mean_nm, error_nm = float(whole.values[0, 4]), float(whole.errors[0, 4] * np.sqrt(max(whole.excess[0], 1)))
    if good.sum() >= LEAST_PATCHES:
        mean_nm, error_nm = _mean_of(thick[good], error[good])
    error_nm = float(np.linalg.norm([error_nm, unsure_nm, SYSTEMATIC_NM]))
    return Thickness(mean_nm, error_nm, thick, stated, contrast, quality, undone)


def _patches(
    mean: Array,
    covariance: Array,
    offsets: Array,
    transfer: Array,
    width: float,
    rows: NDArray[np.intp],
    side: NDArray[np.intp],
) -> Peaks:
    """Fit some of the patches, with widths as those `side` of the beam have them, and errors as residuals ask for."""
    held = fit_peaks(mean[side], covariance[side], offsets, transfer, width=width)
    wider, sd = _scatter(held.wider, held.wider_error)
    own = float(np.clip(width + wider, *WIDTHS_NM))
    found = fit_peaks(mean[rows], covariance[rows], offsets, transfer, width=own, width_sd=sd)
    common = float(np.median(found.excess[np.isin(rows, side)]))
    stretch = np.maximum(OWN_SHARE * found.excess + (1 - OWN_SHARE) * common, 1)
    return dataclasses.replace(found, errors=found.errors * np.sqrt(stretch)[:, None])


def _scatter(values: Array, errors: Array) -> tuple[float, float]:
    """Return mean and sd of what is behind values with errors: half of the values are as near as both let half be."""
    mean, sd = float(np.median(values)), USUAL_WIDTH_SD_NM
    if len(values) < LEAST_PATCHES:
        return mean, sd
    for _ in range(3):
        low, high = LEAST_WIDTH_SD_NM, WIDTHS_NM[1]
        for _ in range(20):
            sd = (low + high) / 2
            near = np.median((values - mean) ** 2 / (errors**2 + sd**2)) < _HALF_WITHIN
            low, high = (low, sd) if near else (sd, high)
        square = errors**2 + sd**2
        weights = ((values - mean) ** 2 < 9 * square) / square
        mean = float(weights @ values / weights.sum())
    return mean, sd


def _mean_of(values: Array, errors: Array) -> tuple[float, float]:
    """Return the mean weighted by errors, and its error from these or from the scatter, whichever is larger."""
    weights = 1 / errors**2
    weights /= weights.sum()
    mean = float(weights @ values)
    scatter = (weights**2 @ (values - mean) ** 2) * len(values) / (len(values) - 1)
    return mean, float(np.sqrt(max(weights**2 @ errors**2, scatter)))


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


def _mean_profile(
    mean: Array, covariance: Array, offsets: Array, tried: Array, voltage_kv: float
) -> tuple[Peaks, float, float]:
    """Fit the mean of patches, each moved to its own middle: the fit, the error of t from the defocus, the defocus.

    The fit's errors are from the scatter of the patches; the defocus has one where several were `tried`.
    """
    share = np.full(len(mean), 1 / len(mean))
    whole, spread = (share @ mean)[None], covariance.mean(axis=0)[None] / len(mean)
    if len(mean) > 1:
        # Fringes lie to both sides: where the middle is does not depend on them.
        plain = transfer_at(0.0, voltage_kv)
        rough = fit_peaks(whole, spread, offsets, plain)
        each = fit_peaks(mean, covariance, offsets, plain, width=float(rough.values[0, 6]))
        # A middle that noise has set is worse than none: moved only where it is known to a fraction of the thickness.
        sure = (each.errors[:, 5] < LARGEST_ERROR_NM) & (_contrast(each) > LEAST_CONTRAST)
        middle = np.where(sure, each.values[:, 5], rough.values[0, 5])
        moved = np.stack([np.interp(offsets + c, offsets, row) for c, row in zip(middle, mean, strict=True)])
        off = (moved - moved.mean(axis=0)) / len(moved)
        whole, spread = moved.mean(axis=0)[None], (off.T @ off * len(moved) / (len(moved) - 1))[None]
    transfers = np.stack([transfer_at(float(defocus), voltage_kv) for defocus in tried])
    count = len(tried)
    found = fit_peaks(np.repeat(whole, count, 0), np.repeat(spread, count, 0), offsets, transfers)
    best = int(found.misfit.argmin())
    if tried[0] == 0 and found.misfit[best] > LARGEST_MISFIT * found.misfit[0]:
        best = 0
    beside = found.values[max(best - 1, 1) : best + 2, 4] if best else found.values[best : best + 1, 4]
    return found.part(np.array([best])), float(np.ptp(beside) / 2), float(tried[best])


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
