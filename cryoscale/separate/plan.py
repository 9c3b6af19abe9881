"""Units of the separate stage: groups of neighbouring voxels to membranes.

    groups --a few groups each--> parts --one unit--> numbers --blocks--> instances

The merge stage left groups: voxels that hang together over steps of the join distance. Here each group is taken apart
into membranes, or stays whole; then pieces of one membrane, of any groups, are joined over wide gaps, by their edges
and middle surfaces, which are few numbers. The instances are equal whatever the chunks, the workers and their order.

==================== ========================================= ====================================================
units                read                                      write, below ``separate/``
==================== ========================================= ====================================================
``separate-split``   the boxes of their groups                 ``parts/<k>.npy``: part of each voxel, block by block
                                                               ``tables/<k>.npz``: the parts, who holds them, and
                                                               elements of their middle surfaces
``separate-number``  all tables                                ``final.npy``, ``regions.npz``, ``rows.npy``
``separate-paint``   their blocks, the rows, those voxels' parts their chunks of the instances
==================== ========================================= ====================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import WRITTEN_BYTES, Region, blocks, blocks_within, file_voxels, whole_chunks
from cryoscale.io.files import atomic_write, load_npz, relative_files, save_npz
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.records import Plan, Receipt, Tomogram, Unit, numbered
from cryoscale.regions import Regions, concatenate_regions
from cryoscale.separate.groups import concatenate_surfels, number_parts, part_group, projected_bytes
from cryoscale.separate.parts import order_by_block, parts_table
from cryoscale.separate.surfels import Surfels

__all__ = [
    "GROUPS",
    "INSTANCES",
    "THINNEST_ELEMENTS",
    "USUAL_ELEMENTS",
    "Group",
    "Task",
    "expected_units",
    "painted_voxels",
    "plan",
]

GROUPS = "groups.ome.zarr"
"""The volume that merge writes for this stage."""
INSTANCES = "instances.ome.zarr"
"""The volume that this stage writes."""
_BLOCK_VOXELS = (128, 256, 256)
"""A block is made of as many whole chunks as fit into this."""
_BATCH_VOXELS = 200_000
"""A unit takes no further group once it has this many voxels, so that large ones run alone."""
_BATCH_GROUPS = 256
_ELEMENT_BYTES = 600
"""Of memory for an element of middle surface, about four voxels of it, while pieces are joined over gaps."""
USUAL_ELEMENTS, THINNEST_ELEMENTS = 0.16, 0.4
"""Elements per voxel at most of membranes 2.5 voxels thick, and one: of spheres 0.37 over their voxels of thickness."""

_PAINTED_BYTES = 40
"""Of memory for a voxel of a block, where all of them belong to groups."""

Group = tuple[int, Region, int]
"""A group's number, bounding box and voxel count."""


@dataclass(frozen=True)
class Task:
    """What all units of one plan share."""

    groups: str
    """Path of the volume of groups."""
    folder: str
    """The tomogram's folder."""
    shape: tuple[int, int, int]
    """Shape of the volume in voxels."""
    edge: tuple[int, int, int]
    """Shape of a block that one unit paints."""
    minimum_voxels: int
    """Smaller parts are dropped."""

    def path(self, name: str) -> str:
        """Return the path of one of the stage's own files."""
        return f"{self.folder}/separate/{name}"

    def batch_path(self, name: str, batch: int, suffix: str) -> str:
        """Return the path of what one batch of groups left."""
        return self.path(numbered(name, batch, f"{batch:06d}.{suffix}"))

    def receipt(self, files: Sequence[str], **numbers: int) -> Receipt:
        """Return the receipt of a unit that wrote `files`."""
        return Receipt(relative_files(self.folder, files), dict(numbers))


# ------------------------------------------------------------------------------------------------------------- plan


