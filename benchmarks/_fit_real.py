"""Real membranes fitted without their top and bottom fifth: how far the surface is from the voxels withheld.

Each membrane comes from its authors' label (`shared/data/labels`, beside the checkout; nothing is measured where the
folder is absent). Voxels in the lowest and the highest fifth of its z range are withheld, as the missing wedge would.

- ours     : the surface as it is handed out; an open sheet ends where its evidence ends, so its withheld voxels are far
- uncut    : our field's zero set as the peers' are taken: the component with most data, not cut
- paper    : the paper's anchors, corrected kernel
- RBF      : SciPy's cubic functions on our control points and pairs
- Poisson  : screened Poisson (pymeshlab) on the selected raw points with our normals

Distances from each withheld voxel to the nearest point of the surface, in nm; a label is 1 to 5 voxels thick, so half
of that is the best there is: "seen" gives the same for the voxels that were fitted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as components
from scipy.spatial import cKDTree

from benchmarks._fit_peers import paper_field, poisson_surface, rbf_field, sampled, zero_surface
from cryoscale.fit import Surface, fit_surface
from cryoscale.fit.constraints import subset
from cryoscale.fit.prepare import Prepared, prepare

__all__ = ["MEMBRANES", "Membrane", "available", "load", "real", "real_table", "withhold"]

Array = NDArray[np.float64]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "labels"
FIFTH = 0.2
REACH = 24.0
MOST_DENSE = 4000
"""Peers that solve one dense system get a random part of the constraints beyond this."""
METHODS = ("ours", "uncut", "paper", "rbf", "poisson")


@dataclass(frozen=True)
class Membrane:
    """One membrane of a label file."""

    name: str
    file: str
    voxel_nm: float
    label: int = 1
    piece: int = -1
    """Which 26-connected piece by size, largest 0; -1 takes all."""
    sizes: tuple[str, ...] = ("full",)


BOTH = ("small", "full")
MEMBRANES = (
    Membrane("vesicle-t74", "vesicle-t74", 2.526, sizes=BOTH),
    Membrane("microsome", "microsome", 1.048, sizes=BOTH),
    *(Membrane(f"vesicles, {n}", "vesicles", 1.684, piece=n, sizes=BOTH if n < 2 else ("full",)) for n in range(6)),
    Membrane("autophagosome, inner", "autophagosome", 1.408, label=1),
    Membrane("autophagosome, outer", "autophagosome", 1.408, label=2),
    Membrane("phagophore, inner", "phagophore", 1.408, label=1, piece=0),
    Membrane("phagophore, outer", "phagophore", 1.408, label=2, piece=0),
    Membrane("thylakoid-M1", "thylakoid-M1", 1.368),
    Membrane("thylakoid-M15", "thylakoid-M15", 1.368, sizes=BOTH),
)


def available() -> bool:
    """Return whether the real labels are beside this checkout."""
    return DATA.is_dir()


def load(membrane: Membrane) -> NDArray[np.int64]:
    """Return the voxels (n, 3) of a membrane."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(DATA / f"{membrane.file}.mrc.gz", permissive=True) as stream:
            mask = np.asarray(stream.data) == membrane.label
    if membrane.piece < 0:
        return np.argwhere(mask)
    pieces, _ = components(mask, np.ones((3, 3, 3)))
    chosen = int(np.argsort(-np.bincount(pieces.ravel())[1:], kind="stable")[membrane.piece]) + 1
    box = find_objects(pieces)[chosen - 1]
    return np.asarray(np.argwhere(pieces[box] == chosen) + np.array([part.start for part in box]))


def withhold(voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which voxels lie in the lowest or the highest fifth of the z range."""
    low, high = voxels[:, 0].min(), voxels[:, 0].max()
    edge = FIFTH * (high - low + 1)
    return np.asarray((voxels[:, 0] < low + edge) | (voxels[:, 0] > high - edge))


def real(size: str) -> list[dict[str, Any]]:
    """Fit every membrane of a size by every method; empty where the labels are absent."""
    return [_one(m) for m in MEMBRANES if size in m.sizes] if available() else []


def _one(membrane: Membrane) -> dict[str, Any]:
    voxels = load(membrane)
    away = withhold(voxels)
    data, hidden = voxels[~away].astype(np.float64), voxels[away].astype(np.float64)
    start = time.process_time()
    surface = fit_surface(data, spacing=1.0)
    seconds = time.process_time() - start
    prepared = prepare(data, spacing=1.0)
    dense = _reduced(prepared)
    around = voxels[:: max(1, len(voxels) // 50_000)].astype(np.float64)
    ways: dict[str, Callable[[], Array | None]] = {
        "ours": lambda: sampled(*surface.mesh(1.0)).astype(np.float64),
        "uncut": lambda: zero_surface(surface.mean, around, data, REACH),
        "paper": lambda: zero_surface(paper_field(dense), around, data, REACH),
        "rbf": lambda: zero_surface(rbf_field(dense), around, data, REACH),
        "poisson": lambda: poisson_surface(prepared),
    }
    row: dict[str, Any] = {
        "membrane": membrane.name,
        "voxels": len(voxels),
        "withheld": len(hidden),
        "closed": surface.closed,
        "kernel": surface.choice["kernel"],
        "ellipsoid": surface.choice["ellipsoid"],
        "constraints": len(prepared.constraints.points),
        "fit_s": seconds,
    }
    return row | {name: _distances(way(), data, hidden, membrane.voxel_nm) for name, way in ways.items()}


def _reduced(prepared: Prepared) -> Prepared:
    return replace(prepared, constraints=subset(prepared.constraints, MOST_DENSE, 0))


def _distances(vertices: Array | None, seen: Array, hidden: Array, voxel_nm: float) -> dict[str, float] | None:
    """Return median and 95th percentile for the voxels withheld, and the median for those seen, in nm."""
    if vertices is None or not len(vertices):
        return None
    tree = cKDTree(vertices)
    far = tree.query(hidden)[0] * voxel_nm
    near = tree.query(seen[:: max(1, len(seen) // 20_000)])[0] * voxel_nm
    return {"median": float(np.median(far)), "p95": float(np.percentile(far, 95)), "seen": float(np.median(near))}


def real_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the distances as text: median / 95th percentile to the voxels withheld."""
    if not rows:
        return "real membranes: not measured, the labels are not beside this checkout"
    head = f"{'withheld, nm':22} {'seen':>5} " + " ".join(f"{name:>13}" for name in METHODS) + "  surface"
    lines = [head]
    for row in rows:
        cells = " ".join(f"{_cell(row[name]):>13}" for name in METHODS)
        seen = row["ours"]["seen"] if row["ours"] else float("nan")
        word = "closed" if row["closed"] else "open"
        lines.append(f"{row['membrane']:22} {seen:5.2f} {cells}  {word}, {row['kernel']}, {row['fit_s']:.1f} s")
    for name in METHODS[2:]:
        pairs = [(row["uncut"]["median"], row[name]["median"]) for row in rows if row[name] and row["uncut"]]
        won = sum(a < b for a, b in pairs)
        lines.append(f"uncut surface nearer (median) than {name}: {won} of {len(pairs)}")
    return "\n".join(lines)


def _cell(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['median']:.2f} / {found['p95']:.1f}"


def surface_of(membrane: Membrane) -> tuple[Surface, NDArray[np.int64]]:
    """Return the surface fitted without the withheld voxels, and all voxels: for pictures."""
    voxels = load(membrane)
    return fit_surface(voxels[~withhold(voxels)].astype(np.float64), spacing=1.0), voxels
