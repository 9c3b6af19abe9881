"""Picture of scores: Dice by slice (paper, fig. 21) and by angle to the beam (fig. 22), IoU of matched membranes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["draw_scores"]

_BLUE = "#0072b2"


def draw_scores(
    path: Path,
    dice_by_slice: Sequence[float],
    match_ious: Sequence[float],
    by_angle: tuple[Sequence[float], Sequence[float]],
) -> None:
    """Draw scores into a PNG.

    Parameters
    ----------
    path
        File to write.
    dice_by_slice
        NaN where a slice has nothing.
    match_ious
        Of each matched membrane.
    by_angle
        n + 1 edges in degrees and n scores; both empty where it was not asked for.
    """
    edges, scores = by_angle
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(10 if scores else 7.5, 2.9), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3 if scores else 2, width_ratios=[2, 1, 1] if scores else [2, 1])
        panels[0].plot(np.arange(len(dice_by_slice)), dice_by_slice, color=_BLUE, linewidth=1.3)
        panels[0].set(title="Dice by slice", xlabel="slice (z)", ylim=(0, 1.02))
        panels[1].hist(match_ious, bins=np.linspace(0.5, 1, 21), color=_BLUE)
        panels[1].set(title="matched membranes", xlabel="IoU", ylabel="membranes")
        if scores:
            words = [f"{low:g}–{high:g}" for low, high in itertools.pairwise(edges)]
            panels[2].bar(words, scores, color=_BLUE)
            panels[2].set(title="Dice by angle", xlabel="degrees to the beam", ylim=(0, 1.02))
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
            axes.title.set_horizontalalignment("center")
        figure.savefig(path, dpi=130)
