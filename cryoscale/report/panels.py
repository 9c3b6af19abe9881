"""What the pictures of one slice share: panels side by side on white, headings, numbers on plates, a scale bar."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cryoscale.report.colours import colour_of
from cryoscale.report.figures import scale_bar_nm

__all__ = [
    "FAINT", "GAP_PIXELS", "INK", "MASK_GREY", "PANEL_PIXELS", "TITLE_PIXELS", "Rgb", "bare", "heading", "new_figure",
    "number_plate", "rgb", "scale_bar",
]  # fmt: skip

INK, FAINT = "#1c2126", "#c9ced4"
MASK_GREY = 205
PANEL_PIXELS = 760
TITLE_PIXELS = 40
GAP_PIXELS = 26
_DPI = 100

Rgb = tuple[float, float, float]


def rgb(number: int) -> Rgb:
    """Return the colour of a membrane, counted from 1, each part 0 to 1."""
    red, green, blue = colour_of(number)
    return red / 255, green / 255, blue / 255


def new_figure(width_pixels: float, height_pixels: float, title: str) -> Figure:
    """Return a white figure of that size under its title."""
    figure = Figure(figsize=(width_pixels / _DPI, height_pixels / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(GAP_PIXELS / width_pixels, 1 - 16 / height_pixels, title, va="top", color=INK, fontsize=15)
    return figure


def heading(axes: Any, letter: str, words: str) -> None:
    """Put a panel's letter and what it shows above it."""
    axes.set_title(f"$\\bf{{{letter}}}$  {words}", loc="left", fontsize=12.5, color=INK, pad=6)


def bare(axes: Any) -> None:
    """Leave a faint frame and no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def number_plate(axes: Any, y: float, x: float, text: str, colour: Rgb) -> None:
    """Write a number at a pixel, on a plate framed in its membrane's colour."""
    plate = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": colour, "lw": 0.7, "alpha": 0.85}
    axes.text(x, y, text, fontsize=9, ha="center", va="center", color=INK, bbox=plate, zorder=6, clip_on=True)


def scale_bar(axes: Any, columns: int, nm_per_pixel: float) -> None:
    """Draw a bar of a round length on a plate in the lower right corner of a slice."""
    length_nm = scale_bar_nm(columns * nm_per_pixel)
    length, pad = length_nm / nm_per_pixel, columns * 0.025
    words = f"{length_nm:g} nm" if length_nm < 1000 else f"{length_nm / 1000:g} µm"
    plate = (columns - length - 2 * pad, 0.4 * pad), length + 1.6 * pad, 2.6 * pad
    axes.add_patch(Rectangle(*plate, color="white", alpha=0.85, lw=0, zorder=7))
    axes.add_patch(Rectangle((columns - length - 1.2 * pad, pad), length, 0.28 * pad, color=INK, lw=0, zorder=8))
    place = columns - 1.2 * pad - length / 2, 1.4 * pad
    axes.text(*place, words, ha="center", va="bottom", fontsize=11, color=INK, zorder=8)
