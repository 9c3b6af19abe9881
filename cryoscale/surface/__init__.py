"""Surface: from the distance to a fitted surface to voxels and triangles.

    voxel in membrane  <=>  |distance| <= thickness / 2,        surface = {x : distance(x) = 0}

The fit hands over, for each membrane, the grid points near its surface with their signed distance to it (a `Band`,
cryoscale/band.py). This stage makes of it what people open: one volume of labels in which every membrane has the same
thickness everywhere, one volume with the standard deviation of each membrane's position in nm, one with its distance to
the nearest voxel that was seen, and one mesh per membrane that says of every vertex how sure its position is, how far
it is from what was seen, and whether the membrane counts as seen there or inferred.

The files: `voxels` (thickness, and painting many membranes into one volume), `mesh` (ångström, curvature and the seen
flag), `plan` (units of work on files). The triangles themselves come from `cryoscale.band.band_mesh`.
"""

from cryoscale.surface.mesh import vertex_angstrom, vertex_curvature, vertex_properties
from cryoscale.surface.voxels import membrane_voxels, paint_block, voxel_records

__all__ = [
    "membrane_voxels",
    "paint_block",
    "vertex_angstrom",
    "vertex_curvature",
    "vertex_properties",
    "voxel_records",
]