def plan(
    tomogram: Tomogram,
    chunk_voxels: tuple[int, int, int],
    *,
    groups: str,
    regions: str,
    minimum_voxels: int,
) -> Plan:
    """Plan the separation of groups into membranes.

    Parameters
    ----------
    tomogram
        With its geometry.
    chunk_voxels
        Chunk of the volumes, z, y, x.
    groups, regions
        The volume of group numbers and the table of groups (.npz), in the tomogram's folder.
    minimum_voxels
        Parts without one connected piece of this size are dropped.

    Returns
    -------
    Summary: ``volume`` and ``regions`` (files), ``count``, ``kept_voxels``, ``split`` (groups that became several
    membranes) and ``warnings``.
    """
    geometry, name = tomogram.known_geometry, tomogram.id
    edge = whole_chunks(_BLOCK_VOXELS, chunk_voxels)
    task = Task(str(tomogram.path(groups)), tomogram.folder, geometry.shape, edge, minimum_voxels)
    painted = painted_voxels(chunk_voxels)
    create_image(tomogram.path(INSTANCES), geometry, np.uint32, chunk_voxels, shards=painted, labels=True)
    batches = _batches(_members(load_npz(tomogram.path(regions))))
    split = yield [
        Unit(("separate-split", name, k), split_unit, (task, k, batch), _split_bytes(batch, edge))
        for k, batch in enumerate(batches)
    ]
    parts = sum(receipt.numbers["parts"] for receipt in split)
    rows = sum(receipt.numbers["rows"] for receipt in split)
    elements = sum(receipt.numbers["elements"] for receipt in split)
    held = 400 * parts + 200 * rows + _ELEMENT_BYTES * elements + (1 << 20)
    numbered = yield [Unit(("separate-number", name, 0), number_unit, (task, len(batches)), held)]
    boxes = blocks(geometry.shape, edge)
    yield [
        Unit(
            ("separate-paint", name, k),
            paint_unit,
            (task, region, [(n, boxes[n]) for n in members]),
            _paint_bytes(boxes[members[0]], region),
        )
        for k, (region, members) in enumerate(blocks_within(geometry.shape, edge, painted))
    ]
    count = numbered[0].numbers["count"]
    lost = sum(n for _, _, n in (member for batch in batches for member in batch)) and not count
    return {
        "volume": INSTANCES,
        "regions": "separate/regions.npz",
        **numbered[0].numbers,
        "split": sum(receipt.numbers["split"] for receipt in split),
        "warnings": ["separate: no membrane reaches merge.minimum_volume_nm3"] if lost else [],
    }


def expected_units(
    shape: tuple[int, int, int], chunk_voxels: tuple[int, int, int], groups: Sequence[Group], *, thin: bool
) -> tuple[int, int]:
    """Return how many units some groups would take, and the memory of the largest.

    ``thin`` says that membranes may be a single voxel thick, as other tools' masks are.
    """
    edge, batches = whole_chunks(_BLOCK_VOXELS, chunk_voxels), _batches(groups)
    elements = (THINNEST_ELEMENTS if thin else USUAL_ELEMENTS) * sum(count for _, _, count in groups)
    joined = round(_ELEMENT_BYTES * elements)
    split = [_split_bytes(batch, edge) for batch in batches]
    painted = blocks(shape, painted_voxels(chunk_voxels))
    return len(batches) + 1 + len(painted), max(_paint_bytes(blocks(shape, edge)[0], painted[0]), joined, *split)


