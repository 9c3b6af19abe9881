"""Measure stage: meshes in, tables out.

Phase 1, one unit per group of membranes: each mesh is measured, and for every protein the nearest membrane of the
group is found. Phase 2, one unit per group of pairs whose boxes come near: the smallest distance. Phase 3, where there
are proteins, one unit per group of membranes: `cryoscale.measure.proteins.plan`. Phase 4, one unit: ``membranes.csv``,
``neighbours.csv`` and the proteins' tables.

A unit holds the meshes of two membranes at most, and one row per protein.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Mesh
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.meshes import read_ply
from cryoscale.io.tables import write_csv
from cryoscale.measure.geometry import measure_surface
from cryoscale.measure.near import box_pairs, nearest_surface, smallest_distance
from cryoscale.measure.proteins import plan as on_membranes
from cryoscale.measure.proteins.plan import PROTEINS, Located, centres_of
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import MeasureSpec, SurfaceSpec

__all__ = ["MEMBRANES", "NEIGHBOURS", "PROTEINS", "measure_group", "neighbour_group", "plan", "write_tables"]

MEMBRANES = "membranes.csv"
NEIGHBOURS = "neighbours.csv"
_GROUP_MEMBRANES = 16
_GROUP_PAIRS = 64
_BASE_BYTES = 32 << 20
_PROTEIN_BYTES = 256

_NO_POINTS: NDArray[np.floating] = np.zeros((0, 3))

Row = dict[str, Any]
"""One membrane's line of the table, by column."""


def plan(
    tomogram: Tomogram,
    spec: MeasureSpec,
    surface_spec: SurfaceSpec,
    *,
    merged: Mapping[str, Any],
    proteins: Mapping[str, Any],
    fitted: Sequence[Mapping[str, Any]],
    surfaces: str = "surface/membranes.json",
) -> Plan:
    """Plan the stage for one tomogram.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec, surface_spec
        Options; of the surface stage, from where on a surface is inferred.
    merged, proteins
        Summaries whose ``regions`` names a table (.npz) with ``voxels`` (n,) and ``coordinate_sum`` (n, 3), row k for
        region k + 1; `proteins` may be empty.
    fitted
        Of each membrane its ``number``, and a ``reason`` where there is no surface.
    surfaces
        What the surface stage made of each membrane: JSON, by number, with ``mesh``, ``voxels``, ``band_closed``.

    Returns
    -------
    dict
        Counts: ``membranes`` (rows), ``closed``, ``without_surface``, ``neighbours`` (pairs), ``proteins``; and
        ``tables``, the files.
    """
    geometry = tomogram.known_geometry
    made = {int(k): v for k, v in json.loads(tomogram.path(surfaces).read_text(encoding="utf-8")).items()}
    meshes = {number: str(made[number]["mesh"]) for number in sorted(made) if made[number]["mesh"]}
    regions = str(proteins.get("regions", ""))
    receipts = yield _measure_units(tomogram, geometry, surface_spec, made, meshes, regions)
    rows = [row for receipt in receipts for row in receipt.numbers["rows"]]
    found = yield _neighbour_units(tomogram, spec, rows, meshes)
    pairs = [pair for receipt in found for pair in receipt.numbers["pairs"]]
    table = _complete(rows, pairs, made, fitted, load_npz(tomogram.path(str(merged["regions"])))["voxels"])
    nearest = tuple(receipt.numbers["nearest"] for receipt in receipts if receipt.numbers["nearest"])
    located = Located(geometry, regions, nearest)
    placed = yield on_membranes.units(tomogram, spec, surface_spec.thickness_nm, located, meshes) if regions else []
    names = tuple(receipt.numbers["placed"] for receipt in placed if receipt.numbers["placed"])
    spread = {name: [row for receipt in placed for row in receipt.numbers[name]] for name in ("density", "pairs")}
    arguments = (tomogram.folder, tomogram.id, table, pairs, located, names, spread)
    written = yield [Unit(("measure-tables", tomogram.id, 0), write_tables, arguments, 2 * _BASE_BYTES)]
    return {
        "membranes": len(table),
        "closed": sum(row["closed"] == "closed" for row in table),
        "without_surface": len(table) - len(rows),
        "neighbours": len(pairs),
        "proteins": written[0].numbers["proteins"],
        "tables": list(written[0].files),
    }


