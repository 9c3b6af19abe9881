"""Units of the connect stage, the other way to group membrane voxels: slice by slice, then across slices.

    source --slices--> pieces --neighbouring slices--> overlaps --one unit--> numbers --blocks--> instances

It stands where merge stands, reads what merge reads and leaves what merge leaves: ``instances.ome.zarr`` (uint32, 0
background) and a table of its regions, so that the stages after it take either.

=================== ============================================== ============================================
units               read                                           write, below ``connect/``
=================== ============================================== ============================================
``connect-trace``   a few slices                                   ``slices/<k>.npz``, ``pieces/<k>.npz``
``connect-link``    their slices' pieces and the next slice's      ``links/<k>.npz``
``connect-number``  all pieces and links                           ``final.npy``, ``regions.npz``
``connect-paint``   the slices of their block                      their chunks of the instances
=================== ============================================== ============================================

A slice's result depends on its mask, its number and the options alone, and a link on two slices; the numbering sees all
of them in order of z. So the instances are equal whatever the chunks, the workers, their order and earlier runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.connect.connection import ConnectOptions, options_in_voxels
from cryoscale.connect.link import REACH_PIXELS, Overlaps, link_pieces, slice_overlaps
from cryoscale.connect.memory import projected_bytes, projected_number_bytes, projected_paint_bytes
from cryoscale.connect.pieces import number_membranes, slice_pieces
from cryoscale.connect.volume import slice_labels, slice_seed
from cryoscale.errors import UsageError
from cryoscale.foreground import Foreground, foreground_of, nothing_found
from cryoscale.io.files import atomic_write, load_npz, relative_files, save_npz
from cryoscale.io.omezarr import create_image, image_dtype, read_region, write_region
from cryoscale.records import Plan, Receipt, Tomogram, Unit
from cryoscale.regions import Regions, concatenate_regions
from cryoscale.spec import ConnectSpec, MergeSpec

__all__ = ["INSTANCES", "Task", "block_edge", "expected_units", "plan"]

INSTANCES = "instances.ome.zarr"
"""The volume that this stage writes, in place of merge."""
_SLICES = 8
"""Slices of a unit: seconds of work."""
_BLOCK_VOXELS = 1 << 24
"""A block of the instances is a band of whole chunks, as wide as the volume, of about this many voxels."""


@dataclass(frozen=True)
class Task:
    """What all units of one plan share."""

    source: str
    """Path of the source volume."""
    folder: str
    """The tomogram's folder."""
    shape: tuple[int, int, int]
    """Shape of the volume in voxels."""
    foreground: Foreground
    """What counts as membrane in it."""
    options: ConnectOptions
    seed: int
    minimum_voxels: int
    """Smaller membranes are dropped."""

    def path(self, name: str) -> str:
        """Return the path of one of the stage's own files."""
        return f"{self.folder}/connect/{name}"

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Read the foreground of some slices."""
        return self.foreground.of(read_region(self.source, Region((start, 0, 0), (stop, *self.shape[1:]))))

    def receipt(self, files: Sequence[str], **numbers: int) -> Receipt:
        """Return the receipt of a unit that wrote `files`."""
        return Receipt(relative_files(self.folder, files), dict(numbers))


# ------------------------------------------------------------------------------------------------------------- plan


def plan(
    tomogram: Tomogram,
    spec: ConnectSpec,
    merge_spec: MergeSpec,
    chunk_voxels: tuple[int, int, int],
    *,
    source: str,
    values: Sequence[int] = (),
    threshold: float | None = None,
) -> Plan:
    """Plan the grouping of a volume's foreground into membranes by tracing and learning in its slices.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options of the stage.
    merge_spec
        Least volume of a membrane, and how a mask is read.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    source
        Name of the volume of classes, labels or scores in the tomogram's folder.
    values
        Values of the source that are foreground; empty takes every value but 0.
    threshold
        Take what reaches this score instead; a floating-point source without one, and without values, gets
        ``merge_spec.mask_threshold``.

    Returns
    -------
    Summary, with the names that merge uses: ``volume`` and ``regions`` (files), ``count``, ``voxels`` of foreground,
    ``kept_voxels``, ``distance_voxels`` (within which slices are linked), ``minimum_voxels`` and ``warnings``.

    Raises
    ------
    UsageError
        If the foreground asked for does not exist.
    """
    task = _task(tomogram, spec, merge_spec, source, values, threshold)
    edge = block_edge(task.shape, chunk_voxels)
    create_image(tomogram.path(INSTANCES), tomogram.known_geometry, np.uint32, chunk_voxels, shards=edge, labels=True)
    depth, name, itemsize = task.shape[0], tomogram.id, image_dtype(task.source).itemsize
    slabs = [(start, min(start + _SLICES, depth)) for start in range(0, depth, _SLICES)]
    memory = _slab_bytes(task.shape, itemsize, chunk_voxels)
    traced = yield [
        Unit(("connect-trace", name, k), trace_unit, (task, k, *slab), memory) for k, slab in enumerate(slabs)
    ]
    counts = [receipt.numbers["pieces"] for receipt in traced]
    offset = np.cumsum([0, *counts]).tolist()
    linked = yield [
        Unit(("connect-link", name, k), link_unit, (task, k, offset[k], offset[k + 1], k + 1 < len(slabs)), memory)
        for k in range(len(slabs))
    ]
    links = sum(receipt.numbers["links"] for receipt in linked)
    numbered = yield [
        Unit(("connect-number", name, 0), number_unit, (task, len(slabs)), projected_number_bytes(offset[-1], links))
    ]
    yield _paint_units(name, task, edge, offset)
    voxels = sum(receipt.numbers["voxels"] for receipt in traced)
    return {
        "volume": INSTANCES,
        "regions": "connect/regions.npz",
        **numbered[0].numbers,
        "voxels": voxels,
        "warnings": [] if numbered[0].numbers["count"] else nothing_found("connect", task.foreground, voxels),
        "distance_voxels": REACH_PIXELS,
        "minimum_voxels": task.minimum_voxels,
        "separate_values": task.foreground.separate_values,
    }


def _paint_units(name: str, task: Task, edge: tuple[int, int, int], offset: Sequence[int]) -> list[Unit]:
    painted = blocks(task.shape, edge)
    size = projected_paint_bytes(painted[0].shape, _SLICES, task.shape[1:])
    return [
        Unit(("connect-paint", name, k), paint_unit, (task, box, tuple(offset)), size) for k, box in enumerate(painted)
    ]


def expected_units(shape: tuple[int, int, int], itemsize: int, chunk_voxels: tuple[int, int, int]) -> tuple[int, int]:
    """Return how many units there will be, and the memory of the largest that reads or writes voxels."""
    painted = blocks(shape, block_edge(shape, chunk_voxels))
    paint_bytes = projected_paint_bytes(painted[0].shape, _SLICES, shape[1:])
    return 2 * -(-shape[0] // _SLICES) + 1 + len(painted), max(_slab_bytes(shape, itemsize, chunk_voxels), paint_bytes)


def _slab_bytes(shape: tuple[int, int, int], itemsize: int, chunk_voxels: tuple[int, int, int]) -> int:
    return projected_bytes((min(_SLICES, shape[0]), *shape[1:]), itemsize, chunk_slices=chunk_voxels[0])


def _task(
    tomogram: Tomogram,
    spec: ConnectSpec,
    merge_spec: MergeSpec,
    source: str,
    values: Sequence[int],
    threshold: float | None,
) -> Task:
    """Return what the units share, or raise where the foreground asked for contradicts the volume."""
    geometry, path = tomogram.known_geometry, str(tomogram.path(source))
    foreground = foreground_of(path, image_dtype(path), merge_spec.mask_threshold, values, threshold)
    if merge_spec.separate_labels and foreground.threshold is None and len(values) != 1:
        raise UsageError(
            "learning joins pieces whatever their labels",
            where="merge.separate_labels",
            found="true, with merge.connect = qlearning",
            allowed="merge.connect = regions, or one label in merge.mask_labels",
        )
    return Task(
        path,
        tomogram.folder,
        geometry.shape,
        foreground,
        options_in_voxels(spec, geometry.voxel_size_angstrom[2]),
        spec.seed,
        geometry.least_voxels(merge_spec.minimum_volume_nm3),
    )


def block_edge(shape: tuple[int, int, int], chunk_voxels: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the block of a paint unit: one chunk deep, as wide as the volume, so that its rows are stored together."""
    band = chunk_voxels[0] * chunk_voxels[1] * shape[2]
    return chunk_voxels[0], max(1, _BLOCK_VOXELS // band) * chunk_voxels[1], shape[2]


# ------------------------------------------------------------------------------------------------------------ units


def trace_unit(task: Task, slab: int, start: int, stop: int) -> Receipt:
    """Connect the pieces of some slices, each for itself."""
    masks = task.mask(start, stop)
    tables: list[Regions] = []
    index, row, first, pieces = [], [], [0], 0
    for z, mask in zip(range(start, stop), masks, strict=True):
        labels = slice_labels(mask, task.options, slice_seed(task.seed, z))
        tables.append(slice_pieces(labels, z))
        found = np.flatnonzero(labels)
        index.append(found.astype(np.int32))
        row.append((labels.ravel()[found] + (pieces - 1)).astype(np.int32))
        first.append(first[-1] + found.size)
        pieces += len(tables[-1])
    files = [task.path(f"slices/{slab:06d}.npz"), task.path(f"pieces/{slab:06d}.npz")]
    save_npz(files[0], start=np.array(first, np.int64), index=np.concatenate(index), row=np.concatenate(row))
    save_npz(files[1], **concatenate_regions(tables).columns())
    return task.receipt(files, pieces=pieces, voxels=int(np.count_nonzero(masks)))


def _slices(task: Task, slab: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Yield the pixels (index in the slice) and rows (in the slab's table) of each slice of a slab."""
    stored = load_npz(task.path(f"slices/{slab:06d}.npz"))
    for a, b in zip(stored["start"][:-1], stored["start"][1:], strict=True):
        yield stored["index"][a:b], stored["row"][a:b]


def _planes(task: Task, slab: int, offset: int) -> Iterator[NDArray[np.int32]]:
    """Yield each slice of a slab: row of all tables plus 1, 0 where there is no piece."""
    for index, row in _slices(task, slab):
        plane = np.zeros(task.shape[1:], np.int32)
        plane.ravel()[index] = row + np.int32(offset + 1)
        yield plane


def link_unit(task: Task, slab: int, first: int, past: int, more: bool) -> Receipt:
    """Find the overlaps of each slice of a slab with the next, that of the next slab included."""
    planes = _planes(task, slab, first)
    lower, found = next(planes), []
    for upper in planes:
        found.append(slice_overlaps(lower, upper))
        lower = upper
    if more:
        found.append(slice_overlaps(lower, next(_planes(task, slab + 1, past))))
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(part.pairs for part in found)])
    votes = np.concatenate([np.empty((0, 2), np.int64), *(part.votes for part in found)])
    path = task.path(f"links/{slab:06d}.npz")
    save_npz(path, pairs=pairs, votes=votes)
    return task.receipt([path], links=len(pairs))


def number_unit(task: Task, slabs: int) -> Receipt:
    """Give the membranes their numbers, and write the final number of every piece and the table of membranes."""
    pieces = concatenate_regions([Regions(**load_npz(task.path(f"pieces/{k:06d}.npz"))) for k in range(slabs)])
    links = [load_npz(task.path(f"links/{k:06d}.npz")) for k in range(slabs)]
    overlaps = Overlaps(*(np.concatenate([part[name] for part in links]) for name in ("pairs", "votes")))
    final, membranes = number_membranes(pieces, link_pieces(pieces, overlaps), task.minimum_voxels)
    files = [task.path("final.npy"), task.path("regions.npz")]
    with atomic_write(files[0]) as temporary:
        np.save(temporary, final, allow_pickle=False)
    save_npz(files[1], **membranes.columns())
    return task.receipt(files, count=len(membranes), kept_voxels=int(membranes.voxels.sum()))


def paint_unit(task: Task, region: Region, offset: tuple[int, ...]) -> Receipt:
    """Write the final numbers of one block, a band of rows as wide as the volume."""
    final = np.load(task.path("final.npy"), mmap_mode="r", allow_pickle=False)
    labels = np.zeros(region.shape, np.uint32)
    width = task.shape[2]
    rows = (region.start[1] * width, region.stop[1] * width)
    for slab in range(region.start[0] // _SLICES, -(-region.stop[0] // _SLICES)):
        own = np.array(final[offset[slab] : offset[slab + 1]])
        for z, (index, row) in enumerate(_slices(task, slab), slab * _SLICES):
            if region.start[0] <= z < region.stop[0]:
                a, b = np.searchsorted(index, rows)
                labels[z - region.start[0]].ravel()[index[a:b] - rows[0]] = own[row[a:b]]
    return task.receipt(write_region(f"{task.folder}/{INSTANCES}", region, labels))
