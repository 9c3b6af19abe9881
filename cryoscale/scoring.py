"""Scores of a run against the truth of its simulation or true labels, slab by slab so that a volume of any size fits.

What the network saw (or what a given mask has) and the final membranes, overall, by slice, and by the angle between the
membrane's normal and the beam: of a simulation it is known, of labels estimated.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region, blocks
from cryoscale.errors import UsageError
from cryoscale.evaluate.beam import beam_angle_degrees, scores_by_angle
from cryoscale.evaluate.instances import Contingency, InstanceScores, add_tables, contingency, match_instances
from cryoscale.evaluate.overlap import Counts, slice_counts
from cryoscale.io.omezarr import open_level, read_region
from cryoscale.io.source import open_source
from cryoscale.io.tables import read_csv

__all__ = [
    "ANGLE_HALO", "EDGES_DEGREES", "Reader", "Scores", "score_against_labels", "score_run", "scores_text", "slabs",
    "whole_numbers",
]  # fmt: skip

Scores = dict[str, Any]
_SLAB_SLICES = 32
EDGES_DEGREES = (0.0, 30.0, 60.0, 90.0)
"""Bins of the angle between a membrane's normal and the beam."""
ANGLE_HALO = 14
"""Slices around a slab that the smoothing of normals reaches."""
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
    a voxel), instance scores at IoU 0.5, how far off the thickness of matched membranes is.
    """
    true_instances, shape = _reader(Path(f"{truth}__instances.mrc"))
    stored, _ = _reader(Path(f"{truth}__beam_angle.mrc"))

    def angles(region: Region) -> NDArray[Any]:
        angle = stored(region)
        return np.where(angle < 0, np.nan, angle)

    scores, matched = _score(folder, shape, true_instances, angles)
    facts = json.loads(Path(f"{truth}.json").read_text(encoding="utf-8"))
    true_nm = {int(one["id"]): one.get("leaflets_nm") for one in facts["membranes"]}
    return scores | _thickness_scores(folder, true_nm, matched)


def _thickness_scores(folder: Path, true_nm: Mapping[int, float | None], matched: InstanceScores) -> Scores:
    """Return mean and root mean square of how far thickness is off; nothing where it was not measured."""
    rows = read_csv(folder / "membranes.csv") if (folder / "membranes.csv").is_file() else []
    found = {int(row["number"]): float(row["thickness_nm"]) for row in rows if row.get("thickness_nm")}
    pairs = [(found[one], true) for one, other, _ in matched.matches if one in found and (true := true_nm.get(other))]
    if not pairs:
        return {}
    off = np.array([one - other for one, other in pairs])
    return {
        "thickness_membranes": len(pairs),
        "thickness_bias_nm": float(off.mean()),
        "thickness_rms_error_nm": float(np.sqrt((off**2).mean())),
    }


def score_against_labels(folder: Path, truth: Path) -> Scores:
    """Score one tomogram of a run against true labels, 0 background, each other value a membrane: as `score_run`.

    Raises
    ------
    UsageError
        The labels have another shape, or are not whole numbers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(truth, scratch=Path(scratch) / "truth")
        shape = tuple(open_level(folder / "membranes.ome.zarr").shape)
        if source.shape != shape:
            raise UsageError("the truth has another shape", where=str(truth), found=source.shape, allowed=str(shape))

        def labels(region: Region) -> NDArray[Any]:
            return whole_numbers(source.read(region.start, region.stop), truth)

        def angles(region: Region) -> NDArray[np.float32]:
            first = max(0, region.start[0] - ANGLE_HALO)
            stop = min(shape[0], region.stop[0] + ANGLE_HALO)
            outer = Region((first, *region.start[1:]), (stop, *region.stop[1:]))
            return beam_angle_degrees(labels(outer))[region.start[0] - first :][: region.shape[0]]

        return _score(folder, shape, labels, angles)[0]


def whole_numbers(labels: NDArray[Any], where: str | Path) -> NDArray[np.integer[Any]]:
    """Return labels as integers; raise UsageError where they are none."""
    if labels.dtype.kind in "ui":
        return labels
    if not np.array_equal(labels, np.rint(labels)) or labels.min(initial=0) < 0:
        raise UsageError("labels must be whole numbers, 0 or more", where=str(where), found=str(labels.dtype))
    return labels.astype(np.int64)


def _score(
    folder: Path, shape: tuple[int, ...], true_instances: Reader, angles: Reader
) -> tuple[Scores, InstanceScores]:
    final, (raw_is, raw) = _stored(folder / "membranes.ome.zarr"), _before(folder)
    totals = {"final": Counts(), "raw": Counts()}
    by_slice: dict[str, list[float | None]] = {name: [] for name in totals}
    by_angle = {name: [Counts() for _ in EDGES_DEGREES[1:]] for name in totals}
    tables: list[Contingency] = []
    for region in slabs(shape):
        wanted, angle = true_instances(region), angles(region).astype(np.float32)
        labels = final(region)
        tables.append(contingency(labels, wanted))
        for name, found in (("final", labels > 0), ("raw", raw(region))):
            for counts in slice_counts(found, wanted > 0):
                totals[name] += counts
                by_slice[name].append(None if math.isnan(counts.dice) else counts.dice)
            bins = scores_by_angle(found, wanted > 0, angle, EDGES_DEGREES)
            by_angle[name] = [a + b.counts for a, b in zip(by_angle[name], bins, strict=True)]
    matched = match_instances(add_tables(tables))
    scores = {
        "raw_is": raw_is,
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
    return scores, matched


def scores_text(scores: Scores) -> str:
    """Return scores as lines of text."""
    lines = []
    for name, value in scores.items():
        if name in ("raw_is", "angle_edges_degrees") or name.endswith("_by_slice"):
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


def _before(folder: Path) -> tuple[str, Reader]:
    """Return what the membranes were made from, in a word, and where it is membrane."""
    if (folder / "classes.ome.zarr").is_dir():
        classes = _stored(folder / "classes.ome.zarr")
        return "network", lambda region: classes(region) == _MEMBRANE
    grouped = _stored(folder / "instances.ome.zarr")
    return "mask", lambda region: grouped(region) > 0


def _stored(path: Path) -> Reader:
    return lambda region: read_region(path, region)


def _reader(path: Path) -> tuple[Reader, tuple[int, ...]]:
    source = open_source(path)
    return (lambda region: source.read(region.start, region.stop)), source.shape
