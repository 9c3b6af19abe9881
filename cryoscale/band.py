"""The narrow band: what one surface says about the voxels near it, and the mesh that it stands for.

surface = {x : distance(x) = 0}; a vertex on the grid edge from a to b lies at a + (b - a) d(a) / (d(a) - d(b)).

A surface is handed from stage to stage as the sparse set of grid points close to it, each with its signed distance
to the surface, the standard deviation of the surface's position there, and its distance to the nearest voxel that
was really seen. Its size follows the area of the surface, not the volume of its box.

`band_mesh` turns a band into triangles by marching cubes (Lewiner's, which is topologically correct) on bounded
tiles. Every vertex is named by the grid edge it lies on and its position is computed from the two ends of that edge,
so vertices that neighbouring tiles share are the same number, and the mesh is the same for any tile size. A cell is
triangulated only where all 8 of its corners are in the band: a band that reaches sqrt(3) voxels to both sides of a
closed surface gives a watertight mesh, and a band that ends gives a mesh that ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from cryoscale.records import numbered

__all__ = [
    "Band",
    "Mesh",
    "band_file",
    "band_mesh",
    "euler_number",
    "face_areas",
    "is_closed",
    "mesh_area",
    "mesh_boundary_edges",
    "mesh_volume",
]

_LEAST_DISTANCE = 1e-3
"""Distances nearer to 0 are moved to this: a vertex on a grid point would make triangles of no area."""
_MOST_DISTANCE = 2.0
"""Distances are cut to this for marching cubes: its float32 vertices then stay clear of the grid points."""
_LARGEST_TILE = 512
"""Beyond this a float32 cannot tell a vertex next to a grid point from one on it."""
_CENTRE = 3
"""Kind of a vertex that lies inside a cell; kinds 0, 1, 2 lie on the grid edge along that axis."""


@dataclass(frozen=True)
class Band:
    """Grid points near one surface; every length is in grid steps (voxels)."""

    index: NDArray[np.int32]
    """(n, 3) grid points z, y, x, unique, in raster order."""
    distance: NDArray[np.float32]
    """(n,) signed distance to the surface: negative inside, or on the side an open sheet's normals point away from."""
    sd: NDArray[np.float32]
    """(n,) standard deviation of the position of the surface near this point."""
    support: NDArray[np.float32]
    """(n,) distance from the nearest point of the surface to the nearest voxel that was seen."""
    closed: bool
    """Whether the surface is believed to be closed (before the volume's border cuts it)."""


@dataclass(frozen=True)
class Mesh:
    """Triangles of one surface; every length is in grid steps (voxels)."""

    vertices: NDArray[np.float32]
    """(n, 3) positions z, y, x; whole numbers are grid points."""
    faces: NDArray[np.int32]
    """(m, 3) vertex numbers; (b - a) x (c - a), taken on (z, y, x), points to positive distance."""
    normals: NDArray[np.float32]
    """(n, 3) unit normals z, y, x, to positive distance."""
    sd: NDArray[np.float32]
    """(n,) standard deviation of the position of the surface."""
    support: NDArray[np.float32]
    """(n,) distance to the nearest voxel that was seen."""


def band_file(number: int) -> str:
    """Return where a membrane's band is kept, relative to its tomogram's folder: an npz of `Band`'s fields and more."""
    return numbered("fits", number, f"{number:05d}.npz")


def band_mesh(band: Band, *, tile: int = 96) -> Mesh:
    """Triangulate the zero surface of a band.

    Parameters
    ----------
    band : Band
        Should reach sqrt(3) voxels or more to both sides of the surface wherever the surface is to be meshed.
    tile : int
        Edge in voxels of the cubes worked on at a time: bounds the memory beyond the band's own, changes no result.

    Returns
    -------
    Mesh
        Without vertices when no cell of the band crosses the surface.

    Raises
    ------
    ValueError
        If the band's arrays disagree in length, or are not finite, or its points are not unique in raster order,
        or `tile` is below 2 or above 512.

    Notes
    -----
    T. Lewiner et al., J. Graphics Tools 8 (2003) 1, as scikit-image has it.
    """
    _check(band, tile)
    grid = _Grid.of(band)
    pieces = [piece for rows in _tiles(band.index, tile) if (piece := _tile_triangles(grid, rows)) is not None]
    named = np.concatenate([keys for keys, _ in pieces] or [np.zeros(0, np.int64)])
    starts = np.cumsum([0, *(len(keys) for keys, _ in pieces)])
    faces = [part + start for (_, part), start in zip(pieces, starts[:-1], strict=True)]
    keys, number = np.unique(named, return_inverse=True)
    return _place(grid, band, keys, _canonical(number[np.concatenate(faces or [np.zeros((0, 3), np.int64)])]))


