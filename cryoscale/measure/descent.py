r"""Least squares of two peaks, profile by profile (Levenberg-Marquardt), and the model and slopes it needs.

    p(s) = b0 + b1 s + A1 g(s - c - t/2) + A2 g(s - c + t/2),     g(s - m) = sum_k W_k cos(2 pi k (s - m))

with W_k what `peaks` says of the frequency k. cos(2 pi k (s - m)) splits into products of what depends on s alone, and
is tabled, and on m alone. Frequencies of which a peak this wide has less than 1e-12 are left out.

A profile is done when a step that was hardly damped gains less than 1e-10 of its cost, or when no damping helps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["descend", "models"]

Array = NDArray[np.float64]
_STEPS = 40
_GAIN = 1e-10
_DAMPED = 0.1
_LEAST_DAMPING, _MOST_DAMPING = 1e-9, 1e9
_NEGLIGIBLE = 7.44
"""exp(-x^2 / 2) is below 1e-12 from here."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def models(values: Array, offsets: Array, turns: Array, even: Array, odd: Array, shares: Array) -> Any:
    """Return the profiles (p, k) and their derivatives (p, 7, k).

    Parameters
    ----------
    values
        (p, 7): b0, b1, A1, A2, t, c, w.
    offsets
        (k,) s in nm.
    turns, even, odd
        2 pi times the frequencies (q,), per nm, and cosine and sine of their products with the offsets (q, k).
    shares
        (p, q) weight of each frequency, but for the peak's own spectrum.
    """
    out, slopes = np.empty((len(values), len(offsets))), np.empty((len(values), 7, len(offsets)))
    for row in range(len(values)):
        _model(values[row], offsets, turns, even, odd, shares[row], out[row], slopes[row])
    return out, slopes


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _model(values: Any, offsets: Any, turns: Any, even: Any, odd: Any, shares: Any, profile: Any, slopes: Any) -> None:
    """Write the profile (k,) and its derivatives (7, k) by all values."""
    b0, b1, a1, a2, t, c, w = values
    for k in range(len(offsets)):
        slopes[0, k], slopes[1, k] = 1.0, offsets[k]
        for value in range(2, 7):
            slopes[value, k] = 0.0
    for f in range(len(turns)):
        if turns[f] * w > _NEGLIGIBLE:
            break
        weight = shares[f] * w * np.sqrt(2 * np.pi) * np.exp(-0.5 * (w * turns[f]) ** 2)
        first, second = (c + t / 2) * turns[f], (c - t / 2) * turns[f]
        even1, odd1 = weight * np.cos(first), weight * np.sin(first)
        even2, odd2 = weight * np.cos(second), weight * np.sin(second)
        turn, wider = turns[f], 1 / w - w * turns[f] ** 2
        even_t, odd_t = turn * (a1 * even1 - a2 * even2) / 2, turn * (a1 * odd1 - a2 * odd2) / 2
        even_c, odd_c = turn * (a1 * even1 + a2 * even2), turn * (a1 * odd1 + a2 * odd2)
        even_w, odd_w = wider * (a1 * even1 + a2 * even2), wider * (a1 * odd1 + a2 * odd2)
        for k in range(len(offsets)):
            x, y = even[f, k], odd[f, k]
            slopes[2, k] += even1 * x + odd1 * y
            slopes[3, k] += even2 * x + odd2 * y
            slopes[4, k] += even_t * y - odd_t * x
            slopes[5, k] += even_c * y - odd_c * x
            slopes[6, k] += even_w * x + odd_w * y
    for k in range(len(offsets)):
        profile[k] = b0 + b1 * offsets[k] + a1 * slopes[2, k] + a2 * slopes[3, k]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def descend(
    profiles: Array, starts: Array, free: int, pull: Array, width: float, low: Array, high: Array,
    offsets: Array, turns: Array, even: Array, odd: Array, shares: Array,
) -> Any:  # fmt: skip
    """Return the values (p, 7) of least squares near the starts, and the sums of squares (p,).

    Parameters
    ----------
    profiles, starts
        (p, k) and (p, 7).
    free
        How many of the seven values may change, from the first.
    pull, width
        (p,) weight of the squared difference between the seventh value and `width`.
    low, high
        (7,) bounds.
    offsets, turns, even, odd, shares
        See `models`.
    """
    found, costs = starts.copy(), np.empty(len(starts))
    for row in range(len(starts)):
        costs[row] = _descend_one(
            profiles[row], found[row], free, pull[row], width, low, high, offsets, turns, even, odd, shares[row]
        )
    return found, costs


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _descend_one(
    profile: Any, values: Any, free: int, pull: float, width: float, low: Any, high: Any,
    offsets: Any, turns: Any, even: Any, odd: Any, shares: Any,
) -> float:  # fmt: skip
    """Change the values to those of least squares, and return the sum of these."""
    model, slopes = np.empty(len(offsets)), np.empty((7, len(offsets)))
    ahead, lean = np.empty(len(offsets)), np.empty((7, len(offsets)))
    _model(values, offsets, turns, even, odd, shares, model, slopes)
    normal, right = np.empty((free, free)), np.empty(free)
    cost = _equations(profile, model, slopes, pull, values[6] - width, normal, right)
    damping, trial, step, lower = 1e-2, values.copy(), np.empty(free), np.empty((free, free))
    for _ in range(_STEPS):
        _solve(normal, right, damping, lower, step)
        for k in range(free):
            trial[k] = min(max(values[k] + step[k], low[k]), high[k])
        _model(trial, offsets, turns, even, odd, shares, ahead, lean)
        tried = pull * (trial[6] - width) ** 2
        for k in range(len(profile)):
            tried += (profile[k] - ahead[k]) ** 2
        if tried < cost:
            done = damping <= _DAMPED and cost - tried <= _GAIN * cost
            for k in range(free):
                values[k] = trial[k]
            cost = _equations(profile, ahead, lean, pull, values[6] - width, normal, right)
            damping = max(damping / 5, _LEAST_DAMPING)
        else:
            done = damping >= _MOST_DAMPING
            damping = min(damping * 4, _MOST_DAMPING)
        if done:
            break
    return float(cost)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _equations(profile: Any, model: Any, slopes: Any, pull: float, off: float, normal: Any, right: Any) -> float:
    """Write J^T J's lower triangle (n, n) and J^T r (n,), both with the pull on the width, and return the cost."""
    cost = pull * off**2
    for k in range(len(profile)):
        cost += (profile[k] - model[k]) ** 2
    for i in range(len(right)):
        right[i] = 0.0
        for k in range(len(profile)):
            right[i] += slopes[i, k] * (profile[k] - model[k])
        for j in range(i + 1):
            normal[i, j] = 0.0
            for k in range(len(profile)):
                normal[i, j] += slopes[i, k] * slopes[j, k]
    if len(right) == 7:
        normal[6, 6] += pull
        right[6] -= pull * off
    return float(cost)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _solve(normal: Any, right: Any, damping: float, lower: Any, x: Any) -> None:
    """Write the step x that solves the damped equations (Cholesky); none where rounding leaves nothing to divide by."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            rest = normal[i, j]
            if i == j:
                rest += damping * (normal[i, i] + 1e-9)
            for k in range(j):
                rest -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = rest / lower[j, j]
            elif rest <= 0:
                for k in range(size):
                    x[k] = 0.0
                return
            else:
                lower[i, i] = np.sqrt(rest)
    for i in range(size):
        rest = right[i]
        for k in range(i):
            rest -= lower[i, k] * x[k]
        x[i] = rest / lower[i, i]
    for i in range(size - 1, -1, -1):
        rest = x[i]
        for k in range(i + 1, size):
            rest -= lower[k, i] * x[k]
        x[i] = rest / lower[i, i]
