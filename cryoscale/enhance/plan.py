"""Units of the enhance stage: each owns a slab of whole slices, so no halo is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryoscale.chunks import Region, blocks
from cryoscale.enhance.filters import enhance_slice
from cryoscale.io.files import relative_files
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.records import Plan, Receipt, Tomogram, Unit
from cryoscale.spec import EnhanceSpec

__all__ = ["ENHANCED", "INTENSITY", "plan", "projected_bytes"]

ENHANCED = "enhanced.ome.zarr"
INTENSITY = (0.5, 0.125)
"""Centre and scale of enhanced grey values, for a network trained on them: 0 to 1 stands for 4 sd on either side."""


def projected_bytes(slab_voxels: int, slice_voxels: int) -> int:
    """Peak memory of a unit: input and output slab in float32, and one slice's float64 temporaries."""
    return slab_voxels * 8 + slice_voxels * 8 * 12


def plan(
    tomogram: Tomogram,
    spec: EnhanceSpec,
    chunk_voxels: tuple[int, int, int],
    *,
    source: str,
    intensity: tuple[float, float],
) -> Plan:
    """Plan the enhanced copy of a tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options of the stage.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    source
        Name of the ingested volume in the tomogram's folder.
    intensity
        Centre and scale of the tomogram's grey values, from ingest.
    """
    geometry = tomogram.known_geometry
    slab = (chunk_voxels[0], *geometry.shape[1:])
    create_image(tomogram.path(ENHANCED), geometry, np.float32, chunk_voxels, shards=slab)
    yield [
        Unit(
            ("enhance", tomogram.id, index),
            enhance_slab,
            (str(tomogram.path(source)), tomogram.folder, region, spec, intensity, geometry.voxel_size_nm),
            projected_bytes(region.size, region.shape[1] * region.shape[2]),
        )
        for index, region in enumerate(blocks(geometry.shape, slab))
    ]
    return {"volume": ENHANCED}


def enhance_slab(
    source: str,
    folder: str,
    region: Region,
    spec: EnhanceSpec,
    intensity: tuple[float, float],
    voxel_size_nm: float,
) -> Receipt:
    """Enhance the slices of one slab and write them."""
    raw = read_region(source, region)
    options: dict[str, Any] = {
        "centre": intensity[0],
        "scale": intensity[1],
        "sigma_voxels": spec.bilateral_sigma_nm / voxel_size_nm,
        "sigma_intensity": spec.bilateral_sigma_intensity,
        "clip_limit": spec.clahe_clip_limit,
        "tile_voxels": round(spec.clahe_tile_nm / voxel_size_nm),
    }
    out = np.stack([enhance_slice(image, **options) for image in raw])
    return Receipt(relative_files(folder, write_region(f"{folder}/{ENHANCED}", region, out)))
