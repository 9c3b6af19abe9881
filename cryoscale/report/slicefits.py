"""Picture of the 2-D fits of one slice: pixels and ellipses, curves with their bands, the field.

panel a   each membrane's pixels, selected ones in its colour, rejected ones as crosses, and its ellipse
panel b   zero of the Gaussian process in its band of +-2 sd, solid where pixels support it, dashed where inferred
panel c   the field near the curves: +1 inside, -1 outside, nested rings in turn

After figures 7 to 11 of the paper. Rows run upwards, y up. Membrane n has the colour that the other pictures give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscale.report.figures import grey_of
from cryoscale.report.panels import (
    GAP_PIXELS,
    INK,
    MASK_GREY,
    PANEL_PIXELS,
    TITLE_PIXELS,
    Rgb,
    bare,
    heading,
    new_figure,
    number_plate,
    rgb,
    scale_bar,
)

__all__ = ["DrawnCurve", "DrawnMembrane", "SliceFits", "slice_fits_figure"]

Array = NDArray[np.float64]
_BAND_SD = 2.0
_WIDEST_BAND_PIXELS = 10.0
"""Wider bands are drawn this wide: they say that nothing is known, and would hide what is."""
_MOST_NUMBERS = 60


@dataclass(frozen=True)
class DrawnMembrane:
    """One membrane's pixels and ellipse; positions are y, x in pixels."""

    number: int
    pixels: Array
    """(n, 2)."""
    selected: NDArray[np.bool_]
    """(n,) whether each was taken for the curve."""
    outline: Array | None
    """(m, 2) its ellipse; None where there is none."""
    describes: bool
    """Whether the pixels lie along the ellipse; one that they do not is drawn dotted."""


@dataclass(frozen=True)
class DrawnCurve:
    """One piece of a curve."""

    number: int
    """Membrane whose colour it has."""
    points: Array
    """(m, 2) in order."""
    sd_pixels: Array
    """(m,) of the position."""
    normals: Array
    """(m, 2) unit vectors."""
    seen: NDArray[np.bool_]
    """(m,) whether pixels of the membrane are near."""


@dataclass(frozen=True)
class SliceFits:
    """What is drawn of one slice."""

    mask: NDArray[np.bool_]
    """(ny, nx) the membrane pixels."""
    intensity: NDArray[np.floating] | None
    """(ny, nx) the tomogram's slice, shown behind the curves; None where there is none."""
    membranes: Sequence[DrawnMembrane]
    curves: Sequence[DrawnCurve]
    field: Array
    """(ny, nx) mean of the Gaussian processes, NaN far from them."""
    nm_per_pixel: float
    title: str


def slice_fits_figure(found: SliceFits) -> Figure:
    """Draw the three panels side by side.

    Returns
    -------
    Figure with an Agg canvas of its own.

    Raises
    ------
    ValueError
        Mask, tomogram and field differ in shape.
    """
    shapes = {
        found.mask.shape,
        found.field.shape,
        found.mask.shape if found.intensity is None else found.intensity.shape,
    }
    if len(shapes) > 1:
        msg = f"mask, tomogram and field must have one shape, found {sorted(shapes)}"
        raise ValueError(msg)
    rows, columns = found.mask.shape
    scale = PANEL_PIXELS / max(rows, columns)
    wide, high = columns * scale, rows * scale
    size = (3 * wide + 4 * GAP_PIXELS + 70, high + 2 * TITLE_PIXELS + GAP_PIXELS)
    figure = new_figure(*size, found.title)
    panels = [
        figure.add_axes(
            (
                (GAP_PIXELS + k * (wide + GAP_PIXELS)) / size[0],
                GAP_PIXELS / size[1],
                wide / size[0],
                high / size[1],
            )
        )
        for k in range(3)
    ]
    _pixels_panel(panels[0], found)
    _curves_panel(panels[1], found)
    image = _field_panel(panels[2], found)
    left = (3 * (wide + GAP_PIXELS) + 10) / size[0]
    bar = figure.colorbar(image, cax=figure.add_axes((left, GAP_PIXELS / size[1], 14 / size[0], high / size[1])))
    bar.set_ticks([-1, 0, 1])
    bar.outline.set_visible(False)
    for axes in panels:
        _frame(axes, found)
    scale_bar(panels[0], columns, found.nm_per_pixel)
    return figure


