"""One slice's pieces, how they were connected, and what was learned, as one picture.

A tomogram of a run is shown as the run would connect it: its masks, its options. A mask of one's own needs no run.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.connect import options_in_voxels
from cryoscale.connect.foreground import foreground
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import slice_seed
from cryoscale.errors import UsageError
from cryoscale.io.files import atomic_write
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.io.source import open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.report.connections import Connection, connection_figure
from cryoscale.report.figures import figure_pixels
from cryoscale.report.png import encode_png
from cryoscale.spec import RunSpec, spec_from

__all__ = ["show_connection"]

_TOMOGRAM, _CLASSES, _MASK = "tomogram.ome.zarr", "classes.ome.zarr", "mask.ome.zarr"
_MEMBRANE = 2


@dataclass(frozen=True)
class _Slice:
    """A slice as it was found."""

    mask: NDArray[np.bool_]
    intensity: NDArray[np.floating] | None
    voxel_size_angstrom: float
    spec: RunSpec


def show_connection(
    source: str | Path, slice_index: int, output_png: str | Path, *, spec: RunSpec | None = None
) -> Path:
    """Connect the pieces of one slice and draw segments, membranes with their joins, and the Q-table.

    Parameters
    ----------
    source
        Folder of a run, or of one tomogram of it, or a mask or scores: MRC, TIFF or OME-Zarr.
    slice_index
        The slice, from 0.
    output_png
        Where the picture goes.
    spec
        Options; None takes those of the run, or the defaults.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    UsageError
        There is no such slice, or the run has several tomograms or none with masks.
    TomogramError
        The source cannot be read, or does not state its voxel size.
    """
    folder = _tomogram_folder(Path(source))
    found = _from_run(folder, slice_index, spec) if folder else _from_file(Path(source), slice_index, spec or RunSpec())
    options = options_in_voxels(found.spec.connect, found.voxel_size_angstrom)
    connected = connect_slice(found.mask, options, slice_seed(found.spec.connect.seed, slice_index))
    nm = found.voxel_size_angstrom / 10
    picture = Connection(
        mask=found.mask,
        intensity=found.intensity,
        segments=connected.segments,
        paths=connected.paths,
        closed=connected.closed,
        joins=connected.joins,
        join_path=connected.join_path,
        q=connected.q,
        nm_per_pixel=nm,
        title=f"{(folder or Path(source)).name}, z = {slice_index} ({slice_index * nm:.0f} nm)",
    )
    with atomic_write(output_png) as temporary:
        temporary.write_bytes(encode_png(figure_pixels(connection_figure(picture))))
    return Path(output_png)


def _tomogram_folder(source: Path) -> Path | None:
    """Return the folder of a tomogram's products where `source` is one or holds one; None where it is a volume."""
    if any((source / name).is_dir() for name in (_CLASSES, _MASK)):
        return source
    if not (source / "run.json").is_file():
        return None
    run = json.loads((source / "run.json").read_text(encoding="utf-8"))
    names = [entry["id"] for entry in run["tomograms"]]
    folders = [folder for name in names if (folder := _tomogram_folder(source / name))]
    if len(folders) == 1:
        return folders[0]
    raise UsageError(
        "one tomogram is needed" if folders else "no tomogram of this run has masks yet",
        where=str(source),
        found=f"{len(folders)} with masks" if folders else None,
        todo=f"name one: {', '.join(folder.name for folder in folders[:5])}" if folders else "run it until segment",
    )


def _from_run(folder: Path, z: int, spec: RunSpec | None) -> _Slice:
    if spec is None:
        record = folder.absolute().parent / "run.json"
        found = record.is_file()
        spec = spec_from(json.loads(record.read_text(encoding="utf-8"))["spec"]) if found else RunSpec()
    classes = folder / _CLASSES
    path, values = (classes, (_MEMBRANE,)) if classes.is_dir() else (folder / _MASK, spec.merge.mask_labels)
    geometry = image_geometry(path)
    region = _slice_of(geometry.shape, z, str(path))
    tomogram = folder / _TOMOGRAM
    intensity = read_region(tomogram, region)[0].astype(np.float32) if tomogram.is_dir() else None
    array = read_region(path, region)[0]
    return _Slice(_mask(array, values, spec), intensity, geometry.voxel_size_angstrom[2], spec)


def _from_file(path: Path, z: int, spec: RunSpec) -> _Slice:
    ingest = spec.ingest
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(
            path,
            scratch=Path(scratch) / "unpacked",
            mode0_bytes=ingest.mode0_bytes,
            ignore_extended_header=ingest.ignore_extended_header,
        )
        voxel, _ = resolve_voxel_size(
            source.voxel_size_found_angstrom, ingest.apix or None, force=ingest.force_apix, where=str(path)
        )
        region = _slice_of(source.shape, z, str(path))
        array = source.read(region.start, region.stop)[0]
    return _Slice(_mask(array, spec.merge.mask_labels, spec), None, voxel[2], spec)


def _slice_of(shape: tuple[int, int, int], z: int, where: str) -> Region:
    if not 0 <= z < shape[0]:
        raise UsageError("no such slice", where=where, found=z, allowed=f"0 to {shape[0] - 1}")
    return Region((z, 0, 0), (z + 1, *shape[1:]))


def _mask(array: NDArray[np.generic], values: tuple[int, ...], spec: RunSpec) -> NDArray[np.bool_]:
    """Return what the connect stage would take for membrane."""
    scores = array.dtype.kind == "f" and not values
    return foreground(array, values, spec.merge.mask_threshold if scores else None)
