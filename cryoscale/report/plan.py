"""Report stage: the pictures of one tomogram, and the page of a run.

One phase, one unit per tomogram: the meshes are read one at a time (large ones are thinned to what a picture can
show), three slices are chosen, and of the volumes only thin slabs at those slices are read, thinned where they are
wider than a picture. Peak memory follows the picture and the largest single mesh, not the tomogram.

Products in the tomogram's folder: ``pictures/raw.png``, ``overlay.png``, ``sections.png``, ``surfaces.png``,
``uncertainty.png`` and ``thumbnail.png``; ``slices_xy.jpg`` and ``slices_xy.png`` (and xz, yz) to look through;
``scene.bin``, the surfaces for the page's viewer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.chunks import Region, blocks
from cryoscale.io.files import atomic_write, write_text
from cryoscale.io.meshes import read_ply
from cryoscale.io.omezarr import image_dtype, read_region
from cryoscale.io.tables import read_csv
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.report.decimate import cluster
from cryoscale.report.page import render_page
from cryoscale.report.planes import best_plane, curve_lengths
from cryoscale.report.png import encode_png
from cryoscale.report.render import Surface
from cryoscale.report.run import Picture, ReportRun, TomogramReport
from cryoscale.report.scene import Scene, pack_scene
from cryoscale.report.smoothness import largest_step_pixels
from cryoscale.report.stacks import Stack, cut_stacks
from cryoscale.report.thin import inferred_voxels, mean_cubes, prevailing
from cryoscale.spec import ReportSpec

if TYPE_CHECKING:
    from cryoscale.report.figures import Slice

__all__ = ["draw_pictures", "plan", "projected_bytes", "read_pictures", "read_tomogram", "write_report"]

_TOMOGRAM = "tomogram.ome.zarr"
_LABELS = "membranes.ome.zarr"
_WIDEST = 512
"""Slices wider than this are thinned."""
_SLAB_NM = 5.0
"""Thickness of tomogram that is averaged into a slice."""
_MOST_FACES = 2_000_000
_SMALL = 256
"""Longest edge of the volumes that are looked through, in voxels."""
_SMALL_BYTES = 12
_BLOCK = (64, 512, 512)
_STEPS = 64
"""Pairs of slices whose smoothness is looked at."""
_FACE_BYTES = 27
"""Of a mesh file, for each face: 13 and half a vertex."""
_MESH_NAME = re.compile(r"membrane_(\d{1,9})\.ply")
_AXES = ("xy", "xz", "yz")
_TABLES = ("proteins.csv", "protein_density.csv", "protein_pairs.csv")
_CAPTIONS = {
    "raw": "Tomogram. {slab} where most membrane is cut.",
    "overlay": "Membranes laid over it. Full colour where the membrane was seen; dashed and paler where the fitted "
    "surface infers it.",
    "overlay without a tomogram": "Membranes in three planes. Full colour where the membrane was seen; dashed and "
    "paler where the fitted surface infers it.",
    "sections": "Surfaces behind each plane. Cut open at the slice beside them; pale where inferred.",
    "surfaces": "All membranes. One colour each, pale where inferred; the thin box is the tomogram.",
    "uncertainty": "How well the surface is known. Standard deviation of its position.",
    "thumbnail": "All membranes.",
}


def plan(tomogram: Tomogram, spec: ReportSpec) -> Plan:
    """Plan the stage for one tomogram.

    Parameters
    ----------
    tomogram
        With its geometry; meshes, labels and, where there is one, the tomogram itself are in its folder.
    spec
        Options: with 0 tomograms to be shown, no pictures are made.

    Returns
    -------
    dict
        ``pictures``: by name, the file (relative to the folder) and its caption. ``slices``, of each axis the files of
        a `Stack` and its numbers; ``scene``, the file of a `Scene` and its facts; ``steps_pixels``, the largest step
        of a membrane from each looked-at slice to the next.
    """
    if spec.tomograms_with_pictures < 1:
        return {"pictures": {}}
    geometry = tomogram.known_geometry
    mesh_bytes = max((path.stat().st_size for path in _mesh_files(tomogram.folder).values()), default=0)
    size = projected_bytes(geometry, mesh_bytes)
    receipts = yield [Unit(("report", tomogram.id, 0), draw_pictures, (tomogram.folder, geometry), size)]
    return dict(receipts[0].numbers)


def projected_bytes(geometry: Geometry, largest_mesh_bytes: int) -> int:
    """Projected peak of `draw_pictures`: drawing buffers, thinned meshes, one mesh whole, one slab."""
    buffers = 4 * 960 * 960 * 96  # measured 95 a pixel
    thinned = 3 * _MOST_FACES * 40
    slab = max(math.prod(geometry.shape) // n for n in geometry.shape) * 4 * 8
    small = math.prod(-(-n // _factor(geometry.shape)) for n in geometry.shape) * _SMALL_BYTES
    return buffers + thinned + 8 * largest_mesh_bytes + min(slab, 1 << 29) + small + 8 * math.prod(_BLOCK)


def _mesh_files(folder: str | Path) -> dict[int, Path]:
    """Meshes of a tomogram by the number of the membrane, in order."""
    found = {}
    for path in Path(folder).glob("meshes/**/membrane_*.ply"):
        match = _MESH_NAME.fullmatch(path.name)
        if match and int(match[1]) > 0:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def draw_pictures(folder: str, geometry: Geometry) -> Receipt:
    """Draw and write all pictures of one tomogram."""
    # Imported where pictures are drawn: matplotlib takes half a second of every start.
    from cryoscale.report.figures import figure_pixels, section_panels, slice_panels, stack_figure, surface_figures

    root = Path(folder)
    surfaces, planes, near = _read_surfaces(folder, geometry)
    voxel_nm = geometry.voxel_size_nm
    depth, height, width = (n * v / 10 for n, v in zip(geometry.shape, geometry.voxel_size_angstrom, strict=True))
    box_nm = (depth, height, width)
    slices = [_read_slice(root, geometry, axis, planes[axis], near[axis]) for axis in range(3)]
    panels: dict[str, Any] = {}
    if (root / _TOMOGRAM).is_dir():
        panels["raw"] = stack_figure(slice_panels(slices, overlay=False))
    panels["overlay"] = stack_figure(slice_panels(slices, overlay=True))
    if surfaces:
        panels["sections"] = stack_figure(section_panels(surfaces, slices, box_nm))
        names = ("surfaces", "uncertainty", "thumbnail")
        panels |= dict(zip(names, surface_figures(surfaces, box_nm), strict=True))
    count = _slab_planes(voxel_nm)
    slab = f"Mean of {count} slices ({count * voxel_nm:.1f} nm)" if count > 1 else "Slices"
    pictures = {}
    for name, figure in panels.items():
        file = f"pictures/{name}.png"
        _write(root / file, encode_png(figure_pixels(figure), dither=name not in ("raw", "overlay")))
        caption = "overlay without a tomogram" if name == "overlay" and "raw" not in panels else name
        pictures[name] = [file, _CAPTIONS[caption].format(slab=slab)]
    further = _write_slices(root, geometry, surfaces) | _write_scene(root, geometry, surfaces, box_nm)
    steps = {"steps_pixels": _steps(root / _LABELS, geometry.shape)}
    files = [entry[0] for entry in pictures.values()]
    files += [name for entry in further["slices"] for name in (entry["grey"], entry["labels"]) if name]
    files += [further["scene"]["file"]] if "scene" in further else []
    return Receipt(tuple(files), {"pictures": pictures, **further, **steps})


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _write_slices(root: Path, geometry: Geometry, surfaces: Sequence[Surface]) -> dict[str, Any]:
    """Write the slices to look through, thinned by a power of two."""
    factor, voxel_nm = _factor(geometry.shape), geometry.voxel_size_nm
    labels = _small_labels(root / _LABELS, geometry.shape, factor)
    raw = _small_raw(root / _TOMOGRAM, geometry.shape, factor) if (root / _TOMOGRAM).is_dir() else None
    first_nm = (factor - 1) / 2 * voxel_nm
    inferred = inferred_voxels(labels, surfaces, factor * voxel_nm, first_nm)
    entries = []
    for stack in cut_stacks(raw, labels, inferred, factor * voxel_nm, first_nm):
        entry = {**asdict(stack), "labels": f"pictures/slices_{stack.name}.png", "grey": ""}
        _write(root / entry["labels"], stack.labels)
        if stack.grey:
            entry["grey"] = f"pictures/slices_{stack.name}.jpg"
            _write(root / entry["grey"], stack.grey)
        entries.append(entry)
    return {"slices": entries}


def _write_scene(
    root: Path, geometry: Geometry, surfaces: Sequence[Surface], box_nm: tuple[float, float, float]
) -> dict[str, Any]:
    if not surfaces:
        return {}
    scene = pack_scene(surfaces, box_nm, _proteins_nm(root, geometry))
    _write(root / "pictures/scene.bin", scene.block)
    return {"scene": {"file": "pictures/scene.bin", "facts": scene.facts}}


def _proteins_nm(root: Path, geometry: Geometry) -> NDArray[np.float64]:
    """(n, 3) centres z, y, x from the centre of the first voxel."""
    path = root / "proteins.csv"
    rows = read_csv(path) if path.is_file() else []
    found = np.array([[float(row[f"{axis}_angstrom"]) for axis in "zyx"] for row in rows]).reshape(-1, 3)
    return np.asarray((found - np.array(geometry.origin_angstrom)) / 10)


def _factor(shape: Sequence[int]) -> int:
    """Power of two that brings the longest edge down to what is looked through."""
    return 1 << max(0, math.ceil(math.log2(max(shape) / _SMALL)))


def _small_blocks(shape: Sequence[int], step: int) -> list[tuple[Region, tuple[slice, ...]]]:
    """Blocks that `step` divides, and where they come to lie in the thinned volume."""
    found = blocks(shape, [max(n, step) for n in _BLOCK])
    places = [zip(region.start, region.stop, strict=True) for region in found]
    return [(r, tuple(slice(a // step, -(-b // step)) for a, b in p)) for r, p in zip(found, places, strict=True)]


def _small_raw(path: Path, shape: Sequence[int], factor: int) -> NDArray[np.float32]:
    """Mean over cubes of `factor` voxels a side, from the level of the pyramid that is nearest to it."""
    levels = sum(entry.name.isdigit() for entry in path.iterdir())
    level = min(levels - 1, factor.bit_length() - 1)
    step = factor >> level
    out = np.empty([-(-n // factor) for n in shape], np.float32)
    for region, place in _small_blocks([-(-n // (1 << level)) for n in shape], step):
        out[place] = mean_cubes(read_region(path, region, level).astype(np.float32), step)
    return out


def _small_labels(path: Path, shape: Sequence[int], factor: int) -> NDArray[Any]:
    """Return what prevails in each cube of `factor` voxels a side."""
    out = np.zeros([-(-n // factor) for n in shape], image_dtype(path))
    for region, place in _small_blocks(shape, factor):
        out[place] = prevailing(read_region(path, region), factor)
    return out


def _steps(path: Path, shape: Sequence[int]) -> list[float]:
    """Largest step of a membrane from slice to slice, in pixels, of up to 64 slices."""
    if shape[0] < 2:
        return []
    found = []
    for z in np.unique(np.linspace(0, shape[0] - 2, min(_STEPS, shape[0] - 1)).round().astype(int)):
        pair = read_region(path, Region((int(z), 0, 0), (int(z) + 2, shape[1], shape[2])))
        found.append(largest_step_pixels(pair[0], pair[1]))
    return [step for step in found if math.isfinite(step)]


_Near = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Vertices (z, y, x in nm) near a plane, and whether the surface is inferred there."""


