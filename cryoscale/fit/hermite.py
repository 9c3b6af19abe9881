r"""Cubic Hermite interpolation of a field in cubic cells: from value, gradient and mixed derivatives at the corners.

    f(t) = sum over corners c of  f_c H H H + h (f_z G H H + f_y H G H + f_x H H G)
                                  + h^2 (f_zy G G H + f_zx G H G + f_yx H G G)
    H_0 = (1 + 2 t) (1 - t)^2,   G_0 = t (1 - t)^2,   H_1(t) = H_0(1 - t),   G_1(t) = -G_0(1 - t)

A corner's seven numbers are kept with their powers of the cell's edge h. Sums run over corners and terms in one order,
so a cell's values are the same bits whatever other cells are computed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.cells import CORNERS, Cells

__all__ = ["cell_offsets", "corner_weights", "node_data", "points_near", "slopes_at"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
TERMS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))
"""Along which axes each of a corner's numbers is a derivative."""


def cell_offsets(factor: int) -> Index:
    """Return the grid points of a cell (factor^3, 3), without its far faces."""
    return np.stack(np.meshgrid(*[np.arange(factor)] * 3, indexing="ij"), -1).reshape(-1, 3)


def node_data(cells: Cells) -> Array:
    """Return per node the value, the gradient and the mixed derivatives zy, zx, yx (n, 7), times powers of the pitch.

    A derivative is a central difference of neighbours' gradients, one-sided or 0 where they were not computed.
    """
    data = np.zeros((len(cells.nodes), 7))
    data[:, 0], data[:, 1:4] = cells.value, cells.slope * cells.pitch
    change = np.zeros((3, len(cells.nodes), 3))
    for axis in range(3):
        before, after = cells.neighbour(axis, -1), cells.neighbour(axis, 1)
        span = (before >= 0).astype(np.float64) + (after >= 0)
        rows = np.arange(len(cells.nodes))
        ends = data[np.where(after >= 0, after, rows), 1:4] - data[np.where(before >= 0, before, rows), 1:4]
        change[axis] = ends / np.maximum(span, 1)[:, None]
    for column, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        data[:, 4 + column] = (change[a, :, b] + change[b, :, a]) / 2
    return data


@dataclass(frozen=True)
class _Axis:
    """Weights of one axis at fractions t: by corner (2) and by kind, H or G (2), and their derivatives."""

    value: Array
    slope: Array

    @classmethod
    def at(cls, t: Array) -> _Axis:
        s = 1 - t
        value = np.array([[(1 + 2 * t) * s * s, t * s * s], [(1 + 2 * s) * t * t, -s * t * t]])
        slope = np.array([[-6 * t * s, s * (1 - 3 * t)], [6 * t * s, t * (3 * t - 2)]])
        return cls(value, slope)


def corner_weights(fractions: NDArray[Any], pitch: float) -> Array:
    """Return what each of a cell's 8 x 7 numbers adds to value and gradient at p places: (56, 4 p)."""
    axes = [_Axis.at(fractions[:, axis]) for axis in range(3)]
    rows = []
    for corner in CORNERS:
        for term in TERMS:
            value = [axes[a].value[corner[a], term[a]] for a in range(3)]
            slope = [axes[a].slope[corner[a], term[a]] / pitch for a in range(3)]
            row = [value[0] * value[1] * value[2]]
            row += [np.prod([slope[b] if b == a else value[b] for b in range(3)], axis=0) for a in range(3)]
            rows.append(np.concatenate(row))
    return np.array(rows)


def points_near(
    data: Array, corners: Index, weights: Array, low: Index, offsets: Index, width: float
) -> tuple[Index, Array, Array]:
    """Return the grid points of cells that lie within a width of the surface.

    Parameters
    ----------
    data
        (n, 7) from `node_data`.
    corners
        (m, 8) nodes of the cells.
    weights
        From `corner_weights`, at the p grid points of a cell.
    low, offsets
        Grid points of the cells' first corners (m, 3) and of the points relative to them (p, 3).
    width
        Largest |f| / |grad f|.

    Returns
    -------
    tuple
        Grid points (k, 3), f / |grad f| (k,) and unit gradients (k, 3).
    """
    out = np.empty((len(corners) * len(offsets), 7))
    found = out[: _spread(data, corners, weights, low, offsets, width, out)]
    return found[:, :3].astype(np.int64), found[:, 3].copy(), found[:, 4:].copy()


