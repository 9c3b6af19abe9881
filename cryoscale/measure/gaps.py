r"""Standard errors of distances between membranes: both surfaces err, and each along itself in its own way.

    dD = (u . n) d - (u . n') d',     u = (v - foot) / D

is how the distance D of a vertex v changes where its own surface moves out by d along its normal n, and the other by d'
at the foot along n': the foot moves on the other surface, which changes nothing to first order. Of a number q that
follows D with weights w, and the own surface directly with b, over vertices of area a,

    var q = x^T C x + sum over others of y^T C' y,     x_i = sum over site i of b + w (u . n),  y_j = sum of -w (u . n')

with C as in `errors`. Where M is the mean curvature, g(D - c) a normal density as wide as the error of D, at least
`LEAST_WIDTH_NM`, and G its integral,

================= ================================== =============================================
number            w                                  b
================= ================================== =============================================
mean distance q   a / A                              2 M a (D - q) / A
median distance q a g(D - q) / F, F = sum of a g     2 M a (1/2 - G(q - D)) / F
area within c     -a g(D - c)                        2 M a G(c - D)
================= ================================== =============================================

Angles between normals err as both normals do, which sites do for themselves: the error of their median is the sum in
squares over the sites of a g e / F, e of the normal at each (as in `means`, rather too large than too small).

A step, as whether a vertex is within c, is thus as wide as it is uncertain. What is nearest, and what faces what, is
taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cryoscale.measure.errors import Sites

__all__ = ["LEAST_WIDTH_NM", "Gaps", "PairErrors"]

Array = NDArray[np.float64]
LEAST_WIDTH_NM = 0.25
LEAST_WIDTH_DEGREES = 1.0
FARTHEST_WIDTHS = 6.0


@dataclass(frozen=True)
class Gaps:
    """What is near some vertices, (k,) each; NaN and 0 where nothing is."""

    distance: Array
    error: Array
    own: Array
    """u . n, how much a gap widens where the membrane moves out by 1."""
    other: Array
    """-u . n', where the other one does."""
    site: NDArray[np.int64]
    """Of the other membrane's errors, nearest to the foot; 0 where it has none."""
    number: NDArray[np.int32]
    """Of the other membrane."""
    turn_degrees: Array
    """Error of the angle between the normals, from both."""

    @classmethod
    def none(cls, count: int) -> Gaps:
        """Return gaps of vertices that have nothing near."""
        one, two, three, four, five = np.full((5, count), np.nan)
        return cls(one, two, three, four, np.zeros(count, np.int64), np.zeros(count, np.int32), five)

    def part(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Gaps:
        """Return those of some vertices."""
        return Gaps(*(getattr(self, one.name)[rows] for one in fields(self)))

    def put(self, rows: NDArray[np.integer], found: Gaps) -> None:
        """Enter the gaps of some vertices."""
        for one in fields(self):
            getattr(self, one.name)[rows] = getattr(found, one.name)


@dataclass(frozen=True)
class PairErrors:
    """Errors of numbers that follow the distances of a membrane's vertices; None where a surface has none."""

    sites: Sites | None
    others: Mapping[int, Sites | None]
    owner: NDArray[np.int64]
    """(k,) the membrane's site nearest to each vertex."""
    area: Array
    """(k,) of the vertices."""
    bend: Array
    """(k,) mean curvature."""
    gaps: Gaps

    def of_mean(self, mean: float) -> float | None:
        """Return the error of the mean distance."""
        share = self.area / self.area.sum()
        return self._error(share, 2 * self.bend * share * (self.gaps.distance - mean))

    def of_median(self, median: float) -> float | None:
        """Return the error of the median distance."""
        near, below = self._around(median)
        total = float(self.area @ near)
        if total < 1e-12 * self.area.sum():
            return None
        return self._error(self.area * near / total, 2 * self.bend * self.area * (0.5 - below) / total)

    def of_area_within(self, limit: float) -> float | None:
        """Return the error of the area that is no farther than a limit."""
        near, below = self._around(limit)
        return self._error(-self.area * near, 2 * self.bend * self.area * below)

    def of_median_angle(self, angle_degrees: Array, median: float) -> float | None:
        """Return the error, in degrees, of the median of the angles (k,) between the normals."""
        if self.sites is None or not len(self.area):
            return None
        width = np.maximum(np.nan_to_num(self.gaps.turn_degrees), LEAST_WIDTH_DEGREES)
        near = self.area * np.exp(-0.5 * ((angle_degrees - median) / width) ** 2) / width
        shares = near / max(float(near.sum()), 1e-300)
        square = self.sites.alone(shares, self.owner)
        for number in np.unique(self.gaps.number).tolist():
            sites, rows = self.others.get(number), self.gaps.number == number
            if sites is None:
                return None
            square += sites.alone(shares[rows], self.gaps.site[rows])
        return float(np.degrees(np.sqrt(square)))

    def _around(self, place: float) -> tuple[Array, Array]:
        """g(D - place) and G(place - D)."""
        width = np.maximum(np.nan_to_num(self.gaps.error), LEAST_WIDTH_NM)
        apart = (place - self.gaps.distance) / width
        # What is farther than can be is not near: 0, not 1e-80, is the error of no contact.
        apart = np.where(np.abs(apart) < FARTHEST_WIDTHS, apart, np.copysign(np.inf, apart))
        return np.exp(-0.5 * apart**2) / (width * np.sqrt(2 * np.pi)), np.asarray(ndtr(apart))

    def _error(self, weights: Array, moved: Array) -> float | None:
        if self.sites is None or not len(weights):
            return None
        square = self.sites.standard_error(moved + weights * self.gaps.own, self.owner) ** 2
        for number in np.unique(self.gaps.number).tolist():
            sites, rows = self.others.get(number), self.gaps.number == number
            if sites is None:
                return None
            square += sites.standard_error((weights * self.gaps.other)[rows], self.gaps.site[rows]) ** 2
        return float(np.sqrt(square))
