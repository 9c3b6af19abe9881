"""What a box of voxels must remember so that its regions can be joined with those of the box beside it.

A pair of voxels within eps that lies in two boxes has both ends within ``floor(eps)`` voxels of the plane between them.
So a box keeps the runs near its faces, its *shell*, each with the name of its piece, and forgets everything else::

    +---------------+---------------+          +-------------------------------+
    | # # # # # # # | # # # # # # # |          | # # # # # # # # # # # # # # # |
    | # a a         |         b b # |   join   | # a a                     a # |
    | #   . . . . a | b . . . .   # |  ----->  | #                           # |      link b -> a
    | #   interior  |  interior   # |          | #                           # |
    | # # # # # # # | # # # # # # # |          | # # # # # # # # # # # # # # # |
    +---------------+---------------+          +-------------------------------+

Joining two boxes compares only the runs on both sides of their common plane, gives the links it found, and keeps the
shell of the larger box. Boxes are joined pair by pair up to the whole volume. Each pair of voxels in different blocks
meets at exactly one join, the first whose box holds both, across a face, an edge or a corner alike; blocks thinner
than eps need no special case, since their shell is all of them. Faces on the boundary of the volume need no shell.

A piece is named (block, label inside the block), packed as ``block * 2^32 + label``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge.near import join_near_runs, reach_voxels
from cryoscale.merge.runs import Runs

__all__ = [
    "Box",
    "Shell",
    "block_shell",
    "join_pair",
    "join_shells",
    "near_block_faces",
    "near_faces",
    "pack_piece",
    "unpack_piece",
]

Box = tuple[int, int, int, int, int, int]
"""z0, y0, x0, z1, y1, x1 in voxels, half-open."""


@dataclass(frozen=True, slots=True)
class Shell:
    """The runs of a box that lie near its inner faces."""

    box: Box
    """The box, in voxels of the whole volume."""
    runs: NDArray[np.int32]
    """(n, 4) z, y, first x, x just past the run, in voxels of the whole volume."""
    piece: NDArray[np.int64]
    """(n,) the piece of a region that each run belongs to."""
    value: NDArray[np.int64]
    """(n,) the value of each run's voxels where values are kept apart, else empty."""


def pack_piece(block: int, label: NDArray[np.integer]) -> NDArray[np.int64]:
    """Name pieces: block number (below 2^31) and label inside the block."""
    return np.int64(block) * np.int64(2**32) + label.astype(np.int64)


