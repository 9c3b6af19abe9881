"""How good is a grouping of membrane voxels? Data with truth, scores, and what distance alone reaches.

    quality_rows(size) -> one row per set, method and distance;      print_quality(rows) -> the table

A set is one or several volumes: real masks (labels that their authors drew in real tomograms), masks simulated from
these real shapes, and simulated scenes (`_scenes`). Every method gets the mask and returns an instance for each of its
voxels. Scores: F1 of instances matched at IoU above 0.5 (instances under 100 voxels count as not found, for every
method alike), adjusted Rand index, variation of information by its halves. A set's score is the mean of its volumes'.

Plain methods: 26-connected components, and merging of all voxels within a distance, for `DISTANCES`: at the distance
that is best for the set at hand (which takes knowing the truth), and at the one that is best for all sets together.
"Ours" groups at `JOIN_VOXELS` and lets the predicate decide within and between the groups.

What a real set's truth is, three views of labels that are classes rather than membranes:

- "by membrane", the headline: the 26-connected pieces of at least 100 voxels of a label, those of one label at most
  `NEAR` voxels apart taken together. The halves of the autophagosome's inner membrane, 23 apart, so are one; the arcs
  of the phagophore, about 100 apart, are not; in mitochondria-TE1 it makes one membrane even of fragments that no
  surface links.
- "by piece": the pieces as they are. Whoever joins the autophagosome's halves loses by it.
- "by label": each label one membrane. In mitochondria-TE1 the 6 to 14 pieces of a label belong to several organelles.
  A label of two equal halves is matched at IoU above 0.5 by whichever half is larger, however wrong the rest.

In vesicles a membrane belongs to the nearest lumen.
"""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import _scenes
from benchmarks._grouping_table import quality_table
from cryoscale.evaluate import adjusted_rand_index, contingency, match_instances, variation_of_information
from cryoscale.merge import merge_regions
from cryoscale.separate import separate_groups

Bools = NDArray[np.bool_]
Labels = NDArray[np.int32]
Method = Callable[[Bools], Labels]
Box = tuple[slice, ...]

DISTANCES = (1.0, 1.42, 1.74, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0)
"""Voxels; the first three are 6-, 18- and 26-connectivity."""
JOIN_VOXELS = 10.0
NEAR = 32.0
"""Voxels of the real labels, 40 to 45 nm."""
UNSEEN = 400
"""Seeds from here on are for reports."""
MINIMUM_VOXELS = 100
TOUCH = np.ones((3, 3, 3), int)
LABELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "labels"


@dataclass(frozen=True)
class Volume:
    """A mask, and which membrane each of its voxels belongs to."""

    name: str
    mask: Bools
    """(nz, ny, nx), or (ny, nx) of a slice."""
    truth: Mapping[str, Labels]
    """By view, the headline first: for each voxel of the mask in raster order its membrane; 0 where it is none."""
    voxel_size_angstrom: float

    def truth_volume(self, view: str = "") -> Labels:
        """Return a view's truth as a volume, 0 outside the mask."""
        labels = np.zeros(self.mask.shape, np.int32)
        labels[self.mask] = self.truth[view or next(iter(self.truth))]
        return labels


@dataclass(frozen=True)
class DataSet:
    """Volumes of one kind, made when they are asked for."""

    name: str
    kind: str
    """real, or simulated."""
    makers: tuple[Callable[[], Volume], ...]
    minimum_voxels: int = MINIMUM_VOXELS
    """Smaller instances are no membrane: they count as not found, and there is none in the truth."""

    def volumes(self) -> Iterator[Volume]:
        """Make one volume after the other."""
        return (make() for make in self.makers)


# -------------------------------------------------------------------------------------------------------- real masks


@lru_cache(maxsize=1)
def read_labels(name: str) -> NDArray[np.int8]:
    """Read a label volume (z, y, x), cropped to what is labelled."""
    with gzip.open(LABELS / f"{name}.mrc.gz") as stream:
        raw = stream.read()
    header = np.frombuffer(raw[:1024], "<i4")
    nx, ny, nz = (int(n) for n in header[:3])
    volume = np.frombuffer(raw, np.int8, nx * ny * nz, 1024 + int(header[23])).reshape(nz, ny, nx)
    return np.ascontiguousarray(volume[ndimage.find_objects((volume > 0).view(np.int8))[0]])


def _pieces(labels: NDArray[np.int8]) -> Labels:
    """Give the 26-connected pieces of every label numbers; those under `MINIMUM_VOXELS` are 0."""
    pieces, _ = merge_regions(labels, math.sqrt(3), separate_values=True)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    number = np.where(sizes >= MINIMUM_VOXELS, np.arange(sizes.size), 0).astype(np.int32)
    return np.asarray(number[pieces])