def _frame(axes: Any, found: SliceFits) -> None:
    rows, columns = found.mask.shape
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.set_aspect("equal")
    bare(axes)


def _pixels_panel(axes: Any, found: SliceFits) -> None:
    kept = sum(int(one.selected.sum()) for one in found.membranes)
    total = sum(len(one.pixels) for one in found.membranes)
    fitted = sum(one.describes for one in found.membranes)
    words = f"{kept} of {total} pixels selected (\u00d7 rejected); {fitted} of {len(found.membranes)} are ellipses"
    heading(axes, "a", words)
    size = (PANEL_PIXELS / max(found.mask.shape) * 0.5) ** 2
    for one in found.membranes:
        colour = rgb(one.number)
        inside, out = one.pixels[one.selected], one.pixels[~one.selected]
        axes.scatter(inside[:, 1], inside[:, 0], s=max(size, 1.0), color=colour, marker="s", lw=0, alpha=0.45)
        axes.scatter(out[:, 1], out[:, 0], s=max(3 * size, 14.0), color="black", marker="x", lw=0.9, zorder=4)
        if one.outline is not None:
            style = "-" if one.describes else (0, (1, 2))
            axes.plot(one.outline[:, 1], one.outline[:, 0], color=INK, lw=1.3, ls=style, zorder=3)
    if len(found.membranes) <= _MOST_NUMBERS:
        for one in found.membranes:
            y, x = one.pixels[len(one.pixels) // 2]
            number_plate(axes, y, x, str(one.number), rgb(one.number))


def _curves_panel(axes: Any, found: SliceFits) -> None:
    share = sum(int(one.seen.sum()) for one in found.curves) / max(1, sum(len(one.seen) for one in found.curves))
    words = f"Gaussian process: curve \u00b12 sd; {share:.0%} seen, dashed: inferred" if found.curves else "no curve"
    heading(axes, "b", words)
    picture = np.where(found.mask, MASK_GREY, 255) if found.intensity is None else grey_of(found.intensity)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, origin="lower", interpolation="nearest")
    for one in found.curves:
        _draw_curve(axes, one, rgb(one.number))


def _draw_curve(axes: Any, one: DrawnCurve, colour: Rgb) -> None:
    offset = np.minimum(_BAND_SD * one.sd_pixels, _WIDEST_BAND_PIXELS)[:, None] * one.normals
    low, high, line = ((one.points + side * offset)[:, ::-1] for side in (-1, 1, 0))
    quads = np.stack([low[:-1], low[1:], high[1:], high[:-1]], 1)
    axes.add_collection(PolyCollection(list(quads), facecolors=[colour], alpha=0.35, lw=0, antialiased=False, zorder=3))
    pieces, seen = np.stack([line[:-1], line[1:]], 1), one.seen[:-1] & one.seen[1:]
    axes.add_collection(LineCollection(list(pieces[seen]), colors=[colour], lw=2.2, capstyle="round", zorder=4))
    for run in _runs(~seen):
        axes.plot(*line[run.start : run.stop + 1].T, color=colour, lw=2.2, ls=(0, (2, 1.2)), zorder=4)


def _runs(flags: NDArray[np.bool_]) -> list[slice]:
    """Return the runs of consecutive true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _field_panel(axes: Any, found: SliceFits) -> Any:
    heading(axes, "c", "its mean: +1 inside, \u22121 outside; rings in turn")
    image = axes.imshow(
        np.ma.masked_invalid(found.field), cmap="coolwarm", vmin=-1, vmax=1, origin="lower", interpolation="nearest"
    )
    for one in found.curves:
        axes.plot(one.points[:, 1], one.points[:, 0], color="black", lw=1.1)
    return image
