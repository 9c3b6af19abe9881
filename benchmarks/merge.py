"""Time, memory, scale and quality of grouping membrane voxels, beside what others would take.

    python -m benchmarks merge [--part speed|scale|quality|all] [--size small|medium|full] [--json FILE] [--repeats N]

Speed: membrane-like shells (2.7 % foreground) are grouped by cryoscale (whole, in 128^3 blocks in a plain loop,
streamed from Zarr, and as a Dask graph over a Zarr store) and by what others would take: `scipy.ndimage.label`, `cc3d`
and `dask_image.ndmeasure.label` (the last over the same Zarr store and chunks), which know only contact (26
neighbours), and SciPy's search tree with all pairs of voxels within 3 voxels. cryoscale at sqrt(3) does the same work
as the former; at 3 voxels every pair of voxels in a ball of 122 neighbours counts. "read" is the time to look at every
voxel once, in memory and from the store: nothing can be faster.

Each method runs in a process of its own, after a tiny volume has compiled it. The first call is told apart (it meets
fresh memory), then the median of the repeats; slow methods are called once. The peak is the highest resident memory of
the process beyond what it had before the first call, plus the mask itself where it was in memory before.

Scale: see `benchmarks._merge_scale`. Quality: the grouping of real and simulated membranes against their labels, see
`benchmarks._grouping`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._machine import in_a_process, peak_bytes, write_json
from benchmarks._merge_scale import scale_rows, scale_table, work
from cryoscale.merge import merge_regions, merge_regions_in_blocks

Mask = NDArray[np.bool_]

SIZES = {"small": (64, 128, 128), "medium": (128, 256, 256), "full": (256, 512, 512)}
BLOCK = (128, 128, 128)
FOREGROUND = 0.027
THREADS = 2
TOUCH = math.sqrt(3.0)


def membrane_mask(shape: tuple[int, int, int], seed: int = 0) -> Mask:
    """Spherical shells, 3 voxels thick, placed at random until 2.7 % of the voxels are foreground."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.bool_)
    largest = min(60.0, min(shape) / 3)
    while np.count_nonzero(mask) < FOREGROUND * mask.size:
        radius, centre = rng.uniform(largest / 4, largest), rng.uniform(0, 1, 3) * shape
        low = np.maximum(0, np.floor(centre - radius - 3)).astype(int)
        high = np.minimum(shape, np.ceil(centre + radius + 3)).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        squared = sum((axis - c) ** 2 for axis, c in zip(np.ogrid[box], centre, strict=True))
        mask[box] |= np.abs(np.sqrt(squared) - radius) < 1.5
    return mask


# ---------------------------------------------------------------------------------------------------------- methods


def _scipy(mask: Mask, _: str) -> int:
    from scipy import ndimage

    return int(ndimage.label(mask, np.ones((3, 3, 3), int))[1])


def _cc3d(mask: Mask, _: str) -> int:
    import cc3d

    return int(cc3d.connected_components(mask, connectivity=26, return_N=True)[1])


def _pairs(mask: Mask, _: str) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    points = np.argwhere(mask)
    pairs = cKDTree(points).query_pairs(3.0, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), np.int8), pairs.T), (len(points), len(points)))
    return int(connected_components(graph, directed=False)[0])


def _from_store(store: str) -> Any:
    import dask.array

    return dask.array.from_zarr(store)


def _computed(labels: Any, count: Any) -> int:
    import dask

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        return int(dask.compute(labels, count)[1])


def _dask_image(_: Mask, store: str) -> int:
    from dask_image import ndmeasure

    return _computed(*ndmeasure.label(_from_store(store), np.ones((3, 3, 3), int)))


def _dask(distance: float) -> Callable[[Mask, str], int]:
    return lambda _, store: _computed(*merge_regions(_from_store(store), distance))


def _streamed(_: Mask, store: str) -> int:
    import zarr

    labels, count = merge_regions(zarr.open_array(store, mode="r"), 3.0)
    np.asarray(labels)
    return int(count)


