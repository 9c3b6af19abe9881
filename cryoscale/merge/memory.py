"""Peak memory of the units of the merge stage, as pure functions of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryoscale.merge.regions import BYTES_PER_REGION

__all__ = ["projected_bytes", "projected_join_bytes", "projected_number_bytes"]

_RUN_BYTES = 32
"""One run of a shell: four int32, the piece's name, the value."""


def projected_bytes(shape: Sequence[int], itemsize: int, separate_values: bool = False) -> int:
    """Peak memory of labelling or painting one block, in bytes: an upper bound, reached by a checkerboard.

    Parameters
    ----------
    shape
        Voxels of the block, z, y, x.
    itemsize
        Bytes of a voxel of the source.
    separate_values
        Whether values are kept apart: then every voxel may be a run of its own.

    Notes
    -----
    Raw voxels while their chunks are decompressed, the mask and its temporaries; runs (start, stop, parent, label, z, y
    and what each step adds); the pieces of the shell, of which there is at most one in 2 x 2 x 2 voxels (one a voxel
    where values are kept apart); the labels.
    """
    voxels = math.prod(shape)
    rows = math.prod(shape[:-1])
    runs = rows * (shape[-1] if separate_values else -(-shape[-1] // 2))
    per_voxel = 2 * itemsize + 2 + 4 + (itemsize if separate_values else 0)
    per_run = 64 + (8 if separate_values else 0)
    pieces = voxels if separate_values else voxels // 8
    return per_voxel * voxels + per_run * runs + 2 * BYTES_PER_REGION * pieces + 24 * rows + (16 << 20)


def projected_join_bytes(runs: int, rows: int) -> int:
    """Peak memory of joining boxes, in bytes.

    Parameters
    ----------
    runs
        Runs in all their shells.
    rows
        Rows of voxels, z times y, of the box they make together.
    """
    return 6 * _RUN_BYTES * runs + 24 * rows + (16 << 20)


def projected_number_bytes(pieces: int, links: int) -> int:
    """Peak memory of numbering the regions, in bytes.

    Parameters
    ----------
    pieces, links
        Pieces of all blocks, and links between them.
    """
    return (4 * BYTES_PER_REGION + 64) * pieces + 96 * links + (16 << 20)
