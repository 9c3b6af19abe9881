"""Measure stage: meshes in, tables out.

Phase 1, one unit per group of membranes: each mesh is measured, and for every protein the nearest membrane of the
group is found. Phase 2, one unit per group of membranes: distances to others, thickness and the table of vertices,
`cryoscale.measure.vertices.plan`. Phase 3, where there are proteins, one unit per group of membranes:
`cryoscale.measure.proteins.plan`. Phase 4, one unit: the tables (`cryoscale.measure.tables`).

A unit holds two membranes at most, and one row per protein.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import Mesh, band_file
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.parquet import write_parquet
from cryoscale.io.tables import write_csv
from cryoscale.measure.geometry import measure_surface
from cryoscale.measure.near import box_pairs, nearest_surface
from cryoscale.measure.proteins import plan as on_membranes
from cryoscale.measure.proteins.plan import PROTEINS, Located, centres_of
from cryoscale.measure.shape import Membrane, measure_shape
from cryoscale.measure.tables import (
    MEMBRANE_COLUMNS,
    PAIR_COLUMNS,
    PRUNED_COLUMNS,
    THICKNESS_COLUMNS,
    complete,
    pair_rows,
    pruned_rows,
    thickness_rows,
)
from cryoscale.measure.vertices import plan as around_membranes
from cryoscale.measure.vertices.plan import Surroundings, load_membrane
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import MeasureSpec, SurfaceSpec

__all__ = [
    "MEMBRANES", "NEIGHBOURS", "PROTEINS", "PRUNED", "THICKNESS", "expected_units", "measure_group", "plan",
    "write_tables",
]  # fmt: skip

MEMBRANES = "membranes.csv"
MEMBRANES_PARQUET = "membranes.parquet"
NEIGHBOURS = "neighbours.csv"
THICKNESS = "thickness.csv"
PRUNED = "pruned.csv"
_GROUP_MEMBRANES = 16
_BASE_BYTES = 32 << 20
_PROTEIN_BYTES = 256

Row = dict[str, Any]
"""One membrane's line of the table, by column."""


