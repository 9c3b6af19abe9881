r"""Membrane voxels as points of thin sheets: where the middle of each voxel's own sheet is, and how it is turned.

    m <- m + n n . (sum_i w_i (p_i - m)) / (sum_i w_i),     w_i = depth_i^2 (1 - |p_i - m|^2 / r^2) (1 - s_i^2 / h^2)

with s_i = n . (p_i - m) and n the direction in which the same weights spread least (mean shift along the normal; local
principal components). `depth` is a voxel's distance to the nearest voxel outside the mask. A slab three to six voxels
thick so falls onto its middle surface, with sub-voxel accuracy, and **two sheets stay two where their masks touch**,
because the middle of either is deeper than the seam between them: a window of h = 2 voxels across the sheet sees one
crest at a time. Voxels of the seam that stop halfway are found afterwards: few other voxels came to lie in their layer
(`purity`).

Voxels are kept as rows along x (their order is z, y, x), so that cost and memory follow the foreground. All lengths are
in voxels. Everything is counted from the first corner of the points' box: moving the points changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.separate.rows import Rows, row_range
from cryoscale.separate.shift import to_middles

__all__ = ["Sheets", "settle"]

DEEPEST = 6
SAME_LAYER = 0.8
OTHER_LAYER = 2.5
LAYER_RADIUS = 3.0
LAYER_REACH = 4.5

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sheets:
    """Each voxel's place on its sheet."""

    middle: Floats
    """(n, 3) position on the middle surface, from the corner of the voxels' box."""
    normal: Floats
    """(n, 3) unit normal, of arbitrary sign."""
    support: Floats
    """(n,) weight of the neighbours in the same layer."""
    purity: Floats
    """(n,) share of the voxels around that came to lie in the same layer, of those that lie less than 2.5 away."""


def settle(rows: Rows) -> Sheets:
    """Move every voxel to the middle of its sheet.

    Parameters
    ----------
    rows : Rows

    Returns
    -------
    Sheets
        In the order of the voxels. About 13 microseconds a voxel and 40 bytes.
    """
    offsets, distances = _ball(DEEPEST)
    depth = _depths(rows.points, rows.x, rows.start, rows.nz, rows.ny, offsets, distances)
    middle, normal, support = to_middles(rows.points, rows.x, rows.start, rows.nz, rows.ny, depth * depth)
    purity = _purity(rows.points, rows.x, rows.start, rows.nz, rows.ny, middle, normal)
    return Sheets(middle, normal, support, purity)


def _ball(radius: int) -> tuple[NDArray[np.int32], Floats]:
    """Offsets of a ball's voxels, nearest first, and their distances."""
    axis = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    squares = (offsets**2).sum(1)
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] <= radius * radius]
    return offsets[order].astype(np.int32), np.sqrt(squares[order]).astype(np.float32)


@njit(cache=True, nogil=True)
def _depths(points, x, start, nz, ny, offsets, distances):  # type: ignore[no-untyped-def]
    """Distance from each voxel to the nearest one outside the mask, at most that of the last offset."""
    depth = np.full(len(points), distances[-1], np.float32)
    for k in range(len(points)):
        for o in range(len(offsets)):
            z, y = points[k, 0] + offsets[o, 0], points[k, 1] + offsets[o, 1]
            inside = False
            if 0 <= z < nz and 0 <= y < ny:
                at = x[k] + offsets[o, 2]
                a, b = row_range(x, start[z * ny + y], start[z * ny + y + 1], at, at)
                inside = b > a
            if not inside:
                depth[k] = distances[o]
                break
    return depth


@njit(cache=True, nogil=True)
def _purity(points, x, start, nz, ny, middle, normal):  # type: ignore[no-untyped-def]
    n = len(points)
    purity = np.empty(n, np.float32)
    reach = int(LAYER_REACH)
    for k in range(n):
        same = other = 0
        z0, y0 = points[k, 0], points[k, 1]
        for z in range(max(z0 - reach, 0), min(z0 + reach + 1, nz)):
            for y in range(max(y0 - reach, 0), min(y0 + reach + 1, ny)):
                room = LAYER_REACH * LAYER_REACH - (z - z0) ** 2 - (y - y0) ** 2
                if room < 0.0:
                    continue
                room = np.sqrt(room)
                a, b = row_range(x, start[z * ny + y], start[z * ny + y + 1], x[k] - room, x[k] + room)
                for i in range(a, b):
                    across = along = 0.0
                    for axis in range(3):
                        d = middle[i, axis] - middle[k, axis]
                        across += d * normal[k, axis]
                        along += d * d
                    if along - across * across < LAYER_RADIUS * LAYER_RADIUS:
                        same += abs(across) < SAME_LAYER
                        other += SAME_LAYER <= abs(across) < OTHER_LAYER
        purity[k] = same / max(same + other, 1)
    return purity
