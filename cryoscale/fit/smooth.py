r"""A function that varies slowly along a surface, at many places on it from few: carried by a `net`.

How large cells may be is tried out on a sample of the places, computed as well: the error falls with the fourth power
of the edge (the third where a kernel has a kink), so that one trial tells which edge would give `TOLERANCE`, and the
next one whether it does, unless the first leaves no doubt. Places in cells with a corner that was not found, or whose
corners are too different, are computed themselves.

The variance of a fitted field is such a function: it varies over the distance of control points, and over the kernel's
length where that, or the noise, is large. Off the surface it grows so fast that cells in space would need to be half
as large, three times as many corners each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.net import FURTHEST, Function, Net, settled

__all__ = ["interpolated"]

Array = NDArray[np.float64]
FIRST_PITCH, MOST_PITCH = 4.5, 10.0
"""Edge of the cells that is tried first, and the largest, in voxels."""
ORDER, SLOW_ORDER = 4, 3
"""With which power of the edge the error falls, and what is counted on where it must fall: kinks make it slower."""
TRIALS = 3
CAUTION = 0.93
"""On the edge that a trial's error asks for."""
CERTAIN = 1.5
"""How many times smaller than it may be an error must come out for the largest edge to be taken without a trial."""
SIMILAR = 1.15
"""Ratio of edges for which another trial is not worth its time."""
TOLERANCE = 0.005
"""Largest error of the sample, as a share of the value."""
TRIED = 64
"""Places in the sample."""


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
    tried, _ = settled(field, places[chosen], lean, FURTHEST)
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
        if ratio >= CERTAIN * (MOST_PITCH / pitch) ** ORDER:
            return MOST_PITCH
        asked = CAUTION * pitch * ratio ** (1 / ORDER if ratio >= 1 else 1 / SLOW_ORDER)
        pitch = float(np.clip(asked, least, MOST_PITCH))
        if pitch == least or pitch < SIMILAR * fine or 0 < fine < coarse < np.inf:
            break
    return fine or pitch


def _carried(function: Function, field: Function, places: Array, normals: Array, pitch: float) -> Array:
    """Return the function's values by a net of one size."""
    out = Net.of(field, places, normals, pitch).carried(function)
    lost = np.isnan(out)
    if lost.any():
        out[lost] = function(places[lost])[0]
    return out
