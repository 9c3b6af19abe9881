"""One unit per few membranes: what is near each vertex, how thick the membrane is there, and the table of vertices.

A unit holds one membrane with its columns, and beside it one other membrane, or one block of the density, at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.band import band_file
from cryoscale.chunks import Region
from cryoscale.io.files import save_npz
from cryoscale.io.meshes import read_ply
from cryoscale.io.omezarr import read_region
from cryoscale.io.parquet import write_parquet
from cryoscale.io.tables import write_csv
from cryoscale.measure.bend import mesh_curvature, vertex_normals
from cryoscale.measure.contact import Contacts, Other, find_contacts, pair_errors, weighted_quantile
from cryoscale.measure.errors import Sites
from cryoscale.measure.shape import Membrane, beam_angle_degrees, vertex_areas
from cryoscale.measure.thickness import Thickness, geodesic_patches, measure_thickness, profiles_at
from cryoscale.measure.vertices.columns import vertex_columns
from cryoscale.records import Geometry, Receipt, Tomogram, Unit, numbered
from cryoscale.spec import MeasureSpec

__all__ = ["Surroundings", "group_membranes", "load_membrane", "surround_group", "unit_bytes", "units"]

_MOST_MEMBRANES, _LEAST_MEMBRANES, _UNITS = 16, 4, 8
_GROUP_BYTES = 16 << 20
_BASE_BYTES = 64 << 20
_BLOCK_VOXELS = 64
_CELL_VOXELS = 5
_PROFILE_NM, _PROFILE_VOXELS = 7.0, 5.0

Member = tuple[int, str, tuple[tuple[int, str], ...]]
"""A membrane's number, its mesh, and number and mesh of those that may be near."""


@dataclass(frozen=True)
class Surroundings:
    """What a unit needs beside its membranes."""

    geometry: Geometry
    density: str
    """Volume of the raw density in the tomogram's folder, empty where there is none."""
    inferred_beyond_nm: float
    spec: MeasureSpec


