"""``cryoscale export DIR --format F``: products of a run in the formats of other programs, slab by slab.

============ ==================================================== =======================================
format       files                                                opens in
============ ==================================================== =======================================
mrc, tiff    ``<id>__<volume>.mrc``, ``.tif``                     IMOD, ChimeraX; Fiji, MIB, napari
zarr         ``<id>.ome.zarr``: image, ``labels/membranes``       napari, neuroglancer, Fiji (MoBIE, N5)
ply obj stl  ``<id>/membrane_0001.obj`` ...                       ChimeraX, Blender, MeshLab, IMOD
vtp
parquet      ``<id>/membrane_0001.parquet`` ..., a row per vertex pandas, Polars, DuckDB, R
star, csv    ``proteins_relion5.star`` ..., ``membranes.csv`` ... RELION, Warp; anything
neuroglancer ``neuroglancer/<id>``: image, labels, meshes, state  neuroglancer
============ ==================================================== =======================================

Everything lies where the raw tomogram lies: voxel size, origin and axes are those of its header; meshes are in
ångström with the origin applied, in neuroglancer's in nm.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import blocks
from cryoscale.errors import UsageError
from cryoscale.ingest.values import halve
from cryoscale.io.files import atomic_write, write_text
from cryoscale.io.meshes import PlyMesh, read_ply, write_ply
from cryoscale.io.meshformats import write_fragment, write_obj, write_stl, write_vtp
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import (
    create_image,
    describe_labels,
    image_dtype,
    level_region,
    open_level,
    read_region,
    write_region,
)
from cryoscale.io.star import read_star, write_star
from cryoscale.io.tables import read_csv, write_csv
from cryoscale.io.tiffwrite import write_tiff
from cryoscale.packing import Place, places_of
from cryoscale.records import Geometry, numbered
from cryoscale.report.colours import colour_of, hex_of

__all__ = ["FORMATS", "VOLUMES", "Product", "export", "products_of"]

FORMATS = ("mrc", "tiff", "zarr", "ply", "obj", "stl", "vtp", "parquet", "star", "csv", "neuroglancer")
VOLUMES = ("membranes", "position_sd_nm", "support_nm", "instances", "classes", "scores", "tomogram")
"""Volumes that can be exported, where the run has them."""
_TABLES = ("membranes", "neighbours", "thickness", "pruned", "proteins", "protein_density", "protein_pairs")
_STARS = ("proteins_relion5", "proteins_relion4", "proteins_warp")
_NUMBERED = re.compile(r"membrane_(\d{1,9})\.(ply|parquet)")
_LEVELS = 3
_GREY_SCALES = 3.0
_Writer = Callable[[Path, PlyMesh], None]
_MESH_WRITERS: dict[str, _Writer] = {"ply": write_ply, "obj": write_obj, "stl": write_stl, "vtp": write_vtp}


@dataclass(frozen=True)
class Product:
    """One complete tomogram of a run."""

    id: str
    folder: Path
    geometry: Geometry
    greys: tuple[float, float] | None = None
    """Values of the tomogram to be shown black and white."""

    def volume(self, name: str) -> Path:
        """Return where a volume is, by its name."""
        return self.folder / f"{name}.ome.zarr"

    def numbered(self, kind: str) -> dict[int, Place]:
        """Return where ``meshes`` or tables of ``vertices`` are by the number of their membrane, in order."""
        there = places_of(self.folder, kind).items()
        found = {int(m[1]): place for name, place in there if (m := _NUMBERED.fullmatch(name.rpartition("/")[2]))}
        return dict(sorted(found.items()))

    def meshes(self) -> Iterator[tuple[int, PlyMesh]]:
        """Yield the number and mesh of each membrane that has one."""
        for number, place in self.numbered("meshes").items():
            yield number, read_ply(*place)


def products_of(source: Path, names: Sequence[str] = ()) -> list[Product]:
    """Return the complete tomograms of a run's folder, or the one whose folder is named.

    Raises
    ------
    UsageError
        There is none, or one of `names` is not there.
    """
    alone = (source / "summary.json").is_file()
    # A run of very many tomograms has them in folders of two letters.
    there = [path.parent for pattern in ("*", "??/*") for path in source.glob(f"{pattern}/summary.json")]
    folders = [source] if alone else sorted(there, key=lambda folder: folder.name)
    found = []
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        found.append(Product(summary["id"], folder, Geometry.from_json(summary["geometry"]), _greys(summary)))
    missing = sorted(set(names) - {product.id for product in found})
    if not found or missing:
        raise UsageError(
            "no such tomogram in this run" if found else "no complete tomogram here",
            where=str(source),
            found=", ".join(missing) or None,
            allowed=", ".join(product.id for product in found[:10]) or "a folder that `cryoscale run` made",
        )
    return [product for product in found if not names or product.id in names]


def _greys(summary: dict[str, Any]) -> tuple[float, float] | None:
    ingested = summary.get("ingest", {})
    if not {"centre", "scale"} <= ingested.keys():
        return None
    centre, scale = float(ingested["centre"]), float(ingested["scale"])
    return centre - _GREY_SCALES * scale, centre + _GREY_SCALES * scale


def export(
    source: Path,
    kind: str,
    output: Path | None = None,
    *,
    names: Sequence[str] = (),
    volumes: Sequence[str] = ("membranes",),
    url: str = "http://127.0.0.1:8000",
) -> list[Path]:
    """Write products of a run in another format.

    Parameters
    ----------
    source
        Folder of a run, or of one of its tomograms.
    kind
        One of `FORMATS`.
    output
        Folder; None is ``export`` in the run's folder.
    names
        Tomograms; none for all.
    volumes
        For mrc and tiff, some of `VOLUMES`.
    url
        For neuroglancer, where the output folder is served.

    Returns
    -------
    Files or folders written.

    Raises
    ------
    UsageError
        There is nothing to export.
    """
    products = products_of(source, names)
    target = output or (source.parent if products[0].folder == source else source) / "export"
    if kind in ("star", "csv"):
        files = _tables(products, target) if kind == "csv" else _stars(products, target)
    else:
        files = [path for product in products for path in _one(product, kind, target, volumes, url)]
    if not files:
        raise UsageError(
            f"nothing to export as {kind}", where=str(source), todo="run until measure, or name other --volumes"
        )
    return files


def _one(product: Product, kind: str, target: Path, volumes: Sequence[str], url: str) -> list[Path]:
    if kind in ("mrc", "tiff"):
        there = [name for name in volumes if product.volume(name).is_dir()]
        return [_volume(product, name, kind, target) for name in there]
    if kind == "zarr":
        return [_image(product, target / f"{product.id}.ome.zarr")] if product.volume("membranes").is_dir() else []
    if kind == "neuroglancer":
        return _neuroglancer(product, target / "neuroglancer" / product.id, f"{url}/neuroglancer/{product.id}")
    if kind == "parquet":
        tables = product.numbered("vertices").items()
        return [_copied(place, _file(product, number, kind, target)) for number, place in tables]
    files = []
    for number, mesh in product.meshes():
        files.append(_file(product, number, kind, target))
        _MESH_WRITERS[kind](files[-1], mesh)
    return files


def _file(product: Product, number: int, kind: str, target: Path) -> Path:
    return target / numbered(product.id, number, f"membrane_{number:04d}.{kind}")


def _copied(place: Place, target: Path) -> Path:
    with place.path.open("rb") as source, atomic_write(target) as temporary:
        source.seek(place.start)
        temporary.write_bytes(source.read(place.length))
    return target


# ----------------------------------------------------------------------------------------------------------- volumes


def _slabs(product: Product, name: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Slabs one chunk thick, so that each chunk is read once."""
    path = product.volume(name)
    depth = open_level(path).chunks[0]
    for region in blocks(product.geometry.shape, (depth, *product.geometry.shape[1:])):
        yield read_region(path, region).astype(dtype)