def _read_surfaces(folder: str, geometry: Geometry) -> tuple[list[Surface], list[int], list[_Near]]:
    """Read all meshes, thinned for drawing; choose the plane of each axis; keep the vertices near it."""
    files = _mesh_files(folder)
    faces = sum(path.stat().st_size for path in files.values()) / _FACE_BYTES
    voxel_nm = geometry.voxel_size_nm
    cell_nm = voxel_nm * math.sqrt(max(1.0, faces / _MOST_FACES)) * 1.5 if faces > _MOST_FACES else 0.0
    surfaces = []
    lengths = [np.zeros(n) for n in geometry.shape]
    for number, path in files.items():
        surface = _read_surface(path, number, geometry)
        surfaces.append(cluster(surface, cell_nm) if cell_nm else surface)
        for total, part in zip(lengths, curve_lengths(surfaces[-1], geometry.shape, voxel_nm), strict=True):
            total += part
    planes = [best_plane(length, max(1.0, 3.0 / voxel_nm)) for length in lengths]
    reach_nm = max(4.0, 2 * voxel_nm, 2 * cell_nm)
    near = []
    for axis, plane in enumerate(planes):
        chosen = [(s, np.abs(s.vertices[:, axis] - plane * voxel_nm) <= reach_nm) for s in surfaces]
        points = np.concatenate([np.zeros((0, 3), np.float32), *(s.vertices[rows] for s, rows in chosen)])
        inferred = np.concatenate([np.zeros(0, bool), *(s.values[rows, 0] > 0.5 for s, rows in chosen)])
        near.append((points, inferred))
    return surfaces, planes, near


