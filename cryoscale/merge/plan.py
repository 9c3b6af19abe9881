"""Units of the merge stage (and of locate, which groups protein voxels with the same machinery).

    source --blocks--> boxes --4 x 4 x 4 at a time, up--> whole --ranges--> ranks --down--> maps --blocks--> instances

A volume of classes, of another tool's labels, or of scores becomes ``instances.ome.zarr`` (uint32, 0 background) and a
table of its regions. The steps are those of `cryoscale.merge.tree`; no unit holds all pieces:

================== ============================================== ====================================================
units              read                                           write, below ``<stage>/``
================== ============================================== ====================================================
``<stage>-label``  their block, no halo                           ``tree/0-<block>.npz``
``<stage>-join``   shells and growing regions of up to 64 boxes   ``tree/<level>-<box>.npz``
``<stage>-number`` complete regions that begin in some slices     ``ranks/<range>.npz``
``<stage>-map``    their box's code, ranks, their parent's map    ``maps/<level>-<box>.npy``: numbers for the members
``<stage>-table``  the tables of all ranges, one at a time        ``regions.npz``
``<stage>-paint``  their blocks, code, ranks, their parents' maps their chunks of the instances
================== ============================================== ====================================================

``regions.npz`` holds the columns of `cryoscale.regions.Regions`; row k is region k + 1.
"""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import WRITTEN_BYTES, Region, blocks, blocks_within, file_voxels, whole_chunks
from cryoscale.foreground import Foreground, foreground_of, nothing_found
from cryoscale.io.files import atomic_write, relative_files, save_npz
from cryoscale.io.omezarr import create_image, image_dtype, read_region, write_region
from cryoscale.merge.ball import Ball
from cryoscale.merge.blocks import paint_block
from cryoscale.merge.levels import Levels, Place, places_of
from cryoscale.merge.memory import projected_bytes, projected_join_bytes, projected_map_bytes, projected_number_bytes
from cryoscale.merge.shell import Shell
from cryoscale.merge.sizes import sizes_of
from cryoscale.merge.tree import Box, block_box, hand_down, join_boxes, rank_tables
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit, numbered
from cryoscale.regions import Regions
from cryoscale.spec import MergeSpec

__all__ = ["INSTANCES", "Task", "expected_units", "number_phases", "painted_voxels", "plan", "save_box"]

INSTANCES = {"merge": "instances.ome.zarr", "locate": "proteins.ome.zarr"}
"""The volume that each stage writes."""
_BLOCK_VOXELS = (128, 256, 256)
"""A block is made of as many whole chunks as fit into this: about half a second of work."""
_FAN_IN = 4
"""Boxes along each axis that one unit joins."""
_RANGE_REGIONS = 1 << 17
"""Complete regions that one unit numbers, on average."""


@dataclass(frozen=True)
class Task:
    """What all units of one plan share."""

    stage: str
    """merge or locate."""
    source: str
    """Path of the source volume."""
    folder: str
    """The tomogram's folder."""
    volume: str
    """Name of the volume that is written."""
    levels: Levels
    """The volume, its blocks and the boxes they are joined into."""
    foreground: Foreground
    """What counts as foreground."""
    ball: Ball
    """Which voxels join."""
    minimum_voxels: int
    """Smaller regions are dropped."""

    def path(self, name: str) -> str:
        """Return the path of one of the stage's own files."""
        return f"{self.folder}/{self.stage}/{name}"

    def box_path(self, level: int, box: int) -> str:
        """Return the path of what is known of one box."""
        return self.path(numbered("tree", box, f"{level}-{box:06d}.npz"))

    def mask(self, region: Region) -> NDArray[Any]:
        """Read the foreground of a block."""
        return self.foreground.of(read_region(self.source, region))

    def receipt(self, files: Sequence[str], **numbers: int) -> Receipt:
        """Return the receipt of a unit that wrote `files`."""
        return Receipt(relative_files(self.folder, files), dict(numbers))


# ------------------------------------------------------------------------------------------------------------- plan


