r"""The fitted field on the grid points near a surface, at a cost that follows the surface.

The field is smooth over the distance between control points (several voxels), so its value and gradient are computed
at the nodes of cells of up to 4 voxels, only near samples of the surface, and carried to the grid points inside a cell
by cubic Hermite interpolation (`hermite`), whose error falls with the fourth power of the cell's edge. One place in
every cell is computed as well; where it is off by more than `TOLERANCE`, the cell's grid points are all computed.

    distance(q) = f(q) / |grad f(q)|,     foot(q) = q - distance(q) grad f(q) / |grad f(q)|

Cells grow from those that hold samples to their neighbours as long as their corners say that the surface is near.
There are no tiles: nodes and cells, some twenty per 100 square voxels of surface, are all that is held at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.cells import Cells, grow
from cryoscale.fit.hermite import cell_offsets, corner_weights, node_data, points_near, slopes_at
from cryoscale.fit.nodes import Nodes

__all__ = ["Points", "narrow_band"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Field = Callable[[Array], tuple[Array, Array]]
Points = tuple[Index, Array, Array]
"""Grid points, their distances, gradients."""
COARSEST_VOXELS = 4.0
"""Largest cells."""
TOLERANCE = 0.01
"""Largest error of the surface's position, in voxels, that interpolation may make where it is checked."""
CHECKED_AT = (0.5, 0.3, 0.7)
"""Place in a cell, off its planes of symmetry, where terms of the error would cancel."""
AT_ONCE = 2048
"""Cells whose grid points are computed together."""


def narrow_band(
    field: Field, samples: Array, gap: float, *, step: float, width: float, known: Nodes | None = None
) -> Iterator[Points]:
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
    known
        Where the field is known already.

    Yields
    ------
    tuple
        Grid points (m, 3), their signed distances (m,), and gradients (m, 3): direction at the grid point, length at
        its foot on the surface.
    """
    if not len(samples):
        return
    factor = max(1, int(min(COARSEST_VOXELS, gap / 1.5) / step))
    cells = grow(field, samples, gap, pitch=factor * step, width=width, known=known)
    if factor == 1:
        yield _near(field, cells.nodes, cells.value, cells.slope, step, width)
        return
    data, offsets = node_data(cells), cell_offsets(factor)
    rough = _rough(field, cells, data, width)
    weights = corner_weights(offsets / factor, cells.pitch)
    for start in range(0, len(cells.corners), AT_ONCE):
        corners, hard = cells.corners[start : start + AT_ONCE], rough[start : start + AT_ONCE]
        low = cells.nodes[corners[:, 0]] * factor
        index, distance, normal = points_near(data, corners[~hard], weights, low[~hard], offsets, width)
        foot = index * step - distance[:, None] * normal
        slope = slopes_at(cells, data, foot)
        lost = slope < 0
        slope[lost] = np.linalg.norm(field(foot[lost])[1], axis=1)
        yield index, distance, normal * slope[:, None]
        if hard.any():
            inside = (low[hard, None] + offsets).reshape(-1, 3)
            yield _near(field, inside, *field(np.asarray(inside * step, np.float64)), step, width)


def _near(field: Field, index: Index, value: Array, slope: Array, step: float, width: float) -> Points:
    """Return the points within the width, from the field's own values and gradients."""
    size = np.maximum(np.linalg.norm(slope, axis=1), 1e-12)
    fine = np.abs(value) <= width * size
    index, distance, normal = index[fine], value[fine] / size[fine], slope[fine] / size[fine, None]
    there = np.linalg.norm(field(index * step - distance[:, None] * normal)[1], axis=1)
    return index, distance, normal * there[:, None]


def _rough(field: Field, cells: Cells, data: Array, width: float) -> NDArray[np.bool_]:
    """Return which cells interpolation is not good enough for."""
    at = np.array([CHECKED_AT])
    weights = corner_weights(at, cells.pitch)[:, 0]
    found = np.einsum("ij,j->i", data[cells.corners].reshape(len(cells.corners), -1), weights)
    low = cells.nodes[cells.corners[:, 0]]
    value, slope = field(np.asarray((low + at) * cells.pitch, np.float64))
    size = np.linalg.norm(slope, axis=1)
    near = np.abs(value) <= 2 * (width + cells.pitch) * size
    return np.asarray(near & (np.abs(found - value) > TOLERANCE * size))
