"""One slice as one picture: how its pieces are connected and what was learned, or the curves that fit its membranes.

A tomogram of a run is shown as the run sees it: its masks or membranes, its options. A mask of one's own needs no run.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.spatial import cKDTree

from cryoscale.chunks import Region
from cryoscale.connect import options_in_voxels
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import slice_seed
from cryoscale.errors import UsageError
from cryoscale.fit.slicefit import SliceFit, field_near, fit_slice
from cryoscale.foreground import Foreground
from cryoscale.io.files import atomic_write
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.io.source import open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.report.connections import Connection, connection_figure
from cryoscale.report.figures import figure_pixels
from cryoscale.report.png import encode_png
from cryoscale.report.slicefits import DrawnCurve, DrawnMembrane, SliceFits, slice_fits_figure
from cryoscale.spec import RunSpec, spec_from

__all__ = ["show_connection", "show_fit"]

_TOMOGRAM, _CLASSES, _MASK = "tomogram.ome.zarr", "classes.ome.zarr", "mask.ome.zarr"
_INSTANCES = "instances.ome.zarr"
_MEMBRANE = 2
_CARRIED_SLICES = 12
"""Slices on either side from which an ellipse's parameters may be carried."""
_SEEN_PIXELS = 3.0


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


def _run_spec(folder: Path, spec: RunSpec | None) -> RunSpec:
    if spec is not None:
        return spec
    record = folder.absolute().parent / "run.json"
    return spec_from(json.loads(record.read_text(encoding="utf-8"))["spec"]) if record.is_file() else RunSpec()


def _run_masks(folder: Path, spec: RunSpec) -> tuple[Path, tuple[int, ...]]:
    """Return the volume with a tomogram's masks and the values in it that are membrane."""
    classes = folder / _CLASSES
    return (classes, (_MEMBRANE,)) if classes.is_dir() else (folder / _MASK, spec.merge.mask_labels)


def _intensity(folder: Path, region: Region) -> NDArray[np.floating] | None:
    tomogram = folder / _TOMOGRAM
    return read_region(tomogram, region)[0].astype(np.float32) if tomogram.is_dir() else None


def _from_run(folder: Path, z: int, spec: RunSpec | None) -> _Slice:
    spec = _run_spec(folder, spec)
    path, values = _run_masks(folder, spec)
    geometry = image_geometry(path)
    region = _slices_of(geometry.shape, z, str(path))
    array = read_region(path, region)[0]
    return _Slice(_mask(array, values, spec), _intensity(folder, region), geometry.voxel_size_angstrom[2], spec)


def _from_file(path: Path, z: int, spec: RunSpec) -> _Slice:
    array, _, voxel_size_angstrom = _read_file(path, z, spec)
    return _Slice(_mask(array[0], spec.merge.mask_labels, spec), None, voxel_size_angstrom, spec)


def _read_file(path: Path, z: int, spec: RunSpec, around: int = 0) -> tuple[NDArray[np.generic], int, float]:
    """Return the slice with those around it, which of them it is, and the voxel size along x."""
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
        region = _slices_of(source.shape, z, str(path), around)
        return source.read(region.start, region.stop), z - region.start[0], voxel[2]


def _slices_of(shape: tuple[int, int, int], z: int, where: str, around: int = 0) -> Region:
    if not 0 <= z < shape[0]:
        raise UsageError("no such slice", where=where, found=z, allowed=f"0 to {shape[0] - 1}")
    return Region((max(z - around, 0), 0, 0), (min(z + around + 1, shape[0]), *shape[1:]))


def _mask(array: NDArray[np.generic], values: tuple[int, ...], spec: RunSpec) -> NDArray[np.bool_]:
    """Return what the connect stage would take for membrane."""
    scores = array.dtype.kind == "f" and not values
    return Foreground(values, spec.merge.mask_threshold if scores else None).of(array)


