"""Scores of particle positions against the truth: ``cryoscale evaluate particles``.

The truth is a folder with ``particle_locations.txt`` (``class x y z angles`` a line) and, for the occupancy rule,
``occupancy_mask.mrc``, whose voxels hold the 1-based line of the particle they belong to. The mask is read slab by
slab, each checked, and looked up where predictions landed: memory is one slab's, whatever the volume.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import UsageError
from cryoscale.evaluate.occupancy import EXCLUDED, dilated_at, nearest_voxels, score_hits
from cryoscale.evaluate.overlap import Counts
from cryoscale.evaluate.positions import CZII_RADIUS_AND_WEIGHT, count_within, f_beta, match_positions
from cryoscale.io.particlelists import ParticleList, read_class_radii, read_particle_list
from cryoscale.io.source import Source, open_source
from cryoscale.io.voxelsize import resolve_voxel_size

__all__ = ["Radii", "print_particle_scores", "score_particles"]

LOCATIONS, OCCUPANCY = "particle_locations.txt", "occupancy_mask.mrc"
_SLAB_SLICES = 16
_BETA = 4.0

Scores = dict[str, Any]

_MATCH_RULES = {
    "shrec2021": "a prediction hits the particle under its rounded position in the occupancy mask, dilated once by the"
    " cross of 6 neighbours, the higher number winning; the first hit in the order of the file counts",
    "radius": "one to one within the radius of the particle, as many pairs as possible, then the nearest",
    "czii": "a particle is found where any prediction of its class is within half its radius",
}
_COUNT_RULES = {
    "shrec2021": "TP particles with a hit, FP predictions on background alone, precision TP / all predictions,"
    " recall TP / all particles but 4V94; 4V94 and vesicle are no targets; classes by first hits",
    "radius": "TP pairs, FP predictions and FN particles without a partner, whatever the class;"
    " classes: the same among the predictions and particles of one class",
    "czii": "FP predictions of the class less TP; F-beta with beta 4, their mean weighted by class",
}


@dataclass(frozen=True)
class Radii:
    """How far from a particle a prediction may be."""

    file: str = ""
    """``class radius_angstrom [weight]`` a line."""
    angstrom: float | None = None
    """Radius of every class that `file` does not name."""
    apix: float | None = None
    """Voxel size in ångström, where the mask's header does not state it."""


def score_particles(
    prediction: str | Path, truth: str | Path, *, rule: str = "shrec2021", radii: Radii | None = None
) -> Scores:
    """Score a list of particles against the truth in a folder.

    Parameters
    ----------
    prediction
        ``class x y z`` a line, in voxels.
    truth
        The folder.
    rule
        ``shrec2021``, ``radius`` or ``czii``.
    radii
        For the last two.

    Raises
    ------
    InputError
        A file is missing or cannot be read.
    UsageError
        A line is malformed, the mask is of another volume or names particles that are not listed, a radius or the
        voxel size is not known.
    """
    found, folder = read_particle_list(prediction), Path(truth)
    wanted = read_particle_list(folder / LOCATIONS)
    if not wanted.classes:
        raise UsageError("no particles to find", where=str(folder / LOCATIONS), found="an empty file")
    head: Scores = {"rule": rule, "match_rule": _MATCH_RULES[rule], "count_rule": _COUNT_RULES[rule]}
    if rule == "shrec2021":
        return head | _by_occupancy(found, wanted, folder)
    known = _class_radii(wanted, radii or Radii(), rule)
    voxel = _voxel_size(folder, (radii or Radii()).apix)
    return head | (_by_radius if rule == "radius" else _by_class)(found, wanted, known, voxel)


