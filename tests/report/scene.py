"""A small made-up tomogram for the report's tests: spheres, their labels and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import whole
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.io.tables import write_csv
from cryoscale.records import Geometry, Tomogram
from cryoscale.report.render import Surface

GEOMETRY = Geometry((40, 64, 72), (10.0, 10.0, 10.0), (500.0, -300.0, 120.0))
BALLS = (((20.0, 24.0, 22.0), 14.0), ((18.0, 40.0, 50.0), 12.0))


def sphere(
    centre: tuple[float, float, float], radius: float, *, number: int = 1, rings: int = 40, values: float = 0.0
) -> Surface:
    """Triangulate a sphere by latitude and longitude; (z, y, x) in nm."""
    theta = np.linspace(0, np.pi, rings + 1)
    phi = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    z, y, x = (
        np.outer(np.cos(theta), np.ones_like(phi)),
        np.outer(np.sin(theta), np.sin(phi)),
        np.outer(np.sin(theta), np.cos(phi)),
    )
    vertices = np.stack([z, y, x], axis=-1).reshape(-1, 3) * radius + np.array(centre)
    index = np.arange(vertices.shape[0]).reshape(rings + 1, 2 * rings)
    a, b = index[:-1], index[1:]
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    # The caps, at right angles to the beam, are inferred.
    inferred = np.abs(vertices[:, 0] - centre[0]) > 0.7 * radius
    columns = np.column_stack([inferred, np.full(len(vertices), values), np.full(len(vertices), 1 / radius)])
    return Surface(number, vertices.astype(np.float32), faces.astype(np.int32), columns.astype(np.float32))


def volumes(seed: int = 5) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Tomogram and labels of the spheres."""
    index = np.stack(np.indices(GEOMETRY.shape), axis=-1).astype(np.float32)
    labels = np.zeros(GEOMETRY.shape, np.uint16)
    for number, (centre, radius) in enumerate(BALLS, 1):
        distance = np.linalg.norm(index - np.array(centre, np.float32), axis=-1) - radius
        labels[np.abs(distance) <= 2] = number
    noise = np.random.default_rng(seed).standard_normal(GEOMETRY.shape)
    return (noise - 2.0 * (labels > 0)).astype(np.float32), labels


def write_products(folder: Path, levels: int = 1) -> Tomogram:
    """Write what the report reads: volumes (the tomogram with `levels`), meshes in ångström with the origin, tables."""
    raw, labels = volumes()
    for name, volume in (("tomogram", raw), ("membranes", labels)):
        path = folder / f"{name}.ome.zarr"
        create_image(path, GEOMETRY, volume.dtype, (16, 32, 32), levels=levels if name == "tomogram" else 1)
        write_region(path, whole(GEOMETRY.shape), volume)
    for number, (centre, radius) in enumerate(BALLS, 1):
        ball = sphere(centre, radius, number=number, values=0.5 * number)
        position = ball.vertices.astype(np.float64) * 10 + np.array(GEOMETRY.origin_angstrom)
        columns = {"sd_nm": ball.values[:, 1].copy(), "seen": (ball.values[:, 0] == 0).astype(np.uint8)}
        columns["mean_curvature_per_nm"] = ball.values[:, 2].copy()
        write_ply(folder / f"meshes/membrane_{number:04d}.ply", PlyMesh(position, ball.faces, None, columns))
    rows = [[1, 2463.0, "yes", ""], [2, 1810.0, "no", "cut by the border"]]
    write_csv(folder / "membranes.csv", ["id", "area_nm2", "closed", "reason"], rows)
    return Tomogram("TS_01", "/data/TS_01.mrc", str(folder), GEOMETRY)
