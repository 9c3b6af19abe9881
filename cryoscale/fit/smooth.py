r"""A function that varies slowly along a surface, at many places on it from few.

The surface is seen along that of seven directions which its normal is nearest to (the axes and the diagonals of a
cube), as a height over the plane u, v across it. Where the lines of a square grid in that plane meet the surface, value
and gradient are computed; the slopes along the surface are f_u - f_h n_u / n_h with n the normal and h the direction.
The polynomial of least degree that has all of them at the corners c of a cell of edge e, exact for cubics, gives the
places: with t_c (2,) a place's closeness to a corner along each axis (1 at it, 0 at the opposite side), s_c = +1 along
an axis where the corner is the lower one, else -1,

    f = sum over c of prod(t) ( f_c (1 + sum_a (2 t_a - 1) (1 - t_a))  +  e sum_a s_a f_c,a t_a (1 - t_a) )

(the element of A. Adini & R. W. Clough, 1961). Corners are first put where the tangent plane of a place in their cell
meets their line, and moved to the surface by Newton's method; sheets above each other have their own.

How large cells may be is tried out on a sample of the places, computed as well: the error falls with the fourth power
of the edge (the third where a kernel has a kink), so that one trial tells which edge would give `TOLERANCE`, and the
next one whether it does. Places in cells with a corner that was not found, or whose corners differ by more than
`MOST_RANGE`, are computed themselves.

The variance of a fitted field is such a function: it varies over the distance of control points, and over the kernel's
length where that, or the noise, is large. Off the surface it grows so fast that cells in space would need to be half
as large, three times as many corners each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Function", "interpolated"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Function = Callable[[Array], tuple[Array, Array]]
FIRST_PITCH, MOST_PITCH = 4.5, 8.0
"""Edge of the cells that is tried first, and the largest, in voxels."""
ORDER, SLOW_ORDER = 4, 3
"""With which power of the edge the error falls, and what is counted on where it must fall: kinks make it slower."""
TRIALS = 3
CAUTION = 0.93
"""On the edge that a trial's error asks for."""
SIMILAR = 1.15
"""Ratio of edges for which another trial is not worth its time."""
BEYOND = 0.5
"""How far outside the range of a cell's corners, as a share of it, a value must lie to be computed instead."""
TOLERANCE = 0.005
"""Largest error of the sample, as a share of the value."""
MOST_RANGE = 30.0
"""Largest ratio of the values at a cell's corners; near the middle of an ellipsoid its trend has a pole."""
TRIED = 64
"""Places in the sample."""
SHEETS = 2.0
"""Voxels along a line beyond which two heights belong to two sheets."""
NEWTON_STEPS = 3
LEAST_SHARE = 0.3
"""Of the normal along the direction; a corner where the surface is steeper than that is given up."""
FURTHEST = 3.0
"""Voxels that a corner may be moved, and `SETTLED` of them in the last step."""
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


def interpolated(
    function: Function,
    field: Function,
    places: Array,
    normals: Array,
    *,
    least_pitch: float = 2.0,
    pitch: float | None = None,
) -> Array:
    """Return a positive function's values (m,) at places (m, 3) on a surface.

    Parameters
    ----------
    function, field
        Return value (k,) and gradient (k, 3) at places (k, 3); the field is zero on the surface.
    places, normals
        In voxels; of any length, and sign.
    least_pitch
        Smallest edge of the cells, in voxels.
    pitch
        The edge where it is known and nothing is to be tried.
    """
    if not len(places):
        return np.zeros(0)
    if pitch is None:
        pitch = _fitting_pitch(function, field, places, normals, least_pitch)
    return _carried(function, field, places, normals, pitch)


