"""Units of the merge stage (and of locate, which groups protein voxels with the same machinery).

    source --blocks--> pieces, shells --4 x 4 x 4 at a time--> links --one unit--> numbers --blocks--> instances

A volume of classes, of another tool's labels, or of scores becomes ``instances.ome.zarr`` (uint32, 0 background) and a
table of its regions. The four steps are those of `cryoscale.merge.blocks`:

========================= ====================================== ===========================================
units                     read                                   write, below ``<stage>/``
========================= ====================================== ===========================================
``<stage>-label``         their block, no halo                   ``pieces/<block>.npz``, ``shells/0-<block>.npz``
``<stage>-join``          up to 64 shells                        ``shells/<level>-<box>.npz``, with the links
``<stage>-number``        all pieces and links                   ``final.npy``, ``regions.npz``
``<stage>-paint``         their block, their part of ``final``   their chunks of the instances
========================= ====================================== ===========================================

``regions.npz`` holds the columns of `cryoscale.merge.regions.Regions`; row k is region k + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.errors import UsageError
from cryoscale.io.files import atomic_write, load_npz, relative_files, save_npz
from cryoscale.io.omezarr import create_image, image_dtype, read_region, write_region
from cryoscale.merge.blocks import label_block, links_to_rows, relabel_block
from cryoscale.merge.foreground import Foreground
from cryoscale.merge.memory import projected_bytes, projected_join_bytes, projected_number_bytes
from cryoscale.merge.near import reach_voxels
from cryoscale.merge.regions import Regions, concatenate_regions, number_regions
from cryoscale.merge.shell import Shell, join_shells
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.spec import MergeSpec

__all__ = ["INSTANCES", "Task", "plan", "projected_bytes"]

Triple = tuple[int, int, int]

INSTANCES = {"merge": "instances.ome.zarr", "locate": "proteins.ome.zarr"}
"""The volume that each stage writes."""
_BLOCK_VOXELS = (128, 256, 256)
"""A block is made of as many whole chunks as fit into this: about half a second of work."""
_FAN_IN = 4
"""Boxes along each axis that one unit joins."""


@dataclass(frozen=True)
class Task:
    """What all units of one plan share."""

    stage: str
    """merge or locate."""
    source: str
    """Path of the source volume."""
    folder: str
    """The tomogram's folder."""
    shape: Triple
    """Shape of the volume in voxels."""
    foreground: Foreground
    """What counts as foreground."""
    distance_voxels: float
    """Largest distance between voxels that join."""
    minimum_voxels: int
    """Smaller regions are dropped."""

    def path(self, name: str) -> str:
        """Return the path of one of the stage's own files."""
        return f"{self.folder}/{self.stage}/{name}"

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that the block kernels share."""
        return {"minimum_voxels": self.minimum_voxels, "separate_values": self.foreground.separate_values}

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
    foreground = _foreground(path, spec, values, threshold, separate_values)
    distance, minimum = _sizes(geometry, spec, stage)
    task = Task(stage, path, tomogram.folder, geometry.shape, foreground, distance, minimum)
    create_image(tomogram.path(INSTANCES[stage]), geometry, np.uint32, chunk_voxels, labels=True)
    edge = tuple(max(limit // chunk, 1) * chunk for limit, chunk in zip(_BLOCK_VOXELS, chunk_voxels, strict=True))
    owned = blocks(geometry.shape, edge)
    memory = [_block_bytes(task, box, image_dtype(path).itemsize) for box in owned]
    labelled = yield [
        Unit((f"{stage}-label", tomogram.id, k), label_unit, (task, box, k), memory[k]) for k, box in enumerate(owned)
    ]
    grid = tuple(-(-n // e) for n, e in zip(geometry.shape, edge, strict=True))
    joined = yield from _join_phases(tomogram.id, task, grid, [receipt.numbers["runs"] for receipt in labelled])
    offset = np.cumsum([0, *(receipt.numbers["pieces"] for receipt in labelled)]).tolist()
    links = sum(receipt.numbers["links"] for receipt in joined)
    numbered = yield [
        Unit(
            (f"{stage}-number", tomogram.id, 0),
            number_unit,
            (task, len(owned), tuple(_shell_files(joined))),
            projected_number_bytes(offset[-1], links),
        )
    ]
    yield [
        Unit((f"{stage}-paint", tomogram.id, k), paint_unit, (task, box, offset[k], offset[k + 1]), memory[k])
        for k, box in enumerate(owned)
    ]
    foreground_voxels = sum(receipt.numbers["voxels"] for receipt in labelled)
    return {
        "volume": INSTANCES[stage],
        "regions": f"{stage}/regions.npz",
        **numbered[0].numbers,
        "voxels": foreground_voxels,
        "warnings": _warnings(stage, foreground, foreground_voxels, numbered[0].numbers["count"]),
        "distance_voxels": distance,
        "minimum_voxels": minimum,
    }


def _warnings(stage: str, foreground: Foreground, voxels: int, count: int) -> list[str]:
    """Say when nothing was found: an empty table alone looks like a result."""
    if stage != "merge" or count:
        return []
    if voxels:
        return [f"merge: {voxels} voxels of membrane, but no region reaches merge.minimum_volume_nm3"]
    if foreground.threshold is not None:
        return [f"merge: no voxel is membrane; looked for scores from {foreground.threshold:g}"]
    return [f"merge: no voxel is membrane; looked for values {list(foreground.values) or 'other than 0'}"]


def _block_bytes(task: Task, box: Region, itemsize: int) -> int:
    return projected_bytes(
        box.shape,
        itemsize,
        reach_voxels=reach_voxels(task.distance_voxels),
        minimum_voxels=task.minimum_voxels,
        separate_values=task.foreground.separate_values,
    )


def _foreground(
    path: str, spec: MergeSpec, values: Sequence[int], threshold: float | None, separate_values: bool
) -> Foreground:
    """Return what counts as foreground, or raise where it contradicts the volume."""
    dtype = image_dtype(path)
    floating = bool(np.issubdtype(dtype, np.floating))
    if threshold is None and floating and not values:
        threshold = spec.mask_threshold
    if (threshold is not None and values) or (separate_values and (floating or threshold is not None)):
        raise UsageError(
            "scores have no values to choose or to keep apart",
            where=path,
            found=f"{dtype} with values {tuple(values)}, separate_values {separate_values}",
            allowed="whole-numbered labels, or a threshold alone",
        )
    if 0 in values:
        raise UsageError("0 is background", where=path, found=f"values {tuple(values)}", allowed="any other value")
    return Foreground(tuple(int(value) for value in values), threshold, separate_values)


def _sizes(geometry: Geometry, spec: MergeSpec, stage: str) -> tuple[float, int]:
    """Return the distance and the least size of a region, both in voxels."""
    proteins = stage == "locate"
    least_nm3 = spec.minimum_protein_nm3 if proteins else spec.minimum_volume_nm3
    distance = math.sqrt(3.0) if proteins else max(math.sqrt(3.0), spec.distance_nm / geometry.voxel_size_nm)
    if not distance <= 1000:
        raise UsageError(
            "the merge distance is out of range",
            where="merge.distance_nm",
            found=f"{spec.distance_nm} nm, {distance:.0f} voxels",
            allowed="up to 1000 voxels",
        )
    voxel_nm3 = math.prod(geometry.voxel_size_angstrom) / 1000.0
    # The slack keeps a size of exactly n voxels from asking for n + 1 after rounding.
    return distance, max(1, math.ceil(least_nm3 / voxel_nm3 * (1 - 1e-9)))


def _shell_name(level: int, box: int) -> str:
    return f"shells/{level}-{box:06d}.npz"


def _shell_files(receipts: Sequence[Receipt]) -> list[str]:
    return [name for receipt in receipts for name in receipt.files]


def _join_phases(name: str, task: Task, grid: tuple[int, ...], runs: list[int]) -> Any:
    """Yield the levels of the tree of joins, `_FAN_IN` boxes along each axis at a time; return all receipts."""
    done: list[Receipt] = []
    level, rows = 0, task.shape[0] * task.shape[1]
    while math.prod(grid) > 1:
        number = np.arange(math.prod(grid)).reshape(grid)
        grid = tuple(-(-n // _FAN_IN) for n in grid)
        groups = [
            number[tuple(slice(i * _FAN_IN, (i + 1) * _FAN_IN) for i in index)].ravel().tolist()
            for index in product(*(range(n) for n in grid))
        ]
        receipts = yield [
            Unit(
                (f"{task.stage}-join", name, len(done) + k),
                join_unit,
                (task, level, k, tuple(group)),
                projected_join_bytes(sum(runs[member] for member in group), rows),
            )
            for k, group in enumerate(groups)
        ]
        done += receipts
        runs = [receipt.numbers["runs"] for receipt in receipts]
        level += 1
    return done


# ------------------------------------------------------------------------------------------------------------ units


def label_unit(task: Task, region: Region, block: int) -> Receipt:
    """Find the pieces and the shell of one block."""
    z, y, x = region.start
    mask = task.mask(region)
    found = label_block(mask, block, (z, y, x), task.shape, task.distance_voxels, **task.options())
    files = [task.path(f"pieces/{block:06d}.npz"), task.path(_shell_name(0, block))]
    save_npz(files[0], **found.pieces.columns())
    _save_shell(files[1], found.shell, np.empty((0, 2), np.int64))
    voxels = int(np.count_nonzero(mask))
    return task.receipt(files, pieces=len(found.pieces), runs=len(found.shell.runs), voxels=voxels)


def join_unit(task: Task, level: int, box: int, members: tuple[int, ...]) -> Receipt:
    """Join the shells of one level's boxes into the shell of one box of the next level."""
    shells = [_load_shell(task.path(_shell_name(level, member))) for member in members]
    shell, links = join_shells(shells, task.shape, task.distance_voxels)
    path = task.path(_shell_name(level + 1, box))
    _save_shell(path, shell, links)
    return task.receipt([path], runs=len(shell.runs), links=len(links))


