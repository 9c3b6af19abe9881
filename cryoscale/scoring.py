"""Scores of a run against the truth of its simulation, streamed slab by slab so that a volume of any size fits.

The raw network and the final membranes, overall, by slice, and by the angle between the membrane's normal and the beam.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.evaluate.beam import scores_by_angle
from cryoscale.evaluate.instances import Contingency, add_tables, contingency, match_instances
from cryoscale.evaluate.overlap import Counts, slice_counts
from cryoscale.io.omezarr import read_region
from cryoscale.io.source import open_source

__all__ = ["EDGES_DEGREES", "Reader", "Scores", "score_run", "scores_text", "slabs"]

Scores = dict[str, Any]
_SLAB_SLICES = 32
EDGES_DEGREES = (0.0, 30.0, 60.0, 90.0)
"""Bins of the angle between a membrane's normal and the beam."""
_MEMBRANE = 2

Reader = Callable[[Region], NDArray[Any]]


def score_run(folder: Path, truth: Path) -> Scores:
    """Score one tomogram of a run against the truth of its simulation.

    Parameters
    ----------
    folder
        The tomogram's products.
    truth
        ``truth/<id>``: the beginning of the names of the classes, instances and beam angles.

    Returns
    -------
    Dice of the raw network and of the final membranes, both by angle to the beam and by slice (None where neither has
    a voxel), instance scores at IoU 0.5.
    """
    true_instances, shape = _reader(Path(f"{truth}__instances.mrc"))
    angles, _ = _reader(Path(f"{truth}__beam_angle.mrc"))
    final = _stored(folder / "membranes.ome.zarr")
    raw = _stored(folder / "classes.ome.zarr")
    totals = {"final": Counts(), "raw": Counts()}
    by_slice: dict[str, list[float | None]] = {name: [] for name in totals}
    by_angle = {name: [Counts() for _ in EDGES_DEGREES[1:]] for name in totals}
    tables: list[Contingency] = []
    for region in slabs(shape):
        wanted, angle = true_instances(region), angles(region).astype(np.float32)
        labels = final(region)
        tables.append(contingency(labels, wanted))
        for name, found in (("final", labels > 0), ("raw", raw(region) == _MEMBRANE)):
            for counts in slice_counts(found, wanted > 0):
                totals[name] += counts
                by_slice[name].append(None if math.isnan(counts.dice) else counts.dice)
            bins = scores_by_angle(found, wanted > 0, np.where(angle < 0, np.nan, angle), EDGES_DEGREES)
            by_angle[name] = [a + b.counts for a, b in zip(by_angle[name], bins, strict=True)]
    matched = match_instances(add_tables(tables))
    return {
        "dice_raw": totals["raw"].dice,
        "dice_final": totals["final"].dice,
        "angle_edges_degrees": list(EDGES_DEGREES),
        "dice_raw_by_angle": [counts.dice for counts in by_angle["raw"]],
        "dice_final_by_angle": [counts.dice for counts in by_angle["final"]],
        "dice_raw_by_slice": by_slice["raw"],
        "dice_final_by_slice": by_slice["final"],
        "instance_precision": matched.precision,
        "instance_recall": matched.recall,
        "instance_f1": matched.f1,
        "panoptic_quality": matched.panoptic_quality,
    }


def scores_text(scores: Scores) -> str:
    """Return scores as lines of text."""
    lines = []
    for name, value in scores.items():
        if name == "angle_edges_degrees" or name.endswith("_by_slice"):
            continue
        if isinstance(value, list):
            ranges = zip(EDGES_DEGREES, EDGES_DEGREES[1:], value, strict=False)
            shown = "  ".join(f"{low:.0f}-{high:.0f} deg {part:.3f}" for low, high, part in ranges)
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        lines.append(f"  {name.replace('_', ' '):<22} {shown}")
    return "\n".join(lines)


def slabs(shape: tuple[int, ...]) -> Iterator[Region]:
    """Yield the slabs of whole slices that are scored one at a time."""
    yield from blocks(shape, (_SLAB_SLICES, *shape[1:]))


def _stored(path: Path) -> Reader:
    return lambda region: read_region(path, region)


def _reader(path: Path) -> tuple[Reader, tuple[int, ...]]:
    source = open_source(path)
    return (lambda region: source.read(region.start, region.stop)), source.shape