def _fitting_pitch(function: Function, field: Function, places: Array, normals: Array, least: float) -> float:
    """Return the largest edge found at which a sample of the places comes out right, or the least there is."""
    chosen = np.linspace(0, len(places) - 1, min(TRIED, len(places))).round().astype(np.int64)
    lean = normals[chosen] / np.linalg.norm(normals[chosen], axis=1)[:, None]
    # Places off the surface would not tell what cells miss on it.
    tried, _ = _settled(field, places[chosen], lean)
    tried = np.where(np.isnan(tried), places[chosen], tried)
    exact = function(tried)[0]
    pitch, fine, coarse = FIRST_PITCH, 0.0, np.inf
    for _ in range(TRIALS):
        error = (np.abs(_carried(function, field, tried, lean, pitch) - exact) / exact).max()
        if error <= TOLERANCE:
            fine = pitch
        else:
            coarse = pitch
        ratio = TOLERANCE / max(error, 1e-12)
        asked = CAUTION * pitch * ratio ** (1 / ORDER if ratio >= 1 else 1 / SLOW_ORDER)
        pitch = float(np.clip(asked, least, MOST_PITCH))
        if pitch == least or pitch < SIMILAR * fine or 0 < fine < coarse < np.inf:
            break
    return fine or pitch


def _carried(function: Function, field: Function, places: Array, normals: Array, pitch: float) -> Array:
    """Return the function's values by interpolation in cells of one size."""
    along = normals @ FRAMES[:, 0].T
    way = np.abs(along).argmax(1)
    local = np.einsum("mab,mb->ma", FRAMES[way], places)
    home = np.floor(local[:, 1:] / pitch)
    chart = 2 * way + (along[np.arange(len(way)), way] > 0)
    first, cell = _groups(np.column_stack([chart, home, np.floor(local[:, 0] / (2 * pitch))]))
    lean = np.einsum("mab,mb->ma", FRAMES[way[first]], normals[first])
    corners, frames, nodes = _corners(local[first], lean, chart[first], home[first], pitch)
    nodes, slope = _settled(field, nodes, frames[:, 0])
    value, change = np.full(len(nodes), np.nan), np.zeros((len(nodes), 3))
    fine = np.flatnonzero(~np.isnan(nodes[:, 0]))
    value[fine], change[fine] = function(nodes[fine])
    lean, change = np.einsum("nab,nb->na", frames, slope), np.einsum("nab,nb->na", frames, change)
    tangent = change[:, 1:] - change[:, :1] * lean[:, 1:] / lean[:, :1]
    out = np.empty(len(places))
    _adini(value, tangent * pitch, corners, cell, local[:, 1:] / pitch - home, out)
    lost = np.isnan(out)
    if lost.any():
        out[lost] = function(places[lost])[0]
    return out


def _groups(keys: Array) -> tuple[Index, Index]:
    """Return the first row of each distinct row of keys (m, k), all whole numbers, and the number of each row's."""
    whole = (keys - keys.min(0)).astype(np.int64)
    flat = np.ravel_multi_index(tuple(whole.T), tuple(whole.max(0) + 1))
    _, first, number = np.unique(flat, return_index=True, return_inverse=True)
    return first, number


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


def _settled(field: Function, nodes: Array, ways: Array) -> tuple[Array, Array]:
    """Return nodes moved along their directions to where the field is zero, and its gradient there.

    NaN where that is not near.
    """
    far = np.zeros(len(nodes))
    value, slope = field(nodes)
    for _ in range(NEWTON_STEPS):
        steep = (slope * ways).sum(1)
        moving = np.flatnonzero(np.abs(value) > NEAR_ENOUGH * np.abs(steep))
        step = -value[moving] / np.where(steep[moving] == 0, np.inf, steep[moving])
        far[moving] += np.clip(step, -FURTHEST, FURTHEST)
        value[moving], slope[moving] = field(nodes[moving] + far[moving, None] * ways[moving])
    steep = np.abs((slope * ways).sum(1))
    good = (np.abs(far) <= FURTHEST) & (np.abs(value) <= SETTLED * steep)
    good &= steep >= LEAST_SHARE * np.linalg.norm(slope, axis=1)
    return np.where(good[:, None], nodes + far[:, None] * ways, np.nan), np.where(good[:, None], slope, ways)


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
