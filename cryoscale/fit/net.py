r"""A net over a surface: cells of one size, and what is known at their corners carried to the places inside.

The surface is seen along that of seven directions which its normal is nearest to (the axes and the diagonals of a
cube), as a height over the plane u, v across it. Where the lines of a square grid in that plane meet the surface, value
and gradient of a function are given; the slopes along the surface are f_u - f_h n_u / n_h with n the normal and h the
direction. The polynomial of least degree that has all of them at the corners c of a cell of edge e, exact for cubics,
gives the places: with t_c (2,) a place's closeness to a corner along each axis (1 at it, 0 at the opposite side),
s_c = +1 along an axis where the corner is the lower one, else -1,

    f = sum over c of prod(t) ( f_c (1 + sum_a (2 t_a - 1) (1 - t_a))  +  e sum_a s_a f_c,a t_a (1 - t_a) )

(the element of A. Adini & R. W. Clough, 1961). Corners are first put where the tangent plane of a place in their cell
meets their line, and moved to the surface by Newton's method; sheets above each other have their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["FURTHEST", "Function", "Net", "settled"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Function = Callable[[Array], tuple[Array, Array]]
BEYOND = 0.5
"""How far outside the range of a cell's corners, as a share of it, a value must lie to be given up."""
MOST_RANGE = 30.0
"""Largest ratio of the values at a cell's corners; near the middle of an ellipsoid its trend has a pole."""
SHEETS = 2.0
"""Voxels along a line beyond which two heights belong to two sheets."""
NEWTON_STEPS = 3
LEAST_SHARE = 0.3
"""Of the normal along the direction; a corner where the surface is steeper than that is given up."""
FURTHEST, FURTHEST_SHARE = 3.0, 0.6
"""Voxels that a corner may be moved, or this share of the edge if that is more, and `SETTLED` in the last step."""
SETTLED = 0.02
NEAR_ENOUGH = 0.002
"""Voxels from the surface at which a corner is not moved again."""
CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


def _frames() -> Array:
    """Return a direction and two more across it (3, 3) for each of the seven."""
    heights = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)]
    # The left singular vectors of a column: its direction, then what is across it.
    return np.stack([np.linalg.svd(np.array([height], np.float64).T)[0].T for height in heights])


FRAMES = _frames()