def painted_voxels(chunk_voxels: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return what one unit paints into one file."""
    return file_voxels(whole_chunks(_BLOCK_VOXELS, chunk_voxels))


def _paint_bytes(block: Region, region: Region) -> int:
    return _PAINTED_BYTES * block.size + WRITTEN_BYTES * region.size


def _members(table: dict[str, NDArray[np.int64]]) -> list[Group]:
    return [
        (row + 1, Region(tuple(map(int, box[:3])), tuple(map(int, box[3:]))), int(count))
        for row, (box, count) in enumerate(zip(table["box"], table["voxels"], strict=True))
    ]


def _batches(members: Sequence[Group]) -> list[tuple[Group, ...]]:
    """Put small groups together, largest first: the long units start early."""
    batches: list[list[Group]] = []
    for member in sorted(members, key=lambda member: (-member[2], member[0])):
        last = batches[-1] if batches else []
        full = len(last) == _BATCH_GROUPS or sum(count for _, _, count in last) + member[2] > _BATCH_VOXELS
        if last and not full:
            last.append(member)
        else:
            batches.append([member])
    return [tuple(batch) for batch in batches]


def _split_bytes(batch: tuple[Group, ...], edge: tuple[int, int, int]) -> int:
    read = 5 * max(math.prod(map(min, box.shape, edge)) for _, box, _ in batch)
    return read + max(projected_bytes(count) for _, _, count in batch) + 16 * sum(count for _, _, count in batch)


# ------------------------------------------------------------------------------------------------------------ units


def split_unit(task: Task, batch: int, members: tuple[Group, ...]) -> Receipt:
    """Take the groups of one unit apart."""
    tables: list[Regions] = []
    surfels: list[Surfels] = []
    part_of: list[NDArray[np.int32]] = []
    rows: list[NDArray[np.int64]] = []
    parts = voxels = split = 0
    for number, box, _ in members:
        points = _points(task, number, box)
        part, elements = part_group(points, task.minimum_voxels)
        count = int(part.max(initial=0))
        tables.append(parts_table(points, part, count, task.shape))
        surfels.append(elements)
        order, block, held = order_by_block(points, task.shape, task.edge)
        part_of.append(np.where(part > 0, part + np.int32(parts), np.int32(0))[order])
        stop = voxels + np.cumsum(held)
        rows.append(np.stack((block, np.full_like(block, number), np.full_like(block, batch), stop - held, stop), 1))
        parts, voxels, split = parts + count, voxels + len(points), split + (count > 1)
    files = [
        task.batch_path("parts", batch, "npy"),
        task.batch_path("tables", batch, "npz"),
    ]
    with atomic_write(files[0]) as temporary:
        np.save(temporary, np.concatenate(part_of), allow_pickle=False)
    table = np.concatenate(rows)
    found = concatenate_surfels(surfels, [len(part) for part in tables])
    save_npz(files[1], **concatenate_regions(tables).columns(), rows=table, **_stored(found))
    return task.receipt(files, parts=parts, rows=len(table), split=split, elements=len(found.patch))


def _stored(surfels: Surfels) -> dict[str, NDArray[np.generic]]:
    """Return the elements as columns; positions are multiples of 1/64 voxel, so single precision holds them."""
    names = ("element_position", "element_normal", "element_part")
    columns = (surfels.position.astype(np.float32), surfels.normal, surfels.patch.astype(np.int32))
    return dict(zip(names, columns, strict=True))


def _restored(table: dict[str, NDArray[Any]]) -> Surfels:
    """Take the elements out of a table."""
    position, normal, part = (table.pop(f"element_{name}") for name in ("position", "normal", "part"))
    return Surfels(position.astype(np.float64), normal, part.astype(np.int64))


def _points(task: Task, number: int, box: Region) -> NDArray[np.int32]:
    """Gather one group's voxels in raster order, block by block: no more of its box is held at a time."""
    found = []
    corner = [first // edge * edge for first, edge in zip(box.start, task.edge, strict=True)]  # chunks are read once
    for block in blocks(np.subtract(box.stop, corner).tolist(), task.edge):
        low, high = np.maximum(np.add(block.start, corner), box.start), np.add(block.stop, corner)
        held = np.argwhere(read_region(task.groups, Region(tuple(low.tolist()), tuple(high.tolist()))) == number)
        found.append((held + low).astype(np.int32))
    points = np.concatenate(found)
    return points[np.lexsort(points.T[::-1])]


def number_unit(task: Task, batches: int) -> Receipt:
    """Give the membranes their numbers; write the number of every part, the table of membranes, and who is where."""
    stored = [load_npz(task.batch_path("tables", k, "npz")) for k in range(batches)]
    rows = [table.pop("rows") for table in stored]
    surfels = [_restored(table) for table in stored]
    tables = [Regions(**table) for table in stored]
    found = concatenate_surfels(surfels, [len(table) for table in tables])
    final, membranes = number_parts(concatenate_regions(tables), found, task.minimum_voxels)
    # Number 0 of each batch stands for voxels in no membrane.
    starts = np.cumsum([0, *(len(table) for table in tables)])
    padded = [np.append(np.int32(0), final[a:b]) for a, b in itertools.pairwise(starts)]
    where = np.cumsum([0, *(len(part) for part in padded)])
    table = np.concatenate([np.empty((0, 5), np.int64), *rows])
    table = np.column_stack((table, where[table[:, 2]] if len(table) else table[:, 2]))
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    files = [task.path("final.npy"), task.path("rows.npy"), task.path("regions.npz")]
    for path, array in ((files[0], np.concatenate([np.empty(0, np.int32), *padded])), (files[1], table)):
        with atomic_write(path) as temporary:
            np.save(temporary, array, allow_pickle=False)
    save_npz(files[2], **membranes.columns())
    return task.receipt(files, count=len(membranes), kept_voxels=int(membranes.voxels.sum()))


def paint_unit(task: Task, region: Region, members: list[tuple[int, Region]]) -> Receipt:
    """Write the final numbers of some blocks that make up a region."""
    # Only these blocks' part of each file is read.
    rows = np.load(task.path("rows.npy"), mmap_mode="r", allow_pickle=False)
    labels = np.zeros(region.shape, np.uint32)
    for block, box in members:
        first, past = np.searchsorted(rows[:, 0], (block, block + 1))
        if past > first:
            groups = read_region(task.groups, box).ravel()
            held = np.flatnonzero(groups)
            held = held[np.argsort(groups[held], kind="stable")]
            found = np.zeros(box.shape, np.uint32)
            found.ravel()[held] = np.concatenate([_numbers(task, row) for row in rows[first:past].tolist()])
            labels[box.within(region)] = found
    return task.receipt(write_region(f"{task.folder}/{INSTANCES}", region, labels))


def _numbers(task: Task, row: list[int]) -> NDArray[np.int32]:
    """Return the final numbers of one group's voxels in one block."""
    _, _, batch, start, stop, offset = row
    parts = np.load(task.batch_path("parts", batch, "npy"), mmap_mode="r", allow_pickle=False)
    final = np.load(task.path("final.npy"), mmap_mode="r", allow_pickle=False)
    numbers: NDArray[np.int32] = final[parts[start:stop] + offset]
    return numbers
