r"""Rotated ellipses in the slices of a membrane: the paper's first fit.

With u, v the coordinates of a pixel along the half axes a, b of an ellipse, from its centre:

    g = sqrt((u / a)^2 + (v / b)^2),     d = (g - 1) / |grad g| = (g^2 - g) / sqrt((u / a^2)^2 + (v / b^2)^2)

the first-order (Sampson) signed distance, negative inside. Five parameters (centre, logarithms of the half axes, angle)
minimise a robust loss of d / noise under bounds (`ellipse_search`): soft L1 from several starts, then Cauchy, which
forgets what lies far off. The equation printed in the paper (section 4.3) has its axes along those of the picture;
membranes do not.

A fit may start from the ellipse of a better slice and then not leave its surroundings: see `ellipses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cryoscale.fit.ellipse_search import search

__all__ = ["Bounds", "Ellipse", "check_pixels", "fit_ellipse", "fit_pixels", "occupied"]

Array = NDArray[np.float64]
FIT_POINTS = 300
LEAST_FREE, LEAST_CARRIED = 6, 3
"""Fewest distinct pixels of a fit by itself, and of one that starts from a better slice."""
LOG_AXIS_SD = 0.5
"""Prior standard deviation of the logarithm of an axis about the mean of the two: holds the ellipse of a short arc."""
PULL = 2.0
"""Standard deviations from the start to a bound."""
BINS = 36
"""Directions in which the pixels of a slice, or the outline of an ellipse, are looked for."""
WIDEST_SPREAD = 2.5
"""Spread of the distances, in pixels (or 0.06 of the radius), beyond which an ellipse does not describe a slice."""
GOES_ROUND = 0.5
"""Coverage of the best slice from which a membrane is taken for an ellipse."""
NEAR_PIXELS = 3.0
"""Pixels this near to the outline cover it."""
NAMES = ("centre y", "centre x", "first axis", "second axis", "angle")


@dataclass(frozen=True)
class Bounds:
    """How far the parameters of an ellipse may be from those it starts from."""

    centre_pixels: float = 2.0
    axes_pixels: float = 3.0
    angle_radians: float = 0.35

    def grown(self, slices: int) -> Bounds:
        """Return the bounds for an ellipse carried across several slices: changes add up like those of a walk."""
        steps = slices**0.5
        return Bounds(self.centre_pixels * steps, self.axes_pixels * steps, min(self.angle_radians * steps, np.pi))


@dataclass(frozen=True)
class Ellipse:
    """A rotated ellipse in a slice, and how well it describes the pixels it was fitted to."""

    centre: Array
    """(2,) y, x in pixels."""
    axes: Array
    """(2,) half axes in pixels, the longer first."""
    angle_radians: float
    """Of the longer axis, from x towards y, from 0 to pi."""
    spread_pixels: float = 0.0
    """1.4826 times the median distance of the pixels."""
    coverage: float = 1.0
    """Share of the outline, by angle, that has a pixel within 3 pixels."""
    at_bounds: tuple[str, ...] = ()
    """Parameters that ended at a bound: the fit wanted to go farther."""

    @cached_property
    def radius(self) -> float:
        """Return the geometric mean of the half axes."""
        return float(np.sqrt(self.axes.prod()))

    @cached_property
    def describes(self) -> bool:
        """Whether the pixels lie along it; those of a cap, cut flat, or of a bean do not."""
        return self.spread_pixels <= max(WIDEST_SPREAD, 0.06 * self.radius)

    @cached_property
    def is_ring(self) -> bool:
        """Whether the pixels go half way round it; a flat one is a line, near both of its sides."""
        return self.describes and self.coverage >= GOES_ROUND and bool(self.axes[1] > 1.5 * NEAR_PIXELS)

    def distance(self, q: Array) -> Array:
        """Return the first-order signed distance (m,) in pixels at places (m, 2), negative inside."""
        return _distance(q, self.centre, self.axes, self.angle_radians)

    def feet(self, q: Array) -> Array:
        """Return the places (m, 2) of the ellipse in the directions, seen from its centre, of places (m, 2)."""
        along, across = _frame(self.angle_radians)
        local = q - self.centre
        g = np.hypot(local @ along / self.axes[0], local @ across / self.axes[1])
        return np.asarray(self.centre + local / np.maximum(g, 1e-9)[:, None])

    def outline(self, count: int = 181) -> Array:
        """Return places (count, 2) along the ellipse; the last is the first."""
        turn = np.linspace(0, 2 * np.pi, count)
        along, across = _frame(self.angle_radians)
        places: Array = np.outer(np.cos(turn), self.axes[0] * along) + np.outer(np.sin(turn), self.axes[1] * across)
        return self.centre + places


def check_pixels(points: object, least: int) -> Array:
    """Return distinct points (n, 2) as doubles.

    Raises
    ------
    ValueError
        If the shape is not (n, 2), a value is not finite, or fewer than ``least`` distinct points remain.
    """
    array: Array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        msg = f"points must have shape (n, 2), y, x; found {array.shape}"
        raise ValueError(msg)
    if not np.isfinite(array).all():
        msg = f"{int((~np.isfinite(array).all(1)).sum())} of {len(array)} points have a coordinate that is not finite"
        raise ValueError(msg)
    array = array[np.lexsort(array.T[::-1])]
    array = array[np.concatenate([np.ones(min(len(array), 1), bool), (np.diff(array, axis=0) != 0).any(1)])]
    if len(array) < least:
        msg = f"needs at least {least} distinct points; found {len(array)}"
        raise ValueError(msg)
    return array


def fit_ellipse(
    points: object, *, start: Ellipse | None = None, bounds: Bounds | None = None, noise_pixels: float = 1.0
) -> Ellipse:
    """Fit a rotated ellipse to pixels with outliers and gaps (paper: section 4.3).

    Parameters
    ----------
    points
        (n, 2), y, x in pixels; n >= 6 distinct and not on one line, n >= 3 with ``start`` and ``bounds``.
    start
        Ellipse of a better slice to start from.
    bounds
        How far from ``start`` the parameters may go; they also pull there, two standard deviations wide.
    noise_pixels
        Distance that counts as one standard deviation.

    Raises
    ------
    ValueError
        Too few points, on one line, not finite, of another shape; bounds without a start; noise that is not positive.
    """
    if bounds is not None and start is None:
        msg = "bounds are about a start; there is none"
        raise ValueError(msg)
    if not noise_pixels > 0:
        msg = f"noise_pixels must be positive, found {noise_pixels}"
        raise ValueError(msg)
    array = check_pixels(points, LEAST_FREE if bounds is None else LEAST_CARRIED)
    spread = np.linalg.svd(array - array.mean(0), compute_uv=False)
    if bounds is None and spread[1] <= 1e-6 * spread[0]:
        msg = f"the {len(array)} points lie on one line; an ellipse needs points beside it"
        raise ValueError(msg)
    return fit_pixels(array, start=start, bounds=bounds, noise_pixels=noise_pixels)


def fit_pixels(array: Array, *, start: Ellipse | None, bounds: Bounds | None, noise_pixels: float) -> Ellipse:
    """Fit an ellipse to distinct pixels (n, 2) that are known to carry one: `fit_ellipse` without its checks."""
    used = array[np.linspace(0, len(array) - 1, min(len(array), FIT_POINTS)).round().astype(int)]
    starts = [] if bounds is not None else _starts(used)
    starts += [] if start is None else [_parameters(start)]
    size = max(float(np.sqrt(used.var(0).sum())), 1.0)
    low, high = _limits(used, size, start, bounds)
    within = (low, high, size)
    best, cost = starts[0], np.inf
    for guess in starts:
        found = _solve(used, guess, within, noise_pixels, "soft_l1", carried=bounds is not None)
        if found[1] < cost:
            best, cost = found
    seeds = [best, starts[-1]] if start is not None else [best]
    refined = [_solve(used, seed, within, noise_pixels, "cauchy", carried=bounds is not None) for seed in seeds]
    return _finished(min(refined, key=lambda found: found[1])[0], array, low, high)


def _solve(
    points: Array,
    guess: Array,
    within: tuple[Array, Array, float],
    noise_pixels: float,
    loss: str,
    *,
    carried: bool,
) -> tuple[Array, float]:
    """Return the parameters within bounds, their scale the points' size, of least cost near a guess, and that cost."""
    low, high, size = within
    middle, half = (low + high) / 2, (high - low) / 2
    prior = np.zeros((5 if carried else 2, 5))
    if carried:
        np.fill_diagonal(prior, PULL / half)
    else:
        prior[:, 2:4] = np.array([[0.5, -0.5], [-0.5, 0.5]]) / LOG_AXIS_SD
    offset = prior @ middle if carried else np.zeros(2)
    start = np.clip(guess, low + 1e-3 * half, high - 1e-3 * half)
    scale = np.array([size, size, 1.0, 1.0, 1.0])
    found, cost = search(points, start, low, high, scale, noise_pixels, loss == "cauchy", prior, offset)
    return found, float(cost)


