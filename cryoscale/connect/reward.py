"""The reward of a join: how smoothly a membrane would run from one segment's end to another's.

    cost(A, B) = w_d |AB| / D + w_a (2 - cos a - cos b) + w_k min(1, p |k_A - k_B| L)           reward = -cost(A, B)

A and B are the end points, a and b the angles between the line AB and the tangents there, k the curvatures of the two
ends in the direction of the walk, D the widest gap and L the length over which an end is measured (paper section 4.1:
distance, angles to the tangents and difference of curvatures). Tangent and curvature come from a parabola fitted to
the last L pixels of a segment, in arc length s, with s = 0 at the end: p(s) = p0 + t s + c s^2 / 2, and
curvature = t x c / |t|^3.

A short segment's curvature is mostly the grid's: its sd over n points with noise s is s sqrt(720 / n^5) (the variance
of a parabola's second derivative), 0.007 / voxel over 18 points and 0.07 over 7. The difference of two is therefore
shrunk by p = t^2 / (t^2 + sd_A^2 + sd_B^2), with t the spread that real curvatures have.

Over a gap of a pixel or two the direction of AB is the grid's. The line is therefore taken from A to B with two pixels
of either tangent added: where the tangents agree they rule in small gaps and do not matter in wide ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryoscale.connect.connection import ConnectOptions

_Line = NDArray[np.float64] | NDArray[np.int32]

__all__ = ["join_costs", "segment_ends"]

TANGENT_WEIGHT = 2.0
"""Pixels of each tangent added to the line between two ends."""

POINT_NOISE = 0.35
"""sd of a traced point across the membrane, in voxels: rounding to the grid, and a little more."""
USUAL_TURN = 0.5
"""Spread of real curvatures, in radians over the tangent length."""


def _end(line: _Line, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Return the end point, unit tangent, curvature and its sd at the last point of `line`, walking outwards."""
    tail = np.asarray(line[-length:], np.float64)
    step = np.hypot(*np.diff(tail, axis=0).T)
    s = np.concatenate([np.cumsum(step[::-1])[::-1], [0.0]]) * -1.0
    # A parabola through a handful of grid points would follow their staircase.
    degree = 2 if len(tail) >= 10 else 1
    basis = np.stack([s**k for k in range(degree + 1)], 1)
    fitted = np.linalg.lstsq(basis, tail, rcond=None)[0]
    speed = max(float(np.hypot(*fitted[1])), 1e-9)
    bend = 2.0 * fitted[2] if degree == 2 else np.zeros(2)
    curvature = float(fitted[1][1] * bend[0] - fitted[1][0] * bend[1]) / speed**3
    return tail[-1], fitted[1] / speed, curvature, POINT_NOISE * float(np.sqrt(720.0 / len(tail) ** 5))


def segment_ends(
    lines: Sequence[_Line], tangent_voxels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Measure both ends of every segment.

    Parameters
    ----------
    lines : sequence of S (n, 2) arrays
        y, x along each segment, in voxels; at least 2 points.
    tangent_voxels : int
        Points of an end that are fitted.

    Returns
    -------
    point, tangent : (2 S, 2) float64 arrays
        y, x of the end points, and unit tangents that point out of the segment; row 2 s is the first point's end of
        segment s, row 2 s + 1 the last one's.
    curvature : (2 S,) float64 array
        Signed curvature in 1 / voxel, walking outwards; positive turns from +x towards +y.
    curvature_sd : (2 S,) float64 array
        What the noise of the points leaves uncertain of it, in 1 / voxel.
    """
    ends = [_end(side, tangent_voxels) for line in lines for side in (line[::-1], line)]
    point = np.array([e[0] for e in ends]).reshape(-1, 2)
    tangent = np.array([e[1] for e in ends]).reshape(-1, 2)
    return point, tangent, np.array([e[2] for e in ends]), np.array([e[3] for e in ends])


def join_costs(lines: Sequence[_Line], ring: Sequence[bool], options: ConnectOptions) -> NDArray[np.float64]:
    """Return what every join costs.

    Parameters
    ----------
    lines : sequence of S (n, 2) arrays
        y, x along each segment, in voxels.
    ring : sequence of S bool
        Segments closed by themselves: nothing joins them.
    options : ConnectOptions
        Weights, widest gap and dearest join.

    Returns
    -------
    (2 S, 2 S) float64 array
        Cost of the join of end A (row) and end B (column), symmetric; infinite where the join is no action: too
        wide, too dear, a ring's, or an end's with itself. Both ends of one segment may join: that closes it.

    Notes
    -----
    Paper section 4.1, second phase.
    """
    n = 2 * len(lines)
    if not n:
        return np.empty((0, 0))
    point, tangent, curvature, curvature_sd = segment_ends(lines, options.tangent_voxels)
    line = point[None] - point[:, None]
    distance = np.hypot(line[..., 0], line[..., 1])
    line = line + TANGENT_WEIGHT * (tangent[:, None] - tangent[None])
    line /= np.maximum(np.hypot(line[..., 0], line[..., 1]), 1e-9)[..., None]
    angles = 2.0 - np.einsum("abk,ak->ab", line, tangent) + np.einsum("abk,bk->ab", line, tangent)
    # The walk leaves A outwards and enters B inwards: B's outward curvature changes its sign.
    usual = (USUAL_TURN / options.tangent_voxels) ** 2
    certain = usual / (usual + curvature_sd[:, None] ** 2 + curvature_sd[None] ** 2)
    bend = np.minimum(1.0, certain * np.abs(curvature[:, None] + curvature[None]) * options.tangent_voxels)
    cost = (
        options.distance_cost * distance / options.gap_voxels
        + options.angle_cost * np.maximum(angles, 0.0)
        + options.curvature_cost * bend
    )
    cost = 0.5 * (cost + cost.T)
    alone = np.repeat(np.asarray(ring, bool), 2)
    never = (distance > options.gap_voxels) | (cost > options.dearest_join) | alone[:, None] | alone[None]
    np.fill_diagonal(never, True)
    return np.where(never, np.inf, cost)
