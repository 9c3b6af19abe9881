r"""The shape of one membrane as columns of the table: size, axes, curvature, direction, each with its standard error.

=================== =========================================== =========================================
column              value                                       first variation h (`errors`)
=================== =========================================== =========================================
area                sum of vertex areas                         2 M
enclosed volume V   sum a . (b x c) / 6                         1
sphericity Y        pi^(1/3) (6 V)^(2/3) / A                    Y (2 / (3 V) - 2 M / A)
axis along e        2 (5 l)^(1/2), l = second moment of the     (5 / l)^(1/2) ((x . e)^2 - l) / V
                    enclosed solid along e, over V
major axis to beam  angle b of e and the beam z         the sum over both other axes e', l' of
                                                        (e' . z) (x . e) (x . e') / (V (l - l') sin b)
means               q = integral of f / A                       `means`
=================== =========================================== =========================================

M is the mean curvature. The axes are those of the ellipsoid with the second moments of the enclosed
solid; of an open surface, its extents along the axes of its own second moments, without an error: its rim decides.
Means are weighted by area. Directions are angles between normal and beam, 0 where the membrane lies flat, 90 on walls.
Every mean is given once more for what was seen, without the inferred part; the seen area's error leaves out its rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.errors import Sites, SurfaceErrors
from cryoscale.measure.means import Columns, measure_means

__all__ = ["Columns", "Membrane", "beam_angle_degrees", "measure_shape", "vertex_areas"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Membrane:
    """One surface with what is known at its vertices; lengths in nm, axes z, y, x with z along the beam."""

    vertices: Array
    """(n, 3)."""
    faces: NDArray[np.integer]
    """(m, 3)."""
    normals: Array
    """(n, 3) unit."""
    mean: Array
    """(n,) mean curvature, NaN where it is not known."""
    gaussian: Array
    """(n,) Gaussian curvature."""
    seen: NDArray[np.bool_]
    """(n,) whether the membrane was seen there; all, where that is not known."""
    sd: Array | None = None
    """(n,) standard deviation of the position."""
    support: Array | None = None
    """(n,) distance to the nearest voxel that was seen."""
    sites: Sites | None = None
    """Errors; None for surfaces from elsewhere."""


def vertex_areas(membrane: Membrane) -> Array:
    """(n,) a third of the area of the faces around each vertex; they sum to the area of the mesh."""
    a, b, c = (membrane.vertices[membrane.faces[:, corner]] for corner in range(3))
    shares = np.repeat(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6, 3)
    return np.bincount(membrane.faces.ravel(), shares, minlength=len(membrane.vertices)).astype(np.float64)


def beam_angle_degrees(normals: NDArray[np.floating]) -> Array:
    """(n,) angle between normals and the beam, 0 to 90."""
    return np.asarray(np.degrees(np.arccos(np.clip(np.abs(normals[:, 0].astype(np.float64)), 0, 1))))


def measure_shape(membrane: Membrane, volume_nm3: float | None) -> Columns:
    """Return the columns of one membrane; `volume_nm3` is None where it is open.

    Columns whose value is not known are None.
    """
    area = vertex_areas(membrane)
    owner = None if membrane.sites is None else membrane.sites.owner(membrane.vertices)
    errors = SurfaceErrors(membrane.sites, owner, area)
    bend = np.where(np.isfinite(membrane.mean), membrane.mean, 0.0)
    columns: Columns = {
        "area_se_nm2": errors.of(2 * bend),
        "area_seen_nm2": float(area[membrane.seen].sum()),
        "area_seen_se_nm2": errors.of(2 * bend * membrane.seen),
    }
    columns |= _solid(membrane, volume_nm3, bend, float(area.sum()), errors)
    angle, closed = beam_angle_degrees(membrane.normals), volume_nm3 is not None
    columns |= measure_means(membrane.mean, membrane.gaussian, angle, membrane.seen, errors, closed=closed)
    if membrane.sd is not None:
        weights = area * membrane.seen
        total = float(weights.sum())
        columns["mean_sd_seen_nm"] = float((membrane.sd * weights).sum() / total) if total > 0 else None
    return columns


def _solid(membrane: Membrane, volume: float | None, bend: Array, area: float, errors: SurfaceErrors) -> Columns:
    """Volume's error, sphericity's, and the axes."""
    names = ("major", "middle", "minor")
    if volume is None:
        centre, moments = _shell_moments(membrane.vertices, errors.area)
        _, ways = _axes(moments)
        along = (membrane.vertices[np.unique(membrane.faces)] - centre) @ ways
        columns: Columns = {f"{name}_axis_nm": float(np.ptp(along[:, k])) for k, name in enumerate(names)}
        return columns | {"major_axis_to_beam_degrees": float(beam_angle_degrees(ways[:, :1].T)[0])}
    centre, moments = _solid_moments(membrane)
    squares, ways = _axes(moments)
    columns = {"enclosed_volume_se_nm3": errors.of(np.ones(len(bend)))}
    round_ = float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)
    columns["sphericity_se"] = errors.of(round_ * (2 / (3 * volume) - 2 * bend / area))
    along = (membrane.vertices - centre) @ ways
    for k, name in enumerate(names):
        square = float(max(squares[k], 1e-12))
        columns[f"{name}_axis_nm"] = 2 * float(np.sqrt(5 * square))
        columns[f"{name}_axis_se_nm"] = errors.of(np.sqrt(5 / square) * (along[:, k] ** 2 - square) / volume)
    turn = sum(ways[0, k] * along[:, 0] * along[:, k] / max(squares[0] - squares[k], 1e-12) for k in (1, 2))
    lean = float(beam_angle_degrees(ways[:, :1].T)[0])
    error = errors.of(turn / (volume * max(np.sin(np.radians(lean)), 1e-3)))
    # Where two axes are about as long, any direction is possible.
    columns["major_axis_to_beam_se_degrees"] = None if error is None else min(float(np.degrees(error)), 90.0)
    return columns | {"major_axis_to_beam_degrees": lean}


def _axes(moments: Array) -> tuple[Array, Array]:
    """Return second moments along the axes, the largest first, and the axes as columns."""
    values, vectors = np.linalg.eigh(moments)
    return values[::-1], vectors[:, ::-1]


def _shell_moments(vertices: Array, area: Array) -> tuple[Array, Array]:
    centre = area @ vertices / area.sum()
    moved = vertices - centre
    return centre, (moved * area[:, None]).T @ moved / area.sum()


def _solid_moments(membrane: Membrane) -> tuple[Array, Array]:
    """Centre (3,) and second moments (3, 3) of the enclosed solid: sums over the tetrahedra of faces and an origin."""
    origin = membrane.vertices.mean(axis=0)
    a, b, c = (membrane.vertices[membrane.faces[:, corner]] - origin for corner in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    whole, sums = volume.sum(), a + b + c
    centre = (volume[:, None] * sums).sum(axis=0) / (4 * whole)
    second = sum((volume[:, None] * part).T @ part for part in (a, b, c, sums)) / (20 * whole)
    return origin + centre, second - np.outer(centre, centre)
