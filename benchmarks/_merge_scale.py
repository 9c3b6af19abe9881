"""Memory and time of merging against the size of the volume and the number of pieces.

Streams: stores of 0.25, 1 and 4 gigavoxels, 2.7 % membrane-like foreground, every chunk a block of one generated
volume, chosen, turned and mirrored at random. Each is numbered and painted into another store by one process, whose
highest resident memory is read at its end (VmHWM, all of it: interpreter, libraries, compiled code and caches).

Tree: 10^5, 10^6 and 10^7 pieces in up to 32 x 32 x 32 blocks (95 232 faces between them) with synthetic edges: each
face carries 60 pairs of voxels that touch, each block deals its 360 voxels at faces to 330 pieces at random, and 90
pieces lie inside. What comes out is one huge region through all blocks and many small ones. The units of the plan run
one after the other on files, as they would on a cluster; the peak of a unit is its highest resident memory beyond what
the process had before it. The number of regions is checked against SciPy's connected components of the edge list.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._machine import in_a_process, peak_bytes
from cryoscale.chunks import blocks
from cryoscale.foreground import Foreground
from cryoscale.merge import Ball, Regions, merge_regions, merge_regions_in_blocks
from cryoscale.merge.levels import Levels
from cryoscale.merge.plan import Task, number_phases, save_box
from cryoscale.merge.shell import Shell
from cryoscale.merge.tree import Box
from cryoscale.records import Receipt, Unit

__all__ = ["scale_rows", "scale_table", "work"]

Triple = tuple[int, int, int]

STREAMS: dict[str, list[Triple]] = {
    "small": [(128, 256, 256), (256, 256, 512)],
    "medium": [(256, 512, 512), (512, 512, 1024)],
    "full": [(512, 512, 1024), (1024, 1024, 1024), (1024, 2048, 2048)],
}
TREES = {"small": [4], "medium": [7, 15], "full": [7, 15, 32]}
"""Blocks along each axis."""
CHUNK = (128, 128, 128)
PAIRS, PIECES_AT_FACES, PIECES_INSIDE, EDGE = 60, 330, 90, 64
SIDES = [(axis, side) for axis in range(3) for side in (0, 1)]


# --------------------------------------------------------------------------------------------------------- streams


def write_store(path: Path, shape: Triple, volume: NDArray[np.bool_], seed: int = 0) -> int:
    """Fill a store with blocks of a volume at random; return the number of foreground voxels."""
    import zarr

    rng, voxels, choice = np.random.default_rng(seed), 0, blocks(volume.shape, CHUNK)
    store = zarr.create_array(store=str(path), shape=shape, chunks=CHUNK, dtype=bool)
    for region in blocks(shape, CHUNK):
        part = volume[choice[rng.integers(len(choice))].slices].transpose(rng.permutation(3))
        part = part[tuple(slice(None, None, step) for step in rng.choice((-1, 1), 3))]
        store[region.slices] = part[tuple(slice(n) for n in region.shape)]
        voxels += int(np.count_nonzero(part))
    return voxels


def stream(source: str, target: str) -> dict[str, Any]:
    """Measure this process numbering a stored mask and painting its labels into another store."""
    import zarr

    mask = zarr.open_array(source, mode="r")
    started, worked = time.perf_counter(), time.process_time()
    labels, count = merge_regions(mask, 3.0)
    numbered = time.perf_counter()
    out = zarr.create_array(store=target, shape=labels.shape, chunks=CHUNK, dtype=labels.dtype)
    voxels = 0
    for region in blocks(labels.shape, labels.chunks):
        part = labels[region.slices]
        voxels += int(np.count_nonzero(part))
        out[region.slices] = part
    return {
        "regions": count,
        "voxels": voxels,
        "number_seconds": numbered - started,
        "paint_seconds": time.perf_counter() - numbered,
        "cpu_seconds": time.process_time() - worked,
        "peak_bytes": peak_bytes(),
    }


# ------------------------------------------------------------------------------------------------------------- tree


def _face_seed(number: Triple, axis: int) -> np.random.Generator:
    """Return the generator that both blocks at a face share; `number` is the block above it."""
    return np.random.default_rng((*number, axis))


def _face_voxels(number: Triple, axis: int) -> NDArray[np.int64]:
    """Return places of pairs on a face, (PAIRS, 2), at least 4 voxels from each other and 2 from the face's edges."""
    place = _face_seed(number, axis).permutation((EDGE // 4) ** 2)[:PAIRS]
    return np.stack(np.divmod(place, EDGE // 4), axis=1) * 4 + 2


def _deal(number: Triple) -> NDArray[np.int64]:
    """Return the piece of each voxel at the faces of a block, (6, PAIRS)."""
    rng = np.random.default_rng((*number, 9))
    return rng.integers(0, PIECES_AT_FACES, (6, PAIRS))


def synthetic_box(number: Triple, grid: int) -> Box:
    """Make a block's box: single voxels at its inner faces, dealt to pieces, and pieces inside."""
    origin, shape, deal = np.array(number) * EDGE, (grid * EDGE,) * 3, _deal(number)
    runs, dealt = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for k, (axis, side) in enumerate(SIDES):
        above = tuple(n + (side if a == axis else 0) for a, n in enumerate(number))
        if 0 < above[axis] < grid:
            places = np.insert(_face_voxels((above[0], above[1], above[2]), axis), axis, side * (EDGE - 1), axis=1)
            runs.append(places + origin)
            dealt.append(deal[k])
    voxels, piece = np.concatenate(runs), np.concatenate(dealt)
    order = np.lexsort(voxels.T[::-1])
    voxels, (names, piece) = voxels[order], np.unique(piece[order], return_inverse=True)
    first = np.full(names.size, np.iinfo(np.int64).max)
    np.minimum.at(first, piece, np.ravel_multi_index(tuple(voxels.T), shape))
    inside = origin + np.array(np.unravel_index(np.arange(PIECES_INSIDE) * 7, (20,) * 3)).T + 20
    closed = np.sort(np.ravel_multi_index(tuple(inside.T), shape)).astype(np.int64)
    box = (*origin.tolist(), *(origin + EDGE).tolist())
    table = np.concatenate((voxels, voxels[:, 2:] + 1), axis=1).astype(np.int32)
    code = np.concatenate((np.arange(1, names.size + 1), -np.arange(1, PIECES_INSIDE + 1))).astype(np.int32)
    return Box(Shell(box, table, piece.astype(np.int64), np.empty(0, np.int64)), _table(first), _table(closed), code)


def _table(first: NDArray[np.int64]) -> Regions:
    """Return a table of regions of which only the first voxels matter."""
    n = first.size
    return Regions(
        np.ones(n, np.int64), np.zeros((n, 6), np.int64), np.zeros((n, 3), np.int64), first, np.ones(n, np.int64)
    )


def _task(folder: str, grid: int) -> Task:
    levels = Levels((grid * EDGE,) * 3, (EDGE,) * 3, 4)
    return Task("merge", "", folder, "", levels, Foreground(), Ball(1.0), 1)


def make_tree(folder: str, grid: int) -> dict[str, Any]:
    """Write the boxes of all blocks; return what their units would have reported."""
    task, reports = _task(folder, grid), []
    for block, number in enumerate(np.ndindex(grid, grid, grid)):
        reports.append(save_box(task, 0, block, synthetic_box((number[0], number[1], number[2]), grid)).numbers)
    return {"reports": reports}


def join_tree(folder: str, grid: int, reports: str) -> dict[str, Any]:
    """Run everything between the pieces and their final numbers, unit by unit, in this process."""
    labelled = [Receipt((), numbers) for numbers in json.loads(Path(reports).read_text())["reports"]]
    merge_regions_in_blocks(np.eye(9, dtype=np.bool_)[np.newaxis], (1, 4, 4), 1.0)  # compiled before it is measured
    phases = number_phases("tree", _task(folder, grid), labelled)
    started, worked = time.perf_counter(), time.process_time()
    steps: dict[str, dict[str, float]] = {}
    ranked = _run(phases, steps)
    return {
        "pieces": sum(report.numbers["pieces"] for report in labelled),
        "faces": 3 * grid * grid * (grid - 1),
        "regions": sum(receipt.numbers["count"] for receipt in ranked),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "steps": steps,
        "unit_peak_bytes": max(step["peak_bytes"] for step in steps.values()),
    }


def _run(
    phases: Generator[list[Unit], list[Receipt], tuple[list[Any], list[Receipt]]], steps: dict[str, dict[str, float]]
) -> list[Receipt]:
    """Run units in a loop; note count, seconds, highest peak and highest projection of each kind."""
    answer: Any = None
    while True:
        try:
            units = phases.send(answer)
        except StopIteration as end:
            return list(end.value[1])
        answer = []
        for unit in units:
            step = steps.setdefault(
                unit.key[0], dict.fromkeys(("units", "seconds", "peak_bytes", "projected_bytes"), 0)
            )
            before, begun = _forget_peak(), time.perf_counter()
            answer.append(unit.call(*unit.args))
            step["units"] += 1
            step["seconds"] += time.perf_counter() - begun
            step["peak_bytes"] = max(step["peak_bytes"], peak_bytes() - before)
            step["projected_bytes"] = max(step["projected_bytes"], unit.bytes)


def _forget_peak() -> int:
    """Set the highest resident memory back to the present one, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def expected_regions(grid: int) -> int:
    """Count the regions of a synthetic tree by SciPy's connected components of its edge list."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    deals = np.stack([_deal((n[0], n[1], n[2])) for n in np.ndindex(grid, grid, grid)]).reshape(
        grid, grid, grid, 6, PAIRS
    )
    name = deals + PIECES_AT_FACES * np.arange(grid**3).reshape(grid, grid, grid, 1, 1)
    pairs, used = [], np.zeros(grid**3 * PIECES_AT_FACES, np.bool_)
    for axis in range(3):
        low = np.take(name[..., 2 * axis + 1, :], range(grid - 1), axis).ravel()
        high = np.take(name[..., 2 * axis, :], range(1, grid), axis).ravel()
        used[low] = used[high] = True
        pairs.append((low, high))
    rows, columns = (np.concatenate(part) for part in zip(*pairs, strict=True))
    graph = coo_matrix((np.ones(rows.size, np.int8), (rows, columns)), (used.size, used.size))
    count, component = connected_components(graph, directed=False)
    assert count == component.max() + 1
    return int(np.unique(component[used]).size) + PIECES_INSIDE * grid**3


# -------------------------------------------------------------------------------------------------------- the rows


def work(name: str, arguments: list[str]) -> dict[str, Any]:
    """Do one measurement in this process: what the parent asks for by name."""
    if name == "stream":
        return stream(arguments[0], arguments[1])
    if name == "make":
        return make_tree(arguments[0], int(arguments[1]))
    return join_tree(arguments[0], int(arguments[1]), arguments[2])


_WORK = ("benchmarks.merge", "--work")
"""How `work` is called in a process of its own."""


def _streams(size: str, volume: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    for shape in STREAMS[size]:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "mask.zarr", Path(folder) / "labels.zarr"
            foreground = write_store(source, shape, volume)
            result = in_a_process(*_WORK, "stream", str(source), str(target))
        share = foreground / math.prod(shape)
        yield {"what": "stream", "shape": list(shape), "foreground": share, "foreground_voxels": foreground, **result}


def _trees(size: str) -> Iterator[dict[str, Any]]:
    for grid in TREES[size]:
        with tempfile.TemporaryDirectory() as folder:
            made = in_a_process(*_WORK, "make", folder, str(grid))
            reports = Path(folder) / "reports.json"
            reports.write_text(json.dumps(made))
            result = made if "error" in made else in_a_process(*_WORK, "join", folder, str(grid), str(reports))
        yield {"what": "tree", "blocks": grid**3, "expected_regions": expected_regions(grid), **result}


def scale_rows(size: str, volume: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Measure streams and trees; `volume` is what the stores are made of, in whole chunks."""
    rows = []
    for row in itertools.chain(_streams(size, volume), _trees(size)):
        rows.append(row)
        print(f"  {row['what']} {row.get('shape', row.get('blocks'))}: {row.get('error', 'done')}", file=sys.stderr)
    return rows


def scale_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        "Streamed from Zarr to Zarr, 128^3 chunks, 3 voxels, one process; peak is all its memory (VmHWM)",
        f"{'shape':>20}{'gigavoxels':>12}{'foreground':>12}{'regions':>9}{'number s':>10}{'paint s':>9}{'peak MB':>9}",
    ]
    for row in (row for row in rows if row["what"] == "stream"):
        shape, voxels = " x ".join(map(str, row["shape"])), math.prod(row["shape"]) / 1e9
        head = f"{shape:>20}{voxels:12.2f}{100 * row['foreground']:10.1f} %"
        if "error" in row:
            lines.append(f"{head}  {row['error']}")
            continue
        whole = "" if row["voxels"] == row["foreground_voxels"] else "   FOREGROUND LOST"
        lines.append(
            f"{head}{row['regions']:>9}{row['number_seconds']:10.1f}{row['paint_seconds']:9.1f}"
            f"{row['peak_bytes'] / 1e6:9.0f}{whole}"
        )
    lines += [
        "Pieces of blocks to final numbers, units of the plan on files; the peak of one unit",
        f"{'pieces':>12}{'faces':>9}{'regions':>10}{'SciPy':>10}{'seconds':>9}{'peak MB':>9}"
        "  by kind of unit (peak of projected)",
    ]
    for row in (row for row in rows if row["what"] == "tree"):
        if "error" in row:
            lines.append(f"{row['blocks']:>12} blocks  {row['error']}")
            continue
        steps = ", ".join(
            f"{step['units']:.0f} {name.removeprefix('merge-')} in {step['seconds']:.1f} s, "
            f"{step['peak_bytes'] / 1e6:.0f} of {step['projected_bytes'] / 1e6:.0f} MB"
            for name, step in row["steps"].items()
        )
        lines.append(
            f"{row['pieces']:>12}{row['faces']:>9}{row['regions']:>10}{row['expected_regions']:>10}"
            f"{row['seconds']:9.1f}{row['unit_peak_bytes'] / 1e6:9.0f}  {steps}"
        )
    lines.append(
        "Tables grow with the pieces (4 bytes each) and regions (96 bytes each) of a stream, not with its voxels."
    )
    return "\n".join(lines)
