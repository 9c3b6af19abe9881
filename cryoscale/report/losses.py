"""The course of a training: losses and the membrane's scores over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["draw_losses"]

_LOSSES = {
    "loss": "labelled slices",
    "loss_unlabelled": "slices without labels",
    "validation_loss": "held out",
}
_SCORES = {"dice_membrane": "Dice", "precision_membrane": "precision", "recall_membrane": "recall"}


def draw_losses(log: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Draw the curves of a training's log into a PNG.

    Parameters
    ----------
    log
        One row per validation; `step` and what else there is of losses and of the membrane's scores.
    path
        File to write.
    title
        Over the curves.
    """
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        steps = [row["step"] for row in log]
        for axes, names in ((left, _LOSSES), (right, _SCORES)):
            for name, words in names.items():
                values = np.array([row.get(name, np.nan) for row in log], dtype=np.float64)
                if np.isfinite(values).any():
                    axes.plot(steps, values, marker="o", markersize=2.5, linewidth=1.2, label=words)
            if axes.lines:
                axes.legend(frameon=False)
            axes.set_xlabel("step")
            axes.spines[["top", "right"]].set_visible(False)
        left.set_title("loss", loc="left")
        left.set_ylim(bottom=0)
        right.set_title("membrane, held-out slices", loc="left")
        right.set_ylim(0, 1)
        figure.suptitle(title, x=0.01, ha="left")
        figure.savefig(path, dpi=130)
