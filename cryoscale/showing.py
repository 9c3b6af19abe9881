"""One slice as one picture: how its pieces are connected and what was learned, or the curves that fit its membranes.

A tomogram of a run is shown as the run sees it: its masks or membranes, its options. A mask of one's own needs no run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
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
from cryoscale.fit.slicefit import LEAST_PIXELS, SliceFit, field_near, fit_slice
from cryoscale.foreground import Foreground, foreground_of, nothing_found
from cryoscale.ingest.plan import clean_mask, mask_dtype
from cryoscale.io.files import atomic_write
from cryoscale.io.inputs import printable
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.io.source import open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.report.connections import Connection, connection_figure
from cryoscale.report.figures import figure_pixels
from cryoscale.report.png import encode_png
from cryoscale.report.slicefits import DrawnCurve, DrawnMembrane, SliceFits, slice_fits_figure
from cryoscale.runrecord import place_in
from cryoscale.spec import RunSpec, spec_from

__all__ = ["show_connection", "show_fit", "tomogram_folder"]

_TOMOGRAM, _CLASSES, _MASK = "tomogram.ome.zarr", "classes.ome.zarr", "mask.ome.zarr"
_INSTANCES = "instances.ome.zarr"
_MEMBRANE = 2
_CARRIED_SLICES = 12
"""Slices on either side from which an ellipse's parameters may be carried."""
_SEEN_PIXELS = 3.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Slab:
    """A slice with its neighbours, as they were found."""

    array: NDArray[np.generic]
    """(k, ny, nx) as stored: classes, labels, scores, or membranes of a run."""
    mask: NDArray[np.bool_]
    """(k, ny, nx) what the stages take for membrane."""
    foreground: Foreground
    """What that is, in words."""
    separated: bool
    """Whether the values of `array` are membranes."""
    row: int
    """Which of the slices was asked for."""
    intensity: NDArray[np.floating] | None
    voxel_size_angstrom: float
    title: str
    spec: RunSpec

    def membranes(self) -> NDArray[np.integer]:
        """Return the membranes as they are known, else the numbered 26-connected pieces of the mask."""
        if self.separated:
            return np.where(self.mask, self.array, self.array.dtype.type(0))
        return np.asarray(label(self.mask, np.ones((3, 3, 3)))[0])

    def nothing(self) -> str:
        """Return why the slice has no membrane; an empty text where it has."""
        return "" if self.mask[self.row].any() else nothing_found(self.title, self.foreground, 0)[0]


def _say_nothing(text: str) -> None:
    """Leave it to the picture."""


def show_connection(
    source: str | Path,
    slice_index: int,
    output_png: str | Path,
    *,
    spec: RunSpec | None = None,
    tell: Tell = _say_nothing,
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
    tell
        Is told where the slice has nothing to be drawn; the picture is drawn all the same.

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
    found = _slab(Path(source), slice_index, spec)
    if nothing := found.nothing():
        tell(nothing)
    options = options_in_voxels(found.spec.connect, found.voxel_size_angstrom)
    mask = found.mask[found.row]
    connected = connect_slice(mask, options, slice_seed(found.spec.connect.seed, slice_index))
    picture = Connection(
        mask=mask,
        intensity=found.intensity,
        segments=connected.segments,
        paths=connected.paths,
        closed=connected.closed,
        joins=connected.joins,
        join_path=connected.join_path,
        q=connected.q,
        nm_per_pixel=found.voxel_size_angstrom / 10,
        title=found.title,
    )
    return _write(output_png, figure_pixels(connection_figure(picture)))


def show_fit(
    source: str | Path,
    slice_index: int,
    output_png: str | Path,
    *,
    spec: RunSpec | None = None,
    tell: Tell = _say_nothing,
) -> Path:
    """Fit ellipses and curves to the membranes of one slice and draw them: pixels, curves with their bands, the field.

    Parameters
    ----------
    source
        Folder of a run, or of one tomogram of it, whose membranes are taken as the run separated them; or a mask or
        scores (MRC, TIFF or OME-Zarr), whose connected pieces are taken for membranes, or its values where the
        options separate them.
    slice_index
        The slice, from 0; the 12 on either side lend it their ellipses.
    output_png, spec, tell
        As for `show_connection`.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    UsageError, TomogramError
        As `show_connection` does.
    """
    found = _slab(Path(source), slice_index, spec, around=_CARRIED_SLICES, membranes=True)
    labels = found.membranes()
    fitted = fit_slice(labels, found.row)
    if nothing := found.nothing():
        tell(nothing)
    elif not fitted.membranes:
        tell(f"{found.title}: no membrane has {LEAST_PIXELS} pixels in this slice, so nothing is fitted")
    drawn = _drawn(found, labels[found.row] != 0, fitted)
    return _write(output_png, figure_pixels(slice_fits_figure(drawn)))


def _write(path: str | Path, pixels: NDArray[np.uint8]) -> Path:
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_png(pixels))
    return Path(path)


