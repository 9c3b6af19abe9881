"""Surface stage: bands in, meshes and two volumes out.

Phase 1, one unit per group of membranes: each band becomes a mesh (``meshes/membrane_0001.ply``) and the voxels of a
membrane of uniform thickness; the group's voxels go into one file, one array per output block.
Phase 2, one unit per block of whole chunks: the voxels of all groups that touch the block are painted into
``membranes.ome.zarr`` (labels, the numbers of the merge) and ``position_sd_nm.ome.zarr`` (0 where no membrane is).

Neither phase holds more than one band or one block at a time, whatever the size of the tomogram.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Band, Mesh, band_mesh
from cryoscale.chunks import Region, blocks
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import SurfaceSpec
from cryoscale.surface.mesh import vertex_angstrom, vertex_properties
from cryoscale.surface.voxels import VOXEL, paint_block, split_by_block, voxel_records

__all__ = ["LABELS", "POSITION_SD", "build_group", "mesh_bytes", "paint", "paint_bytes", "plan"]

LABELS = "membranes.ome.zarr"
POSITION_SD = "position_sd_nm.ome.zarr"
_GROUP_BYTES = 64 << 20
_GROUP_MEMBRANES = 32
_BLOCK_CHUNKS = (1, 2, 2)
_BASE_BYTES = 48 << 20


def plan(tomogram: Tomogram, spec: SurfaceSpec, chunk_voxels: tuple[int, int, int], bands: Mapping[int, str]) -> Plan:
    """Plan the stage for one tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options.
    chunk_voxels
        Chunk of the output volumes, z, y, x.
    bands
        Number of each membrane and the path of its band, relative to the tomogram's folder: an npz file with the
        arrays ``index``, ``distance``, ``sd``, ``support`` and ``closed`` of `Band`. Membranes without a surface are
        left out.

    Returns
    -------
    dict
        ``labels`` and ``position_sd`` (the volumes' names), ``count`` (largest number), and ``membranes``: for each
        number, as text, ``mesh`` (path, or empty where the band holds no surface), ``vertices``, ``faces``,
        ``band_closed`` and ``voxels`` (in the painted volume).
    """
    geometry = tomogram.known_geometry
    shape = geometry.shape
    block = _block(shape, chunk_voxels)
    groups = _groups(tomogram, bands)
    receipts = yield [
        Unit(
            ("surface-mesh", tomogram.id, number),
            build_group,
            (tomogram.folder, number, tuple((k, bands[k]) for k in group), geometry, block, spec),
            mesh_bytes([tomogram.path(bands[k]).stat().st_size for k in group]),
        )
        for number, group in enumerate(groups)
    ]
    membranes = {number: entry for receipt in receipts for number, entry in receipt.numbers["membranes"].items()}
    count = max((int(number) for number in membranes), default=0)
    dtype = "uint16" if count <= np.iinfo(np.uint16).max else "uint32"
    create_image(tomogram.path(LABELS), geometry, dtype, chunk_voxels, labels=True)
    create_image(tomogram.path(POSITION_SD), geometry, np.float32, chunk_voxels)
    painted = yield _paint_units(tomogram, shape, block, dtype, receipts)
    for number, entry in membranes.items():
        entry["voxels"] = sum(receipt.numbers["voxels"].get(number, 0) for receipt in painted)
    return {"labels": LABELS, "position_sd": POSITION_SD, "count": count, "membranes": membranes}


def _block(shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = (c * min(times, -(-n // c)) for n, c, times in zip(shape, chunk, _BLOCK_CHUNKS, strict=True))
    return z, y, x


def _groups(tomogram: Tomogram, bands: Mapping[int, str]) -> list[list[int]]:
    """Membranes in order, cut into groups of bounded number and size."""
    groups: list[list[int]] = []
    held = 0
    for number in sorted(bands):
        size = tomogram.path(bands[number]).stat().st_size
        if not groups or len(groups[-1]) == _GROUP_MEMBRANES or held + size > _GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(number)
        held += size
    return groups


def mesh_bytes(band_files_bytes: Sequence[int]) -> int:
    """Projected peak of `build_group`: the largest band with its working arrays, and the group's voxels."""
    # A band takes 24 bytes a point in its file; meshing holds about 12 such arrays beside it, voxels 24 bytes twice.
    return _BASE_BYTES + 14 * max(band_files_bytes) + 2 * sum(band_files_bytes)


def paint_bytes(block: tuple[int, int, int], voxels: int) -> int:
    """Projected peak of `paint`: labels and sd of a block, a compressor's copy, and the voxels with their sort."""
    return _BASE_BYTES + 3 * 8 * math.prod(block) + 4 * VOXEL.itemsize * voxels


def _paint_units(
    tomogram: Tomogram,
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    dtype: str,
    receipts: Sequence[Receipt],
) -> list[Unit]:
    units = []
    for number, region in enumerate(blocks(shape, block)):
        touching = [r for r in receipts if str(number) in r.numbers["blocks"]]
        voxels = sum(r.numbers["blocks"][str(number)] for r in touching)
        files = tuple(r.numbers["voxel_file"] for r in touching)
        # Blocks without a membrane are units too: they clear what an earlier run with other options left there.
        arguments = (tomogram.folder, number, region, dtype, files)
        units.append(Unit(("surface-paint", tomogram.id, number), paint, arguments, paint_bytes(block, voxels)))
    return units


def build_group(
    folder: str,
    group: int,
    bands: tuple[tuple[int, str], ...],
    geometry: Geometry,
    block: tuple[int, int, int],
    spec: SurfaceSpec,
) -> Receipt:
    """Mesh the bands of one group and write their voxels, sorted by block."""
    root, voxel_size_nm = Path(folder), geometry.voxel_size_nm
    files: list[str] = []
    membranes: dict[str, Any] = {}
    pieces: dict[int, list[NDArray[np.void]]] = {}
    for number, name in bands:
        band = _load_band(root / name)
        records = voxel_records(band, spec.thickness_nm / voxel_size_nm, voxel_size_nm, number)
        for home, piece in split_by_block(records, geometry.shape, block):
            pieces.setdefault(home, []).append(piece)
        mesh = band_mesh(band)
        path = f"meshes/membrane_{number:04d}.ply" if len(mesh.faces) else ""
        if path:
            _write_mesh(root / path, mesh, geometry, spec)
            files.append(path)
        membranes[str(number)] = {
            "mesh": path,
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
            "band_closed": band.closed,
        }
    voxel_file = f"surface/voxels_{group:04d}.npz"
    joined = {str(home): np.concatenate(parts) for home, parts in sorted(pieces.items())}
    save_npz(root / voxel_file, **joined)
    numbers = {"membranes": membranes, "voxel_file": voxel_file, "blocks": {k: len(v) for k, v in joined.items()}}
    return Receipt((*files, voxel_file), numbers)


def _load_band(path: Path) -> Band:
    arrays = load_npz(path)
    return Band(
        arrays["index"].astype(np.int32, copy=False),
        arrays["distance"].astype(np.float32, copy=False),
        arrays["sd"].astype(np.float32, copy=False),
        arrays["support"].astype(np.float32, copy=False),
        bool(arrays["closed"]),
    )


def _write_mesh(path: Path, mesh: Mesh, geometry: Geometry, spec: SurfaceSpec) -> None:
    positions = vertex_angstrom(mesh.vertices, geometry)
    properties = vertex_properties(mesh, geometry.voxel_size_nm, spec.inferred_beyond_nm)
    comments = ("unit angstrom, origin of the tomogram applied", "seen 1: near segmented voxels, 0: inferred")
    write_ply(path, PlyMesh(positions, mesh.faces, mesh.normals, dict(properties), comments))


def paint(folder: str, number: int, region: Region, dtype: str, voxel_files: tuple[str, ...]) -> Receipt:
    """Paint one block of whole chunks from the voxel files that hold some of it."""
    root = Path(folder)
    parts = [np.zeros(0, VOXEL)]
    for name in voxel_files:
        # Only this block's array is read: members of an npz file load one by one.
        with np.load(root / name, allow_pickle=False) as archive:
            parts.append(archive[str(number)])
    labels, sd_nm = paint_block(np.concatenate(parts), region, dtype)
    files = write_region(root / LABELS, region, labels) + write_region(root / POSITION_SD, region, sd_nm)
    found, counts = np.unique(labels, return_counts=True)
    voxels = {str(k): int(n) for k, n in zip(found.tolist(), counts.tolist(), strict=True) if k}
    relative = tuple(Path(name).relative_to(root.absolute()).as_posix() for name in files)
    return Receipt(relative, {"voxels": voxels})
