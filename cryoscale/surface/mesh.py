"""Meshes in the units people use: positions in ångström, standard deviations and support in nm, seen or inferred.

position_angstrom = origin_angstrom + index * voxel_size_angstrom,   seen  <=>  support_nm <= inferred_beyond_nm
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Mesh
from cryoscale.records import Geometry

__all__ = ["vertex_angstrom", "vertex_properties"]


def vertex_angstrom(vertices: NDArray[np.floating], geometry: Geometry) -> NDArray[np.float64]:
    """Return positions z, y, x in ångström, with the volume's origin, of (n, 3) positions in voxels."""
    voxel, origin = np.array(geometry.voxel_size_angstrom), np.array(geometry.origin_angstrom)
    position: NDArray[np.float64] = origin + vertices.astype(np.float64) * voxel
    return position


def vertex_properties(mesh: Mesh, voxel_size_nm: float, inferred_beyond_nm: float) -> dict[str, NDArray[np.generic]]:
    """Return the columns a mesh file has beside positions and normals.

    Parameters
    ----------
    mesh : Mesh
        Lengths in voxels.
    voxel_size_nm : float
    inferred_beyond_nm : float
        Surface farther than this from every voxel that was segmented is inferred, not seen.

    Returns
    -------
    dict
        ``sd_nm`` and ``support_nm`` (n,) float32, ``seen`` (n,) uint8, 1 where seen.
    """
    support_nm = (mesh.support * voxel_size_nm).astype(np.float32)
    return {
        "sd_nm": (mesh.sd * voxel_size_nm).astype(np.float32),
        "support_nm": support_nm,
        "seen": (support_nm <= inferred_beyond_nm).astype(np.uint8),
    }
