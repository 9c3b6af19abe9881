r"""The wall of a microtubule: protofilaments along the tube, and a helix of three starts around it.

At the angle :math:`\varphi` around the axis and the height s along it the wall has, of its mean density, the share

.. math:: (1 + a \cos(N \varphi + 2 \pi s / T)) (1 + b \cos(2 \pi s / 4.05\,\mathrm{nm} + 3 \varphi))

with N protofilaments, in cells 13 as a rule and elsewhere 11 to 15 (Chretien and Wade, Biol. Cell 71, 1991), whose
middles lie 11.2 N / 13 nm from the axis, and T the length in which they wind by one protofilament.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

RADIUS_NM = 11.2
"""Of the middle of the wall, with `PROTOFILAMENTS`."""
PROTOFILAMENTS = 13
WALL_NM = 4.2
"""Usual thickness of the wall, at half its density."""
WALLS_NM = (3.4, 4.8)
"""About the 4 nm that the walls of a real one have at 10.5 Å a voxel. Walls of 3 nm told microtubules from membranes
all by themselves: a network that was trained with them took a real one's for membrane."""
_MONOMER_NM = 4.05
_STARTS = 3


@dataclass(frozen=True)
class Lattice:
    """How the wall of a straight tube, or of one bent a little, is grained."""

    axis: Doubles
    """(3,) unit vector from one end to the other."""
    protofilaments: int
    winding_nm: float
    """Length in which a protofilament comes to the place of the next; its sign is the hand."""
    phase: float
    """Radian."""
    across: float
    """Contrast of the protofilaments, a."""
    along: float
    """Contrast of the monomers on them, b."""

    def density(self, points: Doubles, normals: Doubles, voxel_nm: float) -> Doubles:
        """Share of the mean density at places (n, 3) in voxels whose normals to the tube's wall are given."""
        first = np.cross(self.axis, np.eye(3)[np.abs(self.axis).argmin()])
        first /= np.linalg.norm(first)
        turn = np.arctan2(normals @ np.cross(self.axis, first), normals @ first)
        height = points @ self.axis * voxel_nm
        strands = np.cos(self.protofilaments * turn + 2.0 * np.pi * height / self.winding_nm + self.phase)
        monomers = np.cos(2.0 * np.pi * height / _MONOMER_NM + _STARTS * turn)
        # A voxel holds the mean over itself.
        along = self.along * np.sinc(voxel_nm / _MONOMER_NM)
        share: Doubles = (1.0 + self.across * strands) * (1.0 + along * monomers)
        return share


def radius_nm(protofilaments: int) -> float:
    """Return the radius of the middle of the wall."""
    return RADIUS_NM * protofilaments / PROTOFILAMENTS


def random_lattice(rng: np.random.Generator, axis: Doubles) -> Lattice:
    """Draw a lattice about an axis, 13 protofilaments in six of ten and 11 to 15 in the others."""
    count = int(rng.choice([11, 12, 13, 14, 15], p=[0.05, 0.1, 0.6, 0.2, 0.05]))
    winding = float(rng.choice([-1.0, 1.0])) * rng.uniform(200.0, 1000.0)
    return Lattice(axis, count, winding, rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.7), rng.uniform(0.0, 0.4))
