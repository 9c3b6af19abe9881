"""A tomogram's membranes from points to voxels and meshes: time on two cores, memory, and what was projected.

Membranes are ellipsoids, bumpy vesicles, peanuts and bananas whose seen area is worth about 500 to 1,500 control
points, caps beyond |n_z| 0.7 and six holes missing, 0.9 ridge points per square voxel. Two processes take units of
membranes of similar size, as the stage does, and fit them, voxelise them 3 voxels thick and mesh them: once with at
most 500 control points each, as the pipeline does, and once with all of theirs.

Seconds: processor seconds of both processes over two, which are held against what was asked, and the wall clock, which
includes making the clouds and what else the machine did. Memory: the highest resident memory of each process; "grown"
is beyond what it had when it began, to be held against the largest `projected_bytes` of its units.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._fit_accuracy import CLOSED
from benchmarks._machine import peak_bytes
from cryoscale.band import band_mesh
from cryoscale.fit import Surface, fit_surface, fit_surfaces, projected_bytes
from cryoscale.surface.voxels import voxel_records
from tests.fit.shapes import SHAPES, degrade, surface_points

__all__ = ["collection", "collection_table"]

Array = NDArray[np.float64]
MEMBRANES = 100
WORKERS = 2
UNIT = 8
AREA_PER_POINT = 50.0
"""Whole area per control point: one per 35 square voxels of what is seen."""
DENSITY = 0.9
SECONDS_ASKED, BYTES_ASKED = 60.0, 2 * 2**30


def cloud(number: int) -> Array:
    """Return the points of one membrane."""
    rng = np.random.default_rng(number)
    shape = SHAPES[CLOSED[number % len(CLOSED)]]
    area = len(surface_points(shape, 0.1, rng)) / 0.1
    scale = float(np.sqrt(rng.uniform(500, 1500) * AREA_PER_POINT / area))
    degraded = degrade(shape, seed=number, noise=0.5 / scale, density=DENSITY * scale**2)[0]
    return np.asarray(degraded * scale)


def _units(count: int) -> list[list[int]]:
    """Return which membranes each unit takes, largest first."""
    sizes = [len(cloud(number)) for number in range(count)]
    order = np.argsort(sizes)[::-1].tolist()
    return [order[start : start + UNIT] for start in range(0, count, UNIT)]


def _begin() -> None:
    """Import and compile before anything is timed, one membrane of every shape; one thread, as the stage's units have.

    Two processes whose linear algebra has two threads each would count the seconds in which these wait for each other.
    """
    threadpool_limits(1)
    for number in range(len(CLOSED)):
        band_mesh(fit_surface(cloud(number), spacing=1.0, control_points=200).band(2.0))


def _run(unit: Sequence[int], control_points: int) -> dict[str, Any]:
    """Fit, voxelise and mesh one unit in this process."""
    points = [cloud(number) for number in unit]
    before, start = _resident(), time.process_time()
    surfaces = fit_surfaces(points, spacing=1.0, control_points=control_points)
    fitted = time.process_time()
    voxels = faces = closed = 0
    control, patches = [], 0
    for surface in surfaces:
        if not isinstance(surface, Surface):
            raise surface
        band = surface.band(2.0)
        voxels += len(voxel_records(band, 3.0, 1.0, 1))
        faces += len(band_mesh(band).faces)
        closed += surface.closed
        control.append(surface.choice["control_points"])
        patches += surface.choice["patches"]
    end = time.process_time()
    return {
        "fit_s": fitted - start,
        "surface_s": end - fitted,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
        "projected_bytes": max(projected_bytes(len(p), control_points=control_points) for p in points),
        "voxels": voxels,
        "faces": faces,
        "closed": closed,
        "control_points": control,
        "process": multiprocessing.current_process().name,
    }


def _resident() -> int:
    """Return the resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def collection(size: str) -> list[dict[str, Any]]:
    """Run both ways; a small run takes a part of the membranes and scales its times."""
    count = {"small": 8, "full": MEMBRANES}[size]
    units = _units(count)
    if size == "small":
        units = [part for unit in units for part in (unit[:4], unit[4:])]
    out = []
    for control_points in (500, 1500):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_begin) as pool:
            list(pool.map(_wait, [0.5] * WORKERS))
            clock = time.perf_counter()
            rows = list(pool.map(_run, units, [control_points] * len(units)))
            wall = time.perf_counter() - clock
        out.append(_summary(rows, count, control_points, wall))
    return out


def _wait(seconds: float) -> None:
    """Keep one process busy, so that each of them begins."""
    time.sleep(seconds)


def _summary(rows: Sequence[dict[str, Any]], count: int, asked: int, wall: float) -> dict[str, Any]:
    share = MEMBRANES / count
    control = [n for row in rows for n in row["control_points"]]
    processes = {row["process"] for row in rows}
    peaks = [max(row["peak_bytes"] for row in rows if row["process"] == name) for name in processes]
    grown = max(row["peak_bytes"] - row["before_bytes"] for row in rows)
    return {
        "membranes": count,
        "most_control_points": asked,
        "control_points": [min(control), float(np.median(control)), max(control)],
        "fit_s": share * sum(row["fit_s"] for row in rows) / WORKERS,
        "surface_s": share * sum(row["surface_s"] for row in rows) / WORKERS,
        "wall_s": share * wall,
        "peak_bytes": sum(peaks),
        "grown_bytes": grown,
        "projected_bytes": max(row["projected_bytes"] for row in rows),
        "closed": sum(row["closed"] for row in rows),
        "voxels": sum(row["voxels"] for row in rows),
        "faces": sum(row["faces"] for row in rows),
    }


def collection_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return times and memory as text."""
    lines = []
    for row in rows:
        low, middle, high = row["control_points"]
        seconds = row["fit_s"] + row["surface_s"]
        part = "" if row["membranes"] == MEMBRANES else f", scaled from {row['membranes']}"
        lines += [
            f"{MEMBRANES} membranes{part}, at most {row['most_control_points']} control points each "
            f"({low}, {middle:g}, {high}: least, median, most), {row['closed']} of {row['membranes']} closed",
            f"    fit {row['fit_s']:.0f} s + voxels and mesh {row['surface_s']:.0f} s = {seconds:.0f} s, processor "
            f"seconds of all processes over {WORKERS} "
            f"({'reached' if seconds <= SECONDS_ASKED else 'not reached'}: asked {SECONDS_ASKED:g}); wall clock "
            f"{row['wall_s']:.0f} s, making the clouds included",
            f"    peak {row['peak_bytes'] / 2**30:.2f} GiB in all "
            f"({'reached' if row['peak_bytes'] <= BYTES_ASKED else 'not reached'}: asked 2), a unit grew by "
            f"{row['grown_bytes'] / 2**20:.0f} MiB, projected {row['projected_bytes'] / 2**20:.0f} MiB "
            f"({'holds' if row['grown_bytes'] <= row['projected_bytes'] else 'DOES NOT HOLD'})",
        ]
    return "\n".join(lines)
