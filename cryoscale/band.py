"""The narrow band: what one surface says about the voxels near it.

A surface is handed from stage to stage as the sparse set of grid points close to it, each with its signed distance
to the surface, the standard deviation of the surface's position there, and its distance to the nearest voxel that
was really seen. Its size follows the area of the surface, not the volume of its box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Band"]


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
