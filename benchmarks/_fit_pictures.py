"""Pictures of fitted surfaces: seen blue, inferred orange, seen from the side where the beam comes from above.

A place is seen where a selected point is within the surface's own limit (3 voxels, or 2.5 times the points' distance).
The simulated shapes lack everything beyond |n_z| 0.7 (closed ones) and six holes; a third row has a tube, a nested pair
and two domes 3 voxels apart with a quarter of what is outside taken away, and a vesicle cut by the volume's border. Of
the real ones the vesicles are fitted without the top and bottom fifth of their labels, the others from whole labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks._fit_accuracy import CLOSED
from benchmarks._fit_open import OPEN
from benchmarks._fit_real import MEMBRANES, available, load, surface_of
from cryoscale.band import Mesh, band_mesh
from cryoscale.fit import Surface, fit_surface, fit_surfaces
from cryoscale.report import render
from cryoscale.report.colours import PALETTE
from cryoscale.report.png import encode_png
from tests.fit.shapes import SHAPES, degrade, sphere_points

__all__ = ["draw"]

Array = NDArray[np.float64]
CAP = 0.7
ELEVATION = 22.0
ASIDE = 28.0
"""Degrees by which open sheets are turned from facing the viewer."""
SEEN, INFERRED = PALETTE[0], PALETTE[1]
TILE = (270, 230)
"""Pixels across and down of one surface."""
COLUMNS = 4
TITLE_PIXELS = 40


@dataclass(frozen=True)
class Tile:
    """One surface, or several in one place."""

    title: str
    surfaces: tuple[Surface, ...]
    opened: bool = False
    """Whether a quarter of the first is taken away, so that the others are seen."""
    box: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    """The volume, where it cuts the surfaces."""


def _simulated() -> list[Tile]:
    shapes = {name: SHAPES[name] for name in CLOSED} | OPEN
    return [
        Tile(name, (fit_surface(degrade(shape, seed=1, noise=0.5)[0], spacing=1.0),)) for name, shape in shapes.items()
    ] + _others()


def _tube(radius: float, length: float) -> Array:
    rng = np.random.default_rng(5)
    count = int(0.6 * 2 * np.pi * radius * length)
    turn, along = rng.uniform(0, 2 * np.pi, count), rng.uniform(-length / 2, length / 2, count)
    q = np.stack([radius * np.sin(turn), radius * np.cos(turn), along], 1)[np.abs(np.sin(turn)) < CAP]
    return np.asarray(q + rng.normal(0, 0.5, q.shape))


def _shells(radii: Sequence[float], **missing: float) -> tuple[Surface, ...]:
    """Return spheres, or what is left of them, fitted together."""
    clouds = [
        sphere_points(r, int(8 * r * r), seed=k, noise=0.5, cap=missing.get("cap", 2.0)) for k, r in enumerate(radii)
    ]
    if "lowest" in missing:
        clouds = [q[q[:, 0] > missing["lowest"]] for q in clouds]
    return tuple(s for s in fit_surfaces(clouds, spacing=1.0) if isinstance(s, Surface))


def _others() -> list[Tile]:
    cut = sphere_points(34.0, 9000, seed=4, noise=0.5, cap=CAP) + np.array([60.0, 12.0, 60.0])
    box = ((0, 0, 0), (120, 120, 120))
    cut = cut[(cut >= 0).all(1) & (cut <= np.array(box[1]) - 1).all(1)]
    return [
        Tile("tube", (fit_surface(_tube(13.0, 100.0), spacing=1.0),)),
        Tile("nested pair, opened", _shells((36.0, 20.0), cap=CAP), opened=True),
        Tile("3 voxels apart, opened", _shells((36.0, 33.0), lowest=4.0), opened=True),
        Tile("cut by the border", (fit_surface(cut, spacing=1.0, box=box),), box=box),
    ]


def _real() -> list[Tile]:
    whole = ("autophagosome", "phagophore", "thylakoid-M1", "thylakoid-M15")
    capped = [m for m in MEMBRANES if m.file not in whole][:4]
    tiles = [Tile(m.name, (surface_of(m)[0],)) for m in capped]
    for file in whole:
        parts = [m for m in MEMBRANES if m.file == file]
        fits = tuple(fit_surface(load(m).astype(np.float64), spacing=1.0) for m in parts)
        tiles.append(Tile(file + (", both" if len(parts) > 1 else ""), fits))
    return tiles


def _azimuth(tile: Tile, meshes: Sequence[Mesh]) -> float:
    """Return where to look from, in degrees: open sheets are looked at from their broad side."""
    if all(surface.closed for surface in tile.surfaces):
        return 30.0
    sideways = np.concatenate([mesh.normals[:, 1:] for mesh in meshes]).astype(np.float64)
    y, x = np.linalg.eigh(sideways.T @ sideways)[1][:, 1]
    return float(np.degrees(np.arctan2(x, -y))) + ASIDE


def _opened(mesh: Mesh, view: render.View) -> Mesh:
    """Take the quarter of a mesh away that is in front, to the right."""
    right, _, towards = view.axes
    front = towards * [0, 1, 1]
    middle = mesh.vertices[mesh.faces].mean(1) - mesh.vertices.mean(0)
    return replace(mesh, faces=mesh.faces[(middle @ right < 0) | (middle @ front < 0)])


def _picture(tile: Tile) -> tuple[NDArray[np.uint8], float]:
    """Return the picture of a tile and the share of its surface that is inferred."""
    meshes = [(band_mesh(s.band(2.5, box=tile.box)), s) for s in tile.surfaces]
    view = render.View.turned("oblique", _azimuth(tile, [mesh for mesh, _ in meshes]), ELEVATION)
    if tile.opened:
        meshes[0] = (_opened(meshes[0][0], view), meshes[0][1])
    low = np.min([mesh.vertices.min(0) for mesh, _ in meshes], axis=0)
    box = np.max([mesh.vertices.max(0) for mesh, _ in meshes], axis=0) - low
    across = render.Frame(view, tuple(box.tolist()), TILE[0]).extent_nm
    width = int(TILE[0] * min(1.0, TILE[1] / TILE[0] * across[0] / across[1]))
    frame = render.Frame(view, tuple(box.tolist()), width)
    drawn, inferred = [], []
    for number, (mesh, surface) in enumerate(meshes, 1):
        hidden = (mesh.support * surface.unit > surface.limit * surface.unit).astype(np.float32)
        inferred.append(hidden)
        drawn.append(render.Surface(number, mesh.vertices - low.astype(np.float32), mesh.faces, hidden[:, None]))
    buffers = render.rasterise(drawn, frame)
    share = np.clip(4 * buffers.value[..., :1] - 1.5, 0, 1)
    colours = (1 - share) * np.array(SEEN, np.float32) + share * np.array(INFERRED, np.float32)
    return render.shade(buffers, render.light(buffers), colours), float(np.concatenate(inferred).mean())


def _montage(tiles: Sequence[Tile], heading: str) -> NDArray[np.uint8]:
    """Lay tiles out in rows under a heading that is the legend too."""
    rows = -(-len(tiles) // COLUMNS)
    wide, high = COLUMNS * (TILE[0] + 10), rows * (TILE[1] + TITLE_PIXELS) + 40
    figure = Figure(figsize=(wide / 100, high / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.01, 1 - 24 / high, heading, fontsize=10, color="#333333")
    for x, colour, word in ((0.76, SEEN, "seen"), (0.85, INFERRED, "inferred")):
        figure.text(x, 1 - 24 / high, "\u25a0 " + word, fontsize=10, color=np.array(colour) / 255)
    for place, tile in enumerate(tiles):
        rgba, inferred = _picture(tile)
        row, column = divmod(place, COLUMNS)
        left = column * (TILE[0] + 10) + (TILE[0] + 10 - rgba.shape[1]) // 2
        top = 40 + row * (TILE[1] + TITLE_PIXELS) + (TILE[1] - rgba.shape[0]) // 2
        figure.figimage(rgba, left, high - top - rgba.shape[0])
        word = "closed" if all(s.closed for s in tile.surfaces) else "open"
        figure.text(
            (column + 0.5) / COLUMNS,
            1 - (40 + (row + 1) * (TILE[1] + TITLE_PIXELS) - 4) / high,
            f"{tile.title}: {word}, {inferred:.0%} inferred",
            fontsize=8,
            ha="center",
            va="bottom",
            color="#333333",
        )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def draw(folder: Path) -> list[Path]:
    """Write fit_shapes.png and, where the labels are, fit_real.png."""
    made: list[tuple[str, Any, str]] = [
        ("fit_shapes", _simulated, "Simulated: caps beyond |n_z| 0.7 and holes missing")
    ]
    if available():
        made.append(
            ("fit_real", _real, "Real membranes; the vesicles' and the microsome's top and bottom fifth withheld")
        )
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for name, tiles, heading in made:
        path = folder / f"{name}.png"
        path.write_bytes(encode_png(_montage(tiles(), heading), dither=True))
        out.append(path)
    return out