def _read_store(_: Mask, store: str) -> int:
    import zarr

    return int(np.count_nonzero(zarr.open_array(store, mode="r")[...]))


@dataclass(frozen=True)
class Method:
    """One way to group voxels."""

    name: str
    joins: str
    """What joins: nothing, a distance in voxels, or 26 neighbours."""
    call: Callable[[Mask, str], int]
    """Takes the mask and a Zarr store of it; returns the number of regions."""
    once: bool = False
    """Too slow to repeat."""


METHODS = {
    "read": Method("read the mask", "", lambda mask, _: int(np.count_nonzero(mask))),
    "read_zarr": Method("read the mask from Zarr", "", _read_store),
    "ours3": Method("cryoscale, whole", "3", lambda mask, _: int(merge_regions(mask, 3.0)[1])),
    "ours3blocks": Method(
        "cryoscale, 128^3 blocks, loop", "3", lambda m, _: len(merge_regions_in_blocks(m, BLOCK, 3.0)[1])
    ),
    "ours3zarr": Method("cryoscale, streamed from Zarr, loop", "3", _streamed),
    "ours3dask": Method(f"cryoscale, Dask from Zarr, {THREADS} threads", "3", _dask(3.0)),
    "pairs": Method("cKDTree pairs + components", "3", _pairs, once=True),
    "ours26": Method("cryoscale, whole", "26", lambda mask, _: int(merge_regions(mask, TOUCH)[1])),
    "ours26blocks": Method(
        "cryoscale, 128^3 blocks, loop", "26", lambda m, _: len(merge_regions_in_blocks(m, BLOCK, TOUCH)[1])
    ),
    "ours26dask": Method(f"cryoscale, Dask from Zarr, {THREADS} threads", "26", _dask(TOUCH)),
    "scipy": Method("scipy.ndimage.label", "26", _scipy),
    "cc3d": Method("cc3d", "26", _cc3d),
    "dask_image": Method(f"dask_image label from Zarr, {THREADS} threads", "26", _dask_image, once=True),
}


# ------------------------------------------------------------------------------------------------------ measurement


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


def _write_store(path: str, mask: Mask) -> None:
    import zarr

    chunks = tuple(min(c, n) for c, n in zip(BLOCK, mask.shape, strict=True))
    zarr.create_array(store=path, shape=mask.shape, chunks=chunks, dtype=bool)[...] = mask


def measure(method: str, path: Path, repeats: int) -> dict[str, Any]:
    """Run one method in this process on the mask at `path` and the store beside it."""
    chosen, store = METHODS[method], str(path.with_suffix(".zarr"))
    uses_store = "Zarr" in chosen.name
    mask = np.empty((1, 1, 1), np.bool_) if uses_store else np.load(path)
    with tempfile.TemporaryDirectory() as folder:
        tiny = np.pad(np.ones((3, 4, 5), np.bool_), 2)
        _write_store(f"{folder}/tiny.zarr", tiny)
        try:
            chosen.call(tiny, f"{folder}/tiny.zarr")  # imports and compiles
        except ImportError:
            return {"error": "not installed"}
    before, seconds, cpu = _resident_bytes(), [], []
    for _ in range(1 if chosen.once else repeats + 1):
        started, worked = time.perf_counter(), time.process_time()
        count = chosen.call(mask, store)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    later = slice(min(1, len(seconds) - 1), None)
    return {
        "regions": count if chosen.joins else None,
        "first_seconds": seconds[0],
        "seconds": median(seconds[later]),
        "cpu_seconds": median(cpu[later]),
        "load": os.getloadavg()[0],
        "peak_bytes": peak_bytes() - before + (0 if uses_store else mask.nbytes),
    }


