"""Two label volumes compared: ``cryoscale evaluate PREDICTION TRUTH``, slab by slab, so that volumes of any size fit.

Dice, IoU, precision and recall of all labels together; surface Dice within a tolerance; instances matched at IoU above
0.5. Tables by slice and by membrane and a picture go into a folder where one is named.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoscale.chunks import Region
from cryoscale.errors import UsageError
from cryoscale.evaluate.beam import beam_angle_degrees, scores_by_angle
from cryoscale.evaluate.instances import Contingency, InstanceScores, add_tables, contingency, match_instances
from cryoscale.evaluate.overlap import Counts, mean_dice, slice_counts
from cryoscale.evaluate.surfaces import SurfaceCounts, count_near
from cryoscale.io.files import write_text
from cryoscale.io.source import Source, open_source
from cryoscale.io.tables import write_csv
from cryoscale.scoring import ANGLE_HALO, EDGES_DEGREES, Reader, Scores, scores_text, slabs, whole_numbers

__all__ = ["Comparison", "compare_volumes", "print_comparison", "write_comparison"]


@dataclass(frozen=True)
class Comparison:
    """How a prediction compares with the truth."""

    scores: Scores
    slices: list[Counts]
    """Of each slice along z."""
    instances: InstanceScores


@dataclass
class _Sums:
    """Counts so far."""

    slices: list[Counts]
    tables: list[Contingency]
    surface: SurfaceCounts
    angles: list[Counts]


def compare_volumes(
    prediction: Path,
    truth: Path,
    *,
    tolerance_nm: float | None = None,
    apix: float | None = None,
    by_angle: bool = False,
) -> Comparison:
    """Score a label volume against the true one; MRC, TIFF or OME-Zarr.

    Parameters
    ----------
    prediction, truth
        Volumes of whole numbers, 0 background.
    tolerance_nm
        Of the surface Dice; None is one voxel.
    apix
        Ångström per voxel, where neither file states it.
    by_angle
        Also split Dice by the angle between the true membrane's normal and the beam, estimated from the labels.

    Raises
    ------
    UsageError
        The shapes differ, the voxels are not whole numbers, or a tolerance in nm comes without a voxel size.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = open_source(prediction, scratch=Path(scratch) / "prediction")
        wanted = open_source(truth, scratch=Path(scratch) / "truth")
        if found.shape != wanted.shape:
            where = f"{prediction} and {truth}"
            raise UsageError("shapes differ", where=where, found=f"{found.shape} and {wanted.shape}")
        tolerance = _tolerance_voxels(tolerance_nm, apix, found, wanted)
        sums = _Sums([], [], SurfaceCounts(), [Counts()] * (len(EDGES_DEGREES) - 1) if by_angle else [])
        for region in slabs(found.shape):
            _add_slab(sums, region, found.shape[0], (_reader(found), _reader(wanted)), tolerance)
    matched = match_instances(add_tables(sums.tables))
    return Comparison(_scores(sums, matched, tolerance, tolerance_nm), sums.slices, matched)


def _tolerance_voxels(tolerance_nm: float | None, apix: float | None, *sources: Source) -> float:
    if tolerance_nm is None:
        return 1.0
    known = [source.voxel_size_angstrom for source in sources if source.voxel_size_angstrom]
    size = apix or (sum(known[0]) / 3 if known else None)
    if not size or not 0 <= tolerance_nm < math.inf:
        raise UsageError(
            "a tolerance in nm needs a voxel size, and must not be negative",
            where="--tolerance",
            found=f"{tolerance_nm} nm, voxel size {size or 'not stated'}",
            todo="state --apix, or leave the tolerance at one voxel",
        )
    return tolerance_nm * 10 / size


def _reader(source: Source) -> Reader:
    return lambda region: whole_numbers(source.read(region.start, region.stop), source.path)


