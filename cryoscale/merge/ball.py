r"""Which voxels are near each other: a ball in space, an ellipsoid on the grid.

    (s_z dz)^2 + (s_y dy)^2 + (s_x dx)^2 <= eps^2,     s the edges of a voxel

With voxels of edge 1 the distances 1, sqrt(2) and sqrt(3) are what is called 6-, 18- and 26-connectivity. Two runs of
foreground in rows that are (dz, dy) apart hold voxels that near exactly when their gap along x is at most

    gap(dz, dy) = floor( sqrt( eps^2 - (s_z dz)^2 - (s_y dy)^2 ) / s_x ).

Each row looks back at the rows that come before it in raster order (half of the ellipsoid's shadow) and at itself::

    eps = 3      dy -3 -2 -1  0  1  2  3
        dz = -3               0                 numbers: allowed gap along x
        dz = -2         1  2  2  2  1           (dz, dy) = (0, 0): the row itself
        dz = -1         2  2  2  2  2
        dz =  0      0  2  2  3
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ball", "ball_of"]

_SLACK = 1e-6
"""Relative slack on eps^2: a distance converted from nanometres, or sqrt(3) in float32, still reaches its own
corner."""
_LARGEST = 1000.0
_DEFAULT_VOXELS = 3.0


@dataclass(frozen=True, slots=True)
class Ball:
    """The offsets between voxels that join.

    Raises
    ------
    ValueError
        If an edge is not finite and positive, or the distance is not finite, below the smallest edge (no two voxels
        are that close: every voxel would be its own region) or above 1000 of them.
    """

    distance: float
    """Largest Euclidean distance between two voxels that join, in the unit of the voxel size."""
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Edges of a voxel along z, y, x, in any one unit."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if len(self.voxel_size) != 3 or not all(0.0 < edge < math.inf for edge in self.voxel_size):
            msg = f"voxel_size is {self.voxel_size!r}; it must be three positive lengths, z, y, x"
            raise ValueError(msg)
        unit = min(self.voxel_size)
        if not unit * (1.0 - _SLACK / 2) <= self.distance <= _LARGEST * unit:
            name = "distance_voxels" if self.voxel_size == (1.0, 1.0, 1.0) else "distance"
            msg = (
                f"{name} is {self.distance!r}; it must lie between {unit:g} (voxels that share a face) and "
                f"{_LARGEST * unit:g}: below it nothing joins; is it given in another unit?"
            )
            raise ValueError(msg)

    def holds(self, dz: int, dy: int, dx: int) -> bool:
        """Whether two voxels this far apart, in voxels, join."""
        offset = zip((dz, dy, dx), self.voxel_size, strict=True)
        return sum((step * edge) ** 2 for step, edge in offset) <= self.distance**2 * (1.0 + _SLACK)

    def gap(self, dz: int, dy: int) -> int:
        """Return the largest dx that joins voxels of two rows, in voxels; -1 where none does."""
        z, y, x = self.voxel_size
        rest = self.distance**2 * (1.0 + _SLACK) - (z * dz) ** 2 - (y * dy) ** 2
        dx = math.floor(math.sqrt(max(rest, 0.0)) / x)
        # The root may be rounded up or down across a whole number: `holds` decides.
        dx += self.holds(dz, dy, dx + 1)
        return dx - (not self.holds(dz, dy, dx))

    @property
    def reach_voxels(self) -> tuple[int, int, int]:
        """How many voxels the distance reaches along z, y, x: the thickness of every halo and face."""
        return _reach(self)

    def row_offsets(self) -> NDArray[np.int64]:
        """List the rows that lie behind a row, with the gap along x that each allows.

        Returns
        -------
        (m, 3) int64 array
            Columns dz, dy, gap in voxels; dz < 0, or dz == 0 and dy < 0; nearest rows first, so that most later
            comparisons find two runs in one tree already. Read-only.
        """
        return _row_offsets(self)


@lru_cache(maxsize=64)
def _reach(ball: Ball) -> tuple[int, int, int]:
    z, y, x = ball.voxel_size
    along_z, along_y = Ball(ball.distance, (x, y, z)), Ball(ball.distance, (z, x, y))
    return (along_z.gap(0, 0), along_y.gap(0, 0), ball.gap(0, 0))


@lru_cache(maxsize=64)
def _row_offsets(ball: Ball) -> NDArray[np.int64]:
    reach_z, reach_y, _ = ball.reach_voxels
    rows = [
        (dz, dy, ball.gap(dz, dy))
        for dz in range(-reach_z, 1)
        for dy in range(-reach_y, reach_y + 1)
        if (dz < 0 or dy < 0) and ball.holds(dz, dy, 0)
    ]
    z, y, _ = ball.voxel_size
    rows.sort(key=lambda row: ((z * row[0]) ** 2 + (y * row[1]) ** 2, row))
    table = np.array(rows, np.int64).reshape(-1, 3)
    table.flags.writeable = False  # shared by all callers
    return table


def ball_of(
    axes: int,
    distance_voxels: float | None = None,
    distance: float | None = None,
    voxel_size: float | Sequence[float] | None = None,
) -> Ball:
    """Return the ball that the options of `merge_regions` ask for.

    Parameters
    ----------
    axes : int
        Axes of the mask, 2 or 3.
    distance_voxels : float, optional
        In voxels; 3 where no distance is given.
    distance, voxel_size : optional
        Instead, a distance and the edge of a voxel (one for all axes, or one an axis) in one unit.

    Raises
    ------
    ValueError
        If one of the last two is missing, all three are given, or `Ball` refuses them.
    """
    if distance is None and voxel_size is None:
        return Ball(float(_DEFAULT_VOXELS if distance_voxels is None else distance_voxels))
    if distance is None or voxel_size is None or distance_voxels is not None:
        msg = (
            f"distance_voxels is {distance_voxels!r}, distance {distance!r} and voxel_size {voxel_size!r}; give "
            "distance_voxels alone, or distance and voxel_size in one unit"
        )
        raise ValueError(msg)
    edges = np.asarray(voxel_size, np.float64).ravel().tolist()
    edges = edges * axes if np.ndim(voxel_size) == 0 else edges
    if len(edges) != axes:
        msg = f"voxel_size {voxel_size!r} has {len(edges)} lengths for a mask of {axes} axes"
        raise ValueError(msg)
    z, y, x = edges if axes == 3 else [edges[0], *edges]
    return Ball(float(distance), (z, y, x))
