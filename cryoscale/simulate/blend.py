r"""Bodies of balls that run into each other.

.. math:: f(p) = -k \log \sum_i e^{-(|p - c_i| - r_i) / k}

is below every ball's own distance and never changes faster than the point moves, so that :math:`|f|` is never more than
the distance to :math:`f = 0`. Feet are found as those of a vesicle are (`shapes`).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numba import njit

from cryoscale.simulate.shapes import EXACT_VOXELS, SAMPLES

Doubles = npt.NDArray[np.float64]

_ITERATIONS = 5


@dataclass(frozen=True)
class Blend:
    """The smooth union of balls."""

    centres: Doubles
    """(k, 3)."""
    radii: Doubles
    """(k,)."""
    softness: float
    """In voxels: over how much of their distance two balls run into each other."""
    kind: str = "blend"
    closed: bool = True

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        # Deep inside a small ball a point has several feet.
        deepest = -min(EXACT_VOXELS, 0.6 * float(self.radii.min()))
        return _blend_distance(points, self.centres, self.radii, self.softness, deepest)  # type: ignore[no-any-return]

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        # A Fibonacci sphere for each ball; what lies in another ball is left out.
        count = SAMPLES // max(1, len(self.radii) // 2)
        k = np.arange(count) + 0.5
        height, turn = 1.0 - 2.0 * k / count, np.pi * (1.0 + np.sqrt(5.0)) * k
        ring = np.sqrt(1.0 - height**2)
        ball = np.stack([height, ring * np.cos(turn), ring * np.sin(turn)], axis=1)
        points = (self.centres[:, None] + self.radii[:, None, None] * ball).reshape(-1, 3)
        points = np.asarray(points[self.distance(points)[0] > -2.0 * self.softness])
        for _ in range(4):
            distance, normal = self.distance(points)
            points = points - distance[:, None] * normal
        return points

    def inset(self, gap: float) -> "Blend":
        """See :class:`Shape`."""
        return replace(self, radii=self.radii - gap)


@njit(cache=True, nogil=True)
def _field(p, centres, radii, softness, slope):  # type: ignore[no-untyped-def]
    """Value of f at p; its gradient goes into ``slope``."""
    least = np.inf
    for k in range(len(radii)):
        length = np.sqrt((p[0] - centres[k, 0]) ** 2 + (p[1] - centres[k, 1]) ** 2 + (p[2] - centres[k, 2]) ** 2)
        least = min(least, length - radii[k])
    total = 0.0
    slope[:] = 0.0
    for k in range(len(radii)):
        length = np.sqrt((p[0] - centres[k, 0]) ** 2 + (p[1] - centres[k, 1]) ** 2 + (p[2] - centres[k, 2]) ** 2)
        share = np.exp(-(length - radii[k] - least) / softness)
        total += share
        for i in range(3):
            slope[i] += share * (p[i] - centres[k, i]) / max(length, 1e-9)
    slope /= total
    return least - softness * np.log(total)


@njit(cache=True, nogil=True)
def _blend_distance(points, centres, radii, softness, deepest):  # type: ignore[no-untyped-def]
    count = len(points)
    distance, normal = np.empty(count), np.empty((count, 3))
    foot, slope = np.empty(3), np.empty(3)
    for n in range(count):
        foot[:] = points[n]
        first = _field(foot, centres, radii, softness, slope)
        if deepest <= first <= EXACT_VOXELS:
            for step in range(2 * _ITERATIONS + 2):
                value = _field(foot, centres, radii, softness, slope)
                square = max((slope * slope).sum(), 1e-3)
                if step % 2 == 0 or step > 2 * _ITERATIONS:
                    foot -= value / square * slope
                else:
                    along = ((points[n] - foot) * slope).sum() / square
                    foot[:] = points[n] - along * slope
            _field(foot, centres, radii, softness, slope)
            first = np.copysign(np.sqrt(((points[n] - foot) ** 2).sum()), first)
        distance[n] = first
        normal[n] = slope / max(np.sqrt((slope * slope).sum()), 1e-9)
    return distance, normal