def _volume(product: Product, name: str, kind: str, target: Path) -> Path:
    stored, geometry = image_dtype(product.volume(name)), product.geometry
    path = target / f"{product.id}__{name}.{'tif' if kind == 'tiff' else kind}"
    # 32-bit whole numbers are in neither format; float32 holds each up to 2^24.
    if kind == "tiff":
        dtype = stored if stored.name in ("uint8", "uint16", "float32") else np.dtype("float32")
        write_tiff(path, _slabs(product, name, dtype), geometry, dtype)
    else:
        dtype = np.dtype("int16") if stored == np.uint8 else stored
        dtype = dtype if dtype.name in ("int8", "int16", "uint16", "float16", "float32") else np.dtype("float32")
        write_mrc(path, _slabs(product, name, dtype), geometry.voxel_size_angstrom, geometry.origin_angstrom, dtype)
    return path


def _image(product: Product, path: Path) -> Path:
    """Write one OME-Zarr: the tomogram as it is stored, the membranes as labels in it with all levels and colours."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    levels = _LEVELS
    if product.volume("tomogram").is_dir():
        shutil.copytree(product.volume("tomogram"), partial)
        # Labels of an image have its levels, neither more nor fewer: the specification's rule.
        levels = sum(entry.name.isdigit() for entry in partial.iterdir())
    else:
        _copy_labels(product, partial, levels)
    _copy_labels(product, partial / "labels" / "membranes", levels)
    describe_labels(partial, "membranes", {number: colour_of(number) for number in product.numbered("meshes")})
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
    return path


def _copy_labels(product: Product, path: Path, levels: int) -> None:
    source, shape = product.volume("membranes"), product.geometry.shape
    step = 1 << (levels - 1)
    depth, *across = open_level(source).chunks
    chunks = (-(-depth // step) * step, *across)
    slab_shape = (chunks[0], *shape[1:])
    create_image(path, product.geometry, image_dtype(source), chunks, shards=slab_shape, levels=levels, labels=True)
    for region in blocks(shape, slab_shape):
        slab = read_region(source, region)
        for level in range(levels):
            slab = halve(slab, labels=True) if level else slab
            write_region(path, level_region(region, level), slab, level)


# ------------------------------------------------------------------------------------------------------ neuroglancer


def _neuroglancer(product: Product, folder: Path, url: str) -> list[Path]:
    """Write image and labels as OME-Zarr, meshes as fragments, and the state that shows them together."""
    numbers = list(product.numbered("meshes"))
    if not numbers:
        return []
    image = _image(product, folder / f"{product.id}.ome.zarr")
    for number, mesh in product.meshes():
        write_fragment(folder / "mesh" / str(number), mesh, nm_per_unit=0.1)
        write_text(folder / "mesh" / f"{number}:0", json.dumps({"fragments": [str(number)]}))
    names = {"ids": [str(n) for n in numbers], "properties": [_labels(numbers)]}
    write_text(
        folder / "mesh" / "info", json.dumps({"@type": "neuroglancer_legacy_mesh", "segment_properties": "names"})
    )
    properties = {"@type": "neuroglancer_segment_properties", "inline": names}
    write_text(folder / "mesh" / "names" / "info", json.dumps(properties))
    write_text(folder / "state.json", json.dumps(_state(product, numbers, f"{url}/{image.name}", f"{url}/mesh")))
    return [folder]


def _labels(numbers: Sequence[int]) -> dict[str, Any]:
    return {"id": "label", "type": "label", "values": [f"membrane {number}" for number in numbers]}


def _state(product: Product, numbers: list[int], image: str, mesh: str) -> dict[str, Any]:
    geometry = product.geometry
    sizes = zip(geometry.shape, geometry.voxel_size_angstrom, geometry.origin_angstrom, strict=True)
    middle = [(o + v * (n - 1) / 2) / 10 for n, v, o in sizes]
    labels = f"zarr://{image}/labels/membranes/"
    layers: list[dict[str, Any]] = [
        {
            "type": "segmentation",
            "name": "membranes",
            "source": [labels, f"precomputed://{mesh}"],
            "segments": [str(number) for number in numbers],
            "segmentColors": {str(number): hex_of(colour_of(number)) for number in numbers},
        }
    ]
    if product.volume("tomogram").is_dir():
        shown = {"shaderControls": {"normalized": {"range": list(product.greys)}}} if product.greys else {}
        layers.insert(0, {"type": "image", "name": "tomogram", "source": f"zarr://{image}/", **shown})
    return {
        "dimensions": {axis: [1e-9, "m"] for axis in "xyz"},
        "position": middle[::-1],
        "layers": layers,
        "layout": "4panel",
    }


# ------------------------------------------------------------------------------------------------------------ tables


def _tables(products: Sequence[Product], target: Path) -> list[Path]:
    """Write the tables of all tomograms one below the other, each row with its tomogram."""
    files = []
    for name in _TABLES:
        tables = {p.id: read_csv(p.folder / f"{name}.csv") for p in products if (p.folder / f"{name}.csv").is_file()}
        rows = [(product, row) for product, table in tables.items() for row in table]
        columns = list(dict.fromkeys(column for _, row in rows for column in row))
        if rows:
            files.append(target / f"{name}.csv")
            cells = ([product, *(row.get(column, "") for column in columns)] for product, row in rows)
            write_csv(files[-1], ["tomogram", *columns], cells)
    return files


def _stars(products: Sequence[Product], target: Path) -> list[Path]:
    """Write the particles of all tomograms into one file for each program."""
    files = []
    for name in _STARS:
        found = [read_star(path) for p in products if (path := p.folder / f"{name}.star").is_file()]
        if found:
            columns = {label: [v for part in found for v in _typed(label, part[label])] for label in found[0]}
            files.append(target / f"{name}.star")
            write_star(files[-1], columns)
    return files


def _typed(label: str, values: Sequence[str]) -> list[str | float]:
    """Read a STAR column's text as the numbers it is made of; names stay text."""
    if label.endswith("Name"):
        return list(values)
    return [int(value) if value.isdigit() else float(value) for value in values]
