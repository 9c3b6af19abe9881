"""Meshes in the units people use: positions in ångström, standard deviations and support in nm, seen or inferred.

position_angstrom = origin_angstrom + index * voxel_size_angstrom,   seen  <=>  support_nm <= inferred_beyond_nm
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.band import Mesh
from cryoscale.records import Geometry

__all__ = ["vertex_angstrom", "vertex_curvature", "vertex_properties"]

_NEIGHBOURS = 6


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


def vertex_curvature(
    vertices: NDArray[np.floating], places: NDArray[np.floating], bend: NDArray[np.floating], voxel_size_nm: float
) -> dict[str, NDArray[np.float32]]:
    """Return the curvatures of the field at the vertices, carried there from places closer than the control points.

    Parameters
    ----------
    vertices : (n, 3) array
        In voxels.
    places, bend : (k, 3) and (k, 2) arrays
        Places on the surface, in voxels, and mean and Gaussian curvature there, per voxel and per square voxel.
    voxel_size_nm : float

    Returns
    -------
    dict
        ``mean_curvature_per_nm`` and ``gaussian_curvature_per_nm2`` (n,): weighted by 1 / distance^2 to the nearest
        six places.
    """
    distance, near = cKDTree(places).query(vertices, k=list(range(1, min(_NEIGHBOURS, len(places)) + 1)))
    weights = 1 / np.maximum(distance, 1e-3) ** 2
    found = np.einsum("nk,nkc->nc", weights / weights.sum(axis=1, keepdims=True), bend[near])
    return {
        "mean_curvature_per_nm": (found[:, 0] / voxel_size_nm).astype(np.float32),
        "gaussian_curvature_per_nm2": (found[:, 1] / voxel_size_nm**2).astype(np.float32),
    }
