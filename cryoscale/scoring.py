"""Scores of labels against the truth, streamed slab by slab so that a volume of any size fits.

`score_volumes` compares two label volumes; `score_run` compares what a run made of a simulated tomogram: the raw
network and the final membranes, overall and by the angle between the membrane's normal and the beam.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.errors import UsageError
from cryoscale.evaluate.beam import scores_by_angle
from cryoscale.evaluate.instances import Contingency, add_tables, contingency, match_instances
from cryoscale.evaluate.overlap import Counts, count_overlap
from cryoscale.io.omezarr import read_region
from cryoscale.io.source import open_source

__all__ = ["Scores", "print_scores", "score_run", "score_volumes", "scores_text"]

Scores = dict[str, Any]
_SLAB_SLICES = 32
_EDGES_DEGREES = (0.0, 30.0, 60.0, 90.0)
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
    Dice of the raw network and of the final membranes, both by angle to the beam, instance scores at IoU 0.5.
    """
    true_instances, shape = _reader(Path(f"{truth}__instances.mrc"))
    angles, _ = _reader(Path(f"{truth}__beam_angle.mrc"))
    final = _stored(folder / "membranes.ome.zarr")
    raw = _stored(folder / "classes.ome.zarr")
    totals = {"final": Counts(), "raw": Counts()}
    by_angle = {name: [Counts() for _ in _EDGES_DEGREES[1:]] for name in totals}
    tables: list[Contingency] = []
    for region in _slabs(shape):
        wanted, angle = true_instances(region), angles(region).astype(np.float32)
        labels = final(region)
        tables.append(contingency(labels, wanted))
        for name, found in (("final", labels > 0), ("raw", raw(region) == _MEMBRANE)):
            totals[name] += count_overlap(found, wanted > 0)
            bins = scores_by_angle(found, wanted > 0, np.where(angle < 0, np.nan, angle), _EDGES_DEGREES)
            by_angle[name] = [a + b.counts for a, b in zip(by_angle[name], bins, strict=True)]
    matched = match_instances(add_tables(tables))
    return {
        "dice_raw": totals["raw"].dice,
        "dice_final": totals["final"].dice,
        "angle_edges_degrees": list(_EDGES_DEGREES),
        "dice_raw_by_angle": [counts.dice for counts in by_angle["raw"]],
        "dice_final_by_angle": [counts.dice for counts in by_angle["final"]],
        "instance_precision": matched.precision,
        "instance_recall": matched.recall,
        "instance_f1": matched.f1,
        "panoptic_quality": matched.panoptic_quality,
    }


def score_volumes(prediction: str | Path, truth: str | Path) -> Scores:
    """Score a label volume against the true one; MRC, TIFF or OME-Zarr.

    Raises
    ------
    UsageError
        The shapes differ, or the voxels are not whole numbers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found, shape = _reader(Path(prediction), Path(scratch) / "prediction")
        wanted, true_shape = _reader(Path(truth), Path(scratch) / "truth")
        if shape != true_shape:
            raise UsageError("shapes differ", where=f"{prediction} and {truth}", found=f"{shape} and {true_shape}")
        total, tables, slices = Counts(), [], []
        for region in _slabs(shape):
            labels, true_labels = _whole_numbers(found(region), prediction), _whole_numbers(wanted(region), truth)
            tables.append(contingency(labels, true_labels))
            for a, b in zip(labels, true_labels, strict=True):
                slices.append(count_overlap(a, b))
                total += slices[-1]
    matched = match_instances(add_tables(tables))
    per_slice = [counts.dice for counts in slices if not math.isnan(counts.dice)]
    return {
        "dice": total.dice,
        "iou": total.iou,
        "precision": total.precision,
        "recall": total.recall,
        "mean_dice_per_slice": float(np.mean(per_slice)) if per_slice else math.nan,
        "instance_precision": matched.precision,
        "instance_recall": matched.recall,
        "instance_f1": matched.f1,
        "panoptic_quality": matched.panoptic_quality,
        "instances_matched": len(matched.matches),
        "instances_found": len(matched.matches) + len(matched.unmatched_predictions),
        "instances_true": len(matched.matches) + len(matched.unmatched_truths),
    }


def print_scores(prediction: str, truth: str, *, as_json: bool) -> None:
    """Print what `score_volumes` finds."""
    scores = score_volumes(prediction, truth)
    sys.stdout.write((json.dumps(scores, indent=1) if as_json else scores_text(scores)) + "\n")


def scores_text(scores: Scores) -> str:
    """Return scores as lines of text."""
    lines = []
    for name, value in scores.items():
        if name == "angle_edges_degrees":
            continue
        if isinstance(value, list):
            ranges = zip(_EDGES_DEGREES, _EDGES_DEGREES[1:], value, strict=False)
            shown = "  ".join(f"{low:.0f}-{high:.0f} deg {part:.3f}" for low, high, part in ranges)
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        lines.append(f"  {name.replace('_', ' '):<22} {shown}")
    return "\n".join(lines)


def _slabs(shape: tuple[int, ...]) -> Iterator[Region]:
    yield from blocks(shape, (_SLAB_SLICES, *shape[1:]))


def _stored(path: Path) -> Reader:
    return lambda region: read_region(path, region)


def _reader(path: Path, scratch: Path | None = None) -> tuple[Reader, tuple[int, ...]]:
    source = open_source(path, scratch=scratch)
    return (lambda region: source.read(region.start, region.stop)), source.shape


def _whole_numbers(labels: NDArray[Any], where: str | Path) -> NDArray[np.integer[Any]]:
    if labels.dtype.kind in "ui":
        return labels
    if not np.array_equal(labels, np.rint(labels)) or labels.min(initial=0) < 0:
        raise UsageError("labels must be whole numbers, 0 or more", where=str(where), found=str(labels.dtype))
    return labels.astype(np.int64)
