"""Picture of how one slice's pieces were connected: segments, membranes with their joins, and the Q-table.

panel a   traced segments, each its own colour and number, ends marked: a disc at end 0, a square at end 1
panel b   the membranes they form, joins as dashed lines, closed ones solid, open ones thin
panel c   Q(end, end): what the walker learned each join is worth; ends in the order of panel b's membranes

After figures 10 and 12 to 14 of the paper's preprint. Rows run upwards, y up. Membrane n has the colour that the other
pictures give it; a segment has the colour of its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cryoscale.report.figures import grey_of
from cryoscale.report.panels import (
    FAINT,
    GAP_PIXELS,
    INK,
    MASK_GREY,
    PANEL_PIXELS,
    TITLE_PIXELS,
    bare,
    heading,
    new_figure,
    number_plate,
    rgb,
    scale_bar,
)

__all__ = ["Connection", "connection_figure"]

_MOST_NUMBERS = 90
"""With more segments than this, numbers would hide the membranes."""
_MOST_TICKS = 24
_OUTLINE = 2.2
"""White around lines that cross others, in points."""


@dataclass(frozen=True)
class Connection:
    """What is drawn of one slice; positions are y, x in pixels."""

    mask: NDArray[np.bool_]
    """(ny, nx) the membrane pixels that were traced."""
    intensity: NDArray[np.floating] | None
    """(ny, nx) the tomogram's slice, shown behind the membranes; None where there is none."""
    segments: Sequence[NDArray[np.int32]]
    """(n, 2) pixels of each segment from its end 0 to its end 1."""
    paths: Sequence[Sequence[tuple[int, bool]]]
    """Segments of each membrane in the order of the walk, and whether each is walked backwards."""
    closed: Sequence[bool]
    """Whether each path returns to where it began."""
    joins: NDArray[np.int32]
    """(m, 2, 2) the two ends of each join."""
    join_path: NDArray[np.int32]
    """(m,) the membrane each join belongs to, counted from 1."""
    q: NDArray[np.float64]
    """(2 S, 2 S) values by ends, 2 * segment + end; NaN where there is no action."""
    nm_per_pixel: float
    title: str
    """What slice of what."""


def connection_figure(found: Connection) -> Figure:
    """Draw the three panels side by side.

    Parameters
    ----------
    found
        The slice and what was made of it.

    Returns
    -------
    Figure with an Agg canvas of its own.

    Raises
    ------
    ValueError
        The table does not have two rows and columns for each segment.
    """
    ends = 2 * len(found.segments)
    if found.q.shape != (ends, ends):
        msg = f"the table of {len(found.segments)} segments must be {(ends, ends)}, not {found.q.shape}"
        raise ValueError(msg)
    rows, columns = found.mask.shape
    scale = PANEL_PIXELS / max(rows, columns)
    wide, high = columns * scale, max(rows * scale, PANEL_PIXELS * 0.62)
    size = (2 * wide + high + 96 + 4 * GAP_PIXELS, high + 2 * TITLE_PIXELS + GAP_PIXELS)
    figure = new_figure(*size, found.title)
    panels = []
    for left, width in ((0.0, wide), (wide + GAP_PIXELS, wide), (2 * (wide + GAP_PIXELS) + 36, high - 36)):
        box = (left + GAP_PIXELS) / size[0], 36 / size[1], width / size[0], (high - 36) / size[1]
        panels.append(figure.add_axes(box))
    _segments_panel(panels[0], found)
    _membranes_panel(panels[1], found)
    _table_panel(figure, panels[2], found)
    return figure


def _slice_axes(axes: Any, picture: NDArray[np.uint8], letter: str, words: str) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, origin="lower", interpolation="nearest")
    axes.set_anchor("N")
    bare(axes)
    heading(axes, letter, words)


def _segments_panel(axes: Any, found: Connection) -> None:
    _slice_axes(axes, _mask_picture(found), "a", f"{len(found.segments)} segments; \u25cf first and \u25a0 last pixel")
    numbered = len(found.segments) <= _MOST_NUMBERS
    for number, pixels in enumerate(found.segments):
        colour = rgb(number + 1)
        axes.plot(pixels[:, 1], pixels[:, 0], color=colour, lw=1.8, solid_capstyle="round")
        for end, shape in ((0, "o"), (-1, "s")):
            y, x = pixels[end]
            axes.plot(x, y, shape, color=colour, ms=5, mec="black", mew=0.6, zorder=4)
        if numbered:
            y, x = pixels[len(pixels) // 2]
            number_plate(axes, y, x, str(number), colour)
    rows, columns = found.mask.shape
    scale_bar(axes, columns, found.nm_per_pixel)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)


