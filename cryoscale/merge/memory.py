"""Peak memory of the units of the merge stage, as pure functions of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryoscale.merge.regions import BYTES_PER_REGION

__all__ = ["projected_bytes", "projected_join_bytes", "projected_number_bytes"]

_RUN_BYTES = 32
"""One run of a shell: four int32, the piece's name, the value."""


def projected_bytes(
    shape: Sequence[int], itemsize: int, *, reach_voxels: int, minimum_voxels: int = 1, separate_values: bool = False
) -> int:
    """Peak memory of labelling or painting one block, in bytes: an upper bound, for a checkerboard as for membranes.

    Parameters
    ----------
    shape
        Voxels of the block, z, y, x.
    itemsize
        Bytes of a voxel of the source.
    reach_voxels
        Thickness of the block's shell in voxels; the distance is taken to be at least sqrt(3).
    minimum_voxels
        Regions that are smaller and clear of the shell are dropped.
    separate_values
        Whether values are kept apart: then every voxel may be a run, and a piece, of its own.

    Notes
    -----
    Raw voxels while their chunks are decompressed, the mask and its temporaries; runs, at most one in two voxels
    (start, stop, parent, label, z, y and what each step adds); pieces, at most one in 2 x 2 x 2 voxels; the labels.
    """
    voxels, rows = math.prod(shape), math.prod(shape[:-1])
    shell = voxels - math.prod(max(n - 2 * reach_voxels, 0) for n in shape)
    runs = rows * (shape[-1] if separate_values else -(-shape[-1] // 2))
    # One piece at most in a cell of 2 x 2 x 2 voxels; cells at the upper ends may be cut.
    cells = voxels if separate_values else math.prod(-(-n // 2) for n in shape)
    share = 1 if separate_values else 4
    pieces = min(cells, shell // share + voxels // minimum_voxels)
    per_voxel = 2 * itemsize + 6 + (itemsize if separate_values else 0)
    per_run = 48 + (8 if separate_values else 0)
    return per_voxel * voxels + per_run * runs + (BYTES_PER_REGION + 16) * pieces + 24 * rows + (16 << 20)


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
