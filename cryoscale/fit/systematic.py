r"""What the ridge of a segmentation gets wrong in common, which no posterior can know.

Where the missing wedge hides a membrane, ridges of scores lie outward of the true surface, and they are off by the same
amount over a whole cap, so neither their scatter nor the evidence shows it. With the tilt axis along y, tilts reach a
membrane of unit normal n up to where n turns too far towards the beam *within the x-z plane*: membranes along the tilt
axis are hidden near the top and the bottom, and inclined ones in the y-z plane are hidden wherever they are. With

    s^2 = n_x^2 + n_z^2,     w = (n_z^2 / s^2)^7,     R the membrane's radius,

w is 0.13 at 60 degrees, the tilt of the data below, and the known surfaces of simulated tomograms gave, in voxels,

    shift(n) = 0.04 R w s (2 - s),     variance(n) = 0.7 / R + 0.045 R w s^2   beyond the posterior's

R being taken within the `RADII` that were seen, and `USUAL_RADIUS` for what is open. What the wedge hides of a vesicle
is as high as the vesicle is large; what a strong curvature adds elsewhere falls with R. Open sheets are off by more
than their posterior says everywhere, with a variance of `OPEN`. The numbers were chosen on 163 closed membranes of 10
tomograms of (200, 400, 400) voxels and 12 of (96, 200, 200) or (112, 220, 220), 8 to 12 angstrom a voxel, tilts to
+-60 degrees, SNR 0.3 and 0.1, the first weights that shipped with cryoscale (sha256 3f6d71ea..). What the present ones
leave (e393cb02..; 82 closed membranes of 12 small tomograms, where w is above 0.7) is 0.1 to 0.3 voxel inward for radii
below 24 and 0.1 to 0.2 outward above; the true surface lies within one and two standard deviations as often as it
should.

Points that err independently (clean ones, of whatever noise) have neither; those of a segmentation err together with
their neighbours, which the data show (see `noise`). So both are multiplied by the share of the points' variance that
neighbours have in common. The shift is taken off where normals point outward, that is where they cancel as on a closed
surface; on open ones its square joins the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INDEPENDENT", "Systematic"]

Array = NDArray[np.float64]
RADII = (15.0, 60.0)
"""Radii of membranes that the numbers are from, in voxels."""
USUAL_RADIUS = 25.0
OPEN = 0.05
"""Squared voxels."""
SHIFT = 0.04
"""Outward shift over the radius where the wedge hides everything."""
BESIDE, HIDDEN = 0.7, 0.045
"""Variance times the radius where the wedge hides nothing, and over the radius where it hides everything."""
STEEPNESS = 7


@dataclass(frozen=True)
class Systematic:
    """Shift and variance that the points of one membrane have in common."""

    share: float
    """0 for points that err independently, 1 for those that err only together."""
    outward: bool
    """Whether normals are known to point outward."""
    radius: float = USUAL_RADIUS
    """Of the membrane, in voxels."""

    def shift(self, normals: Array) -> Array:
        """Return how far outward of the surface points with these unit normals (m, 3) are expected, (m,) voxels."""
        if not self.outward:
            return np.zeros(len(normals))
        return self.share * self._outward_shift(normals)

    def variance(self, normals: Array) -> Array:
        """Return the variance (m,), in squared voxels, that joins the posterior's."""
        hidden, across = _hidden(normals)
        rest = 0.0 if self.outward else OPEN + self._outward_shift(normals) ** 2
        return np.asarray(self.share * (BESIDE / self._size + HIDDEN * self._size * hidden * across**2 + rest))

    @property
    def _size(self) -> float:
        return min(max(self.radius, RADII[0]), RADII[1]) if self.outward else USUAL_RADIUS

    def _outward_shift(self, normals: Array) -> Array:
        hidden, across = _hidden(normals)
        return np.asarray(SHIFT * self._size * hidden * across * (2 - across))


def _hidden(normals: Array) -> tuple[Array, Array]:
    """Return w and s of unit normals (m, 3)."""
    beam, across = normals[:, 0] ** 2, normals[:, 0] ** 2 + normals[:, 2] ** 2
    return (beam / np.maximum(across, 1e-12)) ** STEEPNESS, np.sqrt(across)


INDEPENDENT = Systematic(0.0, False)
"""Points that err independently."""