def _limits(points: Array, size: float, start: Ellipse | None, bounds: Bounds | None) -> tuple[Array, Array]:
    """Return the least and greatest parameters: about the start, or what any ellipse of these pixels could have."""
    if start is None or bounds is None:
        middle, centre = np.median(points, axis=0), np.full(2, 5 * size)
        axes = np.log([0.1 * size, 20 * size])
        return (
            np.array([*(middle - centre), axes[0], axes[0], -2 * np.pi]),
            np.array([*(middle + centre), axes[1], axes[1], 3 * np.pi]),
        )
    at = _parameters(start)
    shift = np.full(2, bounds.centre_pixels)
    low = np.concatenate([at[:2] - shift, np.log(np.maximum(start.axes - bounds.axes_pixels, 1.0)), [0.0]])
    high = np.concatenate([at[:2] + shift, np.log(np.maximum(start.axes + bounds.axes_pixels, 2.0)), [0.0]])
    low[4], high[4] = at[4] - bounds.angle_radians, at[4] + bounds.angle_radians
    return low, high


def _starts(points: Array) -> list[Array]:
    """Return three starts: the ellipse of the second moments, the circle about the median, the algebraic circle."""
    values, vectors = np.linalg.eigh(np.cov((points - points.mean(0)).T))
    angle = np.arctan2(vectors[0, 1], vectors[1, 1])
    moments = [*points.mean(0), *(0.5 * np.log(np.maximum(2 * values[::-1], 1.0))), angle % np.pi]
    middle = np.median(points, axis=0)
    radius = max(float(np.median(np.linalg.norm(points - middle, axis=1))), 1.0)
    # Kasa's circle: y^2 + x^2 = 2 c . p + k; good for short arcs, whose median is not the centre.
    local = points - points.mean(0)
    solved = np.linalg.lstsq(np.column_stack([2 * local, np.ones(len(local))]), (local**2).sum(1), rcond=None)[0]
    around = max(float(solved[2] + (solved[:2] ** 2).sum()), 1.0) ** 0.5
    circle = [*(solved[:2] + points.mean(0)), np.log(around), np.log(around), 0.0]
    return [np.array(moments), np.array([*middle, np.log(radius), np.log(radius), 0.0]), np.array(circle)]


