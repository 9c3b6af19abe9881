"""What a box of voxels must remember so that its regions can be joined with those of the box beside it.

A pair of voxels within eps that lies in two boxes has both ends within the reach of eps of the plane between them.
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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge.ball import Ball
from cryoscale.merge.near import join_near_runs
from cryoscale.merge.runs import Runs

__all__ = ["Box", "Shell", "block_shell", "join_pair", "join_shells", "near_faces"]

Box = tuple[int, int, int, int, int, int]
"""z0, y0, x0, z1, y1, x1 in voxels, half-open."""
Triple = tuple[int, int, int]

_NO_LINKS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class Shell:
    """The runs of a box that lie near its inner faces."""

    box: Box
    """The box, in voxels of the whole volume."""
    runs: NDArray[np.int32]
    """(n, 4) z, y, first x, x just past the run, in voxels of the whole volume."""
    piece: NDArray[np.int64]
    """(n,) the piece of a region that each run belongs to; names differ between boxes that are joined."""
    value: NDArray[np.int64]
    """(n,) the value of each run's voxels where values are kept apart, else empty."""

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Shell:
        """Return the shell of some of the runs."""
        value = self.value[rows] if self.value.size else self.value
        return Shell(self.box, self.runs[rows], self.piece[rows], value)


def near_faces(
    runs: Sequence[NDArray[np.int32]] | NDArray[np.int32], box: Box, shape: Sequence[int], reach: Triple
) -> NDArray[np.bool_]:
    """Tell which runs of a box hold voxels near a face that is not the volume's own.

    Parameters
    ----------
    runs : four (n,) int32 arrays
        z, y, first x and x past each run, in voxels of the whole volume.
    box : Box
        The box.
    shape : sequence of int
        Shape of the whole volume in voxels.
    reach : tuple of int
        Voxels from a face that count as near, along z, y, x.

    Returns
    -------
    (n,) bool array
        Whether any voxel of the run is within reach of such a face.
    """
    z, y, start, stop = runs
    near = np.zeros(z.size, np.bool_)
    for axis, (first, last) in enumerate(((z, z), (y, y), (start, stop - 1))):
        if box[axis] > 0:
            near |= first < box[axis] + reach[axis]
        if box[axis + 3] < shape[axis]:
            near |= last >= box[axis + 3] - reach[axis]
    return near


def block_shell(runs: Runs, label: NDArray[np.int32], origin: Triple, shape: Triple, ball: Ball) -> Shell:
    """Cut the shell out of one labelled block.

    Parameters
    ----------
    runs : Runs
        The runs of the block.
    label : (n,) int32 array
        The label of each run inside the block.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    shape : tuple of int
        Shape of the whole volume in voxels.
    ball : Ball
        Which voxels join.

    Returns
    -------
    Shell
        The runs within reach of the faces that the block shares with others; a piece is its label less 1.
    """
    (z, y), (z0, y0, x0), (nz, ny, nx) = runs.rows(), origin, runs.shape
    box = (z0, y0, x0, z0 + nz, y0 + ny, x0 + nx)
    columns = (z + np.int32(z0), y + np.int32(y0), runs.start + np.int32(x0), runs.stop + np.int32(x0))
    kept = np.flatnonzero(near_faces(columns, box, shape, ball.reach_voxels))
    table = np.stack([column[kept] for column in columns], axis=1)
    value = runs.value[kept] if runs.value.size else runs.value
    return Shell(box, table, label[kept] - np.int64(1), value)


def _common_axis(a: Box, b: Box) -> int:
    """Return the axis along which box `b` follows box `a`, or raise."""
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        if a[axis + 3] == b[axis] and all(a[k] == b[k] and a[k + 3] == b[k + 3] for k in others):
            return axis
    msg = f"boxes {a} and {b} do not share a whole face, first below second"
    raise ValueError(msg)


def _concatenate(a: Shell, b: Shell) -> Shell:
    return Shell(
        (*a.box[:3], *b.box[3:]),
        np.concatenate((a.runs, b.runs)),
        np.concatenate((a.piece, b.piece)),
        np.concatenate((a.value, b.value)),
    )


def _beside_plane(a: Shell, b: Shell, axis: int, reach: int) -> Shell:
    """Return the runs of both shells within `reach` of their common plane, in raster order."""
    plane = b.box[axis]
    below = a.runs[:, axis] >= plane - reach if axis < 2 else a.runs[:, 3] > plane - reach
    both = _concatenate(a.take(below), b.take(b.runs[:, axis] < plane + reach))
    return both.take(np.lexsort((both.runs[:, 2], both.runs[:, 1], both.runs[:, 0])))


def _links_beside_plane(slab: Shell, ball: Ball) -> NDArray[np.int64]:
    """Return (piece, piece) for the pieces of a slab that come within the distance of each other."""
    if not len(slab.runs):
        return _NO_LINKS
    low = slab.runs[:, :2].min(axis=0)
    nz, ny = (slab.runs[:, :2].max(axis=0) - low + 1).tolist()
    row = (slab.runs[:, 0] - low[0]).astype(np.int64) * ny + (slab.runs[:, 1] - low[1])
    row_start = np.searchsorted(row, np.arange(nz * ny + 1, dtype=np.int64)).astype(np.int64)
    start, stop = (np.ascontiguousarray(slab.runs[:, k]) for k in (2, 3))
    runs = Runs((nz, ny, int(stop.max())), row_start, start, stop, slab.value)
    piece, first, inverse = np.unique(slab.piece, return_index=True, return_inverse=True)
    # Runs of one piece are joined beforehand: what made them one may lie outside the slab.
    parent = first[inverse].astype(np.int32)
    join_near_runs(runs, ball, parent)
    other = slab.piece[parent[first]]
    links: NDArray[np.int64] = np.stack((piece, other), axis=1)[piece != other]
    return links


def join_pair(a: Shell, b: Shell, shape: Triple, ball: Ball) -> tuple[Shell, NDArray[np.int64]]:
    """Join the regions of two boxes that share a face.

    Parameters
    ----------
    a, b : Shell
        Shells of the two boxes; `b` follows `a` along one axis.
    shape : tuple of int
        Shape of the whole volume in voxels.
    ball : Ball
        Which voxels join.

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
    links = _links_beside_plane(_beside_plane(a, b, axis, ball.reach_voxels[axis]), ball)
    both = _concatenate(a, b)
    both = both.take(near_faces(both.runs.T, both.box, shape, ball.reach_voxels))
    if len(links):
        at = np.minimum(np.searchsorted(links[:, 0], both.piece), len(links) - 1)
        both = replace(both, piece=np.where(links[at, 0] == both.piece, links[at, 1], both.piece))
    return both, links


def join_shells(shells: NDArray[Any], shape: Triple, ball: Ball) -> tuple[Shell, NDArray[np.int64]]:
    """Join the regions of a brick of boxes, pair by pair: as `join_pair`, for more than two.

    Parameters
    ----------
    shells : (a, b, c) object array of Shell
        At least one, in the order of their boxes along z, y, x.
    shape, ball
        As for `join_pair`.

    Returns
    -------
    The shell of the brick, and all links.
    """
    if shells.size == 1:
        return shells.item(), _NO_LINKS
    axis = int(np.argmax(shells.shape))
    below, above = np.split(shells, [shells.shape[axis] // 2], axis)
    (first, links_below), (second, links_above) = join_shells(below, shape, ball), join_shells(above, shape, ball)
    shell, links = join_pair(first, second, shape, ball)
    return shell, np.concatenate((links_below, links_above, links))
