r"""Standard errors of what is measured on a surface, from how sure its position is.

A number F that depends on the surface changes by dF = integral of h(x) d(x) dA when the surface moves by d(x) along its
normals (h is its first variation). With C the covariance of d among *sites* spread over the surface, each of which
speaks for the vertices nearest to it,

    var F = w^T C w,     w_i = sum over the vertices of site i of h times area

Sites stand for more surface than errors hang together over on very large membranes; the error stated is then too large
rather than too small. What the rim of an open surface does along the surface is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["SiteErrors", "Sites", "SurfaceErrors"]

Array = NDArray[np.float64]
_NEIGHBOURS = 3


@dataclass(frozen=True)
class SiteErrors:
    """Standard errors of directions and curvatures at the vertices of a mesh, (n,) each."""

    normal: Array
    """Radian."""
    mean: Array
    gaussian: Array
    first: Array
    """Of the larger principal curvature."""
    second: Array


@dataclass(frozen=True)
class Sites:
    """Where the errors of a surface are known; lengths in nm."""

    places: Array
    """(m, 3)."""
    covariance: Array
    """(m, m) of the position along the normals."""
    errors: Array
    """(m, 5) as in `SiteErrors`."""

    def owner(self, vertices: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the site nearest to each vertex (n, 3)."""
        return np.asarray(cKDTree(self.places).query(vertices)[1], np.int64)

    def standard_error(self, change: Array, owner: NDArray[np.int64]) -> float:
        """Return the standard error of a number.

        Parameters
        ----------
        change
            (n,) first variation times area at each vertex: how much the number grows as the surface there moves out.
        owner
            (n,) as `owner` returns it.
        """
        weights = np.bincount(owner, change, minlength=len(self.places))
        return float(np.sqrt(max(float(weights @ self.covariance @ weights), 0.0)))

    def turn(self, owner: NDArray[np.int64]) -> Array:
        """(n,) error, in radian, of the angle between the normal and any direction, at the sites of vertices."""
        return np.asarray(self.errors[owner, 0] / np.sqrt(2))

    def alone(self, shares: Array, owner: NDArray[np.int64]) -> float:
        """Return the variance of a sum of such angles with shares (n,), each site for itself."""
        return float((np.bincount(owner, shares * self.turn(owner)) ** 2).sum())

    def at(self, vertices: NDArray[np.floating]) -> SiteErrors:
        """Carry the errors to vertices (n, 3): the mean over the nearest sites, weighted by 1 / distance."""
        distance, near = cKDTree(self.places).query(vertices, k=list(range(1, min(_NEIGHBOURS, len(self.places)) + 1)))
        weights = 1 / np.maximum(distance, 1e-6)
        found = np.einsum("nk,nkc->cn", weights / weights.sum(axis=1, keepdims=True), self.errors[near])
        return SiteErrors(*found)


@dataclass(frozen=True)
class SurfaceErrors:
    """Errors of numbers that are sums over the vertices of one surface."""

    sites: Sites | None
    """None for surfaces from elsewhere: nothing is known of their errors."""
    owner: NDArray[np.int64] | None
    """(n,) the site nearest to each vertex."""
    area: Array
    """(n,) of the vertices."""

    def of(self, variation: Array) -> float | None:
        """Return the error of a number with this first variation (n,)."""
        if self.sites is None or self.owner is None:
            return None
        return self.sites.standard_error(variation * self.area, self.owner)

    def alone(self, errors: Array) -> float:
        """Return the error of a sum over the area of what errs by (n,) at the vertices, each site for itself."""
        if self.owner is None:
            return 0.0
        return float(np.linalg.norm(np.bincount(self.owner, errors * self.area)))

    def at_owner(self, column: int) -> Array:
        """(n,) a column of the sites' errors at the site nearest to each vertex; 0 where there are none."""
        if self.sites is None or self.owner is None:
            return np.zeros(len(self.area))
        return np.asarray(self.sites.errors[self.owner, column], np.float64)