def _parameters(ellipse: Ellipse) -> Array:
    return np.array([*ellipse.centre, *np.log(ellipse.axes), ellipse.angle_radians])


def _finished(p: Array, points: Array, low: Array, high: Array) -> Ellipse:
    close = np.minimum(p - low, high - p) <= 2e-3 * (high - low) / 2
    axes, angle = np.exp(p[2:4]), float(p[4])
    if axes[0] < axes[1]:
        axes, angle = axes[::-1].copy(), angle + np.pi / 2
    distance = np.abs(_distance(points, p[:2], axes, angle))
    near = points[distance <= NEAR_PIXELS] - p[:2]
    along, across = _frame(angle)
    turn = np.arctan2(near @ across / axes[1], near @ along / axes[0])
    at_bounds = tuple(name for name, is_at in zip(NAMES, close, strict=True) if is_at)
    return Ellipse(p[:2].copy(), axes, angle % np.pi, 1.4826 * float(np.median(distance)), occupied(turn), at_bounds)


def occupied(turn: Array) -> float:
    """Return the share of the directions, 36 in all, in which there is an angle (n,) in radians."""
    return len(np.unique(np.floor((turn + np.pi) * (BINS / (2 * np.pi))).astype(int) % BINS)) / BINS


def _frame(angle: float) -> tuple[Array, Array]:
    """Return unit vectors, y, x, along the first and the second axis."""
    return np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])


def _distance(q: Array, centre: Array, axes: Array, angle: float) -> Array:
    along, across = _frame(angle)
    local = q - centre
    u, v = (local @ along) / axes[0], (local @ across) / axes[1]
    g = np.hypot(u, v)
    slope = np.hypot(u / axes[0], v / axes[1])
    # At the centre every direction has its own limit; the shorter axis is the distance there.
    return np.asarray(np.where(g > 1e-9, (g * g - g) / np.maximum(slope, 1e-300), -axes.min()))
