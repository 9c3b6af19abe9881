"""Pictures of one tomogram: slices, cut surfaces in the same places, and surfaces from an oblique view.

nm per pixel = nm per voxel / zoom, the same in every panel of a picture.

Every picture is a stack of panels drawn at whole pixels by an Agg canvas of its own (nothing of matplotlib's global
state is touched). Rows run upwards, as IMOD and ChimeraX show them: y up in xy, z up in xz and yz. Writing stands on
dark plates or in a grey that reads on white and on black; what shows nothing is transparent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cryoscale.report.colours import PALETTE, tint
from cryoscale.report.render import Frame, Surface, View, light, rasterise, shade

__all__ = [
    "FRONT",
    "RIGHT",
    "TOP",
    "Panel",
    "Slice",
    "figure_pixels",
    "grey_of",
    "overlay_of",
    "scale_bar_nm",
    "section_panels",
    "slice_panels",
    "stack_figure",
    "surface_figures",
]

TOP = View("from above", (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
FRONT = View("from the front", (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
RIGHT = View("from the right", (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_OBLIQUE = View.turned("oblique", 32.0, 26.0)
_DPI = 100
_GAP = 6
_INK = "#848c95"
_SHORTEST = 400
"""Least width of a picture in pixels: smaller slices are enlarged by a whole factor."""
_TALLEST = 1000
"""Most rows of a panel, where an enlargement is chosen."""
_STEEPEST = 1.25
"""Most height of a picture of surfaces, in widths."""
_GREYS = 24
_DARK = 30
_SD_MAP = "viridis"


@dataclass(frozen=True)
class Slice:
    """One plane of a tomogram, rows upwards."""

    name: str
    """Its axes: xy, xz or yz; the first runs to the right, the second up."""
    position_nm: float
    """Where it lies on the third axis, from the first voxel's centre."""
    raw: NDArray[np.floating]
    """(rows, columns) intensity; NaN where there is none."""
    labels: NDArray[np.integer]
    """(rows, columns) numbers of membranes, 0 elsewhere."""
    inferred: NDArray[np.bool_]
    """(rows, columns) whether the membrane there is inferred rather than seen."""
    nm_per_pixel: float


@dataclass(frozen=True)
class Panel:
    """A picture with its writing."""

    rgba: NDArray[np.uint8]
    """(h, w, 4), first row on top."""
    title: str
    right: str
    """Name of the axis that runs to the right; empty for none."""
    up: str
    nm_per_pixel: float


def grey_of(raw: NDArray[np.floating], *, percentiles: tuple[float, float] = (0.1, 99.9)) -> NDArray[np.uint8]:
    """Map intensities to greys, black and white at two percentiles; NaN becomes middle grey, nothing but NaN dark.

    Returns
    -------
    ndarray
        As `raw`, one of 24 greys: the noise hides the steps, and the file is half the size.
    """
    values = raw[np.isfinite(raw)]
    if not values.size:
        return np.full(raw.shape, _DARK, np.uint8)
    low, high = np.percentile(values, percentiles)
    share = np.clip((raw - low) / max(high - low, 1e-12), 0, 1)
    steps = np.rint(np.where(np.isfinite(raw), share, 0.5) * (_GREYS - 1))
    return np.asarray(np.rint(steps * (255 / (_GREYS - 1))), np.uint8)


