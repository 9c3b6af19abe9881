"""How well surfaces are fitted where the data end, and what a fit costs, beside what others would do.

    python -m benchmarks fit [--size small|full] [--json FILE] [--seeds N]

Four closed shapes of known surface lose what the missing wedge hides (points whose normal has |n_z| above a limit) and
six holes, and gain noise and 2 % outliers (`tests/fit/shapes.py`). Every method gets the same cloud:

- ours           : `fit_surface`, with its own selection, thinning, normals and prior
- paper's anchors: the corrected cubic with the centroid at 0 and, outside, voxels pushed away from it by 1.2 at +1, on
                   our selection and control points (the raw cloud ruins it)
- RBF (SciPy)    : `RBFInterpolator` (cubic, smoothing 1) on exactly our constraints: control points and signed pairs

Score: Dice of the voxels within 1.5 of the fitted surface against those within 1.5 of the true one. For the peers the
surface is the largest component of their zero set in the box, from a grid of 2 voxels refined by cubic splines.
Seconds are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import label, map_coordinates

from cryoscale.fit import fit_surface
from cryoscale.fit.covariance import Kernel, covariance
from cryoscale.fit.prepare import Prepared, prepare
from tests.fit.shapes import SHAPES, Shape, degrade, truth_shell

Array = NDArray[np.float64]
SIZES = {"small": ((0.7,), 2), "full": ((0.5, 0.7, 0.87), 4)}
CLOSED = ("ellipsoid", "bumpy", "peanut", "banana")
ALPHA = 1.2
JITTER = 1e-4


def dice(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the overlap of two sets of voxels (n, 3)."""
    place = np.array([10**8, 10**4, 1])
    a, b = (left.astype(np.int64) + 2000) @ place, (right.astype(np.int64) + 2000) @ place
    return 2 * len(np.intersect1d(a, b)) / max(len(a) + len(b), 1)