@dataclass(frozen=True)
class _Grid:
    """The band's points as sorted linear numbers in their box, one voxel wider at every side."""

    low: NDArray[np.int64]
    strides: NDArray[np.int64]
    points: NDArray[np.int64]
    linear: NDArray[np.int64]
    distance: NDArray[np.float64]

    @classmethod
    def of(cls, band: Band) -> _Grid:
        points = band.index.astype(np.int64)
        low = points.min(axis=0) - 1 if len(points) else np.zeros(3, np.int64)
        shape = points.max(axis=0) + 2 - low if len(points) else np.ones(3, np.int64)
        strides = np.array([shape[1] * shape[2], shape[2], 1], np.int64)
        distance = band.distance.astype(np.float64)
        small = np.abs(distance) < _LEAST_DISTANCE
        distance[small] = np.where(distance[small] < 0, -_LEAST_DISTANCE, _LEAST_DISTANCE)
        linear = (points - low) @ strides
        if (np.diff(linear) <= 0).any():
            msg = "the points of a band must be unique and in raster order"
            raise ValueError(msg)
        return cls(low, strides, points, linear, distance)

    def find(self, linear: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row in the band of each linear number, -1 where the band has no such point."""
        row = np.minimum(np.searchsorted(self.linear, linear), len(self.linear) - 1)
        return np.where(self.linear[row] == linear, row, -1)


def _check(band: Band, tile: int) -> None:
    count = len(band.index)
    if band.index.shape != (count, 3) or not np.issubdtype(band.index.dtype, np.integer):
        msg = f"band.index must be whole numbers of shape (n, 3), not {band.index.dtype} of {band.index.shape}"
        raise ValueError(msg)
    for name in ("distance", "sd", "support"):
        values = getattr(band, name)
        if values.shape != (count,) or not np.isfinite(values).all():
            msg = f"band.{name} must be finite, of shape ({count},) as band.index has it, not {values.shape}"
            raise ValueError(msg)
    if not 2 <= tile <= _LARGEST_TILE:
        msg = f"tile must be between 2 and {_LARGEST_TILE} voxels, not {tile}"
        raise ValueError(msg)


def _tiles(index: NDArray[np.int32], tile: int) -> Iterator[NDArray[np.int64]]:
    """Rows of the points each tile needs: a tile of n cells needs n + 1 points.

    A point on a tile's low face serves the tile before it too:

        cells   |---- tile 0 ----|---- tile 1 ----|
        points  o  o  o  o  o  o  x  o  o  o  o  o      x: in both
    """
    home = index.astype(np.int64) // tile
    on_face = index % tile == 0
    rows, homes = [], []
    for back in np.ndindex(2, 2, 2):
        chosen = np.flatnonzero(on_face[:, np.flatnonzero(back)].all(axis=1))
        rows.append(chosen)
        homes.append(home[chosen] - np.array(back))
    row, home = np.concatenate(rows), np.concatenate(homes)
    if not len(row):
        return
    order = np.lexsort((row, home[:, 2], home[:, 1], home[:, 0]))
    row, home = row[order], home[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(home, axis=0) != 0).any(axis=1)])
    for start, stop in zip(starts, np.r_[starts[1:], len(row)], strict=True):
        yield row[start:stop]


def _tile_triangles(grid: _Grid, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """(n,) vertex keys and (m, 3) triangles of one tile, or None where the surface does not pass."""
    points, distance = grid.points[rows], grid.distance[rows]
    if not (distance.min() < 0 < distance.max()):
        return None
    low = points.min(axis=0)
    shape = points.max(axis=0) + 1 - low
    if (shape < 2).any():
        return None
    local = tuple((points - low).T)
    known = np.zeros(tuple(shape), bool)
    known[local] = True
    values = np.ones(tuple(shape), np.float32)
    values[local] = np.clip(distance, -_MOST_DISTANCE, _MOST_DISTANCE)
    whole, crossed = _corner_tests(known, values)
    if not (whole & crossed).any():
        return None
    # scikit-image asks the mask at a cell's last corner whether to triangulate the cell.
    mask = np.zeros(tuple(shape), bool)
    mask[1:, 1:, 1:] = whole
    vertices, faces, _, _ = marching_cubes(values, 0.0, mask=mask, gradient_direction="descent")
    return _keys(grid, vertices, low), faces.astype(np.int64)


def _corner_tests(known: NDArray[np.bool_], values: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each cell: whether all 8 corners are known, and whether its corners have both signs."""
    size = tuple(n - 1 for n in known.shape)
    whole, inside, outside = np.ones(size, bool), np.zeros(size, bool), np.zeros(size, bool)
    for z, y, x in np.ndindex(2, 2, 2):
        corner = np.s_[z : z + size[0], y : y + size[1], x : x + size[2]]
        whole &= known[corner]
        inside |= values[corner] < 0
        outside |= values[corner] > 0
    return whole, inside & outside


def _keys(grid: _Grid, vertices: NDArray[np.float32], low: NDArray[np.int64]) -> NDArray[np.int64]:
    """Name of each vertex: 4 x (linear number of the low end of its grid edge, or of its cell) + kind."""
    between = vertices != np.rint(vertices)
    kind = np.where(between.sum(axis=1) == 1, between.argmax(axis=1), _CENTRE)
    base = np.floor(vertices).astype(np.int64) + low - grid.low
    keys: NDArray[np.int64] = 4 * (base @ grid.strides) + kind
    return keys


def _canonical(faces: NDArray[np.int64]) -> NDArray[np.int32]:
    """Turn each face so that its smallest vertex comes first, and sort the faces: no trace of the tiles is left."""
    if not len(faces):
        return np.zeros((0, 3), np.int32)
    first = faces.argmin(axis=1)
    turned = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort((turned[:, 2], turned[:, 1], turned[:, 0]))].astype(np.int32)