def overlay_of(grey: NDArray[np.uint8], labels: NDArray[np.integer], inferred: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(h, w, 3) greys under membranes in their colours: full where seen, dashed and paler where inferred."""
    under = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    colour = np.array(PALETTE, np.float32)[(labels.astype(np.int64) - 1) % len(PALETTE)]
    row, column = np.indices(labels.shape)
    dash = max(3, round(labels.shape[1] / 120))
    gap = (row // dash + column // dash) % 2 == 1
    opacity = np.where(inferred & gap, 0.3, 0.78) * (labels > 0)
    colour = np.where((inferred & gap)[..., None], tint(colour), colour)
    mixed = under + (colour - under) * opacity[..., None]
    return np.asarray(np.rint(mixed), np.uint8)


def slice_panels(slices: Sequence[Slice], *, overlay: bool) -> list[Panel]:
    """Turn planes into panels, raw or with the membranes laid over them.

    Raises
    ------
    ValueError
        The arrays of a slice differ in shape.
    """
    zoom = _zoom(slices)
    panels = []
    for plane in slices:
        if not plane.raw.shape == plane.labels.shape == plane.inferred.shape:
            shapes = f"{plane.raw.shape}, {plane.labels.shape} and {plane.inferred.shape}"
            msg = f"slice {plane.name}: raw, labels and inferred must have one shape, not {shapes}"
            raise ValueError(msg)
        raw, labels, inferred = (_enlarge(part[::-1], zoom) for part in (plane.raw, plane.labels, plane.inferred))
        grey = grey_of(raw)
        colours = overlay_of(grey, labels, inferred) if overlay else np.repeat(grey[..., None], 3, axis=2)
        rgba = np.dstack([colours, np.full(grey.shape, 255, np.uint8)])
        third = "zyx".replace(plane.name[0], "").replace(plane.name[1], "")
        title = f"{third} = {plane.position_nm:.0f} nm"
        panels.append(Panel(rgba, title, plane.name[0], plane.name[1], plane.nm_per_pixel / zoom))
    return panels


def _zoom(slices: Sequence[Slice]) -> int:
    """Whole factor that makes the pictures wide enough, but not taller than the tallest."""
    columns = max((s.raw.shape[1] for s in slices), default=_SHORTEST)
    rows = max((s.raw.shape[0] for s in slices), default=1)
    return max(1, min(math.ceil(_SHORTEST / columns), _TALLEST // rows))


def _enlarge(array: NDArray[Any], zoom: int) -> NDArray[Any]:
    return np.repeat(np.repeat(array, zoom, axis=0), zoom, axis=1)


def section_panels(
    surfaces: Sequence[Surface], slices: Sequence[Slice], box_nm: tuple[float, float, float]
) -> list[Panel]:
    """Draw what lies behind each slice, at the slice's scale: `surfaces` cut open along it.

    Parameters
    ----------
    surfaces
        First column of the values: 0 seen to 1 inferred.
    slices
        In any order; their names choose the views.
    box_nm
        Lengths z, y, x of the tomogram.
    """
    views = {"xy": (TOP, 0, 1.0), "xz": (FRONT, 1, -1.0), "yz": (RIGHT, 2, 1.0)}
    zoom = _zoom(slices)
    panels = []
    for plane in slices:
        view, axis, sense = views[plane.name]
        width = plane.raw.shape[1] * zoom
        frame = Frame(view, box_nm, width, margin=0.0)
        buffers = rasterise(surfaces, frame, cut_nm=sense * (plane.position_nm - box_nm[axis] / 2))
        rgba = shade(buffers, light(buffers), _membrane_colours(buffers.number, buffers.value[..., 0]))
        title = f"behind {'zyx'[axis]} = {plane.position_nm:.0f} nm"
        panels.append(Panel(rgba, title, plane.name[0], plane.name[1], 1 / frame.pixels_per_nm))
    return panels


def _membrane_colours(number: NDArray[np.int32], inferred: NDArray[np.float32]) -> NDArray[np.float32]:
    colours = np.array(PALETTE, np.float32)[(number - 1) % len(PALETTE)]
    return np.where((inferred > 0.5)[..., None], tint(colours), colours).astype(np.float32)


def surface_figures(
    surfaces: Sequence[Surface], box_nm: tuple[float, float, float], *, width: int = 960
) -> tuple[Figure, Figure, Figure]:
    """Draw all surfaces from an oblique view.

    Parameters
    ----------
    surfaces
        Columns of the values: 0 seen to 1 inferred; standard deviation in nm.
    box_nm
        Lengths z, y, x of the tomogram, drawn as a thin box.
    width
        Pixels across; less for a box so tall that the picture would be more than 1.25 times as high as wide.

    Returns
    -------
    tuple of Figure
        By membrane; by the standard deviation of the position, with a bar of its colours; the first again at a third
        of the size, without a scale bar.
    """
    across, high = Frame(_OBLIQUE, box_nm, width).extent_nm
    width = max(3, 3 * round(width * min(1.0, _STEEPEST * across / high) / 3))
    frame = Frame(_OBLIQUE, box_nm, width, margin=0.015)
    buffers = rasterise(surfaces, frame)
    lighting = light(buffers)
    lines = frame.project(_box_edges(box_nm).reshape(-1, 3), oversampled=2).reshape(-1, 2, 3)
    scale = 1 / frame.pixels_per_nm
    by_membrane = shade(buffers, lighting, _membrane_colours(buffers.number, buffers.value[..., 0]), lines=lines)
    there = buffers.number > 0
    sd_nm = buffers.value[..., -1]
    top_nm = _nice_above(float(np.percentile(sd_nm[there], 90))) if there.any() else 1.0
    colours = np.zeros((*there.shape, 3), np.float32)
    colours[there] = 255 * colormaps[_SD_MAP](sd_nm[there] / top_nm)[:, :3]
    by_sd = shade(buffers, lighting, colours, lines=lines)
    pictures = [Panel(rgba, "", "", "", scale) for rgba in (by_membrane, by_sd)]
    small = Panel(_third(by_membrane), "", "", "", 3 * scale)
    first, second = (stack_figure([panel]) for panel in pictures)
    _colour_bar(second, top_nm)
    return first, second, stack_figure([small], with_bar=False)


def _third(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of 3 x 3 pixels, colours weighted by alpha; rows left over at the bottom are dropped."""
    rows, columns = (n // 3 for n in rgba.shape[:2])
    blocks = rgba[: 3 * rows, : 3 * columns].reshape(rows, 3, columns, 3, 4).astype(np.float32)
    weight = blocks[..., 3:].sum(axis=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).sum(axis=(1, 3)) / np.maximum(weight, 1)
    return np.asarray(np.rint(np.dstack([colour, weight / 9])), np.uint8)


def _box_edges(box_nm: tuple[float, float, float]) -> NDArray[np.float64]:
    """(12, 2, 3) ends of the edges of a box that starts at 0."""
    corners = np.array(list(np.ndindex(2, 2, 2)))
    pairs = [(a, b) for n, a in enumerate(corners) for b in corners[n + 1 :] if np.abs(a - b).sum() == 1]
    return np.asarray(np.array(pairs, np.float64) * np.array(box_nm))


def _nice_above(value: float) -> float:
    """Return the smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def scale_bar_nm(width_nm: float) -> float:
    """Length of a scale bar: the largest 1, 2 or 5 times a power of ten within a quarter of the width.

    Examples
    --------
    >>> scale_bar_nm(512.0)
    100.0
    """
    limit = width_nm / 4
    power = 10.0 ** math.floor(math.log10(limit))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= limit * (1 + 1e-9))


def stack_figure(panels: Sequence[Panel], *, with_bar: bool = True) -> Figure:
    """Stack panels at whole pixels, each with its title and axes, the first with a scale bar.

    Raises
    ------
    ValueError
        There is no panel.
    """
    if not panels:
        msg = "a picture needs at least one panel"
        raise ValueError(msg)
    width = max(p.rgba.shape[1] for p in panels)
    height = sum(p.rgba.shape[0] + _GAP for p in panels) - _GAP
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="none")
    FigureCanvasAgg(figure)
    top = height
    for number, panel in enumerate(panels):
        rows, columns = panel.rgba.shape[:2]
        top -= rows
        axes = figure.add_axes((0, top / height, columns / width, rows / height))
        axes.imshow(panel.rgba, interpolation="nearest", aspect="auto", extent=(0, columns, 0, rows))
        axes.set_axis_off()
        _write(axes, panel, width, with_bar=with_bar and number == 0)
        top -= _GAP
    return figure


def _write(axes: Any, panel: Panel, width: int, *, with_bar: bool) -> None:
    """Title top left, axes bottom left, scale bar bottom right: on dark plates, but plain where there is no title."""
    rows, columns = panel.rgba.shape[:2]
    # Pictures of slices are shown at about 400 pixels, those of surfaces at about 560.
    unit = width / (400 if panel.title else 560)
    plate = {"facecolor": (0.05, 0.06, 0.07, 0.72), "edgecolor": "none", "pad": 2.6 * unit}
    ink = "white" if panel.title else _INK
    text = {"color": ink, "fontsize": 8.4 * unit, "zorder": 5}
    pad = 10 * unit
    if panel.title:
        axes.text(pad, rows - pad, panel.title, ha="left", va="top", bbox=plate, **text)
    if panel.right:
        _plate(axes, plate["facecolor"], 0.5 * pad, 0.5 * pad, 4.3 * pad, 4.3 * pad)
        _arrows(axes, panel, pad, unit, text)
    if with_bar:
        length = scale_bar_nm(columns * panel.nm_per_pixel)
        right, left = columns - pad, columns - pad - length / panel.nm_per_pixel
        words = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
        if panel.title:
            _plate(axes, plate["facecolor"], left - 0.5 * pad, 0.5 * pad, right - left + pad, 2.5 * pad)
        axes.add_patch(Rectangle((left, 0.9 * pad), right - left, 2.4 * unit, color=ink, lw=0, zorder=5))
        axes.text((left + right) / 2, pad + 5.5 * unit, words, ha="center", va="bottom", **text)
    axes.set_xlim(0, columns)
    axes.set_ylim(0, rows)


def _plate(axes: Any, colour: Any, left: float, bottom: float, width: float, height: float) -> None:
    axes.add_patch(Rectangle((left, bottom), width, height, facecolor=colour, lw=0, zorder=4))


def _arrows(axes: Any, panel: Panel, pad: float, unit: float, text: dict[str, Any]) -> None:
    """Draw the two axes as arrows from the lower left corner, each with its name."""
    arrow = {"arrowstyle": "-|>,head_width=0.16,head_length=0.32", "color": text["color"], "lw": 1.1 * unit}
    arrow |= {"shrinkA": 0, "shrinkB": 0}
    reach = 22 * unit
    for x, y, name in ((reach, 0.0, panel.right), (0.0, reach, panel.up)):
        tip = (pad + x, pad + y)
        axes.annotate("", tip, (pad, pad), arrowprops=arrow, zorder=5)
        align = {"ha": "left", "va": "center"} if x else {"ha": "center", "va": "bottom"}
        axes.text(tip[0] + (3 * unit if x else 0), tip[1] + (0 if x else 2 * unit), name, **align, **text)


def _colour_bar(figure: Figure, top_nm: float) -> None:
    """Add a horizontal colour bar from 0 to `top_nm` at the lower left."""
    width, height = figure.get_size_inches() * _DPI
    unit = width / 520
    bar = figure.add_axes((10 * unit / width, 24 * unit / height, 120 * unit / width, 7 * unit / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=_SD_MAP, aspect="auto", extent=(0, top_nm, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([0, top_nm / 2, top_nm], [f"{v:g}" for v in (0, top_nm / 2)] + [f"≥ {top_nm:g} nm"])
    bar.tick_params(colors=_INK, labelsize=7.6 * unit, length=2.5 * unit, width=0.8 * unit, pad=2 * unit)
    bar.set_title("sd of the surface's position", color=_INK, fontsize=7.6 * unit, loc="left", pad=4 * unit)
    for spine in bar.spines.values():
        spine.set_visible(False)


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure and return its (h, w, 4) pixels."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), np.uint8)
