"""Fewer triangles for a picture: vertices that share a cell of a grid become one.

new vertex = mean of the vertices in its cell; a face stays if its three vertices are in three cells.

Vertex clustering (J. Rossignac, P. Borrel, 1993). It keeps every part of the surface within a cell of where it was
and needs memory in proportion to the mesh, which is all that a picture asks for; it does not keep a mesh closed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryoscale.report.render import Surface

__all__ = ["cluster"]


def cluster(surface: Surface, cell_nm: float) -> Surface:
    """Reduce a surface to about one vertex for each cell that it passes.

    Raises
    ------
    ValueError
        The cell's edge is not positive.
    """
    if not cell_nm > 0:
        msg = f"the edge of a cell must be positive, not {cell_nm}"
        raise ValueError(msg)
    if not len(surface.vertices):
        return surface
    index = np.floor(surface.vertices / cell_nm).astype(np.int64)
    index -= index.min(axis=0)
    shape = index.max(axis=0) + 1
    linear = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
    cells, home, count = np.unique(linear, return_inverse=True, return_counts=True)
    columns = np.concatenate([surface.vertices, surface.values], axis=1)
    sums = [np.bincount(home, weights=column, minlength=len(cells)) for column in columns.T]
    means = np.asarray(np.stack(sums, axis=1) / count[:, None], np.float32)
    faces = home[surface.faces].astype(np.int32)
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return replace(surface, vertices=means[:, :3], values=means[:, 3:], faces=faces[whole])