def speed_rows(size: str, repeats: int) -> list[dict[str, Any]]:
    """Measure every method on one size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.npy"
        mask = membrane_mask(SIZES[size])
        np.save(path, mask)
        _write_store(str(path.with_suffix(".zarr")), mask)
        for key, method in METHODS.items():
            result = in_a_process(
                "benchmarks.merge", "--measure", key, str(path), "--repeats", str(repeats), threads=THREADS
            )
            rows.append({"method": key, "name": method.name, "joins": method.joins, **result})
            note = result.get("error", f"{result.get('seconds', math.nan):.3f} s")
            print(f"  {method.name} {method.joins}: {note}", file=sys.stderr)
    for row in rows:
        if "seconds" in row:
            row["bytes_per_voxel"] = row["peak_bytes"] / math.prod(SIZES[size])
    return rows


def _ratios(rows: list[dict[str, Any]]) -> list[str]:
    """Say how many times faster than each peer the same work is done, by wall and by processor time."""
    found = {row["method"]: row for row in rows if "seconds" in row}
    pairs = (("dask_image", "ours26dask"), ("scipy", "ours26"), ("cc3d", "ours26"), ("pairs", "ours3"))
    return [
        f"{found[peer]['name']} / {found[own]['name']}: {found[peer]['seconds'] / found[own]['seconds']:.1f} times the "
        f"seconds, {found[peer]['cpu_seconds'] / found[own]['cpu_seconds']:.1f} times the processor time"
        for peer, own in pairs
        if peer in found and own in found
    ]


def speed_table(size: str, rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    load = max((row["load"] for row in rows if "load" in row), default=0.0)
    lines = [
        f"{' x '.join(map(str, SIZES[size]))} voxels, membrane-like shells, {100 * FOREGROUND:.1f} % foreground",
        f"{'method':40}{'joins':>6}{'regions':>9}{'first s':>9}{'median s':>10}{'cpu s':>9}{'byte/voxel':>12}",
    ]
    for row in rows:
        head = f"{row['name']:40}{row['joins']:>6}"
        if "error" in row:
            lines.append(f"{head}  {row['error']}")
            continue
        regions = "" if row["regions"] is None else row["regions"]
        lines.append(
            f"{head}{regions:>9}{row['first_seconds']:9.3f}{row['seconds']:10.3f}{row['cpu_seconds']:9.3f}"
            f"{row['bytes_per_voxel']:12.2f}"
        )
    return "\n".join(
        [
            *lines,
            *_ratios(rows),
            "joins: 3 = all pairs of voxels within 3; 26 = those that touch: no peer but the search tree knows more.",
            f"{os.cpu_count()} cores, load up to {load:.1f}: above the number of cores, only processor times count.",
            "byte/voxel: peak memory with the mask (1, where it is in memory) and the labels (4).",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="benchmarks merge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["speed", "scale", "quality", "all"], default="all")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--json", metavar="FILE", default="", help="write the numbers here as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "MASK"), help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure or options.work:
        name, *rest = options.measure or options.work
        print(json.dumps(measure(name, Path(rest[0]), options.repeats) if options.measure else work(name, rest)))
        return 0
    result: dict[str, Any] = {"benchmark": "merge", "size": options.size, "foreground": FOREGROUND}
    if options.part in ("speed", "all"):
        result["speed"] = speed_rows(options.size, max(1, options.repeats))
        print(speed_table(options.size, result["speed"]), end="\n\n")
    if options.part in ("scale", "all"):
        result["scale"] = scale_rows(options.size, membrane_mask(SIZES["full"]))
        print(scale_table(result["scale"]), end="\n\n")
    if options.part in ("quality", "all"):
        from benchmarks._grouping import print_quality, quality_rows
        from benchmarks._grouping_table import summaries

        result["quality"] = quality_rows("small" if options.size == "small" else "full")
        result["quality_means"] = summaries(result["quality"])
        print_quality(result["quality"])
    write_json(options.json, result)
    rows = [*result.get("speed", []), *result.get("scale", [])]
    return 1 if any(row.get("error") not in (None, "not installed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