def _near_pieces(labels: NDArray[np.int8], pieces: Labels, near: float) -> Labels:
    """Give pieces of one label that are near each other one number."""
    together, _ = merge_regions(np.where(pieces > 0, labels, 0), near, separate_values=True)
    return np.asarray(together, np.int32)


def _views(labels: NDArray[np.int8], near: float = NEAR) -> dict[str, Labels]:
    """Return the truth of each voxel of the mask under all views, the headline first."""
    mask, pieces = labels > 0, _pieces(labels)
    by_membrane = _near_pieces(labels, pieces, near)
    return {"by membrane": by_membrane[mask], "by piece": pieces[mask], "by label": labels[mask].astype(np.int32)}


def _real(name: str, voxel_size_angstrom: float, crop: Box) -> Volume:
    labels = read_labels(name)[crop]
    return Volume(name, labels > 0, _views(labels), voxel_size_angstrom)


def _vesicles(crop: Box) -> Volume:
    labels = read_labels("vesicles")[crop]
    mask, lumens = labels == 1, ndimage.label(labels == 2, TOUCH)[0]
    nearest = ndimage.distance_transform_edt(lumens == 0, return_distances=False, return_indices=True)
    owner = lumens[tuple(index[mask] for index in nearest)].astype(np.int32)
    return Volume("vesicles", mask, {"by lumen": owner}, 16.84)


