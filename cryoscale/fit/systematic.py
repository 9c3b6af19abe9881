r"""What the ridge of a segmentation gets wrong in common, which no posterior can know.

Along the beam the missing wedge smears a membrane: ridges of scores lie outward of the true surface at caps, and they
are off by the same amount over a whole cap, so neither their scatter nor the evidence shows it. Against the known
surfaces of simulated tomograms (76 closed membranes of 10 tomograms, tilts to +-60 degrees, SNR 0.3 and 0.1, the
weights that ship with cryoscale) the outward shift and its variance beyond the posterior's were, in voxels, with
t = n_z^2, n the surface normal,

    shift(t) = 0.27 t + 0.40 t^6,     variance(t) = 0.35 t + 1.05 t^6

the shift to 0.05 voxel, the variance rounded up for its tails; both SNRs and both halves of the membranes agree.
Points that err independently (clean ones, of whatever noise) have neither; those of a segmentation err together with
their neighbours, which the data show (see `noise`). So both are multiplied by the share of the points' variance that
neighbours have in common. The shift is taken off where normals point outward, that is where they cancel as on a closed
surface; elsewhere its square joins the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INDEPENDENT", "Systematic"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Systematic:
    """Shift and variance that the points of one membrane have in common."""

    share: float
    """0 for points that err independently, 1 for those that err only together."""
    outward: bool
    """Whether normals are known to point outward."""

    def shift(self, normals: Array) -> Array:
        """Return how far outward of the surface points with these unit normals (m, 3) are expected, (m,) voxels."""
        if not self.outward:
            return np.zeros(len(normals))
        return self.share * _shift(normals[:, 0] ** 2)

    def variance(self, normals: Array) -> Array:
        """Return the variance (m,), in squared voxels, that joins the posterior's."""
        t = normals[:, 0] ** 2
        rest = 0.0 if self.outward else _shift(t) ** 2
        return np.asarray(self.share * (0.35 * t + 1.05 * t**6 + rest))


INDEPENDENT = Systematic(0.0, False)
"""Points that err independently."""


def _shift(t: Array) -> Array:
    return np.asarray(0.27 * t + 0.40 * t**6)