def _add_slab(sums: _Sums, region: Region, depth: int, readers: tuple[Reader, Reader], tolerance: float) -> None:
    """Count one slab, with as many slices around it as its borders and normals need."""
    halo = max(math.floor(tolerance) + 1, ANGLE_HALO if sums.angles else 0)
    start = max(0, region.start[0] - halo)
    outer = Region((start, *region.start[1:]), (min(depth, region.stop[0] + halo), *region.stop[1:]))
    labels, true_labels = (read(outer) for read in readers)
    first = region.start[0] - start
    inner = slice(first, first + region.shape[0])
    sums.tables.append(contingency(labels[inner], true_labels[inner]))
    sums.slices += slice_counts(labels[inner], true_labels[inner])
    sums.surface += count_near(labels > 0, true_labels > 0, tolerance, inner.start, inner.stop)
    if sums.angles:
        angles = beam_angle_degrees(true_labels)[inner]
        bins = scores_by_angle(labels[inner], true_labels[inner], angles, EDGES_DEGREES)
        sums.angles[:] = [a + b.counts for a, b in zip(sums.angles, bins, strict=True)]


def _scores(sums: _Sums, matched: InstanceScores, tolerance: float, tolerance_nm: float | None) -> Scores:
    total = sum(sums.slices, Counts())
    scores: Scores = {
        "dice": total.dice,
        "iou": total.iou,
        "precision": total.precision,
        "recall": total.recall,
        "surface_dice": sums.surface.surface_dice,
        "surface_tolerance_voxels": tolerance,
    }
    if tolerance_nm is not None:
        scores["surface_tolerance_nm"] = tolerance_nm
    if sums.angles:
        scores["angle_edges_degrees"] = list(EDGES_DEGREES)
        scores["dice_by_angle"] = [counts.dice for counts in sums.angles]
    return {
        **scores,
        "mean_dice_per_slice": mean_dice(sums.slices),
        "instance_precision": matched.precision,
        "instance_recall": matched.recall,
        "instance_f1": matched.f1,
        "panoptic_quality": matched.panoptic_quality,
        "instances_matched": len(matched.matches),
        "instances_found": len(matched.matches) + len(matched.unmatched_predictions),
        "instances_true": len(matched.matches) + len(matched.unmatched_truths),
    }


def print_comparison(compared: Comparison, *, as_json: bool) -> None:
    """Print the scores; what is undefined is null in JSON."""
    text = _json(compared.scores) if as_json else scores_text(compared.scores)
    sys.stdout.write(text + "\n")


def _json(scores: Scores) -> str:
    return json.dumps({name: _known(value) for name, value in scores.items()}, indent=1, allow_nan=False)


def _known(value: Any) -> Any:
    if isinstance(value, list):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_comparison(compared: Comparison, folder: Path) -> None:
    """Write ``scores.json``, ``slices.csv``, ``instances.csv`` and ``scores.png``."""
    from cryoscale.report.scores import draw_scores

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "scores.json", _json(compared.scores))
    columns = ("z", "dice", "iou", "precision", "recall", "true_positive", "false_positive", "false_negative")
    write_csv(folder / "slices.csv", columns, _slice_rows(compared.slices))
    matched = compared.instances
    rows = [
        *((found, wanted, iou) for found, wanted, iou in matched.matches),
        *((found, None, None) for found in matched.unmatched_predictions),
        *((None, wanted, None) for wanted in matched.unmatched_truths),
    ]
    write_csv(folder / "instances.csv", ("predicted", "true", "iou"), rows)
    draw_scores(
        folder / "scores.png",
        [counts.dice for counts in compared.slices],
        [iou for _, _, iou in matched.matches],
        (compared.scores.get("angle_edges_degrees", []), compared.scores.get("dice_by_angle", [])),
    )


def _slice_rows(slices: list[Counts]) -> Iterator[tuple[float, ...]]:
    for z, counts in enumerate(slices):
        right, surplus, missing = counts.true_positive, counts.false_positive, counts.false_negative
        yield z, counts.dice, counts.iou, counts.precision, counts.recall, right, surplus, missing
