r"""What the ridge of a segmentation gets wrong in common, which no posterior can know.

Along the beam the missing wedge smears a membrane: ridges of scores lie outward of the true surface at caps, and they
are off by the same amount over a whole cap, so neither their scatter nor the evidence shows it. The part of a vesicle
that the wedge hides is as high as the vesicle is large, so what is missing there follows its radius R: against the
known surfaces of simulated tomograms the median outward shift at the poles was 0.5 voxel for R = 25, 0.9 for 36 and 1.5
for 53, and with t = n_z^2, n the surface normal, shift and variance beyond the posterior's were, in voxels,

    shift(t) = 0.05 R t^6,     variance(t) = 0.26 t + (0.35 + (0.028 R)^2) t^6

R being taken within the `RADII` that were seen, and `USUAL_RADIUS` for what is open. Open sheets are off by more than
their posterior says everywhere, with a variance of `OPEN`. The numbers were chosen on 78 closed membranes and 5 sheets
of 10 tomograms of (200, 400, 400) voxels, and 27 and 4 of four of (96, 200, 200), tilts to +-60 degrees, SNR 0.3 and
0.1, the weights that ship with cryoscale.

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
        return self.share * self._outward_shift(normals[:, 0] ** 2)

    def variance(self, normals: Array) -> Array:
        """Return the variance (m,), in squared voxels, that joins the posterior's."""
        t = normals[:, 0] ** 2
        rest = 0.0 if self.outward else OPEN + self._outward_shift(t) ** 2
        return np.asarray(self.share * (0.26 * t + (0.35 + (0.028 * self._size) ** 2) * t**6 + rest))

    @property
    def _size(self) -> float:
        return min(max(self.radius, RADII[0]), RADII[1]) if self.outward else USUAL_RADIUS

    def _outward_shift(self, t: Array) -> Array:
        return np.asarray(0.05 * self._size * t**6)


INDEPENDENT = Systematic(0.0, False)
"""Points that err independently."""