def _by_occupancy(found: ParticleList, wanted: ParticleList, folder: Path) -> Scores:
    source = open_source(folder / OCCUPANCY)
    _require_inside(wanted, source, folder)
    voxels, outside = nearest_voxels(found.positions, source.shape)
    hit = _look_up(source, voxels, len(wanted.classes))
    scores = score_hits(wanted.classes, wanted.positions, found.classes, voxels, hit)
    return {
        "particles": scores.particles,
        "reported": scores.reported,
        "true_positive": scores.true_positive,
        "false_positive": scores.false_positive,
        "false_negative": scores.false_negative,
        "multiple_hits": scores.multiple_hits,
        "excluded_hits": scores.excluded_hits,
        "outside": outside,
        "recall": _plain(scores.recall),
        "precision": _plain(scores.precision),
        "f1": _plain(scores.f1),
        "miss_rate": _plain(scores.miss_rate),
        "mean_distance_voxels": _plain(scores.mean_distance_voxels),
        "classes": {name: _class_row(counts) for name, counts in scores.class_counts().items()},
        "confusion": {
            name: dict(zip([*scores.classes, "background"], row, strict=True))
            for name, row in zip(scores.classes, scores.confusion.tolist(), strict=True)
        },
    }


def _require_inside(wanted: ParticleList, source: Source, folder: Path) -> None:
    """Refuse a mask of another volume: centres of targets outside it, or axes in another order."""
    inside = ((wanted.positions >= -0.5) & (wanted.positions <= np.array(source.shape) - 0.5)).all(axis=1)
    target = np.array([name.casefold() not in EXCLUDED for name in wanted.classes])
    for row in np.flatnonzero(~inside & target)[:1]:
        z, y, x = wanted.positions[row]
        raise UsageError(
            "the particle lies outside the occupancy mask",
            where=f"{folder / LOCATIONS} line {row + 1}",
            found=f"x y z {x:g} {y:g} {z:g}, the mask has {' x '.join(map(str, source.shape[::-1]))} voxels in x, y, z",
            todo="give the mask and the list of one and the same volume",
        )