def shell_of(field: Callable[[Array], Array], shape: Shape) -> NDArray[np.int64]:
    """Return the voxels within 1.5 of a field's zero set, its largest component, in the shape's box."""
    half = 2 * ((np.array(shape.half).astype(int) + 12) // 2)
    coarse = np.stack(np.meshgrid(*[np.arange(-h, h + 1, 2.0) for h in half], indexing="ij"), -1)
    grid = np.stack(np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij"), -1)
    known = field(coarse.reshape(-1, 3)).reshape(coarse.shape[:3])
    value = map_coordinates(known, (np.moveaxis(grid, -1, 0) + half[:, None, None, None]) / 2, order=3, mode="nearest")
    slope = np.sqrt(sum(g**2 for g in np.gradient(value)))
    near = np.abs(value) <= 1.5 * np.maximum(slope, 1e-12)
    labels, count = label(near, np.ones((3, 3, 3)))
    if not count:
        return np.zeros((0, 3), np.int64)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(grid[labels == largest])


def paper_field(prepared: Prepared) -> Callable[[Array], Array]:
    """Return the field of the paper's anchors (section 5.2), with the corrected kernel."""
    control = prepared.constraints.points[: prepared.constraints.surface]
    centre = control.mean(0)
    x = np.concatenate([control, centre + ALPHA * (control - centre), centre[None]])
    y = np.concatenate([np.zeros(len(control)), np.ones(len(control)), np.zeros(1)])
    diagonal = float(np.linalg.norm(np.ptp(x, axis=0) + 2 * prepared.radius))
    kernel = Kernel("cubic", 1.0, 1.5 * diagonal)
    matrix = covariance(kernel, x, x, np)
    weights = cho_solve(cho_factor(matrix + JITTER * np.eye(len(x))), y)
    return lambda q: np.concatenate([covariance(kernel, part, x, np) @ weights for part in _tiles(q)])


def rbf_field(prepared: Prepared) -> Callable[[Array], Array]:
    """Return SciPy's cubic radial basis functions on our constraints."""
    c = prepared.constraints
    model = RBFInterpolator(c.points, c.values, kernel="cubic", smoothing=1.0)
    return lambda q: np.concatenate([model(part) for part in _tiles(q)])


def _tiles(q: Array) -> list[Array]:
    return np.array_split(q, max(1, len(q) // 2_000))


def run(shape: str, cap: float, seed: int) -> dict[str, Any]:
    """Score every method on one degraded shape."""
    known = SHAPES[shape]
    cloud, _ = degrade(known, seed=seed, cap=cap, noise=(0.5, 1.0)[seed % 2])
    truth = truth_shell(known)
    start = time.process_time()
    surface = fit_surface(cloud, spacing=1.0)
    middle = time.process_time()
    band = surface.band(1.5)
    end = time.process_time()
    prepared = prepare(cloud, spacing=1.0)
    return {
        "shape": shape,
        "cap": cap,
        "seed": seed,
        "ours": dice(truth, band.index),
        "paper": dice(truth, shell_of(paper_field(prepared), known)),
        "rbf": dice(truth, shell_of(rbf_field(prepared), known)),
        "closed": surface.closed,
        "kernel": surface.choice["kernel"],
        "ellipsoid": surface.choice["ellipsoid"],
        "fit_s": middle - start,
        "band_s": end - middle,
    }


def open_sheet(seed: int) -> dict[str, Any]:
    """Score the open sheet: errors inside its rim, and how far the surface reaches beyond it, in voxels."""
    known = SHAPES["sheet"]
    cloud, _ = degrade(known, seed=seed, noise=(0.5, 1.0)[seed % 2])
    surface = fit_surface(cloud, spacing=1.0)
    index = surface.band(1.5).index
    beyond = np.maximum(np.abs(index[:, 0]) - 40, np.abs(index[:, 1]) - 60)
    vertices = surface.mesh(1.0)[0].astype(float)
    inside = (np.abs(vertices[:, 0]) <= 40) & (np.abs(vertices[:, 1]) <= 60)
    error = float(np.abs(known.distance(vertices[inside])).mean())
    return {
        "seed": seed,
        "dice": dice(truth_shell(known), index),
        "error": error,
        "overshoot": int(beyond.max()),
        "closed": surface.closed,
    }


def main(argv: Sequence[str]) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fit", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, help="clouds per shape and limit")
    options = parser.parse_args(argv)
    caps, seeds = SIZES[options.size]
    seeds = options.seeds or seeds
    run("ellipsoid", 0.87, 99)
    rows = []
    print(f"{'shape':10} {'caps':>5} {'ours':>7} {'paper':>7} {'RBF':>7} {'closed':>7} {'fit s':>7} {'band s':>7}")
    for cap in caps:
        for shape in CLOSED:
            found = [run(shape, cap, seed) for seed in range(seeds)]
            rows += found
            _print(shape, cap, found)
        _print("mean", cap, [row for row in rows if row["cap"] == cap])
    sheets = [open_sheet(seed) for seed in range(seeds)]
    for row in sheets:
        print(
            f"open sheet, seed {row['seed']}: Dice {row['dice']:.3f}, mean error {row['error']:.2f}, "
            f"overshoot {row['overshoot']}, {'closed (wrong)' if row['closed'] else 'open'}"
        )
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "closed": rows, "open": sheets}, indent=1))
    return 0


def _print(shape: str, cap: float, rows: Sequence[dict[str, Any]]) -> None:
    mean = {
        key: float(np.mean([row[key] for row in rows])) for key in ("ours", "paper", "rbf", "closed", "fit_s", "band_s")
    }
    print(
        f"{shape:10} {cap:5.2f} {mean['ours']:7.3f} {mean['paper']:7.3f} {mean['rbf']:7.3f} {mean['closed']:7.2f} "
        f"{mean['fit_s']:7.2f} {mean['band_s']:7.2f}"
    )
