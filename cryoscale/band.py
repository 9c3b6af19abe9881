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
from typing import Any

import numpy as np
from numba import njit
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
    distance = band.distance.astype(np.float64)
    small = np.abs(distance) < _LEAST_DISTANCE
    distance[small] = np.where(distance[small] < 0, -_LEAST_DISTANCE, _LEAST_DISTANCE)
    near = _neighbours(band.index)
    cells = _crossed_cells(near, distance)
    pieces = [_tile_triangles(band.index, distance, cells[part]) for part in _tiles(band.index[cells[:, 0]], tile)]
    used = np.zeros(4 * len(distance), bool)
    for names, _ in pieces:
        used[names] = True
    keys = np.flatnonzero(used)
    number = np.empty(len(used), np.int32)
    number[keys] = np.arange(len(keys))
    parts = [number[names][faces] for names, faces in pieces]
    faces = _canonical(np.concatenate(parts or [np.zeros((0, 3), np.int32)]), len(keys))
    return _place(band, distance, near, keys, faces)


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


def _box(index: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First corner of the points' box, one voxel wider at every side, and the step of linear numbers along an axis."""
    low, high = (np.array([bound(column) for column in index.T], np.int64) for bound in (np.min, np.max))
    shape = high - low + 3
    return low - 1, np.array([shape[1] * shape[2], shape[2], 1], np.int64)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _linear(index: Any, low: Any, strides: Any) -> Any:
    """(n,) linear number of each point in a box."""
    linear = np.empty(len(index), np.int64)
    for row in range(len(index)):
        linear[row] = 0
        for axis in range(3):
            linear[row] += (index[row, axis] - low[axis]) * strides[axis]
    return linear


def _neighbours(index: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n, 6) row of the next point along each axis, then of the one before, -1 where the band has no such point."""
    if not len(index):
        return np.zeros((0, 6), np.int32)
    low, strides = _box(index)
    linear = _linear(index, low, strides)
    if (linear[1:] <= linear[:-1]).any():
        msg = "the points of a band must be unique and in raster order"
        raise ValueError(msg)
    near: NDArray[np.int32] = _rows_beside(linear, np.concatenate([strides, -strides]))
    return near


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rows_beside(linear: Any, steps: Any) -> Any:
    near = np.full((len(linear), len(steps)), -1, np.int32)
    for side in range(len(steps)):
        other = 0
        for row in range(len(linear)):
            wanted = linear[row] + steps[side]
            while other < len(linear) and linear[other] < wanted:
                other += 1
            if other < len(linear) and linear[other] == wanted:
                near[row, side] = other
    return near


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _crossed_cells(near: Any, distance: Any) -> Any:
    """(k, 8) rows of the corners, in raster order, of the cells that are whole and have corners of both signs."""
    cells = np.empty((len(near), 8), np.int32)
    count = 0
    for row in range(len(near)):
        inside = 0
        for corner in range(8):
            at = row
            for axis in range(3):
                if at >= 0 and (corner >> (2 - axis)) & 1:
                    at = near[at, axis]
            if at < 0:
                inside = 0
                break
            cells[count, corner] = at
            inside += distance[at] < 0
        if 0 < inside < 8:
            count += 1
    return cells[:count].copy()


def _tiles(home: NDArray[np.int32], tile: int) -> Iterator[NDArray[np.int64]]:
    """Rows of the cells of each tile, which are as many along each axis."""
    if not len(home):
        return
    place = home // tile
    number = _linear(place, *_box(place))
    order = np.argsort(number, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _tile_triangles(
    index: NDArray[np.int32], distance: NDArray[np.float64], cells: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(n,) vertex keys and (m, 3) triangles of the cells of one tile."""
    home = index[cells[:, 0]]
    low = home.min(axis=0)
    shape = tuple(home.max(axis=0) - low + 2)
    values = np.zeros(shape, np.float32)
    mask = np.zeros(shape, bool)
    rows = np.empty(shape, np.int32)
    _fill(home - low, cells, distance, values, mask, rows)
    vertices, faces, _, _ = marching_cubes(values, 0.0, mask=mask, gradient_direction="descent")
    return _keys(vertices, rows), faces


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(home: Any, cells: Any, distance: Any, values: Any, mask: Any, rows: Any) -> None:
    """Put each corner's cut distance into ``values`` and its row into ``rows``, and mark the cells in ``mask``."""
    for cell in range(len(cells)):
        z, y, x = home[cell]
        for corner in range(8):
            at, row = (z + (corner >> 2), y + ((corner >> 1) & 1), x + (corner & 1)), cells[cell, corner]
            values[at] = min(max(distance[row], -_MOST_DISTANCE), _MOST_DISTANCE)
            rows[at] = row
        # scikit-image asks the mask at a cell's last corner whether to triangulate the cell.
        mask[z + 1, y + 1, x + 1] = True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _keys(vertices: Any, rows: Any) -> Any:
    """Name of each vertex: 4 x (row of the low end of its grid edge, or of its cell) + kind."""
    keys = np.empty(len(vertices), np.int64)
    for vertex in range(len(vertices)):
        between, kind = 0, _CENTRE
        for axis in range(3):
            if vertices[vertex, axis] != np.floor(vertices[vertex, axis]):
                between, kind = between + 1, axis
        z, y, x = vertices[vertex]
        keys[vertex] = 4 * np.int64(rows[int(z), int(y), int(x)]) + (kind if between == 1 else _CENTRE)
    return keys


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _canonical(faces: Any, count: int) -> Any:
    """Turn each face so that its smallest vertex comes first, and sort the faces: no trace of the tiles is left."""
    end = np.zeros(count + 1, np.int64)
    for face in range(len(faces)):
        end[min(faces[face, 0], faces[face, 1], faces[face, 2]) + 1] += 1
    end = np.cumsum(end)[:-1]
    start, out = end.copy(), np.empty((len(faces), 3), np.int32)
    for face in range(len(faces)):
        a, b, c = faces[face]
        if b < a and b < c:
            a, b, c = b, c, a
        elif c < a:
            a, b, c = c, a, b
        # A vertex is the smallest of few faces: each is moved to its place among them.
        at = end[a]
        while at > start[a] and (out[at - 1, 1] > b or (out[at - 1, 1] == b and out[at - 1, 2] > c)):
            out[at, 0], out[at, 1], out[at, 2] = out[at - 1, 0], out[at - 1, 1], out[at - 1, 2]
            at -= 1
        out[at, 0], out[at, 1], out[at, 2] = a, b, c
        end[a] += 1
    return out


def _place(
    band: Band,
    distance: NDArray[np.float64],
    near: NDArray[np.int32],
    keys: NDArray[np.int64],
    faces: NDArray[np.int32],
) -> Mesh:
    """Position and values of every vertex, from the two ends of its grid edge."""
    out = np.zeros((len(keys), 8))
    _place_edges(band.index, distance, band.sd, band.support, near, keys, out)
    _place_centres(out, faces, np.flatnonzero(keys % 4 == _CENTRE))
    z, y, x = out[:, 3:6].T
    length = np.sqrt(z * z + y * y + x * x)
    out[:, 3:6] /= np.where(length > 0, length, 1)[:, None]
    vertices, normals, sd, support = (
        np.ascontiguousarray(part, np.float32) for part in (out[:, :3], out[:, 3:6], out[:, 6], out[:, 7])
    )
    return Mesh(vertices, faces, normals, sd, support)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _place_edges(index: Any, distance: Any, sd: Any, support: Any, near: Any, keys: Any, out: Any) -> None:
    """Put position, slope, sd and support of the vertices on grid edges into ``out``."""
    for vertex in range(len(keys)):
        kind, start = keys[vertex] % 4, keys[vertex] // 4
        if kind == _CENTRE:
            continue
        end = near[start, kind]
        share = distance[start] / (distance[start] - distance[end])
        for axis in range(3):
            out[vertex, axis] = (1 - share) * index[start, axis] + share * index[end, axis]
            slope = (1 - share) * _slope(distance, near, start, axis)
            out[vertex, 3 + axis] = slope + share * _slope(distance, near, end, axis)
        out[vertex, 6] = (1 - share) * np.float64(sd[start]) + share * np.float64(sd[end])
        out[vertex, 7] = (1 - share) * np.float64(support[start]) + share * np.float64(support[end])


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _slope(distance: Any, near: Any, row: int, axis: int) -> Any:
    """Slope of the distance at a point of the band: the central difference, one-sided where the band ends."""
    after, before = near[row, axis], near[row, 3 + axis]
    steps = (after >= 0) + (before >= 0)
    return (distance[after if after >= 0 else row] - distance[before if before >= 0 else row]) / max(steps, 1)


def _place_centres(out: NDArray[np.float64], faces: NDArray[np.int32], centres: NDArray[np.int64]) -> None:
    """Put a vertex inside a cell at the mean of the vertices joined to it, all of which lie on the cell's edges."""
    if not len(centres):
        return
    inner = np.zeros(len(out), bool)
    inner[centres] = True
    faces = faces[inner[faces[:, 0]] | inner[faces[:, 1]] | inner[faces[:, 2]]].astype(np.int64)
    corners = [(faces[inner[faces[:, corner]]], corner) for corner in range(3)]
    pairs = np.unique(np.concatenate([f[:, c] * len(out) + f[:, c - other] for f, c in corners for other in (1, 2)]))
    centre, joined = np.divmod(pairs, len(out))
    count = np.bincount(centre)[centres]
    for column in range(out.shape[1]):
        out[centres, column] = np.bincount(centre, out[joined, column])[centres] / count


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