def _mask_picture(found: Connection) -> NDArray[np.uint8]:
    """White, with the mask in light grey."""
    return np.where(found.mask, MASK_GREY, 255).astype(np.uint8)


def _membranes_panel(axes: Any, found: Connection) -> None:
    closed = sum(map(bool, found.closed))
    words = f"membranes: {closed} closed, {len(found.paths) - closed} open; {len(found.joins)} joins (dashed)"
    picture = _mask_picture(found) if found.intensity is None else grey_of(found.intensity)
    _slice_axes(axes, picture, "b", words)
    numbered = len(found.paths) <= _MOST_NUMBERS
    for number, (path, is_closed) in enumerate(zip(found.paths, found.closed, strict=True)):
        colour = rgb(number + 1)
        for segment, _ in path:
            pixels = found.segments[segment]
            if found.intensity is not None:
                axes.plot(pixels[:, 1], pixels[:, 0], color="black", lw=(2.6 if is_closed else 1.4) + 1.2)
            axes.plot(pixels[:, 1], pixels[:, 0], color=colour, lw=2.6 if is_closed else 1.4)
        if numbered and path:
            pixels = found.segments[path[0][0]]
            y, x = pixels[len(pixels) // 2]
            number_plate(axes, y, x, str(number + 1), colour)
    for (first, second), number in zip(found.joins, found.join_path, strict=True):
        x, y = (first[1], second[1]), (first[0], second[0])
        axes.plot(x, y, color="white", lw=2.0 + _OUTLINE, solid_capstyle="butt", zorder=3)
        axes.plot(x, y, color=rgb(int(number)), lw=2.0, ls=(0, (1.6, 1.0)), zorder=4)


def _order(found: Connection) -> list[int]:
    """Segments as the walks meet them, then those in no path."""
    walked = [segment for path in found.paths for segment, _ in path]
    return walked + sorted(set(range(len(found.segments))) - set(walked))


def _table_panel(figure: Figure, axes: Any, found: Connection) -> None:
    heading(axes, "c", "Q of the join from the row's end to the column's; grey: none")
    axes.set_anchor("N")
    order = _order(found)
    ends = [2 * segment + end for segment in order for end in (0, 1)]
    table = np.ma.masked_invalid(found.q[np.ix_(ends, ends)])
    if not table.count():
        axes.set_axis_off()
        words = "no join leads back to where a walk begins" if order else "no segments"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=INK)
        return
    axes.set_facecolor("#eceef0")
    image = axes.imshow(table, cmap="viridis", interpolation="nearest", aspect="equal")
    _table_lines(axes, found, ends)
    step = max(1, math.ceil(len(order) / _MOST_TICKS))
    ticks = [2 * k + 0.5 for k in range(0, len(order), step)]
    names = [str(order[k]) for k in range(0, len(order), step)]
    axes.set_xticks(ticks, names, fontsize=9)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(length=2, color=FAINT)
    axes.set_xlabel("segment, end 0 and end 1; membranes framed, joins taken \u25cb", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)


def _table_lines(axes: Any, found: Connection, ends: list[int]) -> None:
    """Frame the part of the table that belongs to each membrane, and ring the joins that were taken."""
    row = 0
    for number, (path, is_closed) in enumerate(zip(found.paths, found.closed, strict=True)):
        size = 2 * len(path)
        frame: dict[str, Any] = {"fill": False, "edgecolor": rgb(number + 1), "lw": 2.0}
        axes.add_patch(Rectangle((row - 0.5, row - 0.5), size, size, **frame))
        steps = len(path) if is_closed else len(path) - 1
        for k in range(steps):
            after = (k + 1) % len(path)
            leave = row + 2 * k + (0 if path[k][1] else 1)
            enter = row + 2 * after + (1 if path[after][1] else 0)
            # A ring needs no join to close, and an open path may take one that the walker never could.
            if np.isfinite(found.q[ends[leave], ends[enter]]):
                axes.plot(enter, leave, "o", mfc="none", mec="white", mew=1.2, ms=5)
        row += size
