"""Proteins in the measure stage: centres and nearest membranes in, tables and STAR files out.

One unit per group of membranes places the proteins that are nearest to each of them; the tables are written with the
others of the stage. A unit holds one mesh and a few numbers per protein and random point.

==================== =================================================================================
proteins.csv         one row per protein: centre, radius, membrane, distance, side, normal, neighbour
protein_density.csv  one row per membrane that is nearest to any: how many are on it, per area, their distance
protein_pairs.csv    one row per membrane and radius: pairs seen, by chance, and how far chance strays
proteins_*.star      for RELION 5, RELION 4 and Warp (`cryoscale.io.star`)
==================== =================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import mesh_boundary_edges
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.meshes import read_ply
from cryoscale.io.star import Oriented, relion4_columns, relion5_columns, warp_columns, write_star
from cryoscale.io.tables import write_csv
from cryoscale.measure.proteins.orientation import euler_angles
from cryoscale.measure.proteins.place import Spread, ball_radius, place, spread
from cryoscale.records import Geometry, Receipt, Tomogram, Unit
from cryoscale.spec import MeasureSpec

__all__ = ["PROTEINS", "centres_of", "place_group", "units", "write"]

PROTEINS = "proteins.csv"
DENSITY, PAIRS = "protein_density.csv", "protein_pairs.csv"
STARS = ("proteins_relion5.star", "proteins_relion4.star", "proteins_warp.star")
GROUP_MEMBRANES = 4
_RADII = 10
_PAIR_BYTES = 64 << 20
_PROTEIN_BYTES = 2048
_SIDES = {(True, True): "outside", (True, False): "inside", (False, True): "front", (False, False): "back"}
"""By whether the surface is closed and the protein is on the side of its normals."""


@dataclass(frozen=True)
class Located:
    """What is known of the proteins before they are placed."""

    geometry: Geometry
    regions: str
    """Table of the components, an npz."""
    nearest: tuple[str, ...]
    """Of each group of membranes, which of them is nearest to each protein."""


def centres_of(root: Path, regions: str) -> NDArray[np.float64]:
    """(n, 3) centres z, y, x of the regions of a table, in voxels; none where there is no table."""
    if not regions:
        return np.zeros((0, 3))
    table = load_npz(root / regions)
    centres: NDArray[np.float64] = table["coordinate_sum"].reshape(-1, 3) / table["voxels"][:, None]
    return centres


def units(
    tomogram: Tomogram, spec: MeasureSpec, thickness_nm: float, located: Located, meshes: Mapping[int, str]
) -> list[Unit]:
    """Return the units that place proteins on the given meshes, by number."""
    numbers = list(meshes)
    made = []
    for index, start in enumerate(range(0, len(numbers), GROUP_MEMBRANES)):
        members = tuple((number, meshes[number]) for number in numbers[start : start + GROUP_MEMBRANES])
        arguments = (tomogram.folder, index, members, located, spec, thickness_nm)
        size = _PAIR_BYTES + 24 * max(tomogram.path(name).stat().st_size for _, name in members)
        size += _PROTEIN_BYTES * (tomogram.path(located.regions).stat().st_size // 96)
        made.append(Unit(("measure-proteins", tomogram.id, index), place_group, arguments, size))
    return made


def place_group(
    folder: str,
    index: int,
    members: tuple[tuple[int, str], ...],
    located: Located,
    spec: MeasureSpec,
    thickness_nm: float,
) -> Receipt:
    """Place the proteins that are nearest to the membranes of one group."""
    root = Path(folder)
    centres_nm, radii_nm = _in_nm(root, located)
    owner = _nearest(root, located, len(centres_nm))
    density, pairs, parts = [], [], []
    for number, name in members:
        rows = np.flatnonzero(owner == number)
        if not len(rows):
            continue
        part, found = _place_one(root / name, centres_nm[rows], radii_nm[rows], spec, thickness_nm, number)
        density.append(_density_row(number, int(part["on"].sum()), found))
        pairs += _pair_rows(number, found)
        # Neighbours are counted among this membrane's proteins, the table among all.
        part["neighbour"] = np.where(part["neighbour"] >= 0, rows[part["neighbour"]] + 1, 0)
        parts.append({"row": rows, **part})
    if not parts:
        return Receipt((), {"density": [], "pairs": [], "placed": ""})
    file = f"measure/placed_{index:04d}.npz"
    save_npz(root / file, **{column: np.concatenate([part[column] for part in parts]) for column in parts[0]})
    return Receipt((file,), {"density": density, "pairs": pairs, "placed": file})


def _place_one(
    path: Path,
    centres_nm: NDArray[np.float64],
    radii_nm: NDArray[np.float64],
    spec: MeasureSpec,
    thickness_nm: float,
    number: int,
) -> tuple[dict[str, NDArray[Any]], Spread]:
    """Place the proteins of one membrane: columns by protein, and how those on it are spread."""
    mesh = read_ply(path)
    assert mesh.normals is not None, path
    vertices_nm = mesh.vertices.astype(np.float64) / 10.0
    placed = place(centres_nm, radii_nm, vertices_nm, mesh.faces, mesh.normals, thickness=thickness_nm)
    steps = [spec.pattern_nm * (k + 1) / _RADII for k in range(_RADII)]
    simulations, seed = spec.pattern_simulations, (spec.seed, number)
    found = spread(placed, vertices_nm, mesh.faces, steps, simulations=simulations, seed=seed)
    on = np.flatnonzero(placed.on)
    neighbour, along = np.full(len(centres_nm), -1), np.full(len(centres_nm), np.nan)
    known = found.other >= 0
    neighbour[on[known]], along[on[known]] = on[found.other[known]], found.nearest[known]
    columns = {
        "distance_nm": placed.feet.distance,
        "normal": placed.normal,
        "outside": placed.outside,
        "on": placed.on,
        "closed": np.full(len(centres_nm), not len(mesh_boundary_edges(mesh.faces))),
        "neighbour": neighbour,
        "along_nm": along,
    }
    return columns, found


def _in_nm(root: Path, located: Located) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres with the tomogram's origin, and radii."""
    voxel = np.array(located.geometry.voxel_size_angstrom)
    centres = np.array(located.geometry.origin_angstrom) + centres_of(root, located.regions) * voxel
    voxels = load_npz(root / located.regions)["voxels"]
    return centres / 10.0, ball_radius(voxels * voxel.prod() / 1000.0)