def _measure_units(
    tomogram: Tomogram,
    geometry: Geometry,
    spec: SurfaceSpec,
    made: Mapping[int, Mapping[str, Any]],
    meshes: Mapping[int, str],
    regions: str,
) -> list[Unit]:
    units = []
    numbers = list(meshes)
    for index, start in enumerate(range(0, len(numbers), _GROUP_MEMBRANES)):
        members = tuple((k, meshes[k], bool(made[k]["band_closed"])) for k in numbers[start : start + _GROUP_MEMBRANES])
        arguments = (tomogram.folder, index, members, geometry, spec.inferred_beyond_nm, regions)
        size = mesh_bytes([tomogram.path(mesh).stat().st_size for _, mesh, _ in members])
        size += _PROTEIN_BYTES * tomogram.path(regions).stat().st_size // 96 if regions else 0
        units.append(Unit(("measure-surface", tomogram.id, index), measure_group, arguments, size))
    return units


def mesh_bytes(mesh_files_bytes: Sequence[int]) -> int:
    """Projected peak of the units that read meshes: a few times the largest file, for edges and trees."""
    return _BASE_BYTES + 12 * max(mesh_files_bytes)


def _neighbour_units(
    tomogram: Tomogram, spec: MeasureSpec, rows: Sequence[Row], meshes: Mapping[int, str]
) -> list[Unit]:
    low, high = (
        np.array([[row[f"{axis}_{end}_angstrom"] for axis in "zyx"] for row in rows]).reshape(-1, 3)
        for end in ("low", "high")
    )
    # The boxes went through float32 positions: a little wider, the distance itself decides.
    near = box_pairs(low, high, 10 * spec.neighbour_nm + 1)
    flat = [(rows[a]["number"], rows[b]["number"]) for a, others in near for b in others]
    units = []
    for index, start in enumerate(range(0, len(flat), _GROUP_PAIRS)):
        pairs = tuple((a, meshes[a], b, meshes[b]) for a, b in flat[start : start + _GROUP_PAIRS])
        size = mesh_bytes([tomogram.path(name).stat().st_size for _, a, _, b in pairs for name in (a, b)])
        arguments = (tomogram.folder, pairs, spec.neighbour_nm)
        units.append(Unit(("measure-neighbours", tomogram.id, index), neighbour_group, arguments, size))
    return units


def _complete(
    rows: Sequence[Row],
    pairs: Sequence[tuple[int, int, float]],
    made: Mapping[int, Mapping[str, Any]],
    fitted: Sequence[Mapping[str, Any]],
    region_voxels: NDArray[np.int64],
) -> list[Row]:
    """One row per membrane of the merge, with its neighbours, or the reason why it has no surface."""
    by_number = {row["number"]: row for row in rows}
    reasons = {int(entry["number"]): str(entry.get("reason", "the surface lies outside its band")) for entry in fitted}
    near: dict[int, list[tuple[int, float]]] = {}
    for a, b, distance in pairs:
        near.setdefault(a, []).append((b, distance))
        near.setdefault(b, []).append((a, distance))
    table = []
    for number, segmented in enumerate(region_voxels.tolist(), 1):
        row = by_number.get(number)
        if row is None:
            reason = reasons.get(number, "not fitted")
            row = {"number": number, "closed": "no surface", "not_closed_reason": f"no surface: {reason}"}
        neighbours = "; ".join(f"{other} at {distance:.1f} nm" for other, distance in sorted(near.get(number, [])))
        voxels = int(made.get(number, {}).get("voxels", 0))
        table.append(row | {"segmented_voxels": segmented, "voxels": voxels, "neighbours": neighbours})
    return table


# --------------------------------------------------------------------------------------------------- what workers do