def _read_surface(path: Path, number: int, geometry: Geometry) -> Surface:
    """Read a mesh into nm from the centre of the first voxel."""
    mesh = read_ply(path)
    vertices = ((mesh.vertices - np.array(geometry.origin_angstrom)) / 10).astype(np.float32)
    count = len(vertices)
    seen = mesh.properties.get("seen", np.ones(count, np.uint8))
    sd_nm, bend = (mesh.properties.get(k, np.zeros(count, np.float32)) for k in ("sd_nm", "mean_curvature_per_nm"))
    columns = np.column_stack([seen == 0, sd_nm, np.nan_to_num(bend)])
    return Surface(number, vertices, mesh.faces, columns.astype(np.float32))


def _slab_planes(voxel_nm: float) -> int:
    """Odd number of slices that are about as thick as a slab."""
    return 1 + 2 * round(max(0.0, _SLAB_NM / voxel_nm - 1) / 2)


def _read_slice(root: Path, geometry: Geometry, axis: int, plane: int, near: _Near) -> Slice:
    """Read one plane: the mean of a slab of the tomogram, and the labels of its middle."""
    from cryoscale.report.figures import Slice

    step = max(1, -(-max(geometry.shape) // _WIDEST))
    half = _slab_planes(geometry.voxel_size_nm) // 2
    labels = prevailing(_read_planes(root / _LABELS, geometry.shape, axis, plane, 0)[0], step)
    raw = np.full(labels.shape, np.nan, np.float32)
    if (root / _TOMOGRAM).is_dir():
        slab = _read_planes(root / _TOMOGRAM, geometry.shape, axis, plane, half)
        raw = mean_cubes(np.mean(slab, axis=0, dtype=np.float32), step)
    voxel_nm = geometry.voxel_size_nm
    inferred = _inferred(labels, axis, plane, near, voxel_nm, step)
    return Slice(_AXES[axis], plane * voxel_nm, raw, labels, inferred, voxel_nm * step)


def _read_planes(path: Path, shape: Sequence[int], axis: int, plane: int, half: int) -> NDArray[Any]:
    """(planes, rows, columns) of a slab `half` planes to both sides of `plane`, cut at the volume."""
    start, stop = [0, 0, 0], list(shape)
    start[axis], stop[axis] = max(0, plane - half), min(shape[axis], plane + half + 1)
    slab = read_region(path, Region(tuple(start), tuple(stop)))
    return np.moveaxis(slab, axis, 0)


def _inferred(
    labels: NDArray[Any], axis: int, plane: int, near: _Near, voxel_nm: float, step: int
) -> NDArray[np.bool_]:
    """Whether each membrane pixel is inferred: as the surface's nearest vertex is."""
    out = np.zeros(labels.shape, bool)
    rows, columns = np.nonzero(labels)
    points, inferred = near
    if len(rows) and len(points):
        where = np.insert(np.column_stack([rows, columns]) * (step * voxel_nm), axis, plane * voxel_nm, axis=1)
        out[rows, columns] = inferred[cKDTree(points).query(where)[1]]
    return out


def read_pictures(folder: str | Path, pictures: Mapping[str, Sequence[str]]) -> dict[str, Picture]:
    """Read the pictures a summary of `plan` names; those whose file is gone are left out."""
    found = {}
    for name, (file, caption) in pictures.items():
        path = Path(folder) / file
        if path.is_file():
            found[name] = Picture(path.read_bytes(), caption)
    return found


def _read_stacks(folder: str | Path, entries: Sequence[Mapping[str, Any]]) -> tuple[Stack, ...]:
    """Read the slices a summary of `plan` names; none where a file is gone."""
    stacks = []
    for entry in entries:
        paths = {name: Path(folder) / entry[name] for name in ("grey", "labels") if entry[name]}
        if not all(path.is_file() for path in paths.values()):
            return ()
        found = {"grey": b""} | {name: path.read_bytes() for name, path in paths.items()}
        stacks.append(Stack(**{**entry, **found, "positions_nm": tuple(entry["positions_nm"])}))
    return tuple(stacks)


def _read_scene(folder: str | Path, entry: Mapping[str, Any] | None) -> Scene | None:
    path = Path(folder) / str((entry or {}).get("file", ""))
    return Scene(path.read_bytes(), dict(entry["facts"])) if entry and path.is_file() else None


def read_tomogram(tomogram: Tomogram, summary: Mapping[str, Any], **further: Any) -> TomogramReport:
    """Gather one tomogram's part of the page from its folder.

    Parameters
    ----------
    tomogram
        With its geometry, if it is known.
    summary
        What `plan` returned.
    further
        Other fields of `TomogramReport`: warnings, protein count, times ...
    """
    table = tomogram.path("membranes.csv")
    rows = tuple(read_csv(table)) if table.is_file() else ()
    proteins = tomogram.path("proteins.csv")
    report = TomogramReport(
        tomogram.id,
        tomogram.source,
        tomogram.geometry,
        pictures=read_pictures(tomogram.folder, summary.get("pictures", {})),
        membranes=rows,
        protein_count=len(read_csv(proteins)) if proteins.is_file() else None,
        stacks=_read_stacks(tomogram.folder, summary.get("slices", ())),
        scene=_read_scene(tomogram.folder, summary.get("scene")),
        tables={name: tuple(read_csv(tomogram.path(name))) for name in _TABLES if tomogram.path(name).is_file()},
        steps_pixels=tuple(summary.get("steps_pixels", ())),
    )
    return replace(report, **further)


def write_report(path: str | Path, run: ReportRun) -> None:
    """Write the page of a run, whole or not at all."""
    write_text(path, render_page(run))
