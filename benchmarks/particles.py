"""What scoring and placing particles costs: the occupancy rule, matching by distance, distances along a membrane.

    python -m benchmarks particles [--size small|full] [--json FILE]

Peers, in processor seconds and peak memory of NumPy's arrays: dilating the whole mask with scikit-image and looking it
up, as the published script of the challenge does (the hits must be the same); SciPy's assignment on the dense table of
all predictions by all particles (the same number of pairs and sum); Dijkstra along the edges of the mesh, whose error
against great circles stands beside ours. Full size is the challenge's mask of 200 x 512 x 512 voxels. Simulated.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes
from skimage.morphology import dilation

from benchmarks._machine import write_json
from cryoscale.evaluate.occupancy import dilated_at
from cryoscale.evaluate.positions import match_positions
from cryoscale.measure.proteins import Feet, Sheet, distances_from

SIZES = {"small": ((40, 128, 128), 400, 20.0), "full": ((200, 512, 512), 2500, 45.0)}


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a call returns, its processor seconds, and in a second call the peak in MiB."""
    start = time.process_time()
    result = call()
    seconds = time.process_time() - start
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, seconds, peak


def occupancy(shape: tuple[int, int, int], count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    centres = rng.integers(4, np.array(shape) - 4, (count, 3))
    mask = np.zeros(shape, np.int16)
    for number, centre in enumerate(centres, 1):
        mask[tuple(slice(c - 3, c + 4) for c in centre)] = number
    voxels = np.clip(centres + rng.integers(-6, 7, centres.shape), 0, np.array(shape) - 1)
    ours, seconds, peak = timed(lambda: dilated_at(mask, voxels))
    theirs, their_seconds, their_peak = timed(lambda: dilation(mask)[tuple(voxels.T)])
    assert (ours == theirs).all()
    return [
        {"part": "occupancy", "who": "seven look-ups", "seconds": seconds, "peak_mib": peak},
        {"part": "occupancy", "who": "whole mask dilated", "seconds": their_seconds, "peak_mib": their_peak},
    ]


def matching(shape: tuple[int, int, int], count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    truth = rng.random((count, 3)) * shape
    prediction = truth + rng.normal(0, 3, truth.shape)
    radius = np.full(count, 8.0)

    def dense() -> tuple[int, float]:
        table = cdist(truth, prediction) / 8.0
        rows, columns = linear_sum_assignment(np.where(table <= 1, table + 1, 1e6))
        kept = table[rows, columns][table[rows, columns] <= 1]
        return len(kept), float(kept.sum())

    (true, _, distance), seconds, peak = timed(lambda: match_positions(truth, radius, prediction))
    (pairs, total), their_seconds, their_peak = timed(dense)
    assert len(true) == pairs
    assert np.isclose((distance / 8.0).sum(), total)
    return [
        {"part": "matching", "who": "sparse", "seconds": seconds, "peak_mib": peak, "pairs": pairs},
        {"part": "matching", "who": "dense table", "seconds": their_seconds, "peak_mib": their_peak, "pairs": pairs},
    ]


def along(radius: float) -> list[dict[str, Any]]:
    side = int(2 * radius + 8)
    centre = np.full(3, side / 2 + 0.2)
    grid = np.linalg.norm(np.moveaxis(np.indices((side, side, side)), 0, -1) - centre, axis=-1)
    vertices, faces, _, _ = marching_cubes(grid - radius, 0.0)
    sheet = Sheet.of(vertices, faces)
    way = (vertices - centre) / np.linalg.norm(vertices - centre, axis=1, keepdims=True)
    starts = np.random.default_rng(2).choice(len(faces), 10)
    sources = faces[starts, 0]
    feet = Feet(starts, np.tile([1.0, 0, 0], (10, 1)), vertices[sources].astype(float), np.zeros(10))
    true = radius * np.arccos(np.clip(way[sources] @ way.T, -1, 1))

    def edges() -> NDArray[np.float64]:
        ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        length = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1)
        graph = coo_array((length, ends.T), shape=(len(vertices),) * 2).tocsr()
        found: NDArray[np.float64] = dijkstra(graph, directed=False, indices=sources)
        return found

    distances_from(sheet, feet, 0, 1.0)
    rows = []
    for who, call in (("fronts", lambda: [distances_from(sheet, feet, k) for k in range(10)]), ("edges", edges)):
        found, seconds, peak = timed(call)
        error = (np.asarray(found) / np.maximum(true, 1e-9) - 1)[true > 3]
        rows.append(
            {"part": "along a sphere", "who": who, "seconds": seconds / 10, "peak_mib": peak, "vertices": len(vertices)}
            | {"mean_error": float(error.mean()), "largest_error": float(np.abs(error).max())}
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'part':<16} {'who':<20} {'cpu s':>9} {'peak MiB':>9}  more"]
    for row in rows:
        more = {k: round(v, 4) for k, v in row.items() if k not in ("part", "who", "seconds", "peak_mib")}
        lines.append(f"{row['part']:<16} {row['who']:<20} {row['seconds']:>9.4f} {row['peak_mib']:>9.1f}  {more or ''}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks particles", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    shape, count, radius = SIZES[options.size]
    rows = [*occupancy(shape, count), *matching(shape, count), *along(radius)]
    print(table(rows))
    write_json(options.json, {"size": options.size, "rows": rows})
    return 0