def show_fit(source: str | Path, slice_index: int, output_png: str | Path, *, spec: RunSpec | None = None) -> Path:
    """Fit ellipses and curves to the membranes of one slice and draw them: pixels, curves with their bands, the field.

    Parameters
    ----------
    source
        Folder of a run, or of one tomogram of it, whose membranes are taken as the run separated them; or a mask or
        scores (MRC, TIFF or OME-Zarr), whose connected pieces are taken for membranes, or its values where the
        options separate them.
    slice_index
        The slice, from 0; the 12 on either side lend it their ellipses.
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
    found = _run_slab(folder, slice_index, spec) if folder else _file_slab(Path(source), slice_index, spec or RunSpec())
    fitted = fit_slice(found.labels, found.row)
    nm = found.voxel_size_angstrom / 10
    title = f"{(folder or Path(source)).name}, z = {slice_index} ({slice_index * nm:.0f} nm)"
    with atomic_write(output_png) as temporary:
        temporary.write_bytes(encode_png(figure_pixels(slice_fits_figure(_drawn(found, fitted, title)))))
    return Path(output_png)


@dataclass(frozen=True)
class _Slab:
    """A slice with its neighbours, as they were found."""

    labels: NDArray[np.integer]
    row: int
    intensity: NDArray[np.floating] | None
    voxel_size_angstrom: float


def _run_slab(folder: Path, z: int, spec: RunSpec | None) -> _Slab:
    path = folder / _INSTANCES
    known = path.is_dir()
    spec = _run_spec(folder, spec)
    values: tuple[int, ...] = ()
    if not known:
        path, values = _run_masks(folder, spec)
    geometry = image_geometry(path)
    region = _slices_of(geometry.shape, z, str(path), _CARRIED_SLICES)
    array = read_region(path, region)
    labels = array if known else _pieces(_mask(array, values, spec))
    intensity = _intensity(folder, _slices_of(geometry.shape, z, str(path)))
    return _Slab(labels, z - region.start[0], intensity, geometry.voxel_size_angstrom[2])


def _file_slab(path: Path, z: int, spec: RunSpec) -> _Slab:
    array, row, voxel_size_angstrom = _read_file(path, z, spec, _CARRIED_SLICES)
    mask = _mask(array, spec.merge.mask_labels, spec)
    by_value = spec.merge.separate_labels and array.dtype.kind in "iu"
    labels = np.where(mask, array, 0).astype(np.int32) if by_value else _pieces(mask)
    return _Slab(labels, row, None, voxel_size_angstrom)


def _pieces(mask: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Return the numbered 26-connected pieces of a mask."""
    return np.asarray(label(mask, np.ones((3, 3, 3)))[0])


def _drawn(found: _Slab, fitted: SliceFit, title: str) -> SliceFits:
    mask = found.labels[found.row] != 0
    curves = [
        DrawnCurve(
            numbers[_nearest_ring(fitted, numbers, piece.points)],
            piece.points,
            piece.sd_pixels,
            piece.normals,
            piece.support_pixels <= _SEEN_PIXELS,
        )
        for curve, numbers in zip(fitted.curves, fitted.numbers, strict=True)
        for piece in curve.contours()
    ]
    membranes = [
        DrawnMembrane(
            one.number,
            one.pixels,
            one.selected,
            None if one.ellipse is None else one.ellipse.outline(),
            one.ellipse is not None and one.ellipse.describes,
        )
        for one in fitted.membranes
    ]
    field = field_near(fitted.curves, (mask.shape[0], mask.shape[1]))
    return SliceFits(mask, found.intensity, membranes, curves, field, found.voxel_size_angstrom / 10, title)


def _nearest_ring(fitted: SliceFit, numbers: tuple[int, ...], points: NDArray[np.float64]) -> int:
    """Return which ring of a nest a piece of its curve belongs to."""
    pixels = {one.number: one.pixels[one.selected] for one in fitted.membranes}
    return int(np.argmin([np.median(cKDTree(pixels[number]).query(points)[0]) for number in numbers]))
