r"""A function that varies slowly along a surface, at many places from few.

Value and gradient are computed at the corners of cubic cells that hold the places, and carried to the places by the
polynomial of least degree that has them all, exact for cubics: with h a cell's edge, c its corners, u_c (3,) a place's
closeness to a corner along each axis (1 at it, 0 at the opposite face), and s_c = +1 along an axis where the corner is
the lower one, else -1,

    f = sum over c of prod(u) ( f_c (1 + sum_a (2 u_a - 1) (1 - u_a))  +  h sum_a s_a f_c,a u_a (1 - u_a) )

(the element of A. Adini & R. W. Clough, 1961, in three dimensions). How large cells may be is tried out: of `PITCHES`
the first is taken at which a sample of the places, computed as well, comes out within `TOLERANCE`; the last is not
tried. Places in cells whose corners differ by more than `MOST_RANGE` are computed themselves.

The variance of a fitted field is such a function: it varies over the distance of control points, and over the kernel's
length where that, or the noise, is large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.fit.cells import cells_around

__all__ = ["PITCHES", "interpolated"]

Array = NDArray[np.float64]
Function = Callable[[Array], tuple[Array, Array]]
PITCHES = (8.0, 5.5, 4.0, 3.0, 2.0)
"""Edges of the cells, in voxels."""
BEYOND = 0.5
"""How far outside the range of a cell's corners, as a share of it, a value must lie to be computed instead."""
TOLERANCE = 0.006
"""Largest error of the sample, as a share of the value."""
MOST_RANGE = 30.0
"""Largest ratio of the values at a cell's corners; near the middle of an ellipsoid its trend has a pole."""
TRIED = 48
"""Places in the sample."""


def interpolated(function: Function, places: Array, pitches: Sequence[float] = PITCHES) -> Array:
    """Return a positive function's values (m,) at places (m, 3).

    Parameters
    ----------
    function
        Returns value (k,) and gradient (k, 3) at places (k, 3).
    places
        In voxels.
    pitches
        Edges of the cells to try, in voxels.
    """
    if not len(places):
        return np.zeros(0)
    if len(pitches) == 1:
        return _carried(function, places, pitches[0])
    tried = places[np.linspace(0, len(places) - 1, min(TRIED, len(places))).round().astype(np.int64)]
    exact = function(tried)[0]
    for pitch in pitches[:-1]:
        if (np.abs(_carried(function, tried, pitch) - exact) <= TOLERANCE * exact).all():
            return _carried(function, places, pitch)
    return _carried(function, places, pitches[-1])


def _carried(function: Function, places: Array, pitch: float) -> Array:
    """Return the function's values by interpolation in cells of one size."""
    cells, home = cells_around(function, places, pitch)
    out = np.empty(len(places))
    _adini(cells.value, cells.slope * pitch, cells.corners, home, places / pitch, out)
    lost = np.isnan(out)
    if lost.any():
        out[lost] = function(places[lost])[0]
    return out


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _adini(value: Any, slope: Any, corners: Any, home: Any, places: Any, out: Any) -> None:
    """Put the values at places (in cells) into ``out``, NaN where they are far out; ``home`` is the cell of each."""
    t = np.empty(3)
    for j in range(len(places)):
        for axis in range(3):
            t[axis] = places[j, axis] - np.floor(places[j, axis])
        total, low, high = 0.0, np.inf, 0.0
        for corner in range(8):
            node = corners[home[j], corner]
            product, own, lean = 1.0, 1.0, 0.0
            for axis in range(3):
                upper = (corner >> (2 - axis)) & 1
                u = t[axis] if upper else 1.0 - t[axis]
                product *= u
                own += (2.0 * u - 1.0) * (1.0 - u)
                lean += slope[node, axis] * u * (1.0 - u) * (1.0 - 2.0 * upper)
            total += product * (value[node] * own + lean)
            low, high = min(low, value[node]), max(high, value[node])
        fine = low * (1 - BEYOND) <= total <= high * (1 + BEYOND)
        out[j] = total if fine and high <= MOST_RANGE * low else np.nan