def group_membranes(count: int) -> int:
    """Return how many membranes, of 0.7 s each, a unit takes: few where there are few, or a laptop would idle."""
    return min(_MOST_MEMBRANES, max(_LEAST_MEMBRANES, -(-count // _UNITS)))


def units(tomogram: Tomogram, around: Surroundings, members: Sequence[Member]) -> list[Unit]:
    """Return the units of the given membranes."""
    names = {name for _, own, near in members for name in (own, *(other for _, other in near))}
    sizes = {name: tomogram.path(name).stat().st_size for name in sorted(names)}
    made = []
    for index, group in enumerate(_groups(members, sizes)):
        most = max(unit_bytes(sizes[name], [sizes[other] for _, other in near]) for _, name, near in group)
        arguments = (tomogram.folder, index, group, around)
        made.append(Unit(("measure-vertices", tomogram.id, index), surround_group, arguments, most))
    return made


def _groups(members: Sequence[Member], sizes: Mapping[str, int]) -> list[tuple[Member, ...]]:
    groups: list[list[Member]] = []
    held, most = 0, group_membranes(len(members))
    for member in members:
        if not groups or len(groups[-1]) == most or held + sizes[member[1]] > _GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(member)
        held += sizes[member[1]]
    return [tuple(group) for group in groups]


def unit_bytes(mesh_file_bytes: int, others_file_bytes: Sequence[int]) -> int:
    """Projected peak: a membrane with its columns, another as a tree of triangles, a block of density with profiles."""
    return _BASE_BYTES + 16 * mesh_file_bytes + 12 * max(others_file_bytes, default=0)


def load_membrane(root: Path, name: str, number: int, geometry: Geometry, inferred_beyond_nm: float) -> Membrane:
    """Read a membrane's mesh and the errors of its fit; what a mesh from elsewhere lacks is computed or left out."""
    ply = read_ply(root / name)
    vertices = ply.vertices.astype(np.float64) / 10.0
    normals = vertex_normals(vertices, ply.faces) if ply.normals is None else ply.normals.astype(np.float64)
    if "mean_curvature_per_nm" in ply.properties:
        mean, gaussian = (ply.properties[k] for k in ("mean_curvature_per_nm", "gaussian_curvature_per_nm2"))
    else:
        mean, gaussian = mesh_curvature(vertices, ply.faces, normals)
    sd, support = (ply.properties.get(k) for k in ("sd_nm", "support_nm"))
    seen = np.ones(len(vertices), bool) if support is None else support <= inferred_beyond_nm
    return Membrane(
        vertices,
        ply.faces,
        normals,
        mean.astype(np.float64),
        gaussian.astype(np.float64),
        seen,
        None if sd is None else sd.astype(np.float64),
        None if support is None else support.astype(np.float64),
        _sites(root / band_file(number), geometry) if sd is not None else None,
    )


def _sites(path: Path, geometry: Geometry) -> Sites | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        if "site_places" not in archive:
            return None
        places, covariance, errors = (
            archive[name].astype(np.float64) for name in ("site_places", "site_covariance", "site_errors")
        )
    voxel = geometry.voxel_size_nm
    places = (np.array(geometry.origin_angstrom) + places * np.array(geometry.voxel_size_angstrom)) / 10
    return Sites(places, covariance * voxel**2, errors / np.array([1, voxel, voxel**2, voxel, voxel]))


def surround_group(folder: str, index: int, members: tuple[Member, ...], around: Surroundings) -> Receipt:
    """Measure the surroundings and thickness of a few membranes, and write their tables of vertices."""
    root, files, rows = Path(folder), list[str](), list[dict[str, Any]]()
    patches: list[dict[str, NDArray[Any]]] = []
    for number, name, near in members:
        membrane = load_membrane(root, name, number, around.geometry, around.inferred_beyond_nm)
        area = vertex_areas(membrane)
        others = _others(root, near, around.geometry)
        limits = {"limit_nm": around.spec.distance_nm, "contact_nm": around.spec.neighbour_nm}
        contacts = find_contacts(membrane, area, others, **limits)
        patch, thickness = np.full(len(area), -1), None
        if around.density:
            patch, thickness, table = _thickness(root / around.density, membrane, area, around)
            patches.append({"membrane": np.full(len(table["patch"]), number), **table})
        columns = vertex_columns(membrane, area, contacts, patch, thickness)
        written = _write(
            root, numbered("vertices", number, f"membrane_{number:04d}"), columns, csv=around.spec.vertices_csv
        )
        files += written
        rows.append({"number": number, "vertices": written[0], **_summary(membrane, area, contacts, thickness, around)})
    thick = ""
    if patches:
        thick = f"measure/thickness_{index:04d}.npz"
        save_npz(root / thick, **{k: np.concatenate([part[k] for part in patches]) for k in patches[0]})
        files.append(thick)
    return Receipt(tuple(files), {"rows": rows, "thickness": thick})


def _others(root: Path, near: tuple[tuple[int, str], ...], geometry: Geometry) -> Iterator[tuple[int, Other]]:
    for number, name in near:
        ply = read_ply(root / name)
        vertices = ply.vertices.astype(np.float64) / 10.0
        normals = vertex_normals(vertices, ply.faces) if ply.normals is None else ply.normals
        sd = ply.properties.get("sd_nm")
        sites = _sites(root / band_file(number), geometry) if sd is not None else None
        yield number, Other(vertices, ply.faces, normals, sd, sites)


def _write(root: Path, stem: str, columns: dict[str, NDArray[Any]], *, csv: bool) -> list[str]:
    names = [f"{stem}.parquet"]
    write_parquet(root / names[0], columns)
    if csv:
        names.append(f"{stem}.csv")
        write_csv(root / names[1], tuple(columns), zip(*columns.values(), strict=True))
    return names


def _summary(
    membrane: Membrane,
    area: NDArray[np.float64],
    contacts: Contacts,
    thickness: Thickness | None,
    around: Surroundings,
) -> dict[str, Any]:
    """Return the membrane's columns that come from its surroundings, and who faces it."""
    found: dict[str, Any] = {
        "facing": {str(other): dataclasses.asdict(facing) for other, facing in contacts.facing.items()},
    }
    for part, rows in (("", contacts.gaps.number > 0), ("_seen", (contacts.gaps.number > 0) & membrane.seen)):
        found |= _distances(membrane, area, contacts, part, rows, around.spec.neighbour_nm)
    if thickness is not None:
        found["thickness_nm"], found["thickness_se_nm"] = thickness.whole, thickness.whole_error
        found["thickness_defocus_um"] = thickness.defocus_um
        found["thickness_good_patches"] = int((thickness.quality == 0).sum())
        found["thickness_patches"] = len(thickness.patch)
    return found


def _distances(
    membrane: Membrane,
    area: NDArray[np.float64],
    contacts: Contacts,
    part: str,
    rows: NDArray[np.bool_],
    contact_nm: float,
) -> dict[str, Any]:
    """Return the columns of distances to what is nearest, over some of the vertices."""
    distance = contacts.gaps.distance
    found: dict[str, Any] = {f"contact_area{part}_nm2": float(area[rows & (distance <= contact_nm)].sum())}
    if not rows.any():
        return found
    errors = pair_errors(contacts, membrane, area, rows)
    median = weighted_quantile(distance[rows], area[rows], 0.5)
    found[f"contact_area{part}_se_nm2"] = errors.of_area_within(contact_nm)
    found[f"distance_median{part}_nm"] = median
    found[f"distance_median{part}_se_nm"] = None if median is None else errors.of_median(median)
    least = int(np.where(rows, distance, np.inf).argmin())
    error = float(contacts.gaps.error[least])
    found[f"nearest_distance{part}_nm"] = float(distance[least])
    found[f"nearest_distance{part}_se_nm"] = error if np.isfinite(error) else None
    if not part:
        found["nearest_membrane"] = int(contacts.gaps.number[least])
    return found


def _thickness(
    density: Path, membrane: Membrane, area: NDArray[np.float64], around: Surroundings
) -> tuple[NDArray[np.int64], Thickness, dict[str, NDArray[Any]]]:
    """Patch of each vertex (-1 where it was not seen), their thickness, and the table of patches."""
    geometry = around.geometry
    voxel = geometry.voxel_size_nm
    reach = max(_PROFILE_NM, _PROFILE_VOXELS * voxel)
    offsets = np.arange(-np.floor(2 * reach / voxel), np.floor(2 * reach / voxel) + 1) * voxel / 2
    patch = geodesic_patches(membrane.vertices, membrane.faces, around.spec.thickness_patch_nm)
    rows = np.flatnonzero(membrane.seen & (area > 0))
    kept, renumbered = np.unique(patch[rows], return_inverse=True)
    patch = np.full(len(area), -1)
    patch[rows] = renumbered.reshape(-1)
    places = (membrane.vertices[rows] * 10 - geometry.origin_angstrom) / geometry.voxel_size_angstrom
    cell, owner = _cells(places, patch[rows])
    sums, counts = np.zeros((len(owner), len(offsets))), np.bincount(cell, minlength=len(owner))
    for part, block, start in _blocks_of(density, places, geometry.shape, reach / voxel):
        lines = profiles_at(block, places[part] - start, membrane.normals[rows[part]], offsets / voxel)
        np.add.at(sums, cell[part], lines)
    weights = area[rows]
    total = np.bincount(patch[rows], weights, minlength=len(kept))
    middle = np.stack([np.bincount(patch[rows], weights * membrane.vertices[rows, k]) / total for k in range(3)], 1)
    normal = np.stack([np.bincount(patch[rows], weights * membrane.normals[rows, k]) / total for k in range(3)], 1)
    angle = beam_angle_degrees(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))
    means, spec = sums / np.maximum(counts, 1)[:, None], around.spec
    microscope = {"defocus_um": spec.defocus_um, "voltage_kv": spec.voltage_kv}
    found = measure_thickness(means, counts, owner, angle, offsets, **microscope)
    table = {
        "patch": np.arange(1, len(kept) + 1),
        **{f"{axis}_angstrom": 10 * middle[:, k] for k, axis in enumerate("zyx")},
        "vertices": np.bincount(patch[rows], minlength=len(kept)),
        "area_nm2": total,
        "beam_angle_degrees": angle,
        "thickness_nm": found.patch,
        "thickness_se_nm": found.error,
        "quality": found.quality,
        "contrast": found.contrast,
    }
    return patch, found, table


def _cells(places: NDArray[np.float64], patch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cell of each place, small cubes within a patch, and the patch of each cell, ascending."""
    if not len(places):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cube = np.floor((places - places.min(axis=0)) / _CELL_VOXELS).astype(np.int64)
    shape = cube.max(axis=0) + 1
    key = patch * int(shape.prod()) + np.ravel_multi_index(tuple(cube.T), tuple(shape))
    found, cell = np.unique(key, return_inverse=True)
    return cell.reshape(-1), found // int(shape.prod())


def _blocks_of(
    density: Path, places: NDArray[np.float64], shape: tuple[int, int, int], reach: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]]:
    """Yield the rows of places block by block, with the density around them and where it starts."""
    home = np.floor(places / _BLOCK_VOXELS).astype(np.int64)
    order = np.lexsort(home.T[::-1])
    ends = np.flatnonzero((np.diff(home[order], axis=0) != 0).any(axis=1)) + 1
    for part in np.split(order, ends) if len(order) else []:
        low = np.maximum(np.floor(places[part].min(axis=0) - reach).astype(np.int64) - 1, 0)
        high = np.minimum(np.ceil(places[part].max(axis=0) + reach).astype(np.int64) + 2, shape)
        if (high > low).all():
            yield part, read_region(density, Region(tuple(map(int, low)), tuple(map(int, high)))), low