def expected_units(membranes: int, *, proteins: bool) -> int:
    """Return the number of units for so many membranes, none of them so large that it has a unit to itself."""
    groups = -(-membranes // _GROUP_MEMBRANES) - (-membranes // around_membranes.group_membranes(membranes))
    return groups - (-membranes // on_membranes.GROUP_MEMBRANES if proteins else 0) + 1


def plan(
    tomogram: Tomogram,
    spec: MeasureSpec,
    surface_spec: SurfaceSpec,
    *,
    merged: Mapping[str, Any],
    proteins: Mapping[str, Any],
    fitted: Sequence[Mapping[str, Any]],
    surfaces: str = "surface/membranes.json",
    density: str = "",
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
        region k + 1; both may be empty, of meshes that come from no volume.
    fitted
        Of each membrane its ``number``, a ``reason`` where there is no surface, and ``dropped``: how many points
        were left out before the fit, by rule; the fit's file then says where they are.
    surfaces
        What the surface stage made of each membrane: JSON, by number, with ``mesh``, ``voxels``, ``band_closed``.
    density
        The volume of the raw density, for the thickness; empty where there is none.

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
    around = Surroundings(geometry, density, surface_spec.inferred_beyond_nm, spec)
    found = yield around_membranes.units(tomogram, around, _members(rows, meshes, spec.distance_nm))
    surrounded = [row for receipt in found for row in receipt.numbers["rows"]]
    _forget_stale_tables(tomogram, surrounded)
    pairs = pair_rows(rows, surrounded, spec.neighbour_nm)
    groups = load_npz(tomogram.path(str(merged["regions"]))) if merged else {}
    voxels = groups["voxels"].tolist() if merged else []
    # Where values were not kept apart, a region's is that of one of its voxels, and 0 for scores.
    labels = groups["value"].tolist() if merged.get("separate_values") else []
    table = complete(rows, surrounded, pairs, made, fitted, voxels, labels)
    thick = tuple(receipt.numbers["thickness"] for receipt in found if receipt.numbers["thickness"])
    nearest = tuple(receipt.numbers["nearest"] for receipt in receipts if receipt.numbers["nearest"])
    located = Located(geometry, regions, nearest)
    placed = yield on_membranes.units(tomogram, spec, surface_spec.thickness_nm, located, meshes) if regions else []
    names = tuple(receipt.numbers["placed"] for receipt in placed if receipt.numbers["placed"])
    spread = {name: [row for receipt in placed for row in receipt.numbers[name]] for name in ("density", "pairs")}
    pruned = {int(entry["number"]): "reason" not in entry for entry in fitted if "dropped" in entry}
    arguments = (tomogram.folder, tomogram.id, table, pairs, thick, located, names, spread, pruned)
    written = yield [Unit(("measure-tables", tomogram.id, 0), write_tables, arguments, 2 * _BASE_BYTES)]
    return {
        "membranes": len(table),
        "closed": sum(row["closed"] == "closed" for row in table),
        "without_surface": len(table) - len(rows),
        "neighbours": len(pairs),
        "proteins": written[0].numbers["proteins"],
        "tables": list(written[0].files),
    }


def _forget_stale_tables(tomogram: Tomogram, rows: Sequence[Row]) -> None:
    """Remove tables of vertices of an earlier run that found more membranes: no reader could tell them from these."""
    ours = {Path(row["vertices"]).stem for row in rows}
    for path in tomogram.path("vertices").glob("**/membrane_*"):
        if path.stem not in ours:
            path.unlink()


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


def _members(rows: Sequence[Row], meshes: Mapping[int, str], limit_nm: float) -> list[around_membranes.Member]:
    """Return each membrane with those whose boxes come within the limit of its own."""
    low, high = (
        np.array([[row[f"{axis}_{end}_angstrom"] for axis in "zyx"] for row in rows]).reshape(-1, 3)
        for end in ("low", "high")
    )
    near: dict[int, list[int]] = {row["number"]: [] for row in rows}
    # The boxes went through float32 positions: a little wider, the distance itself decides.
    for a, others in box_pairs(low, high, 10 * limit_nm + 1):
        for b in others:
            one, two = rows[a]["number"], rows[b]["number"]
            near[one].append(two)
            near[two].append(one)
    return [(k, meshes[k], tuple((other, meshes[other]) for other in sorted(near[k]))) for k in near]


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
            membrane = load_membrane(root, name, number, geometry, inferred_beyond_nm)
            rows.append(_row(number, name, membrane, geometry, inferred_beyond_nm, believed_closed))
            yield number, membrane.vertices

    centres = centres_of(root, regions)
    centres_nm = (np.array(geometry.origin_angstrom) + centres * np.array(geometry.voxel_size_angstrom)) / 10.0
    distance_nm, nearest = nearest_surface(centres_nm, vertices())
    if not len(centres):
        return Receipt((), {"rows": rows, "nearest": ""})
    name = f"measure/nearest_{index:04d}.npz"
    save_npz(root / name, distance_nm=distance_nm, number=nearest)
    return Receipt((name,), {"rows": rows, "nearest": name})


def _row(
    number: int, name: str, membrane: Membrane, geometry: Geometry, inferred_beyond_nm: float, believed_closed: bool
) -> Row:
    voxels = (10 * membrane.vertices - geometry.origin_angstrom) / geometry.voxel_size_angstrom
    blank, normals = np.zeros(len(voxels), np.float32), membrane.normals.astype(np.float32)
    sd, support = (blank if values is None else values.astype(np.float32) for values in (membrane.sd, membrane.support))
    found = measure_surface(
        Mesh(voxels.astype(np.float32), membrane.faces.astype(np.int32), normals, sd, support),
        shape=geometry.shape,
        voxel_size_angstrom=geometry.voxel_size_angstrom,
        origin_angstrom=geometry.origin_angstrom,
        inferred_beyond_nm=inferred_beyond_nm,
        believed_closed=believed_closed,
        fitted=membrane.sd is not None,
    )
    measures = dataclasses.asdict(found) | measure_shape(membrane, found.enclosed_volume_nm3)
    low, high = measures.pop("low_angstrom"), measures.pop("high_angstrom")
    closed = "closed" if measures.pop("closed") else "open"
    box = {f"{axis}_low_angstrom": value for axis, value in zip("zyx", low, strict=True)}
    box |= {f"{axis}_high_angstrom": value for axis, value in zip("zyx", high, strict=True)}
    return {"number": number, "closed": closed, **measures, **box, "mesh": name}


def write_tables(
    folder: str,
    name: str,
    table: list[Row],
    pairs: list[Row],
    thick: tuple[str, ...],
    located: Located,
    placed: tuple[str, ...],
    spread: Mapping[str, Any],
    pruned: Mapping[int, bool],
) -> Receipt:
    """Write the tables of one tomogram."""
    root, files = Path(folder), [MEMBRANES, MEMBRANES_PARQUET, NEIGHBOURS]
    write_csv(root / MEMBRANES, MEMBRANE_COLUMNS, ([row.get(column) for column in MEMBRANE_COLUMNS] for row in table))
    write_parquet(root / MEMBRANES_PARQUET, {name: [row.get(name) for row in table] for name in MEMBRANE_COLUMNS})
    write_csv(root / NEIGHBOURS, PAIR_COLUMNS, ([row.get(column) for column in PAIR_COLUMNS] for row in pairs))
    if thick:
        parts = (load_npz(root / part) for part in thick)
        write_csv(root / THICKNESS, THICKNESS_COLUMNS, thickness_rows(parts))
        files.append(THICKNESS)
    if pruned:
        fitted = [number for number, kept in sorted(pruned.items()) if kept]
        fits = ((k, load_npz(root / band_file(k), "pruned_places", "pruned_rules")) for k in fitted)
        write_csv(root / PRUNED, PRUNED_COLUMNS, pruned_rows(fits, located.geometry))
        files.append(PRUNED)
    if not located.regions:
        return Receipt(tuple(files), {"proteins": 0})
    files += on_membranes.write(folder, name, located, placed, spread)
    return Receipt(tuple(files), {"proteins": len(centres_of(root, located.regions))})