def _thick(name: str, voxel_size_angstrom: float, crop: Box, shrink: int, grow: float) -> Volume:
    """Make the thin labels as thick as a network's masks: all voxels within `grow` of a label, of the nearest one."""
    labels = read_labels(name)[crop]
    if shrink > 1:
        shape = [n // shrink for n in labels.shape]
        blocks = labels[tuple(slice(0, n * shrink) for n in shape)].reshape(shape[0], shrink, shape[1], shrink, -1)
        labels = blocks.max((1, 3)).reshape(shape[0], shape[1], shape[2], shrink).max(3)
    labels = np.pad(labels, math.ceil(grow))
    away, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    mask = away <= grow
    at = tuple(index[mask] for index in nearest)
    views = {}
    for view, truth in _views(labels, NEAR / shrink).items():
        whole = np.zeros(labels.shape, np.int32)
        whole[labels > 0] = truth
        views[view] = whole[at]
    return Volume(f"{name} thickened", mask, views, voxel_size_angstrom * shrink)


def _simulated(make: Callable[[int], _scenes.Scene], seed: int) -> Volume:
    scene = make(seed)
    mask, truth = _scenes.draw(scene, np.random.default_rng([9, seed]))
    return Volume(scene.name, mask, {"by shape": truth[mask]}, 10.0)


def sets(size: str = "small", first_seed: int = 0) -> list[DataSet]:
    """Return the data sets that are there: the real ones only where the shared data folder is.

    Parameters
    ----------
    size : str
        "small": real volumes cropped, few simulated ones; "full": everything.
    first_seed : int
        Of the simulated scenes. Whoever builds a predicate may look at those below `UNSEEN`.
    """
    small = size == "small"
    crop: Box = (slice(None, 80 if small else None), slice(None), slice(None))
    mito: Box = (slice(None), slice(0, 220), slice(0, 800)) if small else (slice(None),)
    real: list[tuple[str, str, Callable[[], Volume]]] = [
        ("autophagosome", "real", partial(_real, "autophagosome", 14.08, crop)),
        ("phagophore", "real", partial(_real, "phagophore", 14.08, crop)),
        ("mitochondria-TE1", "real", partial(_real, "mitochondria-TE1", 12.44, mito)),
        ("vesicles", "real", partial(_vesicles, (slice(None),))),
        ("autophagosome thick", "simulated", partial(_thick, "autophagosome", 14.08, crop, 1, 2.0)),
        ("phagophore thick", "simulated", partial(_thick, "phagophore", 14.08, crop, 1, 2.0)),
        ("TE1 half size", "simulated", partial(_thick, "mitochondria-TE1", 12.44, mito, 2, 0.0)),
        ("TE1 half size thick", "simulated", partial(_thick, "mitochondria-TE1", 12.44, mito, 2, 1.0)),
    ]
    found = [DataSet(name, kind, (make,)) for name, kind, make in real] if LABELS.is_dir() else []
    gaps, seeds, many = ((0, 2, 5), 1, 2) if small else ((0, 1, 2, 3, 5, 8), 4, 6)
    pairs = [partial(_scenes.touching, gap) for gap in gaps for _ in range(seeds)]
    found.append(
        DataSet("touching", "simulated", tuple(partial(_simulated, m, k) for k, m in enumerate(pairs, first_seed)))
    )
    kinds = (
        ("nested", _scenes.nested),
        ("double membranes", _scenes.double),
        ("sheets", _scenes.sheets),
        ("wide gaps", _scenes.wide_gaps),
    )
    for name, make in kinds:
        seeds_of = range(first_seed, first_seed + (2 * many if name == "wide gaps" else many))
        found.append(DataSet(name, "simulated", tuple(partial(_simulated, make, seed) for seed in seeds_of)))
    seeds_of = range(first_seed, first_seed + (1 if small else 4))
    crowds = tuple(partial(_simulated, _scenes.crowd, seed) for seed in seeds_of)
    return [*found, DataSet("crowds", "simulated", crowds)]


# ----------------------------------------------------------------------------------------------------------- methods


def touching_voxels(mask: Bools) -> Labels:
    """26-connected components (8-connected in a slice), as everybody computes them."""
    return np.asarray(ndimage.label(mask, np.ones((3,) * mask.ndim, int))[0][mask], np.int32)


def within_distance(distance_voxels: float, mask: Bools) -> Labels:
    """All voxels within a distance share a region."""
    return np.asarray(merge_regions(mask, distance_voxels)[0][mask])


def predicate(mask: Bools) -> Labels:
    """Group at `JOIN_VOXELS`, then let the predicate take the groups apart and join what goes on; its 0 stays 0."""
    return separate_groups(merge_regions(mask, JOIN_VOXELS)[0])[0][mask]


def methods() -> dict[str, Method]:
    """Return every method by name."""
    found: dict[str, Method] = {"26-connected": touching_voxels}
    found |= {f"distance {d:g}": partial(within_distance, d) for d in DISTANCES}
    found["ours"] = predicate
    return found


# ------------------------------------------------------------------------------------------------------------ scores


def score(prediction: Labels, truth: Labels, minimum_voxels: int = MINIMUM_VOXELS) -> dict[str, float]:
    """Score instances of the same voxels: F1 at IoU 0.5, ARI, and VI by halves (bits).

    Instances of fewer voxels count as not found in F1, and as they are in the others.
    """
    large = np.bincount(prediction, minlength=1) >= minimum_voxels
    matched = match_instances(contingency(np.where(large[prediction], prediction, 0), truth))
    table = contingency(prediction, truth)
    variation = variation_of_information(table)
    return {
        "f1": matched.f1,
        "ari": adjusted_rand_index(table),
        "vi": variation.total,
        "vi_split": variation.split,
        "vi_fused": variation.fused,
        "found": float(np.count_nonzero(large[1:])),
        "true": float(np.count_nonzero(np.bincount(truth)[1:])),
    }


def quality_rows(
    size: str = "small", chosen: Mapping[str, Method] | None = None, first_seed: int = UNSEEN
) -> list[dict[str, Any]]:
    """Score every method on every set.

    Parameters
    ----------
    size : str
        "small" or "full", see `sets`.
    chosen : mapping, optional
        Methods by name instead of `methods()`.
    first_seed : int
        See `sets`; the scenes from `UNSEEN` on are there to report, not to tune on.

    Returns
    -------
    list of dict
        set, kind, view, headline (whether the view counts), method, the means of the scores over the set's volumes,
        seconds in all, and `volumes`: the scores of each volume by its name.
    """
    return [row for data in sets(size, first_seed) for row in rows_of(data, chosen or methods())]


def rows_of(data: DataSet, chosen: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Score methods on one set; the rows are those of `quality_rows`."""
    seconds = dict.fromkeys(chosen, 0.0)
    scores: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    headline = ""
    for volume in data.volumes():
        headline = next(iter(volume.truth))
        for name, method in chosen.items():
            started = time.perf_counter()
            prediction = method(volume.mask)
            seconds[name] += time.perf_counter() - started
            for view, truth in volume.truth.items():
                scores.setdefault((view, name), {})[volume.name] = score(prediction, truth, data.minimum_voxels)
    return [
        {
            "set": data.name,
            "kind": data.kind,
            "view": view,
            "headline": view == headline,
            "method": name,
            **{key: float(np.mean([v[key] for v in volumes.values()])) for key in next(iter(volumes.values()))},
            "seconds": seconds[name],
            "volumes": volumes,
        }
        for (view, name), volumes in scores.items()
    ]


def print_quality(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(quality_table(rows))