def plan(
    tomogram: Tomogram,
    spec: MergeSpec,
    chunk_voxels: tuple[int, int, int],
    *,
    source: str,
    values: Sequence[int] = (),
    threshold: float | None = None,
    separate_values: bool = False,
    stage: str = "merge",
    volume: str = "",
) -> Plan:
    """Plan the grouping of a volume's foreground into regions.

    Parameters
    ----------
    tomogram
        With its geometry.
    spec
        Options of the stage.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    source
        Name of the volume of classes, labels or scores in the tomogram's folder.
    values
        Values of the source that are foreground; empty takes every value but 0.
    threshold
        Take what reaches this score instead; a floating-point source without one, and without values, gets
        ``spec.mask_threshold``.
    separate_values
        Join only voxels of equal value.
    stage
        ``merge`` for membranes: within ``spec.distance_nm``, at least the diagonal of a voxel. ``locate`` for proteins:
        voxels that touch, so that neighbours stay apart.
    volume
        Name of the volume to write; empty: that of the stage.

    Returns
    -------
    Summary: ``volume`` and ``regions`` (files), ``count``, ``voxels`` of foreground, ``kept_voxels``,
    ``distance_voxels`` and ``minimum_voxels``.

    Raises
    ------
    UsageError
        If the foreground asked for does not exist, or the distance is out of range.
    """
    geometry, path = tomogram.known_geometry, str(tomogram.path(source))
    dtype = image_dtype(path)
    foreground = foreground_of(path, dtype, spec.mask_threshold, values, threshold, separate_values)
    ball, minimum = sizes_of(geometry, spec, proteins=stage == "locate")
    levels = Levels(geometry.shape, whole_chunks(_BLOCK_VOXELS, chunk_voxels), _FAN_IN)
    volume = volume or INSTANCES[stage]
    task = Task(stage, path, tomogram.folder, volume, levels, foreground, ball, minimum)
    painted = painted_voxels(chunk_voxels)
    create_image(tomogram.path(volume), geometry, np.uint32, chunk_voxels, shards=painted, labels=True)
    owned = blocks(geometry.shape, levels.edge)
    memory = [_block_bytes(box.shape, dtype.itemsize, ball, minimum, separate_values) for box in owned]
    labelled = yield [
        Unit((f"{stage}-label", tomogram.id, k), label_unit, (task, box, k), memory[k]) for k, box in enumerate(owned)
    ]
    places, ranked = yield from number_phases(tomogram.id, task, labelled)
    yield _paint_units(tomogram.id, task, painted, memory, places)
    count = sum(receipt.numbers["count"] for receipt in ranked)
    voxels = sum(receipt.numbers["voxels"] for receipt in labelled)
    return {
        "separate_values": separate_values,
        "volume": volume,
        "regions": f"{stage}/regions.npz",
        "count": count,
        "kept_voxels": sum(receipt.numbers["voxels"] for receipt in ranked),
        "voxels": voxels,
        "warnings": nothing_found(stage, foreground, voxels) if stage == "merge" and not count else [],
        "distance_voxels": ball.distance / (1.0 if stage == "locate" else geometry.voxel_size_nm),
        "minimum_voxels": minimum,
    }


