"""Closed paths by trying all of them, and random cases to compare on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.connect.scenes import broken, ellipse, even_gaps, line

Joins = frozenset[frozenset[int]]


def best_closed_path(cost: NDArray[np.float64], closing_reward: float) -> tuple[float, Joins]:
    """Reward and joins of the best closed path over all subsets, orders and orientations; (0, none) without one."""
    count = len(cost) // 2
    best: tuple[float, Joins] = (0.0, frozenset())

    def extend(first: int, end: int, reward: float, seen: frozenset[int], joins: Joins) -> None:
        nonlocal best
        closed = reward - float(cost[end, 2 * first])
        if closed > best[0] + 1e-12:
            best = (closed, joins | {frozenset((end, 2 * first))})
        # Each path is found from its segment of least number, in the direction that leaves it by its last end.
        for to in range(2 * first + 2, 2 * count):
            left = reward - float(cost[end, to])
            if to >> 1 not in seen and left > best[0]:
                extend(first, to ^ 1, left, seen | {to >> 1}, joins | {frozenset((end, to))})

    for first in range(count):
        extend(first, 2 * first + 1, closing_reward, frozenset({first}), frozenset())
    return best


def joins_of(path: tuple[tuple[int, bool], ...]) -> Joins:
    """Pairs of ends that a closed path joins."""
    entry = [2 * segment + reverse for segment, reverse in path]
    return frozenset(frozenset((a ^ 1, b)) for a, b in zip(entry, entry[1:] + entry[:1], strict=True))


def random_costs(seed: int) -> NDArray[np.float64]:
    """Costs of 3 to 8 segments without any geometry: the hardest case, every join as good as another."""
    rng = np.random.default_rng([seed, 1])
    n = 2 * int(rng.integers(3, 9))
    cost = rng.uniform(0.1, 2.5, (n, n))
    cost = np.minimum(cost, cost.T)
    missing = rng.random((n, n)) < 0.3
    cost[missing | missing.T] = np.inf
    cost[np.arange(n), np.arange(n) ^ 1] = np.inf
    np.fill_diagonal(cost, np.inf)
    return cost


def random_segments(seed: int) -> list[NDArray[np.int32]]:
    """3 to 8 segments: pieces of one or two broken ellipses, near each other, and lines among them, in any order."""
    rng = np.random.default_rng([seed, 2])
    count = int(rng.integers(3, 9))
    curves = []
    rings = int(rng.integers(1, 3)) if count >= 4 else 1
    pieces = count - int(rng.integers(0, 3)) if rings == 1 else count
    for share in [pieces] if rings == 1 else [pieces // 2, pieces - pieces // 2]:
        centre = (float(rng.uniform(70, 130)), float(rng.uniform(70, 130)))
        curve = ellipse(centre, tuple(rng.uniform(20, 50, 2)), rng.uniform(0, np.pi))
        curves += _pieces(broken(curve, even_gaps(curve, max(share, 1), rng.uniform(6, 22), rng)).points)
    while len(curves) < count:
        start, turn, length = rng.uniform(40, 160, 2), rng.uniform(0, 2 * np.pi), rng.uniform(15, 40)
        stop = start + length * np.array([np.sin(turn), np.cos(turn)])
        curves.append(line(tuple(start), tuple(stop), rng.uniform(-4, 4)).points)
    pixels = [_on_grid(curve + rng.normal(0, 0.2, curve.shape)) for curve in curves[:8]]
    return [pixels[k][:: rng.choice([-1, 1])] for k in rng.permutation(len(pixels))]


def _pieces(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Cut a broken closed curve at its gaps."""
    jump = np.hypot(*(points - np.roll(points, 1, 0)).T) > 2
    points = np.roll(points, -int(np.argmax(jump)), 0)
    jump = np.hypot(*np.diff(points, axis=0).T) > 2
    return [piece for piece in np.split(points, np.flatnonzero(jump) + 1) if len(piece) > 10]


def _on_grid(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Pixels along a curve, about one for each pixel of its length."""
    s = np.concatenate([[0.0], np.hypot(*np.diff(points[::20], axis=0).T).cumsum()])
    even = np.linspace(0, s[-1], max(3, round(s[-1])))
    smooth = np.stack([np.interp(even, s, points[::20, axis]) for axis in (0, 1)], 1)
    return np.rint(smooth).astype(np.int32)
