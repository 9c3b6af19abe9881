"""Arguments of a fit, refused in words before anything is computed with them.

Values are taken as they were given: a complex number is no coordinate, a masked value is no value, and neither is
turned into one silently, as a plain conversion would.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "checked_box", "checked_cloud", "checked_control_points", "one_share_each", "reals"]

Array = NDArray[np.float64]
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
LEAST_CONTROL_POINTS = 4
"""Thinning to fewer leaves less than a plane needs."""
MOST_WEIGHT = 1e100
"""Products and sums of larger weights leave the range of numbers; scaled down they would say something else, for they
count points."""


def reals(values: object, name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return values of any shape as doubles, and which of them a masked array hides.

    Raises
    ------
    ValueError
        If they are no real numbers.
    """
    hidden = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    try:
        found: NDArray[Any] = np.asarray(values)
        array = None if found.dtype.kind not in "biufO" else found.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{name} must be an array of real numbers; found {type(values).__name__}: {error}"
        raise ValueError(msg) from None
    if array is None:
        msg = f"{name} must be an array of real numbers; found {found.dtype}"
        raise ValueError(msg)
    return array, np.zeros(array.shape, np.bool_) if hidden is None else hidden


def checked_cloud(points: object, weights: object = None) -> tuple[Array, Array]:
    """Return points (n, 3) and their weights (n,) as doubles, without those that are hidden or weigh nothing.

    Raises
    ------
    ValueError
        If these are no real numbers, the shapes are not (n, 3) and (n,), a coordinate is not finite, or a weight is
        negative, not finite or above 1e100.
    """
    array, hidden = reals(points, "points")
    if array.ndim != 2 or array.shape[1] != 3:
        msg = f"points must have shape (n, 3), z, y, x; found {array.shape}"
        raise ValueError(msg)
    share, unsaid = reals(np.ones(len(array)) if weights is None else weights, "weights")
    if share.shape != (len(array),):
        msg = f"weights must have shape ({len(array)},), one per point; found {share.shape}"
        raise ValueError(msg)
    there = ~(unsaid | hidden.any(1))
    bad = there & ~np.isfinite(array).all(1)
    if bad.any():
        count, first = int(bad.sum()), int(bad.argmax())
        msg = f"{count} of {len(array)} points have a coordinate that is not finite; the first is row {first}"
        raise ValueError(msg)
    said = share[there]
    if not ((said >= 0) & (said <= MOST_WEIGHT)).all():
        msg = f"weights must be finite and not negative, at most {MOST_WEIGHT:g}; found {said.min()} to {said.max()}"
        raise ValueError(msg)
    keep = there & (share > 0)
    return array[keep], share[keep]


def checked_control_points(value: Any) -> int:
    """Return the most control points, a whole number that a surface can be carried by."""
    whole = isinstance(value, Real) and float(value).is_integer()
    if not whole or value < LEAST_CONTROL_POINTS:
        msg = f"control_points must be a whole number, at least {LEAST_CONTROL_POINTS}; found {value!r}"
        raise ValueError(msg)
    return int(value)


def checked_box(box: Any) -> Box | None:
    """Return the two corners of the volume, or None where there are none."""
    if box is None:
        return None
    corners, hidden = reals(box, "box")
    if corners.shape != (2, 3) or hidden.any() or not (corners[0] < corners[1]).all():
        msg = f"box must be two corners, the least z, y, x and the greatest, each above the least; found {box!r}"
        raise ValueError(msg)
    low, high = corners.tolist()
    return tuple(low), tuple(high)


def one_share_each(points: Sequence[object], weights: Sequence[object] | None) -> list[object]:
    """Return the weights of each membrane, None where there are none."""
    if weights is None:
        return [None] * len(points)
    shares = list(weights)
    if len(shares) != len(points):
        msg = f"weights must have one entry per membrane, {len(points)}; found {len(shares)}"
        raise ValueError(msg)
    return shares
