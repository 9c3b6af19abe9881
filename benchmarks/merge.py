"""Time and memory to group membrane voxels, beside what others would take.

    python -m benchmarks merge [--size small|medium|full] [--json FILE] [--repeats N]

Membrane-like shells (2.7 % foreground) are grouped by cryoscale (whole, and in 128^3 blocks in a plain loop) and by
what others would take: `scipy.ndimage.label`, `cc3d` and `dask_image.ndmeasure.label` (the last on the same blocks).
The peers know only contact (26 neighbours). cryoscale at sqrt(3) does the same work; at 3 voxels it does more, since
every pair of voxels in a ball of 122 neighbours counts. "read the mask" is the time to look at every voxel once:
nothing can be faster.

Each method runs in a process of its own. The first call is told apart (it compiles, and meets fresh memory), then the
median of the repeats; the peak is the highest resident memory of the process beyond what it had before the first call,
plus the mask itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.merge import merge_regions, merge_regions_in_blocks

Mask = NDArray[np.bool_]

SIZES = {"small": (64, 128, 128), "medium": (128, 256, 256), "full": (256, 512, 512)}
BLOCK = (128, 128, 128)
FOREGROUND = 0.027
PATIENCE_SECONDS = 15.0
"""A method that would take longer, judged in proportion from half the size along each axis, is measured on that half.
It may be worse than in proportion: dask_image took over 80 s of processor time for 256 x 512 x 512 in 32 blocks."""
THREADS = 2


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


def _scipy(mask: Mask) -> int:
    from scipy import ndimage

    return int(ndimage.label(mask, np.ones((3, 3, 3), int))[1])


def _cc3d(mask: Mask) -> int:
    import cc3d

    return int(cc3d.connected_components(mask, connectivity=26, return_N=True)[1])


def _dask_image(mask: Mask) -> int:
    import dask
    import dask.array
    from dask_image import ndmeasure

    labels, count = ndmeasure.label(dask.array.from_array(mask, chunks=BLOCK), np.ones((3, 3, 3), int))
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        return int(dask.compute(labels, count)[1])


METHODS: dict[str, tuple[str, str, Callable[[Mask], int]]] = {
    "read": ("read the mask", "", lambda mask: int(np.count_nonzero(mask))),
    "ours3": ("cryoscale, whole", "3 voxels", lambda mask: merge_regions(mask, 3.0)[1]),
    "ours3blocks": ("cryoscale, 128^3 blocks", "3 voxels", lambda m: len(merge_regions_in_blocks(m, BLOCK, 3.0)[1])),
    "ours26": ("cryoscale, whole", "sqrt 3 = 26", lambda mask: merge_regions(mask, math.sqrt(3))[1]),
    "ours26blocks": (
        "cryoscale, 128^3 blocks",
        "sqrt 3 = 26",
        lambda mask: len(merge_regions_in_blocks(mask, BLOCK, math.sqrt(3))[1]),
    ),
    "scipy": ("scipy.ndimage.label", "26", _scipy),
    "cc3d": ("cc3d", "26", _cc3d),
    "dask_image": (f"dask_image label, 128^3, {THREADS} threads", "26", _dask_image),
}
"""Name, what joins, and the call, which returns the number of regions."""


# ------------------------------------------------------------------------------------------------------ measurement


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    return 0


def measure(method: str, mask: Mask, repeats: int) -> dict[str, Any]:
    """Run one method in this process."""
    call = METHODS[method][2]
    try:
        call(np.pad(mask[:8, :8, :8], 1))  # imports and compiles
    except ImportError:
        return {"error": "not installed"}
    before, seconds, cpu = _memory("VmRSS"), [], []
    for _ in range(repeats + 1):
        started, worked = time.perf_counter(), time.process_time()
        count = call(mask)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    return {
        "regions": None if method == "read" else count,
        "first_seconds": seconds[0],
        "seconds": median(seconds[1:]),
        "cpu_seconds": median(cpu[1:]),
        "load": os.getloadavg()[0],
        "peak_bytes": _memory("VmHWM") - before + mask.nbytes,
    }


def _in_a_process(method: str, path: Path, repeats: int) -> dict[str, Any]:
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(THREADS))
    command = [sys.executable, "-m", "benchmarks.merge", "--measure", method, str(path), "--repeats", str(repeats)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _half(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = shape
    return (z // 2, y // 2, x // 2)


def run(size: str, repeats: int) -> dict[str, Any]:
    """Measure every method on one size."""
    shape = SIZES[size]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {cut: Path(folder) / f"{cut[0]}.npy" for cut in (shape, _half(shape))}
        for cut, path in paths.items():
            np.save(path, membrane_mask(cut))
        for method, (name, joins, _) in METHODS.items():
            cut, times = shape, repeats
            if method == "dask_image":
                expected = 8 * _in_a_process(method, paths[_half(shape)], 1).get("seconds", 0.0)
                cut = _half(shape) if expected > PATIENCE_SECONDS else shape
                times = 1 if expected > PATIENCE_SECONDS / 10 else repeats
            result = _in_a_process(method, paths[cut], times)
            rows.append({"method": method, "name": name, "joins": joins, "shape": list(cut), **result})
            print(
                f"  {name} {joins}: {result.get('error', '')}{result.get('seconds', math.nan):.3f} s", file=sys.stderr
            )
    _add_ratios(rows)
    return {"benchmark": "merge", "size": size, "shape": list(shape), "foreground": FOREGROUND, "rows": rows}


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """Add processor time per voxel relative to cryoscale whole at sqrt 3, the same work as the peers do."""
    own = next(row for row in rows if row["method"] == "ours26")
    for row in rows:
        if "seconds" in row and "seconds" in own:
            row["ratio"] = row["cpu_seconds"] / math.prod(row["shape"]) * math.prod(own["shape"]) / own["cpu_seconds"]
            row["bytes_per_voxel"] = row["peak_bytes"] / math.prod(row["shape"])


def table(result: dict[str, Any]) -> str:
    """Return the result as text."""
    z, y, x = result["shape"]
    load = max((row["load"] for row in result["rows"] if "load" in row), default=0.0)
    lines = [
        f"{z} x {y} x {x} voxels, membrane-like shells, {100 * result['foreground']:.1f} % foreground",
        f"{'method':38}{'joins':14}{'regions':>8}{'first s':>9}{'median s':>10}{'cpu s':>9}{'ratio':>8}"
        f"{'byte/voxel':>12}",
    ]
    for row in result["rows"]:
        head = f"{row['name']:38}{row['joins']:14}"
        if "error" in row:
            lines.append(head + row["error"])
            continue
        regions = "" if row["regions"] is None else row["regions"]
        note = "" if row["shape"] == result["shape"] else f"   on {' x '.join(map(str, row['shape']))} only: too slow"
        lines.append(
            f"{head}{regions:>8}{row['first_seconds']:9.3f}{row['seconds']:10.3f}{row['cpu_seconds']:9.3f}{row['ratio']:8.2f}"
            f"{row['bytes_per_voxel']:12.1f}{note}"
        )
    lines += [
        "ratio: processor time per voxel relative to cryoscale whole at sqrt 3, which is the work the peers do.",
        "The peers join only voxels that touch (26); 3 voxels is more work, and they cannot do it.",
        f"{os.cpu_count()} cores, load up to {load:.1f}: above the number of cores, only the processor times count.",
        "byte/voxel: peak memory with the mask (1) and the labels.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="benchmarks merge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--json", metavar="FILE", help="write the numbers here as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "MASK"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        print(json.dumps(measure(options.measure[0], np.load(options.measure[1]), options.repeats)))
        return 0
    result = run(options.size, max(1, options.repeats))
    print(table(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    failed = [row for row in result["rows"] if row.get("error") not in (None, "not installed")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
