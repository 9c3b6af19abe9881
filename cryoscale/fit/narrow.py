r"""The fitted field on the grid points near a surface, at a cost that follows the surface.

The field is smooth over the distance between control points (several voxels), so it is computed on a coarse grid of
about 2 voxels, only near samples of the surface, and doubled to the fine grid by cubic interpolation along each axis,

    f(i + 1/2) = (-f(i - 1) + 9 f(i) + 9 f(i + 1) - f(i + 2)) / 16

then the distance is |f| / |grad f| with central differences. Tiles bound the memory. Coarse nodes sit at multiples of
the coarse step, so a tile's values do not depend on where the tiles are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

__all__ = ["narrow_band"]

Array = NDArray[np.float64]
TILE = 64
COARSE_VOXELS = 2.5
"""Coarsest distance of computed nodes, in voxels."""
PAD = 3
"""Coarse nodes computed beyond a tile: 2 for the taps, 1 for the differences."""


def narrow_band(
    value: Callable[[Array], Array], samples: Array, gap: float, *, step: float, width: float
) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
    """Yield the grid points near a surface, tile by tile.

    Parameters
    ----------
    value
        The field (m,) at places (m, 3), in voxels.
    samples
        (n, 3) points on the surface, in voxels, no farther apart than ``gap``.
    gap
        Largest distance from a point of the surface to the nearest sample.
    step
        Distance of grid points, in voxels; grid point i lies at i x step.
    width
        Points with |distance| up to this are wanted, in voxels.

    Yields
    ------
    tuple
        Grid points (m, 3), their signed distances (m,) and unit gradients (m, 3).
    """
    factor = 1
    while factor < 4 and 2 * factor * step <= COARSE_VOXELS:
        factor *= 2
    reach = width + gap + 3.5 * factor * step
    margin = int(np.ceil((width + gap) / step)) + 1
    fine = np.floor(samples / step).astype(np.int64)
    for corner in _tiles(fine, margin):
        coarse = _coarse_tile(value, samples, corner, step, factor, reach)
        if coarse is not None:
            yield _select(coarse, corner, step, factor, width)


def _tiles(fine: NDArray[np.int64], margin: int) -> list[NDArray[np.int64]]:
    """Return the corners of the tiles that grid points within ``margin`` of the samples fall into, in order."""
    found: set[tuple[int, ...]] = set()
    cells = np.unique(fine // 8, axis=0) * 8
    for shift in np.ndindex(3, 3, 3):
        moved = cells + (np.array(shift) - 1) * margin
        for end in (0, 8):
            found.update(map(tuple, np.unique((moved + end) // TILE, axis=0).tolist()))
    return [np.array(tile, np.int64) * TILE for tile in sorted(found)]


def _coarse_tile(
    value: Callable[[Array], Array], samples: Array, corner: NDArray[np.int64], step: float, factor: int, reach: float
) -> Array | None:
    """Return the field on a tile's coarse nodes (NaN far from the surface), or None where nothing is near."""
    pitch = factor * step
    halo = int(np.ceil(reach / pitch)) + 1
    low = corner // factor - PAD
    size = TILE // factor + 2 * PAD
    local = np.round(samples / pitch).astype(np.int64) - low + halo
    local = local[((local >= 0) & (local < size + 2 * halo)).all(1)]
    if not len(local):
        return None
    empty = np.ones((size + 2 * halo,) * 3, bool)
    empty[tuple(local.T)] = False
    near = distance_transform_edt(empty)[(slice(halo, halo + size),) * 3] <= reach / pitch + 0.9
    if not near.any():
        return None
    out = np.full(near.shape, np.nan)
    out[near] = value(((np.argwhere(near) + low) * pitch).astype(np.float64))
    return out


def _double(values: Array) -> Array:
    """Return values on a grid of half the step: (n, n, n) to (2 n - 5, ..), dropping the first and last interval."""
    for axis in range(3):
        v = np.moveaxis(values, axis, 0)
        out = np.empty((2 * len(v) - 5, *v.shape[1:]))
        out[0::2] = v[1:-1]
        out[1::2] = (9 * (v[1:-2] + v[2:-1]) - v[:-3] - v[3:]) / 16
        values = np.moveaxis(out, 0, axis)
    return values


def _select(
    coarse: Array, corner: NDArray[np.int64], step: float, factor: int, width: float
) -> tuple[NDArray[np.int64], Array, Array]:
    low = PAD * factor
    values = coarse
    while factor > 1:
        values, factor = _double(values), factor // 2
        low -= factor * 2
    crop = values[(slice(low - 1, low + TILE + 1),) * 3]
    core = crop[1:-1, 1:-1, 1:-1]
    inner = np.argwhere(np.abs(core) < 4 * width + 2 * step)
    z, y, x = (inner + 1).T
    slope = np.stack(
        [
            crop[z + 1, y, x] - crop[z - 1, y, x],
            crop[z, y + 1, x] - crop[z, y - 1, x],
            crop[z, y, x + 1] - crop[z, y, x - 1],
        ],
        1,
    ) / (2 * step)
    size = np.maximum(np.linalg.norm(slope, axis=1), 1e-12)
    distance = crop[z, y, x] / size
    fine = np.abs(distance) <= width
    return inner[fine] + corner, distance[fine], slope[fine] / size[fine, None]