def unpack_piece(piece: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return block numbers and labels of pieces."""
    return piece >> 32, piece & np.int64(2**32 - 1)


def near_faces(
    z: NDArray[np.int32],
    y: NDArray[np.int32],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    box: Box,
    shape: Sequence[int],
    reach: int,
) -> NDArray[np.bool_]:
    """Tell which runs of a box hold voxels near a face that is not the volume's own.

    Parameters
    ----------
    z, y, start, stop : (n,) int32 array
        The runs, in voxels of the whole volume.
    box : Box
        The box.
    shape : sequence of int
        Shape of the whole volume in voxels.
    reach : int
        Voxels from a face that count as near.

    Returns
    -------
    (n,) bool array
        Whether any voxel of the run is within reach of such a face.
    """
    near = np.zeros(z.size, np.bool_)
    for axis, (first, last) in enumerate(((z, z), (y, y), (start, stop - 1))):
        if box[axis] > 0:
            near |= first < box[axis] + reach
        if box[axis + 3] < shape[axis]:
            near |= last >= box[axis + 3] - reach
    return near


def _select(shell: Shell, rows: NDArray[np.bool_] | NDArray[np.intp], box: Box | None = None) -> Shell:
    value = shell.value[rows] if shell.value.size else shell.value
    return Shell(box or shell.box, shell.runs[rows], shell.piece[rows], value)


def _block_box(runs: Runs, origin: tuple[int, int, int]) -> Box:
    (z, y, x), (nz, ny, nx) = origin, runs.shape
    return (z, y, x, z + nz, y + ny, x + nx)


def near_block_faces(
    runs: Runs, origin: tuple[int, int, int], shape: tuple[int, int, int], distance_voxels: float
) -> NDArray[np.bool_]:
    """Tell which runs of a block belong to its shell: a region that has none of them cannot grow.

    Parameters
    ----------
    runs, origin, shape, distance_voxels
        As for `block_shell`.

    Returns
    -------
    (n,) bool array
        One truth a run.
    """
    (z, y), (z0, y0, x0) = runs.rows(), np.array(origin, np.int32)
    box = _block_box(runs, origin)
    return near_faces(z + z0, y + y0, runs.start + x0, runs.stop + x0, box, shape, reach_voxels(distance_voxels))


def block_shell(
    runs: Runs,
    label: NDArray[np.int32],
    block: int,
    origin: tuple[int, int, int],
    shape: tuple[int, int, int],
    distance_voxels: float,
) -> Shell:
    """Cut the shell out of one labelled block.

    Parameters
    ----------
    runs : Runs
        The runs of the block.
    label : (n,) int32 array
        The label of each run inside the block; 0 is left out.
    block : int
        The block's number, used in the names of its pieces.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    shape : tuple of int
        Shape of the whole volume in voxels.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels.

    Returns
    -------
    Shell
        The runs within reach of the faces that the block shares with others.
    """
    kept = np.flatnonzero(near_block_faces(runs, origin, shape, distance_voxels) & (label > 0))
    (z, y), (z0, y0, x0) = runs.rows(), np.array(origin, np.int32)
    table = np.stack((z[kept] + z0, y[kept] + y0, runs.start[kept] + x0, runs.stop[kept] + x0), axis=1)
    value = runs.value[kept] if runs.value.size else runs.value
    return Shell(_block_box(runs, origin), table, pack_piece(block, label[kept]), value)


def _common_axis(a: Box, b: Box) -> int:
    """Return the axis along which box `b` follows box `a`, or raise."""
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        if a[axis + 3] == b[axis] and all(a[k] == b[k] and a[k + 3] == b[k + 3] for k in others):
            return axis
    msg = f"boxes {a} and {b} do not share a whole face, first below second"
    raise ValueError(msg)


def _beside_plane(a: Shell, b: Shell, axis: int, reach: int) -> Shell:
    """Return the runs of both shells within `reach` of their common plane, in raster order."""
    plane = b.box[axis]
    below = a.runs[:, axis] >= plane - reach if axis < 2 else a.runs[:, 3] > plane - reach
    first, second = _select(a, below), _select(b, b.runs[:, axis] < plane + reach)
    both = _concatenate((first, second), (*a.box[:3], *b.box[3:]))
    order = np.lexsort((both.runs[:, 2], both.runs[:, 1], both.runs[:, 0]))
    return _select(both, order)


def _concatenate(shells: Sequence[Shell], box: Box) -> Shell:
    return Shell(
        box,
        np.concatenate([shell.runs for shell in shells]),
        np.concatenate([shell.piece for shell in shells]),
        np.concatenate([shell.value for shell in shells]),
    )


def _links_beside_plane(slab: Shell, distance_voxels: float) -> NDArray[np.int64]:
    """Return (piece, piece) for the pieces of a slab that come within the distance of each other."""
    if not len(slab.runs):
        return np.empty((0, 2), np.int64)
    low = slab.runs[:, :2].min(axis=0)
    nz, ny = (slab.runs[:, :2].max(axis=0) - low + 1).tolist()
    row = (slab.runs[:, 0] - low[0]).astype(np.int64) * ny + (slab.runs[:, 1] - low[1])
    row_start = np.searchsorted(row, np.arange(nz * ny + 1, dtype=np.int64)).astype(np.int64)
    start, stop = (np.ascontiguousarray(slab.runs[:, k]) for k in (2, 3))
    runs = Runs((nz, ny, int(stop.max())), row_start, start, stop, slab.value)
    piece, first, inverse = np.unique(slab.piece, return_index=True, return_inverse=True)
    # Runs of one piece are joined beforehand: what made them one may lie outside the slab.
    parent = join_near_runs(runs, distance_voxels, first[inverse].astype(np.int32))
    other = slab.piece[parent[first]]
    links: NDArray[np.int64] = np.stack((piece, other), axis=1)[piece != other]
    return links


def join_pair(
    a: Shell, b: Shell, shape: tuple[int, int, int], distance_voxels: float
) -> tuple[Shell, NDArray[np.int64]]:
    """Join the regions of two boxes that share a face.

    Parameters
    ----------
    a, b : Shell
        Shells of the two boxes; `b` follows `a` along one axis.
    shape : tuple of int
        Shape of the whole volume in voxels.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels.

    Returns
    -------
    shell : Shell
        The shell of the two boxes together, its pieces renamed so that joined pieces share a name.
    links : (m, 2) int64 array
        Names of pieces that are one region, (old name, new name).

    Raises
    ------
    ValueError
        If the boxes do not share a whole face.
    """
    axis = _common_axis(a.box, b.box)
    reach = reach_voxels(distance_voxels)
    links = _links_beside_plane(_beside_plane(a, b, axis, reach), distance_voxels)
    both = _concatenate((a, b), (*a.box[:3], *b.box[3:]))
    z, y, start, stop = both.runs.T
    both = _select(both, near_faces(z, y, start, stop, both.box, shape, reach))
    piece = both.piece
    if len(links):
        at = np.minimum(np.searchsorted(links[:, 0], piece), len(links) - 1)
        piece = np.where(links[at, 0] == piece, links[at, 1], piece)
    return Shell(both.box, both.runs, piece, both.value), links


def _split(boxes: NDArray[np.int64]) -> tuple[int, int]:
    """Return axis and plane that cut a brick of boxes into two bricks, near the middle of its longest axis."""
    low, high = boxes[:, :3].min(axis=0), boxes[:, 3:].max(axis=0)
    for axis in np.argsort(-(high - low), kind="stable"):
        planes = np.unique(boxes[:, axis])[1:]
        for plane in planes[np.argsort(np.abs(2 * planes - low[axis] - high[axis]), kind="stable")]:
            if not np.any((boxes[:, axis] < plane) & (boxes[:, axis + 3] > plane)):
                return int(axis), int(plane)
    msg = f"{len(boxes)} boxes between {low} and {high} cannot be cut into two bricks"
    raise ValueError(msg)


def join_shells(
    shells: Sequence[Shell], shape: tuple[int, int, int], distance_voxels: float
) -> tuple[Shell, NDArray[np.int64]]:
    """Join the regions of a brick of boxes, pair by pair.

    Parameters
    ----------
    shells : sequence of Shell
        At least one; their boxes tile a brick.
    shape : tuple of int
        Shape of the whole volume in voxels.
    distance_voxels : float
        Largest Euclidean distance between two voxels that join, in voxels.

    Returns
    -------
    shell : Shell
        The shell of the brick.
    links : (m, 2) int64 array
        Names of pieces that are one region.

    Raises
    ------
    ValueError
        If the boxes do not tile a brick that cuts into two, down to single boxes.
    """
    if len(shells) == 1:
        return shells[0], np.empty((0, 2), np.int64)
    axis, plane = _split(np.array([shell.box for shell in shells], np.int64))
    below, links_below = join_shells([s for s in shells if s.box[axis] < plane], shape, distance_voxels)
    above, links_above = join_shells([s for s in shells if s.box[axis] >= plane], shape, distance_voxels)
    shell, links = join_pair(below, above, shape, distance_voxels)
    return shell, np.concatenate((links_below, links_above, links))
