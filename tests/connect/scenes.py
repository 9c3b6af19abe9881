"""Drawn slices whose membranes are known: broken ellipses, rings in rings, lines that cross them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Curve:
    """A plane curve as dense points."""

    points: NDArray[np.float64]
    """(n, 2) y, x."""


def ellipse(centre: tuple[float, float], axes: tuple[float, float], angle: float = 0.0, n: int = 4000) -> Curve:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    y, x = axes[0] * np.sin(t), axes[1] * np.cos(t)
    c, s = np.cos(angle), np.sin(angle)
    return Curve(np.stack([centre[0] + c * y + s * x, centre[1] - s * y + c * x], 1))


def line(start: tuple[float, float], stop: tuple[float, float], bend: float = 0.0, n: int = 4000) -> Curve:
    """A straight line, or an arc whose middle is `bend` pixels beside it."""
    t = np.linspace(0, 1, n)[:, None]
    a, b = np.array(start, float), np.array(stop, float)
    normal = np.array([-(b - a)[1], (b - a)[0]]) / np.hypot(*(b - a))
    return Curve(a + t * (b - a) + 4 * bend * t * (1 - t) * normal)


def lengths(curve: Curve) -> NDArray[np.float64]:
    """Arc length up to each point."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve.points, axis=0).T))])


def broken(curve: Curve, gaps: list[tuple[float, float]]) -> Curve:
    """The curve without the stretches (start, width), in pixels of arc length, round its end."""
    s = lengths(curve)
    keep = np.ones(s.size, bool)
    for start, width in gaps:
        keep &= ((s - start) % s[-1]) > width
    return Curve(curve.points[keep])


def even_gaps(curve: Curve, count: int, width: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """`count` gaps of about `width`, one somewhere in each equal share of the curve."""
    total = lengths(curve)[-1]
    share = total / count
    begin = rng.uniform(0, total)
    return [
        (begin + share * (k + rng.uniform(0, 0.3)), min(width * rng.uniform(0.7, 1.3), 0.4 * share))
        for k in range(count)
    ]


def draw(curves: list[Curve], shape: tuple[int, int], thickness: float) -> NDArray[np.int32]:
    """(ny, nx) number of the nearest curve within half a thickness, from 1; 0 elsewhere."""
    nearest = np.full(shape, np.inf)
    number = np.zeros(shape, np.int32)
    reach = int(np.ceil(thickness / 2))
    for k, curve in enumerate(curves, 1):
        centre = np.rint(curve.points).astype(int)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                pixel = centre + np.array([dy, dx])
                distance = np.hypot(*(pixel - curve.points).T)
                inside = (distance <= thickness / 2) & (pixel >= 0).all(1) & (pixel < shape).all(1)
                y, x = pixel[inside].T
                better = distance[inside] < nearest[y, x]
                np.minimum.at(nearest, (y[better], x[better]), distance[inside][better])
                number[y[better], x[better]] = k
    return number


def random_scene(seed: int, kind: str, size: int = 200) -> tuple[NDArray[np.int32], list[int]]:
    """Truth of a random slice and the numbers of its closed membranes."""
    rng = np.random.default_rng([seed, len(kind)])
    axes = (rng.uniform(35, 70), rng.uniform(35, 70))
    centre = (size / 2 + rng.uniform(-10, 10), size / 2 + rng.uniform(-10, 10))
    angle = rng.uniform(0, np.pi)
    outer = ellipse(centre, axes, angle)
    curves = [broken(outer, even_gaps(outer, int(rng.integers(2, 9)), rng.uniform(5, 22), rng))]
    rings = [1]
    if kind == "nested":
        inner = ellipse(centre, (axes[0] - 12, axes[1] - 12), angle)
        curves.append(broken(inner, even_gaps(inner, int(rng.integers(2, 6)), rng.uniform(5, 18), rng)))
        rings.append(2)
    if kind == "crossed":
        for _ in range(int(rng.integers(1, 3))):
            a = rng.uniform(0, 2 * np.pi)
            b = a + rng.uniform(0.7, 1.3) * np.pi
            ends = [(centre[0] + 95 * np.sin(t), centre[1] + 95 * np.cos(t)) for t in (a, b)]
            curves.append(line(ends[0], ends[1], rng.uniform(-15, 15)))
    return draw(curves, (size, size), rng.uniform(1.5, 4.5)), rings


def ring_overlap(truth: NDArray[np.int32], ring: int, labels: NDArray[np.int32], closed: tuple[bool, ...]) -> float:
    """IoU of a ring's pixels and the closed path that holds most of them; 0 where an open one does."""
    inside = labels[truth == ring]
    best = int(np.bincount(inside[inside > 0]).argmax()) if (inside > 0).any() else 0
    if best == 0 or not closed[best - 1]:
        return 0.0
    return float((inside == best).sum() / ((labels == best) | (truth == ring)).sum())