def slopes_at(cells: Cells, data: Array, places: Array) -> Array:
    """Return |grad f| (k,) at places (k, 3) by interpolation; -1 at places in none of the cells."""
    out = np.empty(len(places))
    first = cells.keys[cells.corners[:, 0]]
    _slopes(data, cells.corners, first, cells.base, cells.strides, places / cells.pitch, cells.pitch, out)
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hermite(t: float, value: Any, slope: Any) -> None:
    """Put the weights of one axis at t into (corner, kind) tables, as `_Axis` has them."""
    s = 1 - t
    value[0, 0], value[0, 1], value[1, 0], value[1, 1] = (1 + 2 * t) * s * s, t * s * s, (1 + 2 * s) * t * t, -s * t * t
    slope[0, 0], slope[0, 1], slope[1, 0], slope[1, 1] = -6 * t * s, s * (1 - 3 * t), 6 * t * s, t * (3 * t - 2)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _slope_at(data: Any, corners: Any, t: Any, pitch: float) -> float:
    """Return the length of the gradient at fractions t of a cell."""
    v, d = np.empty((3, 2, 2)), np.empty((3, 2, 2))
    for axis in range(3):
        _hermite(t[axis], v[axis], d[axis])
    gz = gy = gx = 0.0
    for corner in range(8):
        a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
        row = data[corners[corner]]
        z0, z1, y0, y1, x0, x1 = v[0, a, 0], v[0, a, 1], v[1, b, 0], v[1, b, 1], v[2, c, 0], v[2, c, 1]
        dz0, dz1, dy0, dy1 = d[0, a, 0], d[0, a, 1], d[1, b, 0], d[1, b, 1]
        # What is left of the sum once the two kinds along z are taken out.
        plain = row[0] * y0 * x0 + row[2] * y1 * x0 + row[3] * y0 * x1 + row[6] * y1 * x1
        leant = row[1] * y0 * x0 + row[4] * y1 * x0 + row[5] * y0 * x1
        gz += dz0 * plain + dz1 * leant
        flat, tilted = row[0] * z0 + row[1] * z1, row[2] * z0 + row[4] * z1
        gy += dy0 * (flat * x0 + (row[3] * z0 + row[5] * z1) * x1) + dy1 * (tilted * x0 + row[6] * z0 * x1)
        across = flat * y0 + tilted * y1
        gx += d[2, c, 0] * across + d[2, c, 1] * ((row[3] * z0 + row[5] * z1) * y0 + row[6] * z0 * y1)
    return float((gz * gz + gy * gy + gx * gx) ** 0.5 / pitch)


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _spread(data: Any, corners: Any, weights: Any, low: Any, offsets: Any, width: float, out: Any) -> int:
    """Put the wanted points of each cell into rows of ``out``: cell, point, distance, unit gradient z, y, x."""
    count = len(offsets)
    here = np.empty(4 * count)
    found = 0
    for cell in range(len(corners)):
        here[:] = 0.0
        for corner in range(8):
            for term in range(7):
                share = data[corners[cell, corner], term]
                row = weights[7 * corner + term]
                for p in range(4 * count):
                    here[p] += share * row[p]
        for p in range(count):
            gz, gy, gx = here[count + p], here[2 * count + p], here[3 * count + p]
            square = gz * gz + gy * gy + gx * gx
            if here[p] * here[p] <= width * width * square:
                size = max(square**0.5, 1e-12)
                out[found, 0], out[found, 1], out[found, 2] = low[cell, 0], low[cell, 1], low[cell, 2]
                for axis in range(3):
                    out[found, axis] += offsets[p, axis]
                out[found, 3] = here[p] / size
                out[found, 4], out[found, 5], out[found, 6] = gz / size, gy / size, gx / size
                found += 1
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _slopes(data: Any, corners: Any, first: Any, base: int, strides: Any, feet: Any, pitch: float, out: Any) -> None:
    """Put the slope at each foot (in cells) into ``out``."""
    t = np.empty(3)
    for j in range(len(feet)):
        key = base
        for axis in range(3):
            key += int(np.floor(feet[j, axis])) * strides[axis]
        cell = np.searchsorted(first, key)
        if cell == len(first) or first[cell] != key:
            out[j] = -1.0
            continue
        for axis in range(3):
            t[axis] = feet[j, axis] - np.floor(feet[j, axis])
        out[j] = _slope_at(data, corners[cell], t, pitch)
