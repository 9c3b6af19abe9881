"""Surface stage: bands in, meshes and three volumes out.

Phase 1, one unit per group of membranes: each band becomes a mesh (``meshes/membrane_0001.ply``) and the voxels of a
membrane of uniform thickness; the group's voxels go into one file, one array per output block.
Phase 2, one unit per block of whole chunks: the voxels of all groups that touch the block are painted into
``membranes.ome.zarr`` (labels, the numbers of the merge), ``position_sd_nm.ome.zarr`` (how sure the surface is) and
``support_nm.ome.zarr`` (how far it is from the nearest voxel that was seen). Both are 0 where no membrane is; 0 is a
distance too, so it is the labels that say where one is.
Phase 3, one unit: what was made of each membrane goes into ``surface/membranes.json``, for the stages after this.

No phase holds more than one group of voxels or one block at a time, whatever the size of the tomogram.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Band, Mesh, band_file, band_mesh
from cryoscale.chunks import Region, blocks
from cryoscale.io.files import load_npz, save_npz, write_text
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit, numbered
from cryoscale.spec import SurfaceSpec
from cryoscale.surface.mesh import vertex_angstrom, vertex_curvature, vertex_properties
from cryoscale.surface.voxels import VOXEL, paint_block, split_by_block, voxel_records

__all__ = [
    "LABELS",
    "POSITION_SD",
    "SUPPORT",
    "TABLE",
    "build_group",
    "expected_units",
    "export_mrc",
    "mesh_bytes",
    "paint",
    "paint_bytes",
    "plan",
    "write_table",
]

LABELS = "membranes.ome.zarr"
POSITION_SD = "position_sd_nm.ome.zarr"
SUPPORT = "support_nm.ome.zarr"
TABLE = "surface/membranes.json"
_GROUP_BYTES = 64 << 20
_GROUP_MEMBRANES = 32
_BLOCK_CHUNKS = (2, 4, 4)
_BASE_BYTES = 48 << 20
_PLACE_BYTES = 24
"""Of a place of a band in its file: where it is, distance, sd, support."""


def plan(
    tomogram: Tomogram, spec: SurfaceSpec, chunk_voxels: tuple[int, int, int], *, fitted: Sequence[Mapping[str, Any]]
) -> Plan:
    """Plan the stage for one tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options.
    chunk_voxels
        Chunk of the output volumes, z, y, x.
    fitted
        Of each membrane its ``number``, and a ``reason`` where there is no surface. The others have a band in
        ``fits/<number>.npz`` (`band_file`): the arrays ``index``, ``distance``, ``sd``, ``support``, ``closed``, and
        ``bend_places`` and ``bend``, curvatures along the surface.

    Returns
    -------
    dict
        ``labels``, ``position_sd`` and ``support`` (the volumes' names), ``mrc`` (the labels as one file), ``count``
        (largest number), ``table`` (path), and its content ``membranes``: for each number, as text, ``mesh`` (path, or
        empty where the band holds no surface), ``vertices``, ``faces``, ``band_closed`` and ``voxels`` (in the painted
        volume).
    """
    geometry = tomogram.known_geometry
    block = block_voxels(geometry.shape, chunk_voxels)
    numbers = sorted(int(entry["number"]) for entry in fitted if "reason" not in entry)
    sizes = {number: tomogram.path(band_file(number)).stat().st_size for number in numbers}
    receipts = yield [
        Unit(
            ("surface-mesh", tomogram.id, index),
            build_group,
            (tomogram.folder, index, group, geometry, block, spec),
            mesh_bytes([sizes[number] for number in group]),
        )
        for index, group in enumerate(_groups(sizes))
    ]
    _forget_stale_meshes(tomogram, receipts)
    membranes = {number: dict(entry) for receipt in receipts for number, entry in receipt.numbers["membranes"].items()}
    count = max(numbers, default=0)
    dtype = "uint16" if count <= np.iinfo(np.uint16).max else "uint32"
    create_image(tomogram.path(LABELS), geometry, dtype, chunk_voxels, shards=block, labels=True)
    for name in (POSITION_SD, SUPPORT):
        create_image(tomogram.path(name), geometry, np.float32, chunk_voxels, shards=block)
    painted = yield _paint_units(tomogram, geometry.shape, block, dtype, receipts)
    for number, entry in membranes.items():
        entry["voxels"] = sum(receipt.numbers["voxels"].get(number, 0) for receipt in painted)
    mrc = f"{tomogram.id}__membranes.mrc"
    slab_bytes = 8 * chunk_voxels[0] * geometry.shape[1] * geometry.shape[2]
    exported = (tomogram.folder, mrc, geometry, chunk_voxels[0], count)
    yield [
        Unit(("surface-table", tomogram.id, 0), write_table, (tomogram.folder, membranes), _BASE_BYTES),
        Unit(("surface-mrc", tomogram.id, 0), export_mrc, exported, _BASE_BYTES + slab_bytes),
    ]
    return {
        "labels": LABELS,
        "mrc": mrc,
        "position_sd": POSITION_SD,
        "support": SUPPORT,
        "count": count,
        "table": TABLE,
        "membranes": membranes,
    }


def block_voxels(shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = (c * min(times, -(-n // c)) for n, c, times in zip(shape, chunk, _BLOCK_CHUNKS, strict=True))
    return z, y, x


def _forget_stale_meshes(tomogram: Tomogram, receipts: Sequence[Receipt]) -> None:
    """Remove meshes of an earlier run that found more membranes: no reader could tell them from this run's."""
    ours = {name for receipt in receipts for name in receipt.files}
    for path in tomogram.path("meshes").glob("**/membrane_*.ply"):
        if path.relative_to(tomogram.folder).as_posix() not in ours:
            path.unlink()


def expected_units(
    shape: tuple[int, int, int], chunk_voxels: tuple[int, int, int], bands_bytes: Sequence[int], membrane_share: float
) -> tuple[int, int]:
    """Return how many units membranes with such bands would take, and the memory of the largest.

    Parameters
    ----------
    shape, chunk_voxels
        Voxels of the volume and of a chunk, z, y, x.
    bands_bytes
        Size of each membrane's band.
    membrane_share
        Of the voxels of a block.
    """
    block, sizes = block_voxels(shape, chunk_voxels), dict(enumerate(bands_bytes))
    meshed = [mesh_bytes([sizes[number] for number in group]) for group in _groups(sizes)]
    painted = paint_bytes(block, int(math.prod(block) * membrane_share))
    return len(meshed) + len(blocks(shape, block)) + 2, max(painted, *meshed)


def _groups(sizes: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Membranes in order, cut into groups of bounded number and size."""
    groups: list[list[int]] = []
    held = 0
    for number, size in sizes.items():
        if not groups or len(groups[-1]) == _GROUP_MEMBRANES or held + size > _GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(number)
        held += size
    return [tuple(group) for group in groups]


def mesh_bytes(band_files_bytes: Sequence[int]) -> int:
    """Projected peak of `build_group`: the largest band with its working arrays, and the group's voxels."""
    # Meshing holds about 12 arrays of the band's size beside it; the voxels are records, held twice.
    voxels_bytes = sum(band_files_bytes) * VOXEL.itemsize // _PLACE_BYTES
    return _BASE_BYTES + 14 * max(band_files_bytes) + 2 * voxels_bytes


def paint_bytes(block: tuple[int, int, int], voxels: int) -> int:
    """Projected peak of `paint`: three volumes of a block, a compressor's copies of one, the voxels with their sort."""
    return _BASE_BYTES + (12 + 16) * math.prod(block) + 4 * VOXEL.itemsize * voxels


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
    numbers: tuple[int, ...],
    geometry: Geometry,
    block: tuple[int, int, int],
    spec: SurfaceSpec,
) -> Receipt:
    """Mesh the bands of one group and write their voxels, sorted by block."""
    root, voxel_size_nm = Path(folder), geometry.voxel_size_nm
    files: list[str] = []
    membranes: dict[str, Any] = {}
    pieces: dict[int, list[NDArray[np.void]]] = {}
    for number in numbers:
        fit = load_npz(root / band_file(number))
        band = _band_of(fit)
        records = voxel_records(band, spec.thickness_nm / voxel_size_nm, voxel_size_nm, number)
        for home, piece in split_by_block(records, geometry.shape, block):
            pieces.setdefault(home, []).append(piece)
        mesh = band_mesh(band)
        path = numbered("meshes", number, f"membrane_{number:04d}.ply") if len(mesh.faces) else ""
        if path:
            _write_mesh(root / path, mesh, fit, geometry, spec)
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
    sizes = {home: len(voxels) for home, voxels in joined.items()}
    return Receipt((*files, voxel_file), {"membranes": membranes, "voxel_file": voxel_file, "blocks": sizes})


def _band_of(arrays: Mapping[str, NDArray[Any]]) -> Band:
    return Band(
        arrays["index"].astype(np.int32, copy=False),
        arrays["distance"].astype(np.float32, copy=False),
        arrays["sd"].astype(np.float32, copy=False),
        arrays["support"].astype(np.float32, copy=False),
        bool(arrays["closed"]),
    )


def _write_mesh(path: Path, mesh: Mesh, fit: Mapping[str, NDArray[Any]], geometry: Geometry, spec: SurfaceSpec) -> None:
    positions = vertex_angstrom(mesh.vertices, geometry)
    properties = vertex_properties(mesh, geometry.voxel_size_nm, spec.inferred_beyond_nm)
    properties |= vertex_curvature(mesh.vertices, fit["bend_places"], fit["bend"], geometry.voxel_size_nm)
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
    painted = paint_block(np.concatenate(parts), region, dtype)
    volumes = zip((LABELS, POSITION_SD, SUPPORT), painted, strict=True)
    files = [path for name, values in volumes for path in write_region(root / name, region, values)]
    found, counts = np.unique(painted[0], return_counts=True)
    voxels = {str(k): int(n) for k, n in zip(found.tolist(), counts.tolist(), strict=True) if k}
    relative = tuple(Path(name).relative_to(root.absolute()).as_posix() for name in files)
    return Receipt(relative, {"voxels": voxels})


def export_mrc(folder: str, name: str, geometry: Geometry, depth: int, count: int) -> Receipt:
    """Write the labels as MRC too, slab by slab, for programs that read no Zarr."""
    root = Path(folder)
    # Signed 16 bits open everywhere; MRC has no 32-bit integers.
    dtype = np.int16 if count <= np.iinfo(np.int16).max else np.float32
    slabs = (
        read_region(root / LABELS, region).astype(dtype)
        for region in blocks(geometry.shape, (depth, *geometry.shape[1:]))
    )
    write_mrc(root / name, slabs, geometry.voxel_size_angstrom, geometry.origin_angstrom, dtype)
    return Receipt((name,))


def write_table(folder: str, membranes: dict[str, Any]) -> Receipt:
    """Write what was made of each membrane."""
    write_text(Path(folder) / TABLE, json.dumps(membranes, indent=1))
    return Receipt((TABLE,))