def _nearest(root: Path, located: Located, count: int) -> NDArray[np.int64]:
    """(n,) number of the membrane nearest to each protein, 0 where there is none."""
    distance_nm, number = np.full(count, np.inf), np.zeros(count, np.int64)
    for file in located.nearest:
        found = load_npz(root / file)
        # Groups come in the order of their numbers, so that equally near ones keep the smaller.
        better = found["distance_nm"] < distance_nm
        distance_nm[better], number[better] = found["distance_nm"][better], found["number"][better]
    return number


def _density_row(number: int, count: int, found: Spread) -> list[Any]:
    known = found.nearest[np.isfinite(found.nearest)]
    mean = float(known.mean()) if len(known) else None
    return [number, count, found.area, 1e6 * count / found.area if found.area else None, mean]


def _pair_rows(number: int, found: Spread) -> list[list[Any]]:
    if found.pairs is None:
        return []
    columns = (found.pairs.radius, found.pairs.pairs, found.pairs.expected, found.pairs.ratio)
    rows = zip(*(column.tolist() for column in (*columns, found.pairs.low, found.pairs.high)), strict=True)
    # NaN, where nothing is expected, becomes an empty cell.
    return [
        [number, radius, seen, expected, ratio, radius * math.sqrt(ratio) if ratio >= 0 else None, low, high]
        for radius, seen, expected, ratio, low, high in rows
    ]


_COLUMNS = (
    "number",
    "voxels",
    "radius_nm",
    *(f"{axis}_voxel" for axis in "zyx"),
    *(f"{axis}_angstrom" for axis in "zyx"),
    "nearest_membrane",
    "distance_nm",
    "on_membrane",
    "side",
    *(f"normal_{axis}" for axis in "zyx"),
    "neighbour",
    "neighbour_along_surface_nm",
)
_DENSITY_COLUMNS = (
    "membrane",
    "proteins",
    "area_nm2",
    "proteins_per_um2",
    "mean_neighbour_along_surface_nm",
)
_PAIR_COLUMNS = (
    "membrane",
    "radius_along_surface_nm",
    "pairs",
    "pairs_by_chance",
    "ratio",
    "ripley_l_nm",
    "ratio_chance_low",
    "ratio_chance_high",
)


def write(folder: str, name: str, located: Located, placed: Sequence[str], rows: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the tables and STAR files of one tomogram, and return their names."""
    root, geometry = Path(folder), located.geometry
    centres = centres_of(root, located.regions)
    centres_nm, radii_nm = _in_nm(root, located)
    number = _nearest(root, located, len(centres))
    where = _gather(root, placed, len(centres))
    voxels = load_npz(root / located.regions)["voxels"]

    def lines() -> Iterator[tuple[Any, ...]]:
        for k in range(len(centres)):
            start = (k + 1, voxels[k], radii_nm[k], *centres[k], *(10 * centres_nm[k]))
            if not number[k]:
                yield (*start, None, None, False, "", None, None, None, None, None)
                continue
            side = _SIDES[bool(where["closed"][k]), bool(where["outside"][k])]
            other = int(where["neighbour"][k]) or None
            yield (
                *start, number[k], where["distance_nm"][k], bool(where["on"][k]), side, *where["normal"][k],
                other, where["along_nm"][k],
            )  # fmt: skip

    write_csv(root / PROTEINS, _COLUMNS, lines())
    write_csv(root / DENSITY, _DENSITY_COLUMNS, rows["density"])
    write_csv(root / PAIRS, _PAIR_COLUMNS, rows["pairs"])
    particles = Oriented(centres, euler_angles(where["normal"]), where["on"])
    columns = (
        relion5_columns(name, particles, geometry), relion4_columns(name, particles), warp_columns(name, particles)
    )  # fmt: skip
    for file, table in zip(STARS, columns, strict=True):
        write_star(root / file, table)
    return PROTEINS, DENSITY, PAIRS, *STARS


def _gather(root: Path, placed: Sequence[str], count: int) -> dict[str, NDArray[Any]]:
    """Columns over all proteins of what the groups found; normals of those without a membrane are along z."""
    whole: dict[str, NDArray[Any]] = {
        "distance_nm": np.full(count, np.nan),
        "normal": np.tile([1.0, 0.0, 0.0], (count, 1)),
        "outside": np.zeros(count, bool),
        "on": np.zeros(count, bool),
        "closed": np.zeros(count, bool),
        "neighbour": np.zeros(count, np.int64),
        "along_nm": np.full(count, np.nan),
    }
    for file in placed:
        part = load_npz(root / file)
        for column, values in whole.items():
            values[part["row"]] = part[column]
    return whole
