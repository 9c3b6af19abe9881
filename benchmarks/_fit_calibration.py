"""How often the true surface lies within one and two standard deviations of the fitted one, in caps and elsewhere.

    z(q) = |distance(q)| / distance_sd(q)  at places q spread evenly over the true surface; share with z <= 1, z <= 2

Three regimes:

- clean     : points of the shapes of `_fit_accuracy` and the wavy sheet, noise 0.5 or 1 voxel, limits 0.5, 0.7, 0.87 in
              turns; "caps" is what the limit hid
- along z   : the same with noise of 1 or 1.5 voxels along z and of 0.5 across it
- segmented : ridge points of what the shipped network and the grouping made of tomograms simulated at SNR 0.3 and 0.1,
              each region against the simulated membrane that most of it lies on; "caps" is |n_z| >= 0.7. None of them
              is one that the systematic part (`cryoscale.fit.systematic`) was chosen on

Shares are of area: every fit's places count alike. The standard deviation that was stated is given beside the error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks._fit_accuracy import CLOSED
from cryoscale.chunks import Region
from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.fit import Surface, fit_surface, fit_surfaces, ridge_points
from cryoscale.io.files import load_npz
from cryoscale.io.omezarr import read_region
from cryoscale.manifest import entries
from cryoscale.packing import unpack
from cryoscale.running import executor_for
from cryoscale.simulate.presets import demo_scene
from cryoscale.spec import RunSpec
from cryoscale.training import TEST_SEED
from tests.fit.shapes import SHAPES, degrade, surface_points

__all__ = ["calibration_table", "clean", "segmented"]

Array = NDArray[np.float64]
LIMITS = (0.5, 0.7, 0.87)
CAP = 0.7
DENSITY = 0.03
ONE_ASKED, TWO_ASKED = (0.60, 0.76), (0.92, 0.98)
SMALL = (96, 200, 200)
VOLUMES = {
    "small": [(SMALL, 10.0)],
    "full": [*[(SMALL, 10.0)] * 3, ((112, 220, 220), 8.0), (SMALL, 12.0), ((200, 400, 400), 10.0)],
}
"""Voxels and ångström per voxel of the simulated tomograms."""
UNSEEN = 1300
"""Added to the seed of tests: the first of those tomograms were used to choose what is checked here."""
LEAST_POINTS = 400
ON_SHAPE = 3.0
LEAST_ON_SHAPE = 0.8


def clean(seeds: int, *, along_z: bool = False) -> list[dict[str, Any]]:
    """Check fits of degraded points, noisy alike along every axis or more along z."""
    rows, regime = [], "noise along z" if along_z else "clean"
    for name in (*CLOSED, "sheet"):
        shape = SHAPES[name]
        for seed in range(seeds):
            limit, half = LIMITS[seed % 3], seed // 3 % 2
            noise = ((1.0, 0.5, 0.5), (1.5, 0.5, 0.5))[half] if along_z else (0.5, 1.0)[half]
            surface = fit_surface(degrade(shape, seed=seed, cap=limit, noise=noise)[0], spacing=1.0)
            q = surface_points(shape, DENSITY, np.random.default_rng(10_000 + seed))
            slope = shape.gradient(q)
            hidden = np.abs(slope[:, 0]) >= limit * np.linalg.norm(slope, axis=1)
            if not shape.closed:
                hidden[:] = False
            rows += _rows(surface, q, hidden, {"regime": regime, "shape": name, "seed": seed})
    return rows


def _rows(surface: Surface, q: Array, hidden: NDArray[np.bool_], what: dict[str, Any]) -> list[dict[str, Any]]:
    distance, sd = surface.distance(q), surface.distance_sd(q)
    out = []
    for part, rows in (("caps", hidden), ("elsewhere", ~hidden)):
        if not rows.any():
            continue
        d, s = distance[rows], sd[rows]
        z = np.abs(d) / s
        out.append(
            {
                **what,
                "part": part,
                "places": len(z),
                "within_1": float((z <= 1).mean()),
                "within_2": float((z <= 2).mean()),
                "bias": float(np.median(d)),
                "error": float(np.sqrt(np.mean(np.clip(d, -10, 10) ** 2))),
                "stated": float(np.sqrt(np.mean(np.clip(s, 0, 10) ** 2))),
            }
        )
    return out


def segmented(size: str) -> list[dict[str, Any]]:
    """Check fits of the points that a segmentation of simulated tomograms gives."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for snr in (0.3, 0.1):
            for number, (shape, apix) in enumerate(VOLUMES[size]):
                seed = TEST_SEED + UNSEEN + number
                rows += _tomogram(Path(folder) / f"{snr:g}-{seed}", seed, snr, shape, apix)
    return rows