@dataclass(frozen=True)
class Net:
    """The cells around places on a surface, and their corners."""

    pitch: float
    """Edge of the cells, in voxels."""
    nodes: Array
    """(n, 3) corners, in voxels; NaN where the surface was not found near."""
    frames: Array
    """(n, 3, 3) its direction, and two across it."""
    slope: Array
    """(n, 3) gradient of the field there."""
    corners: Index
    """(c, 4) nodes around each cell."""
    cell: Index
    """(m,) cell of each place."""
    fraction: Array
    """(m, 2) where in it."""

    @classmethod
    def of(cls, field: Function, places: Array, normals: Array, pitch: float) -> Net:
        """Lay a net over places (m, 3) with normals (m, 3) of a surface on which the field is zero."""
        chart, local = np.empty(len(places), np.int64), np.empty((len(places), 3))
        _chart(places, normals, FRAMES, chart, local)
        home = np.floor(local[:, 1:] / pitch)
        first, cell = _groups(np.column_stack([chart, home, np.floor(local[:, 0] / (2 * pitch))]))
        lean = np.einsum("mab,mb->ma", FRAMES[chart[first] // 2], normals[first])
        corners, frames, start = _corners(local[first], lean, chart[first], home[first], pitch)
        nodes, slope = settled(field, start, frames[:, 0], max(FURTHEST, FURTHEST_SHARE * pitch))
        return cls(pitch, nodes, frames, slope, corners, cell, local[:, 1:] / pitch - home)

    def carried(self, function: Function) -> Array:
        """Return a positive function's values at the places (m,); NaN where a corner is, or corners are too different.

        The function returns value (k,) and gradient (k, 3) at places (k, 3).
        """
        value, change = np.full(len(self.nodes), np.nan), np.zeros((len(self.nodes), 3))
        fine = np.flatnonzero(~np.isnan(self.nodes[:, 0]))
        value[fine], change[fine] = function(self.nodes[fine])
        lean = np.einsum("nab,nb->na", self.frames, self.slope)
        along = np.einsum("nab,nb->na", self.frames, change)
        tangent = along[:, 1:] - along[:, :1] * lean[:, 1:] / lean[:, :1]
        out = np.empty(len(self.cell))
        _adini(value, tangent * self.pitch, self.corners, self.cell, self.fraction, out)
        return out


def _groups(keys: Array) -> tuple[Index, Index]:
    """Return the first row of each distinct row of keys (m, k), all whole numbers, and the number of each row's."""
    whole = (keys - keys.min(0)).astype(np.int64)
    flat = np.ravel_multi_index(tuple(whole.T), tuple(whole.max(0) + 1))
    # Neighbouring rows are often of one kind: runs of them are sorted, and not rows.
    new = np.append(True, flat[1:] != flat[:-1])
    start = np.flatnonzero(new)
    _, first, number = np.unique(flat[start], return_index=True, return_inverse=True)
    return start[first], number[np.cumsum(new) - 1]


def _corners(local: Array, lean: Array, chart: Index, home: Array, pitch: float) -> tuple[Index, Array, Array]:
    """Return the nodes around each cell (c, 4), the frames of the nodes (n, 3, 3), and about where they are (n, 3).

    ``local`` and ``lean`` are a place in each cell and its normal, in its frame; ``chart`` tells the sides of the
    surface apart.
    """
    corner = home[:, None] + CORNERS
    away = corner * pitch - local[:, None, 1:]
    height = (local[:, None, 0] - (away * lean[:, None, 1:]).sum(-1) / lean[:, :1]).ravel()
    _, name = _groups(np.column_stack([np.repeat(chart, 4), corner.reshape(-1, 2)]))
    order = np.lexsort((height, name))
    new = (np.diff(name[order]) != 0) | (np.diff(height[order]) > SHEETS)
    number = np.empty(len(order), np.int64)
    number[order] = np.concatenate([[0], np.cumsum(new)])
    owner = order[np.concatenate([[True], new])]
    middle = np.bincount(number, height) / np.bincount(number)
    frames = FRAMES[np.repeat(chart // 2, 4)[owner]]
    nodes = np.column_stack([middle, corner.reshape(-1, 2)[owner] * pitch])
    return number.reshape(-1, 4), frames, np.einsum("nab,na->nb", frames, nodes)


def settled(field: Function, nodes: Array, ways: Array, furthest: float) -> tuple[Array, Array]:
    """Return nodes moved along their directions to where the field is zero, and its gradient there.

    NaN where that is farther than ``furthest``.
    """
    far = np.zeros(len(nodes))
    value, slope = field(nodes)
    for _ in range(NEWTON_STEPS):
        steep = (slope * ways).sum(1)
        moving = np.flatnonzero(np.abs(value) > NEAR_ENOUGH * np.abs(steep))
        step = -value[moving] / np.where(steep[moving] == 0, np.inf, steep[moving])
        far[moving] += np.clip(step, -furthest, furthest)
        value[moving], slope[moving] = field(nodes[moving] + far[moving, None] * ways[moving])
    steep = np.abs((slope * ways).sum(1))
    good = (np.abs(far) <= furthest) & (np.abs(value) <= SETTLED * steep)
    good &= steep >= LEAST_SHARE * np.linalg.norm(slope, axis=1)
    return np.where(good[:, None], nodes + far[:, None] * ways, np.nan), np.where(good[:, None], slope, ways)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _chart(places: Any, normals: Any, frames: Any, chart: Any, local: Any) -> None:
    """Put twice the number of each place's direction, plus its side, into ``chart``, and its coordinates there."""
    for j in range(len(places)):
        most = -1.0
        for way in range(len(frames)):
            along = 0.0
            for axis in range(3):
                along += normals[j, axis] * frames[way, 0, axis]
            if abs(along) > most:
                most, chart[j] = abs(along), 2 * way + (along > 0)
        for row in range(3):
            local[j, row] = 0.0
            for axis in range(3):
                local[j, row] += frames[chart[j] // 2, row, axis] * places[j, axis]


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _adini(value: Any, slope: Any, corners: Any, home: Any, fraction: Any, out: Any) -> None:
    """Put the values at places (fractions of cells) into ``out``, NaN where they are far out."""
    for j in range(len(home)):
        total, low, high = 0.0, np.inf, 0.0
        for corner in range(4):
            node = corners[home[j], corner]
            product, own, lean = 1.0, 1.0, 0.0
            for axis in range(2):
                upper = (corner >> (1 - axis)) & 1
                u = fraction[j, axis] if upper else 1.0 - fraction[j, axis]
                product *= u
                own += (2.0 * u - 1.0) * (1.0 - u)
                lean += slope[node, axis] * u * (1.0 - u) * (1.0 - 2.0 * upper)
            total += product * (value[node] * own + lean)
            low, high = min(low, value[node]), max(high, value[node])
        # A corner that was not found is NaN, and so is the total.
        fine = low * (1 - BEYOND) <= total <= high * (1 + BEYOND)
        out[j] = total if fine and high <= MOST_RANGE * low else np.nan
