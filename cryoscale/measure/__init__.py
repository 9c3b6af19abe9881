"""Measure: what a biologist asks of a membrane, as numbers with units and standard errors.

    area = sum of triangle areas,        volume = sum a . (b x c) / 6,        distance = min |a - foot|

Of each membrane: size, shape, curvature, thickness, direction, which share of it was inferred rather than seen, which
membranes are near and how they face each other; of each vertex the same in a table of its own; of each protein, where
it sits. Errors follow from how sure the fit is of the surface's position.

The files: `geometry` and `shape` (one membrane), `bend` (curvatures), `errors` (standard errors), `thickness` and
`peaks` (density along normals), `nearest` and `contact` (other membranes), `near` (which boxes come close),
`vertices` (units and tables per vertex), `proteins`, `plan` (units of work, the tables).
"""

from cryoscale.measure.bend import mesh_curvature
from cryoscale.measure.contact import find_contacts
from cryoscale.measure.geometry import SurfaceMeasures, measure_surface
from cryoscale.measure.near import nearest_surface
from cryoscale.measure.nearest import TriangleTree
from cryoscale.measure.shape import Membrane, measure_shape
from cryoscale.measure.thickness import measure_thickness

__all__ = [
    "Membrane",
    "SurfaceMeasures",
    "TriangleTree",
    "find_contacts",
    "measure_shape",
    "measure_surface",
    "measure_thickness",
    "mesh_curvature",
    "nearest_surface",
]