def tomogram_folder(source: Path) -> Path | None:
    """Return the folder of a tomogram's products where `source` is one or holds one; None where it is a volume."""
    if any((source / name).is_dir() for name in (_CLASSES, _MASK)):
        return source
    if not (source / "run.json").is_file():
        return None
    run = json.loads((source / "run.json").read_text(encoding="utf-8"))
    places = [place_in(run, entry["id"]) for entry in run["tomograms"]]
    folders = [folder for place in places if (folder := tomogram_folder(source / place))]
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
    above = [parent / "run.json" for parent in folder.absolute().parents[:2]]
    record = next((path for path in above if path.is_file()), None)
    return spec_from(json.loads(record.read_text(encoding="utf-8"))["spec"]) if record else RunSpec()


def _slab(source: Path, z: int, spec: RunSpec | None, *, around: int = 0, membranes: bool = False) -> _Slab:
    """Read a slice with those around it: of a run its masks, or its membranes where they are wanted and known."""
    folder = tomogram_folder(source)
    if not folder:
        return _file_slab(source, z, around, spec or RunSpec(), membranes)
    known = membranes and (folder / _INSTANCES).is_dir()
    return _run_slab(folder, z, around, _run_spec(folder, spec), known)


def _run_slab(folder: Path, z: int, around: int, spec: RunSpec, known: bool) -> _Slab:
    path, values = (folder / _INSTANCES, ()) if known else _run_masks(folder, spec)
    geometry = image_geometry(path)
    voxel = geometry.voxel_size_angstrom[2]
    region = _slices_of(geometry.shape, z, str(path), around)
    array = read_region(path, region)
    foreground = Foreground() if known else _foreground(path, array, values, spec)
    intensity = _intensity(folder, _slices_of(geometry.shape, z, str(path)))
    return _Slab(
        array,
        foreground.of(array),
        foreground,
        known,
        z - region.start[0],
        intensity,
        voxel,
        _title(folder, z, voxel),
        spec,
    )


def _run_masks(folder: Path, spec: RunSpec) -> tuple[Path, tuple[int, ...]]:
    """Return the volume with a tomogram's masks and the values in it that are membrane."""
    classes = folder / _CLASSES
    return (classes, (_MEMBRANE,)) if classes.is_dir() else (folder / _MASK, spec.merge.mask_labels)


def _intensity(folder: Path, region: Region) -> NDArray[np.floating] | None:
    tomogram = folder / _TOMOGRAM
    return read_region(tomogram, region)[0].astype(np.float32) if tomogram.is_dir() else None


def _file_slab(path: Path, z: int, around: int, spec: RunSpec, membranes: bool) -> _Slab:
    """Read slices of a mask or of scores as a run would take them in; refused is what it refuses."""
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
        array = source.read(region.start, region.stop)
    array = clean_mask(array, mask_dtype(array.dtype), printable(path))
    apart = membranes and spec.merge.separate_labels
    foreground = _foreground(path, array, spec.merge.mask_labels, spec, apart)
    mask, title = np.asarray(foreground.of(array) != 0), _title(path, z, voxel[2])
    return _Slab(array, mask, foreground, apart, z - region.start[0], None, voxel[2], title, spec)


def _title(path: Path, z: int, voxel_size_angstrom: float) -> str:
    return f"{path.name}, z = {z} ({z * voxel_size_angstrom / 10:.0f} nm)"


def _slices_of(shape: tuple[int, int, int], z: int, where: str, around: int = 0) -> Region:
    if not 0 <= z < shape[0]:
        raise UsageError("no such slice", where=where, found=z, allowed=f"0 to {shape[0] - 1}")
    return Region((max(z - around, 0), 0, 0), (min(z + around + 1, shape[0]), *shape[1:]))


def _foreground(
    path: Path, array: NDArray[np.generic], values: tuple[int, ...], spec: RunSpec, apart: bool = False
) -> Foreground:
    """Return what the merge and connect stages would take for membrane."""
    return foreground_of(str(path), array.dtype, spec.merge.mask_threshold, values, separate_values=apart)


def _drawn(found: _Slab, mask: NDArray[np.bool_], fitted: SliceFit) -> SliceFits:
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
    return SliceFits(mask, found.intensity, membranes, curves, field, found.voxel_size_angstrom / 10, found.title)


def _nearest_ring(fitted: SliceFit, numbers: tuple[int, ...], points: NDArray[np.float64]) -> int:
    """Return which ring of a nest a piece of its curve belongs to."""
    pixels = {one.number: one.pixels[one.selected] for one in fitted.membranes}
    return int(np.argmin([np.median(cKDTree(pixels[number]).query(points)[0]) for number in numbers]))
