"""How many files a complete tomogram is, from its shape, the options and the number of its membranes.

    volume   =  blocks that units write, at each level  +  a description of each level and of all
    tomogram =  volumes  +  two or three a membrane  +  tables, pictures  +  `BESIDE`

More than 45 meshes, or tables of vertices, are one file; what units hand to each other, and their records, are two
(packing.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cryoscale.connect.plan as connect
import cryoscale.ingest.plan as ingest
import cryoscale.merge.plan as merge
import cryoscale.packing as packing
import cryoscale.segment.plan as segment
import cryoscale.separate.plan as separate
import cryoscale.surface.plan as surface
from cryoscale.records import Geometry
from cryoscale.spec import RunSpec

__all__ = ["BESIDE", "files_of"]

BESIDE = 4
"""Of any tomogram: summary, seal, records, workings."""
_TABLES, _PROTEIN_TABLES = 4, 6
_PICTURES, _PICTURES_OF_DENSITY = 9, 4
"""Pictures that every tomogram with membranes has, and those of the tomogram itself."""

Shape = Sequence[int]


def files_of(
    stage: str, geometry: Geometry, itemsizes: Sequence[int], spec: RunSpec, membranes: int, *, masked: bool
) -> int:
    """Return how many files one stage leaves.

    Parameters
    ----------
    stage
        Its name.
    geometry
        Of the tomogram.
    itemsizes
        Bytes of a voxel in each file that is read: the tomogram's, the mask's, or both.
    spec
        All options.
    membranes
        How many have a surface.
    masked
        Whether the last file is a mask.
    """
    shape, chunk = geometry.shape, spec.ingest.chunk_voxels
    density = not masked or len(itemsizes) > 1
    match stage:
        case "ingest":
            return len(itemsizes) * _volume(shape, ingest.slab_voxels(shape, chunk), spec.ingest.pyramid_levels)
        case "enhance":
            return _volume(shape, (chunk[0], *shape[1:]))
        case "segment":
            from cryoscale.segment.weights import load_model

            model, card = load_model(segment.model_path(spec.segment))
            regions = segment.unit_regions(geometry, itemsizes[0], spec.segment, chunk, model, card)
            return 2 * _volume(shape, (chunk[0], *regions[0][0].shape[1:]))
        case "connect":
            return _volume(shape, connect.block_edge(shape, chunk))
        case "merge" | "locate":
            return _volume(shape, merge.painted_voxels(chunk))
        case "separate":
            return _volume(shape, separate.painted_voxels(chunk))
        case "surface":
            return 3 * _volume(shape, surface.block_voxels(shape, chunk)) + _of_membranes(membranes) + 1
        case "measure":
            tables = _TABLES + density + (_PROTEIN_TABLES if not masked else 0)
            return tables + _of_membranes(membranes * (2 if spec.measure.vertices_csv else 1))
        case "report":
            shown = spec.report.tomograms_with_pictures > 0
            return (_PICTURES + density * _PICTURES_OF_DENSITY) * shown
    return 0


def _of_membranes(files: int) -> int:
    """Return as how many files so many of a kind, each of one membrane, are left."""
    return files if files <= packing.SINGLES else 1


def _volume(shape: Shape, file_voxels: Shape, levels: int = 1) -> int:
    """Return the files of a volume; every level has as many blocks as the first."""
    return levels * math.prod(-(-n // edge) for n, edge in zip(shape, file_voxels, strict=True)) + levels + 1
