"""Small volumes with known membranes, for tests of the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.io.mrc import write_mrc

SHAPE = (48, 72, 80)
SPHERES = (((24.0, 22.0, 24.0), 14.0), ((22.0, 48.0, 54.0), 16.0))


def spheres_mask(shape: tuple[int, int, int] = SHAPE, *, caps_missing: float = 0.8) -> NDArray[np.int8]:
    """Two spherical membranes 3 voxels thick, their caps beyond |n_z| `caps_missing` not seen, and a speck."""
    grid = np.stack(np.indices(shape), axis=-1).astype(float)
    mask = np.zeros(shape, np.int8)
    for number, (centre, radius) in enumerate(SPHERES, 1):
        offset = grid - np.array(centre)
        distance = np.linalg.norm(offset, axis=-1)
        seen = np.abs(offset[..., 0]) <= caps_missing * np.maximum(distance, 1e-9)
        mask[(np.abs(distance - radius) <= 1.5) & seen] = number
    mask[2:4, 66:68, 2:4] = 1
    return mask


def spheres_shell(radius_voxels: float = 2.0) -> NDArray[np.bool_]:
    """The whole membranes, caps and all: every voxel within `radius_voxels` of the two surfaces."""
    grid = np.stack(np.indices(SHAPE), axis=-1).astype(float)
    near = [np.abs(np.linalg.norm(grid - np.array(c), axis=-1) - r) <= radius_voxels for c, r in SPHERES]
    return np.logical_or.reduce(near)


def write_spheres(path: Path) -> Path:
    """Write `spheres_mask` as MRC, 10 Å a voxel, with an origin."""
    write_mrc(path, spheres_mask(), 10.0, (-50.0, 100.0, 200.0))
    return path
