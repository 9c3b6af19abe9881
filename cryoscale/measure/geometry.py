"""One membrane in numbers: area, enclosed volume, shape, how much of it was seen, closed or not and why.

area = sum |(b - a) x (c - a)| / 2,   volume = |sum a . (b x c)| / 6,   sphericity = pi^(1/3) (6 volume)^(2/3) / area

over the triangles (a, b, c); the volume is the divergence theorem's and means something only where the mesh is
closed. Shares and means are weighted by area, each triangle with the mean of its corners, so that they do not depend
on how finely a part of the surface happens to be meshed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cryoscale.band import Mesh, euler_number, face_areas, is_closed, mesh_boundary_edges, mesh_volume

__all__ = ["SurfaceMeasures", "measure_surface", "sphericity", "why_open"]

_BORDER_VOXELS = 1.0
"""An edge of the surface this near to the first or last voxel was cut there by the border."""


@dataclass(frozen=True)
class SurfaceMeasures:
    """What is known of one surface."""

    closed: bool
    """Whether the mesh is watertight."""
    not_closed_reason: str
    """Empty where it is closed."""
    area_nm2: float
    enclosed_volume_nm3: float | None
    """None where the surface is open."""
    sphericity: float | None
    """1 for a sphere, smaller for anything else; None where the surface is open."""
    euler_number: int
    """2 for a closed surface without handles, in one piece."""
    pieces: int
    """Connected parts of the mesh."""
    boundary_length_nm: float
    """Length of all edges with a face on one side only; 0 where it is closed."""
    fraction_inferred: float | None
    """Share of the area that is farther from segmented voxels than the limit; None where that is not known."""
    mean_sd_nm: float | None
    max_sd_nm: float | None
    low_angstrom: tuple[float, float, float]
    """Smallest z, y, x, with the tomogram's origin."""
    high_angstrom: tuple[float, float, float]
    """Largest z, y, x, with the tomogram's origin."""


def measure_surface(
    mesh: Mesh,
    *,
    shape: tuple[int, int, int],
    voxel_size_angstrom: tuple[float, float, float],
    origin_angstrom: tuple[float, float, float],
    inferred_beyond_nm: float,
    believed_closed: bool,
    fitted: bool = True,
) -> SurfaceMeasures:
    """Measure one surface.

    Parameters
    ----------
    mesh : Mesh
        Vertices z, y, x in voxels; sd and support in nm.
    shape : tuple of int
        Voxels of the volume, z, y, x.
    voxel_size_angstrom, origin_angstrom : tuple of float
        Of the volume, z, y, x.
    inferred_beyond_nm : float
        Surface farther than this from every segmented voxel is inferred.
    believed_closed : bool
        Whether the fit took the membrane for a closed one.
    fitted : bool
        Whether sd and support are known; of a mesh from elsewhere they are not.

    Raises
    ------
    ValueError
        If the mesh has no faces.
    """
    if not len(mesh.faces):
        msg = "a mesh without faces cannot be measured"
        raise ValueError(msg)
    scale_nm = np.array(voxel_size_angstrom) / 10.0
    physical = Mesh((mesh.vertices * scale_nm).astype(np.float32), mesh.faces, mesh.normals, mesh.sd, mesh.support)
    areas = face_areas(physical)
    area, closed = float(areas.sum()), is_closed(mesh)
    volume = abs(mesh_volume(physical)) if closed else None
    used = np.unique(mesh.faces)
    position = np.array(origin_angstrom) + mesh.vertices[used].astype(np.float64) * np.array(voxel_size_angstrom)
    inferred = (mesh.support > inferred_beyond_nm).astype(np.float64)
    return SurfaceMeasures(
        closed=closed,
        not_closed_reason="" if closed else why_open(mesh, shape, believed_closed=believed_closed),
        area_nm2=area,
        enclosed_volume_nm3=volume,
        sphericity=None if volume is None else sphericity(area, volume),
        euler_number=euler_number(mesh),
        pieces=_pieces(mesh),
        boundary_length_nm=_boundary_length(physical),
        fraction_inferred=_area_mean(inferred, mesh.faces, areas) if fitted else None,
        mean_sd_nm=_area_mean(mesh.sd.astype(np.float64), mesh.faces, areas) if fitted else None,
        max_sd_nm=float(mesh.sd[used].max()) if fitted else None,
        low_angstrom=_triple(position.min(axis=0)),
        high_angstrom=_triple(position.max(axis=0)),
    )


def sphericity(area: float, volume: float) -> float:
    """Area of the sphere of the same volume over the area; units must agree (nm2 and nm3, say)."""
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area) if area > 0 else 0.0


def why_open(mesh: Mesh, shape: tuple[int, int, int], *, believed_closed: bool) -> str:
    """Say in words why a mesh (in voxels) is not closed."""
    rim = mesh.vertices[np.unique(mesh_boundary_edges(mesh.faces))]
    cut = (rim < _BORDER_VOXELS) | (rim > np.array(shape) - 1 - _BORDER_VOXELS)
    share = float(cut.any(axis=1).mean()) if len(rim) else 0.0
    if share == 1 and believed_closed:
        return "cut by the volume's border"
    if not believed_closed:
        return "open sheet" if share == 0 else "open sheet that reaches the volume's border"
    return "holes in the surface" if share == 0 else "cut by the volume's border, and holes in the surface"


def _boundary_length(mesh: Mesh) -> float:
    ends = mesh.vertices[mesh_boundary_edges(mesh.faces)].astype(np.float64)
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum())


def _pieces(mesh: Mesh) -> int:
    used, corners = np.unique(mesh.faces, return_inverse=True)
    corners = corners.reshape(-1, 3)
    start, end = corners.ravel(), np.roll(corners, 1, axis=1).ravel()
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(len(used), len(used)))
    return int(connected_components(graph, directed=False, return_labels=False))


def _area_mean(values: NDArray[np.float64], faces: NDArray[np.int32], areas: NDArray[np.float64]) -> float:
    total = areas.sum()
    return float((values[faces].mean(axis=1) * areas).sum() / total) if total > 0 else float(values[faces].mean())


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x
