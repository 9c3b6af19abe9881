"""What measuring surfaces costs, and how right it is: shape, curvature, distances, tables, a whole tomogram.

    python -m benchmarks measure [--size small|full] [--run DIR] [--json FILE]

Each part has ours, peers and the physical limit, in processor seconds of one thread, from one run.

- shape: area, volume and axes of a torus; peer trimesh, the same triangles, so the same numbers.
- curvature: mean curvature at every vertex of that torus against the analytic one; peer the mean of dihedral angles
  over edges within a radius (D. Cohen-Steiner and J.-M. Morvan 2003), the measure trimesh has, with the radius that is
  best for it.
- distances: from every vertex of one sphere to another surface, whose distance is known; peers trimesh's nearest point
  (where rtree is installed), SciPy's Euclidean distance transform of the voxels of the other surface, SciPy's tree of
  its vertices.
- table: the columns of the vertices as Parquet; peer the same as CSV.
- thickness: of simulated bilayers through a simulated microscope, off by how much (`_measure_thickness`).
- whole: the measure stage over a run's meshes (``--run``, the folder of one tomogram of it).
- inner to outer: of that run, the distances from the membranes of one label (``--inner``) to those of another
  (``--outer``), the whole distribution against brute force (`_measure_pairs`).

The limit of shape, curvature and distances is to read each vertex and triangle once from memory, of the table to write
its bytes, compressed as they are, to a file; of the whole to read the meshes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from benchmarks._machine import write_json
from benchmarks._measure_pairs import inner_to_outer
from benchmarks._measure_thickness import thickness_rows
from cryoscale.io.meshes import read_ply
from cryoscale.io.parquet import write_parquet
from cryoscale.io.tables import write_csv
from cryoscale.measure import plan as stage
from cryoscale.measure.bend import mesh_curvature, vertex_normals
from cryoscale.measure.nearest import TriangleTree
from cryoscale.measure.shape import Membrane, measure_shape
from cryoscale.records import Geometry, Plan, Receipt, Tomogram
from cryoscale.spec import MeasureSpec, SurfaceSpec

SIZES = {"small": (24.0, 10.0, 30.0), "full": (90.0, 36.0, 110.0)}
"""Radii of the torus and of the spheres, in voxels."""
PEER_PLACES = 4000
"""Places that the peer for distances is given at once."""
Array = NDArray[np.float64]
Row = dict[str, Any]


def seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its processor seconds."""
    start = time.process_time()
    return call(), time.process_time() - start


