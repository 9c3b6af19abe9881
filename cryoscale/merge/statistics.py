"""The table of regions of a volume or of a block of it, from its runs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscale.merge.runs import Runs
from cryoscale.regions import Regions

__all__ = ["region_statistics"]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add_runs(
    row_start: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    value: NDArray[np.int64],
    label: NDArray[np.int32],
    ny: int,
    origin: tuple[int, int, int],
    whole: tuple[int, int, int],
    voxels: NDArray[np.int64],
    box: NDArray[np.int64],
    coordinate_sum: NDArray[np.int64],
    first_voxel: NDArray[np.int64],
    region_value: NDArray[np.int64],
) -> None:
    """Add every run to its region's row."""
    for row in range(row_start.shape[0] - 1):
        z = row // ny + origin[0]
        y = row % ny + origin[1]
        for k in range(row_start[row], row_start[row + 1]):
            r = label[k] - 1
            if r < 0:
                continue
            x0 = start[k] + origin[2]
            x1 = stop[k] + origin[2]
            count = x1 - x0
            voxels[r] += count
            box[r, 0], box[r, 1], box[r, 2] = min(box[r, 0], z), min(box[r, 1], y), min(box[r, 2], x0)
            box[r, 3], box[r, 4], box[r, 5] = max(box[r, 3], z + 1), max(box[r, 4], y + 1), max(box[r, 5], x1)
            coordinate_sum[r, 0] += count * z
            coordinate_sum[r, 1] += count * y
            coordinate_sum[r, 2] += (x0 + x1 - 1) * count // 2
            first_voxel[r] = min(first_voxel[r], (z * whole[1] + y) * whole[2] + x0)
            if value.shape[0] > 0:
                region_value[r] = value[k]


def region_statistics(
    runs: Runs,
    label: NDArray[np.int32],
    count: int,
    origin: tuple[int, int, int] = (0, 0, 0),
    whole: tuple[int, int, int] | None = None,
) -> Regions:
    """Measure the regions of a volume or of a block of it.

    Parameters
    ----------
    runs : Runs
        The runs of the block.
    label : (n,) int32 array
        The region of each run, 1..count; 0 is left out.
    count : int
        The number of regions.
    origin : tuple of int
        Where the block starts in the whole volume, z, y, x, voxels.
    whole : tuple of int, optional
        Shape of the whole volume; the block's own when left out.

    Returns
    -------
    Regions
        Row k is region k + 1, in coordinates of the whole volume.
    """
    table = Regions.blank(count)
    _add_runs(
        runs.row_start,
        runs.start,
        runs.stop,
        runs.value,
        label,
        runs.shape[1],
        origin,
        whole or runs.shape,
        *table.columns().values(),
    )
    return table
