"""Closed shapes of known surface with caps missing: Dice of ours, the paper's convention and SciPy's functions.

Ellipsoid, bumpy vesicle, peanut and banana lose what the missing wedge hides (points whose normal has |n_z| at or above
a limit) and six holes, and gain noise (0.5 or 1 voxel in turns) and 2 % outliers (`tests/fit/shapes.py`). Every method
gets the same selection, control points and pairs. Score: Dice of the voxels within 1.5 of the fitted surface against
those within 1.5 of the true one. For the peers the surface is the largest component of their zero set in the box, from
a grid of 2 voxels refined by cubic splines. Seconds are processor seconds of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks._fit_peers import dice, paper_field, rbf_field, shell_of
from cryoscale.fit import fit_surface
from cryoscale.fit.prepare import prepare
from tests.fit.shapes import SHAPES, degrade, truth_shell

__all__ = ["CLOSED", "accuracy", "accuracy_table"]

CLOSED = ("ellipsoid", "bumpy", "peanut", "banana")
TARGETS = {0.87: (0.95, 0.93), 0.7: (0.935, 0.90), 0.5: (0.89, 0.84)}
"""Limit of |n_z|: mean Dice and worst shape's mean to reach."""


def accuracy(seeds: int, *, processes: int = 1) -> list[dict[str, Any]]:
    """Score every method on every degraded shape; the rows do not depend on how many processes share them."""
    cases = [(shape, cap, seed) for cap in TARGETS for shape in CLOSED for seed in range(seeds)]
    if processes == 1:
        _compile()
        return [one(*case) for case in cases]
    with ProcessPoolExecutor(processes, get_context("spawn"), _compile) as pool:
        return list(pool.map(one, *zip(*cases, strict=True)))


def _compile() -> None:
    """Fit once, so that no time that is reported is a compiler's."""
    one("ellipsoid", 0.87, 99)


def one(shape: str, cap: float, seed: int) -> dict[str, Any]:
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


def accuracy_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the scores as text: per limit and shape, the mean, the worst shape and what is to be reached."""
    lines = [
        f"{'shape':10} {'caps':>5} {'ours':>6} {'lowest':>7} {'paper':>6} {'RBF':>6} {'closed':>7} {'ellipsoid':>9} "
        f"{'cubic':>6} {'fit s':>6} {'band s':>6}"
    ]
    for cap, (mean_asked, worst_asked) in TARGETS.items():
        at = [row for row in rows if row["cap"] == cap]
        means = []
        for shape in CLOSED:
            of_shape = [row for row in at if row["shape"] == shape]
            means.append(float(np.mean([row["ours"] for row in of_shape])))
            lines.append(_line(shape, cap, of_shape))
        lines.append(_line("mean", cap, at))
        mean, worst = float(np.mean(means)), min(means)
        lines.append(
            f"{'':10} {cap:5.2f} mean {mean:.3f} (asked {mean_asked}: {_word(mean >= mean_asked)}), worst shape "
            f"{CLOSED[int(np.argmin(means))]} {worst:.3f} (asked {worst_asked}: {_word(worst >= worst_asked)})"
        )
    return "\n".join(lines)


def _word(good: bool) -> str:
    return "reached" if good else "not reached"


def _line(name: str, cap: float, rows: Sequence[dict[str, Any]]) -> str:
    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    cubic = np.mean([row["kernel"] == "cubic" for row in rows])
    return (
        f"{name:10} {cap:5.2f} {mean('ours'):6.3f} {min(row['ours'] for row in rows):7.3f} {mean('paper'):6.3f} "
        f"{mean('rbf'):6.3f} {mean('closed'):7.2f} {mean('ellipsoid'):9.2f} {cubic:6.2f} {mean('fit_s'):6.2f} "
        f"{mean('band_s'):6.2f}"
    )
