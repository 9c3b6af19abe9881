r"""The fitted field on the grid points near a surface, at a cost that follows the surface.

The field is smooth over the distance between control points (several voxels), so its value and gradient are computed
at the nodes of cells of up to 4 voxels, only near samples of the surface, and carried to the grid points inside a cell
by cubic Hermite interpolation, the mixed derivatives taken from the neighbours' gradients:

    f(t) = sum over corners c of  f_c H H H + h (f_z G H H + f_y H G H + f_x H H G) + h^2 (f_zy G G H + ..)
    H_0 = (1 + 2 t) (1 - t)^2,   G_0 = t (1 - t)^2,   H_1(t) = H_0(1 - t),   G_1(t) = -G_0(1 - t)

Its error falls with the fourth power of h. One place in every cell is computed as well; where it is off by more than
`TOLERANCE`, the cell's grid points are all computed. The distance is f / |grad f|.

Cells grow from those that hold samples to their neighbours as long as their corners say that the surface is near.
There are no tiles: nodes and cells, some twenty per 100 square voxels of surface, are all that is held at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.cells import CORNERS, Cells, grow

__all__ = ["narrow_band"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Field = Callable[[Array], tuple[Array, Array]]
Points = tuple[Index, Array, Array]
COARSEST_VOXELS = 4.0
"""Largest cells."""
TOLERANCE = 0.01
"""Largest error of the surface's position, in voxels, that interpolation may make where it is checked."""
CHECKED_AT = (0.5, 0.3, 0.7)
"""Place in a cell, off its planes of symmetry, where terms of the error would cancel."""
AT_ONCE = 2048
"""Cells whose grid points are computed together."""


def narrow_band(field: Field, samples: Array, gap: float, *, step: float, width: float) -> Iterator[Points]:
    """Yield the grid points near a surface, some thousand cells at a time.

    Parameters
    ----------
    field
        Returns value (m,) and gradient (m, 3) at places (m, 3), in voxels.
    samples
        (n, 3) points on the surface, in voxels, no farther apart than ``gap``.
    gap
        Largest distance from a point of the surface to the nearest sample; cells are no larger than two thirds of it.
    step
        Distance of grid points, in voxels; grid point i lies at i x step.
    width
        Points with |distance| up to this are wanted, in voxels.

    Yields
    ------
    tuple
        Grid points (m, 3), their signed distances (m,) and unit gradients (m, 3).
    """
    if not len(samples):
        return
    factor = max(1, int(min(COARSEST_VOXELS, gap / 1.5) / step))
    cells = grow(field, samples, gap, pitch=factor * step, width=width)
    if factor == 1:
        yield _near(cells.nodes, cells.value, cells.slope, width)
        return
    data = _node_data(cells)
    rough = _rough(field, cells, data, width)
    weights = _weights(_fractions(factor), cells.pitch)
    for start in range(0, len(cells.corners), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(cells.corners)))
        smooth = rows[~rough[rows]]
        low = cells.nodes[cells.corners[rows, 0]] * factor
        yield _interpolated(data, cells.corners[smooth], weights, low[~rough[rows]], width)
        if rough[rows].any():
            inside = (low[rough[rows], None] + _offsets(factor)).reshape(-1, 3)
            yield _near(inside, *field(inside * step), width)


def _offsets(factor: int) -> Index:
    """Return the grid points of a cell (factor^3, 3), without its far faces."""
    return np.stack(np.meshgrid(*[np.arange(factor)] * 3, indexing="ij"), -1).reshape(-1, 3)


def _fractions(factor: int) -> Array:
    return np.asarray(_offsets(factor) / factor)


def _near(index: Index, value: Array, slope: Array, width: float) -> Points:
    """Return the points within the width, from exact values."""
    size = np.maximum(np.linalg.norm(slope, axis=1), 1e-12)
    fine = np.abs(value) <= width * size
    return index[fine], value[fine] / size[fine], slope[fine] / size[fine, None]


def _node_data(cells: Cells) -> Array:
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


def _rough(field: Field, cells: Cells, data: Array, width: float) -> NDArray[np.bool_]:
    """Return which cells interpolation is not good enough for."""
    at = np.array([CHECKED_AT])
    weights = _weights(at, cells.pitch)[:, 0]
    found = np.einsum("ij,j->i", data[cells.corners].reshape(len(cells.corners), -1), weights)
    low = cells.nodes[cells.corners[:, 0]]
    value, slope = field((low + at) * cells.pitch)
    size = np.linalg.norm(slope, axis=1)
    near = np.abs(value) <= 2 * (width + cells.pitch) * size
    return np.asarray(near & (np.abs(found - value) > TOLERANCE * size))


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


def _weights(fractions: Array, pitch: float) -> Array:
    """Return what each of a cell's 8 x 7 numbers adds to value and gradient at p places: (56, 4 p)."""
    axes = [_Axis.at(fractions[:, axis]) for axis in range(3)]
    terms = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))
    rows = []
    for corner in CORNERS:
        for term in terms:
            value = [axes[a].value[corner[a], term[a]] for a in range(3)]
            slope = [axes[a].slope[corner[a], term[a]] / pitch for a in range(3)]
            row = [value[0] * value[1] * value[2]]
            row += [np.prod([slope[b] if b == a else value[b] for b in range(3)], axis=0) for a in range(3)]
            rows.append(np.concatenate(row))
    return np.array(rows)


def _interpolated(data: Array, corners: Index, weights: Array, low: Index, width: float) -> Points:
    count = weights.shape[1] // 4
    offsets = _offsets(round(count ** (1 / 3)))
    most = len(corners) * count
    index, distance, normal = np.empty((most, 3), np.int64), np.empty(most), np.empty((most, 3))
    found = _spread(data, corners, weights, offsets, low, width, index, distance, normal)
    return index[:found], distance[:found], normal[:found]


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _spread(
    data: Any, corners: Any, weights: Any, offsets: Any, low: Any, width: float, index: Any, distance: Any, normal: Any
) -> int:
    count = len(offsets)
    here = np.empty(4 * count)
    found = 0
    for cell in range(len(corners)):
        here[:] = 0.0
        for corner in range(8):
            node = corners[cell, corner]
            for term in range(7):
                here += data[node, term] * weights[7 * corner + term]
        for p in range(count):
            gz, gy, gx = here[count + p], here[2 * count + p], here[3 * count + p]
            square = gz * gz + gy * gy + gx * gx
            if here[p] * here[p] <= width * width * square:
                size = max(square**0.5, 1e-12)
                distance[found] = here[p] / size
                normal[found, 0], normal[found, 1], normal[found, 2] = gz / size, gy / size, gx / size
                for axis in range(3):
                    index[found, axis] = low[cell, axis] + offsets[p, axis]
                found += 1
    return found