def _tomogram(folder: Path, seed: int, snr: float, shape: tuple[int, int, int], apix: float) -> list[dict[str, Any]]:
    source = write_simulation(folder / "input", seed=seed, snr=snr, shape=shape, apix=apix)
    made = Collection(entries([str(source)]), folder / "output", RunSpec(), until="separate")
    with executor_for(1) as executor:
        for failed in run_collection(made, executor).failures:
            raise failed.error or RuntimeError
    # The simulation draws its scene first, from this seed.
    truth = [body.shape for body in demo_scene(np.random.default_rng(seed), shape, apix / 10).membranes]
    box = ((0, 0, 0), shape)
    clouds = _clouds(folder / "output" / source.stem)
    rows = []
    for number, (cloud, surface) in enumerate(zip(clouds, fit_surfaces(clouds, spacing=1.0, box=box), strict=True)):
        near = [np.abs(body.distance(cloud)[0]) for body in truth]
        body = int(np.argmin([np.median(far) for far in near]))
        if isinstance(surface, Surface) and (near[body] < ON_SHAPE).mean() >= LEAST_ON_SHAPE:
            q = truth[body].samples
            q = q[((q > 2) & (q < np.array(shape) - 3)).all(1)]
            if not surface.closed:
                q = q[cKDTree(surface.data).query(q)[0] <= 5]
            hidden = np.abs(truth[body].distance(q)[1][:, 0]) >= CAP
            rows += _rows(
                surface, q, hidden, {"regime": f"segmented, SNR {snr:g}", "seed": seed, "apix": apix, "number": number}
            )
    return rows


def _clouds(folder: Path) -> list[Array]:
    """Return the ridge points of each region of a finished run."""
    unpack(folder)
    table = load_npz(folder / "separate" / "regions.npz")
    clouds = []
    for row, (box, count) in enumerate(zip(table["box"], table["voxels"], strict=True)):
        if count < LEAST_POINTS:
            continue
        region = Region(tuple(map(int, box[:3])), tuple(map(int, box[3:])))
        mask = read_region(folder / "instances.ome.zarr", region) == row + 1
        score = read_region(folder / "scores.ome.zarr", region) / np.float32(255)
        clouds.append(ridge_points(score, mask, threshold=0.0) + np.array(region.start))
    return [cloud for cloud in clouds if len(cloud) >= LEAST_POINTS // 4]


def calibration_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return shares of area as text."""
    lines = [
        f"{'true surface within':24} {'part':10} {'fits':>5} {'1 sd':>6} {'2 sd':>6} {'bias':>6} {'error':>6} "
        f"{'stated':>7}"
    ]
    for regime in dict.fromkeys(row["regime"] for row in rows):
        at = [row for row in rows if row["regime"] == regime]
        names = [*dict.fromkeys(row["shape"] for row in at if "shape" in row), ""]
        for name in names:
            for part in ("caps", "elsewhere"):
                chosen = [row for row in at if row["part"] == part and (not name or row["shape"] == name)]
                if chosen:
                    lines.append(_line(name or regime, part, chosen, judged=not name))
    return "\n".join(lines)


def _line(name: str, part: str, rows: Sequence[dict[str, Any]], *, judged: bool) -> str:
    weights = [row["places"] for row in rows]

    def mean(key: str) -> float:
        return float(np.average([row[key] for row in rows], weights=weights))

    def root(key: str) -> float:
        return float(np.sqrt(np.average([row[key] ** 2 for row in rows], weights=weights)))

    one, two = mean("within_1"), mean("within_2")
    good = ONE_ASKED[0] <= one <= ONE_ASKED[1] and TWO_ASKED[0] <= two <= TWO_ASKED[1]
    word = ("  reached" if good else "  not reached (asked 60-76 and 92-98 %)") if judged else ""
    return (
        f"{name:24} {part:10} {len(rows):5} {one:6.1%} {two:6.1%} {mean('bias'):6.2f} {root('error'):6.2f} "
        f"{root('stated'):7.2f}{word}"
    )
