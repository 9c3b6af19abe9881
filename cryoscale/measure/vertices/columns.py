"""The table of one membrane's vertices: columns in the order of the file, units in their names.

==================================== ==========================================================================
vertex, z/y/x_angstrom, normal_z/y/x row of the mesh file, position with the tomogram's origin, unit normal
area_nm2                             a third of the faces around
seen, support_nm, sd_nm              near segmented voxels; distance to them; standard deviation of the position
mean_curvature_per_nm, ...           with standard errors; principal_1 is the larger one; convex is positive
shape_index, curvedness_per_nm       1 on a sphere, 0.5 on a cylinder, 0 at a saddle, -1 inside a sphere
beam_angle_degrees                   between normal and beam
patch, thickness_nm, thickness_good  of the patch of the surface that the vertex lies in; patch 0: none
nearest_membrane, nearest_distance_nm, nearest_angle_degrees: the other membrane nearest to it; 0: none near
==================================== ==========================================================================

What is not known is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.measure.bend import curvedness, curvedness_error, principal, shape_index, shape_index_error
from cryoscale.measure.contact import Contacts
from cryoscale.measure.shape import Membrane, beam_angle_degrees
from cryoscale.measure.thickness import Thickness

__all__ = ["vertex_columns"]


def vertex_columns(
    membrane: Membrane,
    area: NDArray[np.float64],
    contacts: Contacts,
    patch: NDArray[np.int64],
    thickness: Thickness | None,
) -> dict[str, NDArray[Any]]:
    """Return the columns by name, each (n,).

    Parameters
    ----------
    membrane, area, contacts
        With their values per vertex.
    patch
        (n,) from 0, -1 where there is none.
    thickness
        Of the patches, None where there is no density.
    """
    count = len(membrane.vertices)
    unknown = np.full(count, np.nan)
    columns: dict[str, NDArray[Any]] = {"vertex": np.arange(count, dtype=np.int32)}
    columns |= {f"{axis}_angstrom": 10 * membrane.vertices[:, k] for k, axis in enumerate("zyx")}
    columns |= {f"normal_{axis}": membrane.normals[:, k] for k, axis in enumerate("zyx")}
    columns |= {
        "area_nm2": area,
        "seen": membrane.seen,
        "support_nm": unknown if membrane.support is None else membrane.support,
        "sd_nm": unknown if membrane.sd is None else membrane.sd,
    }
    columns |= _bending(membrane, unknown)
    columns["patch"] = (patch + 1).astype(np.int32)
    columns |= _of_patches(patch, thickness)
    columns |= {
        "nearest_membrane": contacts.gaps.number,
        "nearest_distance_nm": contacts.gaps.distance,
        "nearest_distance_se_nm": contacts.gaps.error,
        "nearest_angle_degrees": contacts.angle,
        "nearest_angle_se_degrees": contacts.gaps.turn_degrees,
    }
    return {name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in columns.items()}


def _bending(membrane: Membrane, unknown: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return the columns of curvature and of the angle to the beam; ``unknown`` where errors are not known."""
    first, second = principal(membrane.mean, membrane.gaussian)
    errors = None if membrane.sites is None else membrane.sites.at(membrane.vertices)
    shape_error = curved_error = unknown
    if errors is not None:
        shape_error = shape_index_error(first, second, errors.first, errors.second)
        curved_error = curvedness_error(first, second, errors.first, errors.second)
    return {
        "mean_curvature_per_nm": membrane.mean,
        "mean_curvature_se_per_nm": unknown if errors is None else errors.mean,
        "gaussian_curvature_per_nm2": membrane.gaussian,
        "gaussian_curvature_se_per_nm2": unknown if errors is None else errors.gaussian,
        "principal_1_per_nm": first,
        "principal_1_se_per_nm": unknown if errors is None else errors.first,
        "principal_2_per_nm": second,
        "principal_2_se_per_nm": unknown if errors is None else errors.second,
        "shape_index": shape_index(first, second),
        "shape_index_se": shape_error,
        "curvedness_per_nm": curvedness(first, second),
        "curvedness_se_per_nm": curved_error,
        "beam_angle_degrees": beam_angle_degrees(membrane.normals),
        "beam_angle_se_degrees": unknown if errors is None else np.degrees(errors.normal) / np.sqrt(2),
    }


def _of_patches(patch: NDArray[np.int64], thickness: Thickness | None) -> dict[str, NDArray[Any]]:
    if thickness is None:
        unknown = np.full(len(patch), np.nan)
        return {"thickness_nm": unknown, "thickness_se_nm": unknown, "thickness_good": np.zeros(len(patch), bool)}
    # The row beyond the patches is for vertices without one.
    return {
        "thickness_nm": np.append(thickness.patch, np.nan)[patch],
        "thickness_se_nm": np.append(thickness.error, np.nan)[patch],
        "thickness_good": np.append(thickness.quality == 0, False)[patch],
    }
