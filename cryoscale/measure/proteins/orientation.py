"""Which way a protein on a membrane points: Euler angles as RELION and Warp write them.

    rot 0,   tilt = arccos n_z,   psi = atan2(n_y, -n_x):   Rz(rot) Ry(tilt) Rz(psi), inverted, turns z into n

The angles (intrinsic ZYZ, degrees) turn the tomogram into the reference; their inverse puts the reference's z axis
along n = (n_x, n_y, n_z). How the particle is turned about its own axis the membrane does not say: rot is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["euler_angles"]


def euler_angles(normals: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angles rot, tilt, psi in degrees, (n, 3), that put the reference's z axis along unit normals z, y, x.

    psi is between -180 and 180, and 0 where the normal is along z.
    """
    z, y, x = normals.astype(np.float64).T
    level = np.hypot(x, y)
    tilt = np.degrees(np.arctan2(level, z))
    psi = np.where(level > 0, np.degrees(np.arctan2(y, -x)), 0.0)
    return np.column_stack([np.zeros(len(normals)), tilt, psi])