def _save_shell(path: str, shell: Shell, links: NDArray[np.int64]) -> None:
    box = np.array(shell.box, np.int64)
    save_npz(path, box=box, runs=shell.runs, piece=shell.piece, value=shell.value, links=links)


def _load_shell(path: str) -> Shell:
    found = load_npz(path)
    z0, y0, x0, z1, y1, x1 = (int(n) for n in found["box"])
    return Shell((z0, y0, x0, z1, y1, x1), found["runs"], found["piece"], found["value"])


def number_unit(task: Task, count: int, joins: tuple[str, ...]) -> Receipt:
    """Give the regions their numbers, and write the final number of every piece and the table of regions."""
    tables = [Regions(**load_npz(task.path(f"pieces/{block:06d}.npz"))) for block in range(count)]
    offset = np.cumsum([0, *(len(table) for table in tables)], dtype=np.int64)
    links = [_load_links(f"{task.folder}/{name}") for name in joins]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *links])
    final, regions = number_regions(concatenate_regions(tables), links_to_rows(pairs, offset), task.minimum_voxels)
    files = [task.path("final.npy"), task.path("regions.npz")]
    with atomic_write(files[0]) as temporary:
        np.save(temporary, final, allow_pickle=False)
    save_npz(files[1], **regions.columns())
    return task.receipt(files, count=len(regions), kept_voxels=int(regions.voxels.sum()))


def _load_links(path: str) -> NDArray[np.int64]:
    with np.load(path, allow_pickle=False) as archive:
        links: NDArray[np.int64] = archive["links"]
    return links


def paint_unit(task: Task, region: Region, first: int, past: int) -> Receipt:
    """Write the final numbers of one block."""
    # Only this block's part of the file is read.
    final = np.array(np.load(task.path("final.npy"), mmap_mode="r", allow_pickle=False)[first:past])
    z, y, x = region.start
    if final.any():
        labels = relabel_block(task.mask(region), (z, y, x), task.shape, task.distance_voxels, final, **task.options())
    else:
        # Written all the same: chunks of an earlier run go away.
        labels = np.zeros(region.shape, np.int32)
    files = write_region(f"{task.folder}/{INSTANCES[task.stage]}", region, labels.view(np.uint32))
    return task.receipt(files)