def _place(grid: _Grid, band: Band, keys: NDArray[np.int64], faces: NDArray[np.int32]) -> Mesh:
    """Position and values of every vertex, from the two ends of its grid edge."""
    out = np.zeros((len(keys), 8))
    if not len(keys):
        return _mesh(out, faces)
    kind = keys % 4
    edge = kind != _CENTRE
    start = grid.find(keys[edge] // 4)
    end = grid.find(keys[edge] // 4 + grid.strides[kind[edge]])
    share = (grid.distance[start] / (grid.distance[start] - grid.distance[end]))[:, None]
    # A grid point is an end of several edges; its slope is wanted once.
    used, ends = np.unique(np.concatenate([start, end]), return_inverse=True)
    fields = np.column_stack([grid.points[used], _gradient(grid, used), band.sd[used], band.support[used]])[ends]
    out[edge] = (1 - share) * fields[: len(start)] + share * fields[len(start) :]
    _place_centres(out, faces, np.flatnonzero(~edge))
    return _mesh(out, faces)


def _place_centres(out: NDArray[np.float64], faces: NDArray[np.int32], centres: NDArray[np.int64]) -> None:
    """Put a vertex inside a cell at the mean of the vertices joined to it, all of which lie on the cell's edges."""
    if not len(centres):
        return
    touching = faces[np.isin(faces, centres).any(axis=1)]
    for centre in centres:
        joined = np.unique(touching[(touching == centre).any(axis=1)])
        out[centre] = out[joined[joined != centre]].mean(axis=0)


def _gradient(grid: _Grid, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 3) slope of the distance at points of the band: central differences, one-sided where the band ends."""
    slope = np.zeros((len(rows), 3))
    for axis in range(3):
        before = grid.find(grid.linear[rows] - grid.strides[axis])
        after = grid.find(grid.linear[rows] + grid.strides[axis])
        steps = (before >= 0).astype(np.float64) + (after >= 0)
        low = grid.distance[np.where(before >= 0, before, rows)]
        high = grid.distance[np.where(after >= 0, after, rows)]
        slope[:, axis] = (high - low) / np.maximum(steps, 1)
    return slope


def _mesh(values: NDArray[np.float64], faces: NDArray[np.int32]) -> Mesh:
    slope = values[:, 3:6]
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    normals = slope / np.where(length > 0, length, 1)
    single = [part.astype(np.float32) for part in (values[:, :3], normals, values[:, 6], values[:, 7])]
    return Mesh(single[0], faces, *single[1:])


def _directed_edges(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each corner's edge to the next one as smaller vertex x 2^32 + larger vertex, and whether it runs that way."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    return (np.minimum(start, end) << 32) + np.maximum(start, end), start < end


def mesh_boundary_edges(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """(k, 2) edges, smaller vertex first, that do not join exactly two faces running it in opposite directions."""
    keys, forward = _directed_edges(faces)
    edges, number = np.unique(keys, return_inverse=True)
    ahead = np.bincount(number[forward], minlength=len(edges))
    back = np.bincount(number[~forward], minlength=len(edges))
    loose = edges[(ahead != 1) | (back != 1)]
    return np.column_stack([loose >> 32, loose & 0xFFFFFFFF]).astype(np.int32)


def is_closed(mesh: Mesh) -> bool:
    """Whether the mesh is watertight: it has faces, and every edge joins exactly two that agree in orientation."""
    return len(mesh.faces) > 0 and not len(mesh_boundary_edges(mesh.faces))


def euler_number(mesh: Mesh) -> int:
    """Vertices - edges + faces, over the vertices in use: 2 for a sphere, 0 for a torus, 1 for a disc."""
    edges, _ = _directed_edges(mesh.faces)
    return len(np.unique(mesh.faces)) - len(np.unique(edges)) + len(mesh.faces)


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """(m,) area of each face in square voxels."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    area: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return area


def mesh_area(mesh: Mesh) -> float:
    """Area of the surface in square voxels."""
    return float(face_areas(mesh).sum())


def mesh_volume(mesh: Mesh) -> float:
    """Enclosed volume in cubic voxels by the divergence theorem: sum of a . (b x c) / 6.

    Positive when the normals point outwards; for an open mesh the number means nothing.
    """
    if not len(mesh.faces):
        return 0.0
    # Summed about the mesh's own middle: far from the origin the terms would cancel.
    moved = mesh.vertices.astype(np.float64) - mesh.vertices.mean(axis=0, dtype=np.float64)
    a, b, c = (moved[mesh.faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)
