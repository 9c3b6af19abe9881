r"""What each patch's word counts for where boxes overlap: a partition of unity, and who is near at all.

    w_p(q) = prod over axes of smooth(1 - (distance of q to box p) / overlap)

with smooth(t) = t^3 (10 - 15 t + 6 t^2) on [0, 1], twice differentiable. Inside its own box a patch has weight 1 before
they are divided by their sum s, and none beyond the overlap. Where s < 1 the ground has the weight (1 - s)^3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["box_weights", "ground_weights", "speaking", "weight_hessians"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def speaking(q: Array, low: Array, high: Array, overlap: float) -> tuple[Index, Index, Index]:
    """Return which places lie within the overlap of which boxes, and the box nearest to each.

    Parameters
    ----------
    q
        (m, 3) places.
    low, high
        (p, 3) corners of the boxes, in the unit of the places.
    overlap
        Largest distance from a box along any axis.

    Returns
    -------
    tuple
        Rows ``near[ends[i] : ends[i + 1]]`` of q are those of box i, in order: ends (p + 1,) and near; then (m,) boxes.
    """
    count, nearest = np.zeros(len(low), np.int64), np.zeros(len(q), np.int64)
    _count(q, low, high, overlap, count, nearest)
    ends = np.concatenate([[0], np.cumsum(count)])
    near = np.empty(ends[-1], np.int64)
    _list(q, low, high, overlap, ends[:-1].copy(), near)
    return ends, near, nearest


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _far(q: Any, row: int, low: Any, high: Any, box: int) -> float:
    """Return the largest of a place's distances to a box along the axes."""
    far = 0.0
    for axis in range(3):
        far = max(far, low[box, axis] - q[row, axis], q[row, axis] - high[box, axis])
    return far


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(q: Any, low: Any, high: Any, overlap: float, count: Any, nearest: Any) -> None:
    for row in range(len(q)):
        least = np.inf
        for box in range(len(low)):
            far = _far(q, row, low, high, box)
            if far < least:
                least = far
                nearest[row] = box
            if far < overlap:
                count[box] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _list(q: Any, low: Any, high: Any, overlap: float, end: Any, near: Any) -> None:
    for row in range(len(q)):
        for box in range(len(low)):
            if _far(q, row, low, high, box) < overlap:
                near[end[box]] = row
                end[box] += 1


def ground_weights(total: Array, lean: Array, turn: Array | None = None) -> tuple[Array, Array, Array]:
    """Return (1 - s)^3 (m,) with its gradient (m, 3) and Hessian (m, 3, 3), from s and its derivatives."""
    left = (1 - total)[:, None]
    bend = np.zeros((len(total), 3, 3)) if turn is None else -3 * left[..., None] ** 2 * turn
    bend += 6 * left[..., None] * lean[:, :, None] * lean[:, None, :]
    return left[:, 0] ** 3, -3 * left**2 * lean, bend


def _axis_weights(q: Array, low: Array, high: Array, overlap: float) -> tuple[Array, Array, Array]:
    """Return each axis' weight (m, 3) with its first and second derivative."""
    below, above = np.maximum(low - q, 0), np.maximum(q - high, 0)
    t = np.clip(1 - (below + above) / overlap, 0, 1)
    sign = (below > 0).astype(float) - (above > 0)
    axis = np.maximum(t**3 * (10 - t * (15 - 6 * t)), 1e-12)
    inside = np.abs(sign)
    return axis, 30 * (t * (1 - t)) ** 2 / overlap * sign, 60 * t * (1 - t) * (1 - 2 * t) / overlap**2 * inside


def box_weights(q: Array, low: Array, high: Array, overlap: float) -> tuple[Array, Array]:
    """Return the product of the three axes' weights (m,) and its gradient (m, 3)."""
    axis, slope, _ = _axis_weights(q, low, high, overlap)
    w = axis.prod(1)
    return w, w[:, None] * slope / axis


def weight_hessians(q: Array, low: Array, high: Array, overlap: float) -> Array:
    """Return the Hessian (m, 3, 3) of that product."""
    axis, slope, bend = _axis_weights(q, low, high, overlap)
    w = axis.prod(1)[:, None]
    lean = slope / axis
    out = w[..., None] * lean[:, :, None] * lean[:, None, :]
    diagonal = np.arange(3)
    out[:, diagonal, diagonal] = w * bend / axis
    return np.asarray(out)