def _look_up(source: Source, voxels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Particle under each voxel in the dilated mask; every slab of the mask is read once and checked."""
    depth, *plane = source.shape
    found = np.zeros(len(voxels), np.int64)
    for low in range(0, depth, _SLAB_SLICES):
        high = min(low + _SLAB_SLICES, depth)
        # One slice more to both sides: the cross reaches there.
        start, stop = max(low - 1, 0), min(high + 1, depth)
        slab = _particle_numbers(source.read((start, 0, 0), (stop, *plane)), count, source.path)
        here = np.flatnonzero((voxels[:, 0] >= low) & (voxels[:, 0] < high))
        found[here] = dilated_at(slab, voxels[here] - (start, 0, 0))
    return found


def _particle_numbers(slab: NDArray[Any], count: int, where: str) -> NDArray[np.integer]:
    low, high = slab.min(), slab.max()
    # A NaN makes both NaN, and no comparison with it holds.
    if not (low >= 0 and high <= count):
        raise UsageError(
            "the mask names particles that are not in the list",
            where=where,
            found=f"numbers {low:g} to {high:g}",
            allowed=f"0 for background, 1 to {count} for the lines of {LOCATIONS}",
        )
    if slab.dtype.kind not in "ui":
        numbers = slab.astype(np.int32)
        if not np.array_equal(numbers, slab):
            raise UsageError("the mask's voxels must be whole numbers", where=where, found=str(slab.dtype))
        return numbers
    return slab


def _class_radii(wanted: ParticleList, radii: Radii, rule: str) -> dict[str, tuple[float, float]]:
    """Radius in ångström and weight of each class of the truth, by its name in lower case."""
    listed: Mapping[str, tuple[float, float]] = CZII_RADIUS_AND_WEIGHT if rule == "czii" else {}
    listed = {**listed, **(read_class_radii(radii.file) if radii.file else {})}
    if radii.angstrom is not None and not 0 < radii.angstrom < math.inf:
        raise UsageError("value not allowed", where="--radius", found=radii.angstrom, allowed="more than 0 Å")
    known = {}
    for name in wanted.classes:
        entry = listed.get(name.casefold(), (radii.angstrom, 1.0))
        if entry[0] is None:
            raise UsageError(
                "radius not known", where=f"class {name}", todo="give --radii FILE (class radius_angstrom) or --radius"
            )
        known[name.casefold()] = entry[0], entry[1]
    return known


def _voxel_size(folder: Path, apix: float | None) -> NDArray[np.float64]:
    """Edges z, y, x in ångström: stated, or of the occupancy mask where there is one."""
    path = folder / OCCUPANCY
    header = open_source(path).voxel_size_found_angstrom if path.exists() else None
    size, _ = resolve_voxel_size(header, apix, where=str(path))
    return np.array(size)


def _by_radius(
    found: ParticleList, wanted: ParticleList, known: dict[str, tuple[float, float]], voxel: NDArray[np.float64]
) -> Scores:
    radius = np.array([known[name.casefold()][0] for name in wanted.classes])
    truth, prediction = wanted.positions * voxel, found.positions * voxel
    true, _, distance = match_positions(truth, radius, prediction)
    total = Counts(len(true), len(prediction) - len(true), len(truth) - len(true))
    classes = {}
    for name, here, there in _members(found, wanted):
        pairs = len(match_positions(truth[here], radius[here], prediction[there])[0])
        classes[name] = _class_row(Counts(pairs, int(there.sum()) - pairs, int(here.sum()) - pairs))
    return {
        "particles": len(truth),
        "reported": len(prediction),
        "true_positive": total.true_positive,
        "false_positive": total.false_positive,
        "false_negative": total.false_negative,
        "recall": _plain(total.recall),
        "precision": _plain(total.precision),
        "f1": _plain(total.dice),
        "mean_distance_angstrom": _plain(float(distance.mean()) if len(distance) else math.nan),
        "classes": classes,
    }


def _by_class(
    found: ParticleList, wanted: ParticleList, known: dict[str, tuple[float, float]], voxel: NDArray[np.float64]
) -> Scores:
    classes, score, weights, judged = {}, 0.0, 0.0, 0
    for name, here, there in _members(found, wanted):
        radius, weight = known[name.casefold()]
        counts = count_within(wanted.positions[here] * voxel, radius / 2, found.positions[there] * voxel)
        value = f_beta(counts, _BETA)
        classes[name] = _class_row(counts) | {"radius_angstrom": radius, "weight": weight, "f_beta": _plain(value)}
        score, weights, judged = score + weight * value, weights + weight, judged + int(there.sum())
    return {
        "particles": len(wanted.classes),
        "reported": len(found.classes),
        "of_other_classes": len(found.classes) - judged,
        "beta": _BETA,
        "f_beta": _plain(score / weights if weights else math.nan),
        "classes": classes,
    }


def _members(found: ParticleList, wanted: ParticleList) -> list[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Of each class of the truth, in its order: name, which particles and which predictions are of it."""
    truth, prediction = (np.array([name.casefold() for name in part.classes], str) for part in (wanted, found))
    names: dict[str, str] = {}
    for name in wanted.classes:
        names.setdefault(name.casefold(), name)
    return [(shown, truth == name, prediction == name) for name, shown in names.items()]


def _class_row(counts: Counts) -> Scores:
    return {
        "true_positive": counts.true_positive,
        "false_positive": counts.false_positive,
        "false_negative": counts.false_negative,
        "precision": _plain(counts.precision),
        "recall": _plain(counts.recall),
        "f1": _plain(counts.dice),
    }


def _plain(value: float) -> float | None:
    """JSON has no NaN: what is nothing over nothing is null."""
    return None if math.isnan(value) else value


def print_particle_scores(
    prediction: str, truth: str, *, rule: str, radii: Radii | None = None, as_json: bool = False
) -> None:
    """Print what `score_particles` finds."""
    scores = score_particles(prediction, truth, rule=rule, radii=radii)
    sys.stdout.write((json.dumps(scores, indent=1) if as_json else _text(scores)) + "\n")


def _text(scores: Scores) -> str:
    rules = [f"rule {scores['rule']}", f"  match: {scores['match_rule']}", f"  count: {scores['count_rule']}"]
    single = [
        f"  {name.replace('_', ' '):<22} {_cell(value)}"
        for name, value in scores.items()
        if not isinstance(value, dict) and name not in ("rule", "match_rule", "count_rule")
    ]
    columns = list(next(iter(scores["classes"].values()), {}))
    table = [f"  {'class':<20}" + "".join(f" {name.replace('_', ' '):>15}" for name in columns)]
    for name, row in scores["classes"].items():
        table.append(f"  {name:<20}" + "".join(f" {_cell(row[column]):>15}" for column in columns))
    return "\n".join([*rules, *single, f"classes, rule {scores['rule']} as above", *table])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.5f}" if isinstance(value, float) else str(value)
