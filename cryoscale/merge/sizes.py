"""From lengths in space to voxels: how far the voxels of one region may be apart, and how small it may be.

eps = max(distance_nm, diagonal of a voxel),     voxels >= minimum_volume_nm3 / volume of a voxel
"""

from __future__ import annotations

import math

from cryoscale.errors import UsageError
from cryoscale.merge.ball import Ball
from cryoscale.records import Geometry
from cryoscale.spec import MergeSpec

__all__ = ["sizes_of"]


def sizes_of(geometry: Geometry, spec: MergeSpec, *, proteins: bool = False) -> tuple[Ball, int]:
    """Return which voxels of a tomogram join, and the least size of a region in voxels.

    Parameters
    ----------
    geometry
        With the voxel size along each axis.
    spec
        With the distance and volumes in nanometres.
    proteins
        Join only voxels that touch, and take the least volume of a protein.

    Raises
    ------
    UsageError
        If the distance is more than 1000 voxels.
    """
    least_nm3 = spec.minimum_protein_nm3 if proteins else spec.minimum_volume_nm3
    z, y, x = (edge / 10.0 for edge in geometry.voxel_size_angstrom)
    if not spec.distance_nm <= 1000 * min(z, y, x):
        raise UsageError(
            "the merge distance is out of range",
            where="merge.distance_nm",
            found=f"{spec.distance_nm} nm, {spec.distance_nm / min(z, y, x):.0f} voxels",
            allowed="up to 1000 voxels",
        )
    diagonal = math.sqrt(z * z + y * y + x * x)
    ball = Ball(math.sqrt(3.0)) if proteins else Ball(max(diagonal, spec.distance_nm), (z, y, x))
    return ball, geometry.least_voxels(least_nm3)