def contour(values: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """Return the mesh of a volume's zero, in voxels, with normals."""
    vertices, faces, _, _ = marching_cubes(values, 0.0)
    vertices = vertices.astype(np.float64)
    return vertices, faces.astype(np.int64), vertex_normals(vertices, faces)


def meshed(level: Callable[[Any], Array], shape: Sequence[int]) -> tuple[Array, NDArray[np.int64], Array]:
    vertices, faces, normals = contour(level(np.moveaxis(np.indices(shape, dtype=np.float32), 0, -1)))
    if (level(vertices + 0.01 * normals) > level(vertices)).mean() < 0.5:
        faces, normals = faces[:, ::-1].copy(), -normals
    return vertices, faces, normals


def shapes(big: float, small: float) -> list[Row]:
    middle = np.array([small + 3.2, big + small + 3.3, big + small + 3.4])

    def torus(places: Array) -> Array:
        moved = places - middle
        rho = np.sqrt(moved[..., 1] ** 2 + moved[..., 2] ** 2)
        return np.asarray(np.sqrt((rho - big) ** 2 + moved[..., 0] ** 2) - small)

    vertices, faces, normals = meshed(torus, np.ceil(2 * middle).astype(int))
    mesh_curvature(vertices[:9], np.array([[0, 1, 2]]), normals[:9])
    (mean, gaussian), bent = seconds(lambda: mesh_curvature(vertices, faces, normals))
    rho = np.hypot(*(vertices - middle)[:, 1:].T)
    true = (1 / small + (rho - big) / small / rho) / 2
    volume = 2 * np.pi**2 * big * small**2
    shape = Membrane(vertices, faces, normals, mean, gaussian, np.ones(len(vertices), bool))
    _, ours = seconds(lambda: measure_shape(shape, volume))

    def peer() -> tuple[float, float, Array]:
        made = trimesh.Trimesh(vertices, faces, process=False)
        return float(made.area), float(abs(made.volume)), np.asarray(made.principal_inertia_components)

    (area, _, _), theirs = seconds(peer)
    _, limit = seconds(lambda: (vertices.copy(), faces.copy()))
    size = {"vertices": len(vertices)}
    return [
        {"part": "shape", "who": "ours", "seconds": ours, **size, "error": area / (4 * np.pi**2 * big * small) - 1},
        {"part": "shape", "who": "trimesh", "seconds": theirs, **size},
        {"part": "shape", "who": "limit", "seconds": limit, **size},
        {"part": "curvature", "who": "ours", "seconds": bent, **size, "error": _relative(mean, true)},
        *_dihedral(vertices, faces, true),
        {"part": "curvature", "who": "limit", "seconds": limit, **size},
    ]


def _relative(found: Array, true: Array) -> float:
    return float(np.sqrt(np.nanmean((found - true) ** 2) / np.mean(true**2)))


def _dihedral(vertices: Array, faces: NDArray[np.int64], true: Array) -> list[Row]:
    """Mean curvature from the angles at edges whose middle is within a radius, over the area within it."""
    made = trimesh.Trimesh(vertices, faces, process=False)

    def within(radius: float) -> Array:
        ends = made.vertices[made.face_adjacency_edges]
        turn = made.face_adjacency_angles * np.where(made.face_adjacency_convex, 1, -1)
        bend = turn * np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / 2
        tree = cKDTree(vertices)

        def gathered(points: Array, values: Array) -> Array:
            pairs = cKDTree(points).query_ball_tree(tree, radius)
            counts = np.array([len(one) for one in pairs])
            rows, columns = np.concatenate([np.array(one, int) for one in pairs]), np.repeat(values, counts)
            return np.asarray(np.bincount(rows, columns, minlength=len(vertices)), np.float64)

        return gathered(ends.mean(axis=1), bend) / gathered(made.triangles_center, made.area_faces)

    made.face_adjacency_angles, made.face_adjacency_convex  # noqa: B018
    tried = [(radius, *seconds(partial(within, radius))) for radius in (2.0, 3.0, 4.5)]
    radius, found, spent = min(tried, key=lambda one: _relative(one[1], true))
    error = _relative(found, true)
    return [{"part": "curvature", "who": "dihedral angles", "seconds": spent, "error": error, "radius": radius}]


def distances(radius: float) -> list[Row]:
    gap = 12.0
    side = int(2 * (radius + gap) + 8)
    middle = np.full(3, side / 2 + 0.2)
    inner, _, _ = meshed(lambda p: np.asarray(np.linalg.norm(p - middle, axis=-1) - radius), (side,) * 3)
    outer, faces, _ = meshed(lambda p: np.asarray(np.linalg.norm(p - middle, axis=-1) - radius - gap), (side,) * 3)
    true = radius + gap - np.linalg.norm(inner - middle, axis=1)
    TriangleTree.of(outer, faces[:9]).nearest(inner[:9])
    rows = []

    def row(who: str, call: Callable[[], Array]) -> None:
        found, spent = seconds(call)
        error = float(np.sqrt(np.mean((found - true) ** 2)))
        rows.append({"part": "distances", "who": who, "seconds": spent, "vertices": len(inner), "error": error})

    def transform() -> Array:
        marked = np.ones((side,) * 3, bool)
        marked[tuple(np.rint(outer).astype(int).T)] = False
        return np.asarray(distance_transform_edt(marked)[tuple(np.rint(inner).astype(int).T)])

    row("ours", lambda: TriangleTree.of(outer, faces).nearest(inner).distance)
    try:
        made = trimesh.Trimesh(outer, faces, process=False)
        # It holds all candidates of all places at once: tens of gigabytes for a large mesh.
        parts = np.array_split(inner, -(-len(inner) // PEER_PLACES))
        row("trimesh", lambda: np.concatenate([trimesh.proximity.closest_point(made, part)[1] for part in parts]))
    except ImportError as missing:
        rows.append({"part": "distances", "who": "trimesh", "seconds": None, "note": str(missing)})
    row("SciPy EDT", transform)
    row("SciPy tree of vertices", lambda: np.asarray(cKDTree(outer).query(inner)[0]))
    _, limit = seconds(lambda: (inner.copy(), outer.copy(), faces.copy()))
    return [*rows, {"part": "distances", "who": "limit", "seconds": limit}]


def tables(count: int) -> list[Row]:
    rng = np.random.default_rng(0)
    columns = {f"column_{k}": rng.normal(size=count).astype(np.float32) for k in range(31)}
    with tempfile.TemporaryDirectory() as scratch:
        one, two = Path(scratch) / "a.parquet", Path(scratch) / "a.csv"
        _, ours = seconds(lambda: write_parquet(one, columns))
        _, theirs = seconds(lambda: write_csv(two, tuple(columns), zip(*columns.values(), strict=True)))
        data = one.read_bytes()
        _, limit = seconds(lambda: two.write_bytes(data))
    return [
        {"part": "table", "who": "ours", "seconds": ours, "vertices": count, "mib": len(data) / 2**20},
        {"part": "table", "who": "CSV", "seconds": theirs, "vertices": count},
        {"part": "table", "who": "limit", "seconds": limit, "vertices": count},
    ]


def whole(folder: Path) -> list[Row]:
    """Measure a run's meshes again, in a folder beside it, and search its largest contact by brute force."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("meshes", "fits", "surface", "merge", "separate"):
            if (folder / name).is_dir():
                (Path(scratch) / name).symlink_to(folder.absolute() / name)
        tomogram = Tomogram(folder.name, "", scratch, Geometry.from_json(summary["geometry"]))
        fitted = summary["fit"]["membranes"]
        regions = summary.get("separate", summary.get("merge", {}))["regions"]
        plan = stage.plan(
            tomogram, MeasureSpec(), SurfaceSpec(), merged={"regions": regions}, proteins={}, fitted=fitted
        )
        (units, names), ours = seconds(lambda: _run(plan))
        vertices = sum(len(read_ply(folder / name).vertices) for name in names)
    _, limit = seconds(lambda: [read_ply(folder / name) for name in names])
    row = {"part": "whole", "who": "ours", "seconds": ours, "vertices": vertices, "units": units}
    return [row, {"part": "whole", "who": "limit", "seconds": limit}]


def _run(plan: Plan) -> tuple[int, list[str]]:
    """Run a plan in a plain loop; return its units, and the meshes it measured."""
    count, names, receipts = 0, list[str](), list[Receipt]()
    units = next(plan)
    try:
        while True:
            receipts = [unit.call(*unit.args) for unit in units]
            names += [row["mesh"] for one in receipts for row in one.numbers.get("rows", []) if "mesh" in row]
            count += len(units)
            units = plan.send(receipts)
    except StopIteration:
        return count, names


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, each beside how many times ours it takes."""
    ours = {row["part"]: row["seconds"] for row in rows if row["who"] == "ours"}
    lines = [f"{'part':<10} {'who':<27} {'cpu s':>9} {'/ ours':>8}  more"]
    for row in rows:
        more = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items() if k not in _SHOWN}
        spent = row["seconds"]
        cells = ("-", "-") if spent is None else (f"{spent:.4f}", f"{spent / max(ours[row['part']], 1e-9):.3g}")
        lines.append(f"{row['part']:<10} {row['who']:<27} {cells[0]:>9} {cells[1]:>8}  {more or ''}")
    return "\n".join(lines)


_SHOWN = ("part", "who", "seconds")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks measure", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder of one tomogram of a finished run")
    for side in ("inner", "outer"):
        parser.add_argument(f"--{side}", type=int, default=0, metavar="LABEL", help=f"label of its {side} membranes")
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    big, small, radius = SIZES[options.size]
    rows = [*shapes(big, small), *distances(radius), *tables(20_000 if options.size == "small" else 1_000_000)]
    rows += thickness_rows(options.size, contour)
    if options.run:
        rows += whole(options.run)
        rows += inner_to_outer(options.run, options.inner, options.outer) if options.inner and options.outer else []
    print(table(rows))
    write_json(options.json, {"size": options.size, "rows": rows})
    return 0