def painted_voxels(chunk_voxels: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return what one unit paints into one file."""
    return file_voxels(whole_chunks(_BLOCK_VOXELS, chunk_voxels))


def _block_bytes(shape: Sequence[int], itemsize: int, ball: Ball, minimum: int, separate_values: bool) -> int:
    reach, values = ball.reach_voxels, separate_values
    return projected_bytes(shape, itemsize, reach_voxels=reach, minimum_voxels=minimum, separate_values=values)


def expected_units(
    geometry: Geometry,
    spec: MergeSpec,
    chunk_voxels: tuple[int, int, int],
    itemsize: int,
    *,
    separate_values: bool = False,
    stage: str = "merge",
) -> tuple[int, int]:
    """Return how many units there will be, up to 131,072 regions, and the memory of the largest that reads voxels."""
    ball, minimum = sizes_of(geometry, spec, proteins=stage == "locate")
    levels = Levels(geometry.shape, whole_chunks(_BLOCK_VOXELS, chunk_voxels), _FAN_IN)
    boxes = sum(math.prod(grid) for grid in levels.grids)
    painted = blocks(levels.shape, painted_voxels(chunk_voxels))
    largest = _block_bytes(blocks(levels.shape, levels.edge)[0].shape, itemsize, ball, minimum, separate_values)
    return 2 * boxes - math.prod(levels.grids[0]) + len(painted) + 2, largest + WRITTEN_BYTES * painted[0].size


def _paint_units(name: str, task: Task, edge: Sequence[int], memory: list[int], places: list[Place]) -> list[Unit]:
    """Return a unit per file, of blocks that take so much memory each to label."""
    owned, units = blocks(task.levels.shape, task.levels.edge), []
    for k, (region, members) in enumerate(blocks_within(task.levels.shape, task.levels.edge, edge)):
        size = max(memory[n] for n in members) + WRITTEN_BYTES * region.size
        inside = [(owned[n], places[n]) for n in members]
        units.append(Unit((f"{task.stage}-paint", name, k), paint_unit, (task, region, inside), size))
    return units


def number_phases(
    name: str, task: Task, labelled: list[Receipt]
) -> Generator[list[Unit], list[Receipt], tuple[list[Place], list[Receipt]]]:
    """Plan everything between the pieces of blocks, which `label_unit` gave, and their final numbers.

    Returned is for each block where its numbers are, and the receipts of the ranges (``count`` and ``voxels`` of each).
    """
    tree = yield from _join_phases(name, task, labelled)
    ranked = yield _number_units(name, task, tree)
    counts = [receipt.numbers["count"] for receipt in ranked]
    growing = [[receipt.numbers["growing"] for receipt in level] for level in tree]
    places = places_of(task.levels, growing, counts)
    yield from _map_phases(name, task, tree, places, counts)
    return places[0], ranked


def _join_phases(
    name: str, task: Task, labelled: list[Receipt]
) -> Generator[list[Unit], list[Receipt], list[list[Receipt]]]:
    """Yield the levels of the tree of joins; return the receipts of every level."""
    tree, done = [labelled], 0
    for level, grid in enumerate(task.levels.grids[1:], 1):
        units = []
        for box in range(math.prod(grid)):
            members = [tree[-1][member].numbers for member in task.levels.members(level, box)[1]]
            runs, pieces = (sum(numbers[key] for numbers in members) for key in ("runs", "growing"))
            low, high = task.levels.slices(level, box)
            size = projected_join_bytes(runs, (high - low) * task.levels.shape[1], pieces)
            units.append(Unit((f"{task.stage}-join", name, done + box), join_unit, (task, level, box), size))
        done += len(units)
        tree.append((yield units))
    return tree


def _number_units(name: str, task: Task, tree: list[list[Receipt]]) -> list[Unit]:
    """Return one unit for each range of first voxels."""
    before = [np.cumsum([0, *(receipt.numbers["closed"] for receipt in level)]) for level in tree]
    bounds = task.levels.bounds(max(1, -(-int(sum(total[-1] for total in before)) // _RANGE_REGIONS)))
    units = []
    for k, (low, high) in enumerate(itertools.pairwise(bounds)):
        boxes = task.levels.boxes_between(low, high)
        size = sum(int(total[past] - total[first]) for total, (first, past) in zip(before, boxes, strict=True))
        key = (f"{task.stage}-number", name, k)
        units.append(Unit(key, number_unit, (task, k, low, high, boxes), projected_number_bytes(size)))
    return units


def _map_phases(
    name: str, task: Task, tree: list[list[Receipt]], places: list[list[Place]], counts: list[int]
) -> Generator[list[Unit], list[Receipt], None]:
    """Yield the way down, from the whole volume to the parents of the blocks, and the table of all regions."""
    done = 0
    largest = projected_number_bytes(max(counts))
    units = [Unit((f"{task.stage}-table", name, 0), table_unit, (task, len(counts)), largest)]
    for level in reversed(range(1, len(tree))):
        for box, receipt in enumerate(tree[level]):
            regions = sum(counts[k] for k, _ in places[level][box].ranges)
            size = projected_map_bytes(receipt.numbers["pieces"], regions)
            units.append(Unit((f"{task.stage}-map", name, done), map_unit, (task, places[level][box]), size))
            done += 1
        yield units
        units = []
    if units:
        yield units


# ------------------------------------------------------------------------------------------------------------ units


def label_unit(task: Task, region: Region, block: int) -> Receipt:
    """Find the pieces and the shell of one block."""
    z, y, x = region.start
    mask = task.mask(region)
    box, _, _ = block_box(
        mask,
        (z, y, x),
        task.levels.shape,
        task.ball,
        minimum_voxels=task.minimum_voxels,
        separate_values=task.foreground.separate_values,
    )
    return save_box(task, 0, block, box, voxels=int(np.count_nonzero(mask)))


def join_unit(task: Task, level: int, box: int) -> Receipt:
    """Join up to 64 boxes of the level below into one."""
    grid, members = task.levels.members(level, box)
    shells, growing = np.empty(len(members), object), []
    for k, member in enumerate(members):
        shells[k], table = _load_open(task.box_path(level - 1, member))
        growing.append(table)
    joined = join_boxes(shells.reshape(grid), growing, task.levels.shape, task.ball, minimum_voxels=task.minimum_voxels)
    return save_box(task, level, box, joined)


def save_box(task: Task, level: int, number: int, box: Box, **numbers: int) -> Receipt:
    """Write a box and return the receipt."""
    shell, path = box.shell, task.box_path(level, number)
    arrays: dict[str, NDArray[Any]] = {"runs": shell.runs, "piece": shell.piece, "value": shell.value, "code": box.code}
    edges, tables = np.array(shell.box, np.int64), {"growing": box.growing.rows(), "closed": box.closed.rows()}
    save_npz(path, box=edges, **arrays, **tables)
    sizes = {"runs": len(shell.runs), "growing": len(box.growing), "closed": len(box.closed), "pieces": len(box.code)}
    return task.receipt([path], **sizes, **numbers)


def _load_open(path: str) -> tuple[Shell, Regions]:
    """Read the shell of a box and its regions that may grow."""
    with np.load(path, allow_pickle=False) as found:
        z0, y0, x0, z1, y1, x1 = (int(n) for n in found["box"])
        shell = Shell((z0, y0, x0, z1, y1, x1), found["runs"], found["piece"], found["value"])
        return shell, Regions.from_rows(found["growing"])


def number_unit(task: Task, number: int, low: int, high: int, boxes: tuple[tuple[int, int], ...]) -> Receipt:
    """Rank the complete regions that begin in one range of voxels, of all boxes that reach into it."""
    tables = []
    for level, (first, past) in enumerate(boxes):
        for box in range(first, past):
            with np.load(task.box_path(level, box), allow_pickle=False) as found:
                closed = Regions.from_rows(found["closed"])
                tables.append(closed.take(np.arange(*np.searchsorted(closed.first_voxel, (low, high)))))
    rank, start, regions = rank_tables(tables)
    first_box = np.array([first for first, _ in boxes], np.int64)
    before = np.cumsum([0, *(past - first for first, past in boxes)], dtype=np.int64)
    path = task.path(f"ranks/{number:06d}.npz")
    save_npz(path, rank=rank, start=start, first_box=first_box, before=before, regions=regions.rows())
    return task.receipt([path], count=len(regions), voxels=int(regions.voxels.sum()))


def _numbers(task: Task, place: Place) -> NDArray[np.int32]:
    """Return the final numbers of the regions of a box's members, or of a block's labels."""
    closed = [np.empty(0, np.int32)]
    for number, before in place.ranges:
        with np.load(task.path(f"ranks/{number:06d}.npz"), allow_pickle=False) as found:
            row = found["before"][place.level] + place.box - found["first_box"][place.level]
            begin, end = found["start"][row : row + 2]
            closed.append(found["rank"][begin:end] + np.int32(before))
    growing = np.empty(0, np.int32)
    if place.parent >= 0:
        # Only the part that the parent's map has for this box is read.
        path = task.path(f"maps/{place.level + 1}-{place.parent:06d}.npy")
        growing = np.array(np.load(path, mmap_mode="r", allow_pickle=False)[slice(*place.rows)])
    with np.load(task.box_path(place.level, place.box), allow_pickle=False) as found:
        return hand_down(found["code"], growing, np.concatenate(closed))


def map_unit(task: Task, place: Place) -> Receipt:
    """Hand the numbers of a box's regions down to its members."""
    path = task.path(f"maps/{place.level}-{place.box:06d}.npy")
    with atomic_write(path) as temporary:
        np.save(temporary, _numbers(task, place), allow_pickle=False)
    return task.receipt([path])


def table_unit(task: Task, ranges: int) -> Receipt:
    """Write the table of all regions, reading one range's part at a time."""
    path = task.path("regions.npz")
    parts = [task.path(f"ranks/{number:06d}.npz") for number in range(ranges)]
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in Regions.__dataclass_fields__:
            shapes = [_column(part, name).shape for part in parts]
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                header = {"descr": "<i8", "fortran_order": False, "shape": (sum(s[0] for s in shapes), *shapes[0][1:])}
                np.lib.format.write_array_header_1_0(stream, header)
                for part in parts:
                    stream.write(np.ascontiguousarray(_column(part, name), "<i8").tobytes())
    return task.receipt([path])


def _column(path: str, name: str) -> NDArray[np.int64]:
    with np.load(path, allow_pickle=False) as found:
        return Regions.from_rows(found["regions"]).columns()[name]


def paint_unit(task: Task, region: Region, members: list[tuple[Region, Place]]) -> Receipt:
    """Write the final numbers of some blocks that make up a region."""
    labels = np.zeros(region.shape, np.int32)
    for box, place in members:
        final = _numbers(task, place)
        # Where there is none, zeros are written all the same: chunks of an earlier run go away.
        if final.any():
            labels[box.within(region)] = paint_block(task.mask(box), task.ball, final, task.foreground.separate_values)
    return task.receipt(write_region(f"{task.folder}/{task.volume}", region, labels.view(np.uint32)))
