"""One membrane's ellipses, slice by slice, and the voxels they validate (paper: section 5.1).

A slice with few pixels starts from the ellipse of a better slice and may not leave its surroundings: the best slice
comes first, then those that suffice by themselves, and parameters and bounds are carried outwards to the others. Pixels
close to the ellipse are the validated ones. A slice that its ellipse does not describe validates all of its pixels, for
nothing is said against them; so does a membrane that goes half way round in no slice, whose ellipses are guesses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.ellipse import LEAST_CARRIED, LEAST_FREE, Bounds, Ellipse, check_pixels, fit_pixels, occupied

__all__ = ["fit_ellipses_by_slice", "goes_round", "near_ellipse", "near_ellipses", "slice_numbers"]

Array = NDArray[np.float64]
FULL_COVERAGE = 0.75
"""Share of the directions from which a slice is fitted by itself."""
CANDIDATES = 5
"""Slices that are fitted by themselves to find the best one."""
LIMIT_PIXELS, LIMIT_SPREADS = 3.0, 3.5
"""Pixels farther than this from the ellipse are not validated; more where the pixels of the slice spread more."""


def fit_ellipses_by_slice(
    slices: Mapping[int, Array], *, bounds: Bounds | None = None, noise_pixels: float = 1.0
) -> dict[int, Ellipse]:
    """Fit one membrane's ellipses: the best slice first, parameters and bounds carried outwards to poorer ones.

    Parameters
    ----------
    slices
        For each slice its pixels (n, 2), y, x.
    bounds
        How much an ellipse may change from one slice to the next; default `Bounds()`.
    noise_pixels
        As in `fit_ellipse`.

    Returns
    -------
    dict
        For each slice, in order, its ellipse; slices with fewer than 3 pixels have none, nor has any slice where no
        slice has enough for a fit by itself.
    """
    bounds = bounds or Bounds()
    pixels = {z: check_pixels(points, 0) for z, points in slices.items()}
    pixels = {z: points for z, points in sorted(pixels.items()) if len(points) >= LEAST_CARRIED}
    evidence = {z: (_seen(points), len(points)) for z, points in pixels.items()}
    best: tuple[float, int] | None = None
    done: dict[int, Ellipse] = {}
    for z in sorted(evidence, key=lambda z: evidence[z], reverse=True)[:CANDIDATES]:
        ellipse = _alone(pixels[z], None, noise_pixels)
        if ellipse is None:
            continue
        done[z] = ellipse
        quality = ellipse.coverage / max(ellipse.spread_pixels, noise_pixels) * (1.0 if ellipse.describes else 0.1)
        if best is None or quality > best[0]:
            best = quality, z
    if best is None:
        return {}
    done = {best[1]: done[best[1]]}
    middle = best[1]
    for z in sorted(pixels, key=lambda z: (evidence[z][0] < FULL_COVERAGE, abs(z - middle), z)):
        if z not in done:
            done[z] = _carried(z, pixels[z], evidence[z][0], done, bounds, noise_pixels)
    return dict(sorted(done.items()))


def _carried(
    z: int, points: Array, seen: float, done: dict[int, Ellipse], bounds: Bounds, noise_pixels: float
) -> Ellipse:
    """Fit a slice from the nearest one that an ellipse describes: within bounds, unless its pixels suffice."""
    # A poor slice is no source for the next: its errors would be handed on and grow.
    sound = [other for other in done if done[other].is_ring]
    told = sound or list(done)
    source = min(told, key=lambda other: (abs(other - z), -done[other].coverage))
    near = fit_pixels(points, start=done[source], bounds=bounds.grown(abs(source - z)), noise_pixels=noise_pixels)
    # Only a slice that speaks for itself may leave the bounds, and it is asked only where they hold it.
    if seen >= FULL_COVERAGE and (near.at_bounds or not near.describes):
        alone = _alone(points, done[source], noise_pixels)
        if alone is not None and alone.describes:
            return alone
    return near


def _alone(points: Array, start: Ellipse | None, noise_pixels: float) -> Ellipse | None:
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if len(points) < LEAST_FREE or spread[1] <= 1e-6 * spread[0]:
        return None
    return fit_pixels(points, start=start, bounds=None, noise_pixels=noise_pixels)


def _seen(points: Array) -> float:
    """Share of the directions from their own middle in which a slice has pixels."""
    local = points - points.mean(0)
    return occupied(np.arctan2(local[:, 0], local[:, 1]))


def goes_round(ellipses: Mapping[int, Ellipse]) -> bool:
    """Return whether one membrane's ellipses are more than guesses: in some slice one is a ring."""
    return any(ellipse.is_ring for ellipse in ellipses.values())


def near_ellipse(points: Array, ellipse: Ellipse, *, limit_pixels: float = LIMIT_PIXELS) -> NDArray[np.bool_]:
    """Return whether each of a slice's pixels (n, 2) lies near its ellipse; all do where it does not describe them."""
    if not ellipse.describes:
        return np.ones(len(points), np.bool_)
    limit = max(limit_pixels, LIMIT_SPREADS * ellipse.spread_pixels)
    return np.asarray(np.abs(ellipse.distance(points)) <= limit)


def near_ellipses(
    points: Array, *, limit_pixels: float = LIMIT_PIXELS, bounds: Bounds | None = None, thickness: int = 1
) -> tuple[NDArray[np.bool_], dict[int, Ellipse]]:
    """Select the voxels of one membrane that lie near the ellipses of their slices (paper: section 5.1).

    Parameters
    ----------
    points
        (n, 3), z, y, x in voxels.
    limit_pixels
        Farthest from the ellipse; 3.5 times the spread of the slice where that is more.
    bounds
        As in `fit_ellipses_by_slice`.
    thickness
        Voxels in z that make up a slice; a slice is what rounds to one multiple of it.

    Returns
    -------
    tuple
        (n,) whether each voxel is validated, and the ellipses by the number of their slice (`slice_numbers`).

    Raises
    ------
    ValueError
        If the shape is not (n, 3) or a value is not finite.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        msg = f"points must be finite and of shape (n, 3), z, y, x; found shape {array.shape}"
        raise ValueError(msg)
    index = slice_numbers(array, thickness)
    rows = {int(z): np.flatnonzero(index == z) for z in np.unique(index)}
    ellipses = fit_ellipses_by_slice({z: array[row, 1:] for z, row in rows.items()}, bounds=bounds)
    keep = np.ones(len(array), np.bool_)
    if goes_round(ellipses):
        for z, ellipse in ellipses.items():
            keep[rows[z]] = near_ellipse(array[rows[z], 1:], ellipse, limit_pixels=limit_pixels)
    return keep, ellipses


def slice_numbers(points: Array, thickness: int = 1) -> NDArray[np.int64]:
    """Return which slice of `thickness` voxels each place (n, 3), z, y, x, is in."""
    return np.rint(points[:, 0] / thickness).astype(np.int64)
