"""What a slice falls into: traced segments, the closed and open membranes they form, and the joins between them.

segments   0 ------>   1 ---->   2 ----->         ordered pixels; end 0 is the first, end 1 the last
end index  0       1   2     3   4      5         2 * segment + end
path       ((0, False), (2, True), (1, False))    segment 0 forwards, 2 backwards, 1 forwards, back to 0
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.spec import ConnectSpec, JoinSpec

__all__ = ["ConnectOptions", "SliceConnection", "options_in_voxels"]


@dataclass(frozen=True)
class ConnectOptions(JoinSpec):
    """The options of `cryoscale.spec.ConnectSpec` with lengths in voxels."""

    half_view_voxels: int = 5
    """The field of view reaches so far in y and x; it is 2 * half_view_voxels + 1 voxels wide."""
    minimum_length_voxels: int = 7
    """Segments of fewer pixels are dropped."""
    gap_voxels: float = 58.0
    """Widest gap a join may bridge."""
    tangent_voxels: int = 18
    """Pixels of a segment's end over which its direction and curvature are measured."""


def options_in_voxels(spec: ConnectSpec, voxel_size_angstrom: float) -> ConnectOptions:
    """Turn the lengths of `spec` into voxels of a slice.

    Parameters
    ----------
    spec : ConnectSpec
        Lengths in nm.
    voxel_size_angstrom : float
        Edge of a voxel in y and x, in ångström.

    Returns
    -------
    ConnectOptions
        The same options; a field of view is at least 5 voxels wide, a direction is measured over at least 5 voxels.

    Raises
    ------
    ValueError
        The voxel size is not positive.
    """
    if not voxel_size_angstrom > 0:
        msg = f"voxel_size_angstrom={voxel_size_angstrom} is not positive"
        raise ValueError(msg)
    per_nm = 10.0 / voxel_size_angstrom
    same = {entry.name: getattr(spec, entry.name) for entry in dataclasses.fields(JoinSpec)}
    return ConnectOptions(
        half_view_voxels=max(2, round(spec.view_nm * per_nm / 2)),
        minimum_length_voxels=max(2, round(spec.minimum_length_nm * per_nm)),
        gap_voxels=spec.gap_nm * per_nm,
        tangent_voxels=max(5, round(spec.tangent_nm * per_nm)),
        **same,
    )


@dataclass(frozen=True)
class SliceConnection:
    """Segments of one slice and the membranes they form."""

    segments: tuple[NDArray[np.int32], ...]
    """(n, 2) y, x pixels of each segment, in voxels, from its end 0 to its end 1."""
    ring: tuple[bool, ...]
    """Whether a segment is a closed ring by itself; its last pixel then touches its first."""
    paths: tuple[tuple[tuple[int, bool], ...], ...]
    """Each membrane as (segment, reversed) in the order of the walk; closed ones first, best first."""
    closed: tuple[bool, ...]
    """Whether each path returns to its first segment."""
    reward: tuple[float, ...]
    """Reward collected along each path: closing reward less the costs of the joins; a ring gets the closing reward."""
    joins: NDArray[np.int32]
    """(m, 2, 2) y, x of the two end points each join connects, in voxels; path after path."""
    join_path: NDArray[np.int32]
    """(m,) the path each join belongs to, counted from 1 as in `labels`."""
    q: NDArray[np.float64]
    """(2 S, 2 S) learned value of the action from end (row) to end (column); NaN where there is no action or none
    was tried. The rows of a segment in a closed path come from the table that path was read from."""
    failed: int
    """Episodes that did not return to the segment they began with."""
    episodes: int
    """Episodes walked in all."""
    labels: NDArray[np.int32]
    """(ny, nx) 0 background, k = path k: each pixel of the mask goes with the nearest segment of its component; 0
    also where a component has no segment."""
