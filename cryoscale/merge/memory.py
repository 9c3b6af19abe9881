"""Peak memory of the units of the merge stage, as pure functions of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryoscale.regions import BYTES_PER_REGION

__all__ = ["projected_bytes", "projected_join_bytes", "projected_map_bytes", "projected_number_bytes"]

_RUN_BYTES = 32
"""One run of a shell: four int32, the piece's name, the value."""


def projected_bytes(
    shape: Sequence[int],
    itemsize: int,
    *,
    reach_voxels: int | Sequence[int],
    minimum_voxels: int = 1,
    separate_values: bool = False,
) -> int:
    """Peak memory of labelling or painting one block, in bytes: an upper bound, for a checkerboard as for membranes.

    Parameters
    ----------
    shape
        Voxels of the block, z, y, x.
    itemsize
        Bytes of a voxel of the source.
    reach_voxels
        Thickness of the block's shell in voxels, one for all axes or z, y, x; the distance is taken to be at least the
        diagonal of a voxel.
    minimum_voxels
        Complete regions that are smaller are dropped.
    separate_values
        Whether values are kept apart: then every voxel may be a run, and a piece, of its own.

    Notes
    -----
    Raw voxels while their chunks are decompressed, the mask and its temporaries; runs, at most one in two voxels
    (start, stop, label, z, y, the table of their places); pieces, at most one in 2 x 2 x 2 voxels, of which those that
    are near a face or large enough are kept a second time; the shell; the labels.
    """
    voxels, rows = math.prod(shape), math.prod(shape[:-1])
    reach = [reach_voxels] * 3 if isinstance(reach_voxels, int) else reach_voxels
    shell = voxels - math.prod(max(n - 2 * r, 0) for n, r in zip(shape, reach, strict=True))
    runs = rows * (shape[-1] if separate_values else -(-shape[-1] // 2))
    # One piece at most in a cell of 2 x 2 x 2 voxels; cells at the upper ends may be cut.
    pieces = voxels if separate_values else math.prod(-(-n // 2) for n in shape)
    share = 1 if separate_values else 4
    kept = min(pieces, -(-shell // share) + voxels // minimum_voxels)
    per_voxel = 2 * itemsize + 6 + (itemsize if separate_values else 0)
    per_run = 48 + (8 if separate_values else 0)
    shell_runs = min(runs, shell)
    return (
        per_voxel * voxels
        + per_run * runs
        + 2 * _RUN_BYTES * shell_runs
        + 32 * pieces
        + (2 * BYTES_PER_REGION + 32) * kept
        + 24 * rows
        + (16 << 20)
    )


def projected_join_bytes(runs: int, rows: int, pieces: int) -> int:
    """Peak memory of joining boxes, in bytes.

    Parameters
    ----------
    runs
        Runs in all their shells.
    rows
        Rows of voxels, z times y, of the box they make together.
    pieces
        Regions of all of them that may grow.
    """
    return 6 * _RUN_BYTES * runs + 24 * rows + (4 * BYTES_PER_REGION + 128) * pieces + (16 << 20)


def projected_number_bytes(regions: int) -> int:
    """Peak memory of numbering the regions of one range of first voxels, in bytes.

    Parameters
    ----------
    regions
        Complete regions of the boxes that are read.
    """
    return (4 * BYTES_PER_REGION + 64) * regions + (16 << 20)


def projected_map_bytes(pieces: int, regions: int) -> int:
    """Peak memory of handing numbers down from one box, in bytes.

    Parameters
    ----------
    pieces
        Regions of its members.
    regions
        Regions in the ranges that its own are spread over.
    """
    return 16 * pieces + 16 * regions + (16 << 20)