def measure_group(
    folder: str,
    index: int,
    members: tuple[tuple[int, str, bool], ...],
    geometry: Geometry,
    inferred_beyond_nm: float,
    regions: str,
) -> Receipt:
    """Measure the meshes of one group, and find which is nearest to each protein."""
    root, rows = Path(folder), list[Row]()

    def vertices() -> Iterator[tuple[int, NDArray[np.floating]]]:
        for number, name, believed_closed in members:
            mesh, angstrom = _load_mesh(root / name, geometry)
            measures = measure_surface(
                mesh,
                shape=geometry.shape,
                voxel_size_angstrom=geometry.voxel_size_angstrom,
                origin_angstrom=geometry.origin_angstrom,
                inferred_beyond_nm=inferred_beyond_nm,
                believed_closed=believed_closed,
            )
            rows.append(_row(number, name, dataclasses.asdict(measures)))
            yield number, angstrom / 10.0

    centres = centres_of(root, regions)
    centres_nm = (np.array(geometry.origin_angstrom) + centres * np.array(geometry.voxel_size_angstrom)) / 10.0
    distance_nm, nearest = nearest_surface(centres_nm, vertices())
    if not len(centres):
        return Receipt((), {"rows": rows, "nearest": ""})
    name = f"measure/nearest_{index:04d}.npz"
    save_npz(root / name, distance_nm=distance_nm, number=nearest)
    return Receipt((name,), {"rows": rows, "nearest": name})


def _load_mesh(path: Path, geometry: Geometry) -> tuple[Mesh, NDArray[np.floating]]:
    """Mesh with vertices in voxels and sd and support in nm, and its vertices in ångström, z, y, x."""
    ply = read_ply(path)
    voxels = (ply.vertices - np.array(geometry.origin_angstrom)) / np.array(geometry.voxel_size_angstrom)
    normals = np.zeros_like(ply.vertices) if ply.normals is None else ply.normals
    sd_nm, support_nm = (ply.properties[name].astype(np.float32) for name in ("sd_nm", "support_nm"))
    mesh = Mesh(voxels.astype(np.float32), ply.faces, normals.astype(np.float32), sd_nm, support_nm)
    return mesh, ply.vertices


def _row(number: int, mesh: str, measures: Row) -> Row:
    low, high = measures.pop("low_angstrom"), measures.pop("high_angstrom")
    closed = "closed" if measures.pop("closed") else "open"
    box = {f"{axis}_low_angstrom": value for axis, value in zip("zyx", low, strict=True)}
    box |= {f"{axis}_high_angstrom": value for axis, value in zip("zyx", high, strict=True)}
    return {"number": number, "closed": closed, **measures, **box, "mesh": mesh}


def neighbour_group(folder: str, pairs: tuple[tuple[int, str, int, str], ...], limit_nm: float) -> Receipt:
    """Find the smallest distance of each pair; those within the limit are neighbours."""
    root, found = Path(folder), []
    held, first = "", _NO_POINTS
    for a, mesh_a, b, mesh_b in pairs:
        if mesh_a != held:
            held, first = mesh_a, read_ply(root / mesh_a).vertices / 10.0
        distance = smallest_distance(first, read_ply(root / mesh_b).vertices / 10.0, limit_nm)
        if distance is not None:
            found.append((a, b, distance))
    return Receipt((), {"pairs": found})


_COLUMNS = (
    "number",
    "closed",
    "not_closed_reason",
    "segmented_voxels",
    "voxels",
    "area_nm2",
    "enclosed_volume_nm3",
    "sphericity",
    "euler_number",
    "pieces",
    "fraction_inferred",
    "mean_sd_nm",
    "max_sd_nm",
    *(f"{axis}_{end}_angstrom" for end in ("low", "high") for axis in "zyx"),
    "neighbours",
    "mesh",
)


def write_tables(
    folder: str,
    name: str,
    table: list[Row],
    pairs: list[tuple[int, int, float]],
    located: Located,
    placed: tuple[str, ...],
    spread: Mapping[str, Any],
) -> Receipt:
    """Write the tables of one tomogram."""
    root = Path(folder)
    write_csv(root / MEMBRANES, _COLUMNS, ([row.get(column) for column in _COLUMNS] for row in table))
    write_csv(root / NEIGHBOURS, ("membrane", "neighbour", "distance_nm"), sorted(pairs))
    if not located.regions:
        return Receipt((MEMBRANES, NEIGHBOURS), {"proteins": 0})
    files = on_membranes.write(folder, name, located, placed, spread)
    return Receipt((MEMBRANES, NEIGHBOURS, *files), {"proteins": len(centres_of(root, located.regions))})
