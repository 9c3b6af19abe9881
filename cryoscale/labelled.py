"""A user's own tomograms and labels, as slices to train on.

    tomos/TS_01.mrc  +  labels/TS_01.mrc, labels/TS_01_membranes.mrc, labels/anything-TS_01.mrc, ...

A label volume belongs to the tomogram whose name is in its own name (the longest where several are), and has its shape.
Only slices with labels are kept, each with its neighbours: memory follows what was labelled, and one label volume at a
time, a byte a voxel. A slice without any label
is not known to be empty, it may just not have been looked at: it is left out unless `all_slices` says otherwise. One
tenth of the labelled slices, a run of neighbours, is held out: slices next to each other are too alike to be told apart
one by one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import TomogramError, UsageError
from cryoscale.io.source import Source, is_packed, open_source
from cryoscale.manifest import entries
from cryoscale.segment.crops import Sample
from cryoscale.segment.normalise import centre_and_scale, sampled_slices
from cryoscale.simulate.phantom import MEMBRANE, PROTEIN

__all__ = [
    "OwnData",
    "held_out",
    "known_slices",
    "read_classes",
    "read_labelled",
    "read_unlabelled",
    "require_apart",
]

_HELD_OUT = 0.1
_SLAB_SLICES = 32
_ALIKE = 0.5
"""Share of neighbours in x with labels that have the same. Nearly all have, of however many membranes each with a
number of its own; in noise few have, and how much of a volume is 0, a turned tomogram's border too, does not matter."""


@dataclass(frozen=True)
class OwnData:
    """Slices of a user's own, and where they come from."""

    samples: tuple[Sample, ...]
    """Runs of labelled slices with their neighbours."""
    names: tuple[str, ...]
    """Files that they come from."""
    voxel_size_angstrom: tuple[float, float] | None
    """Smallest and largest voxel, where the files know it."""

    @property
    def slice_count(self) -> int:
        """Labelled slices in all."""
        return sum(len(sample.slices) for sample in self.samples)

    @property
    def digest(self) -> str:
        """Short hash of the slices: what a checkpoint belongs to."""
        found = hashlib.sha256()
        for sample in self.samples:
            found.update(repr((sample.tomogram.shape, sample.slices, sample.centre, sample.scale)).encode())
            found.update(np.ascontiguousarray(sample.classes[list(sample.slices)]).tobytes())
        return found.hexdigest()[:16]


def read_labelled(
    data: Sequence[str],
    labels: Sequence[str],
    *,
    neighbours: int,
    membrane: Sequence[int] = (),
    protein: Sequence[int] = (),
    all_slices: bool = False,
) -> OwnData:
    """Read the labelled slices of tomograms.

    Parameters
    ----------
    data, labels
        Files, folders, globs or .txt lists.
    neighbours
        Slices above and below to read with each.
    membrane, protein
        Values of the labels; no membrane value stands for every value but 0 and those of protein.
    all_slices
        A slice without labels is background, not unknown.

    Raises
    ------
    UsageError
        If tomograms and labels do not pair, a pair differs in shape, a label is not a whole number, labels are grey
        values, or nothing is labelled.
    """
    samples: list[Sample] = []
    sources = []
    for path, label_path in _pairs(data, labels):
        source = _opened(path)
        classes = read_classes(source, label_path, membrane, protein)
        known = known_slices(classes, all_slices=all_slices)
        samples += _runs(source, known, neighbours, classes)
        sources.append(source)
    if not any((sample.classes == MEMBRANE).any() for sample in samples):
        wanted = ", ".join(map(str, membrane)) or "any value but 0"
        raise UsageError(
            "no voxel of the labels is membrane",
            where=", ".join(labels),
            allowed=f"membrane: {wanted}",
            todo="check the labels, and --mask-labels",
        )
    return OwnData(tuple(samples), tuple(Path(source.path).name for source in sources), _voxels(sources))


def require_apart(tomograms: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a file that is both a tomogram and labels, under whatever names.

    Raises
    ------
    UsageError
        If there is one.
    """
    known = {os.path.realpath(tomogram) for tomogram in tomograms}
    both = [label for label in labels if os.path.realpath(label) in known]
    if both:
        raise UsageError(
            "a file is named as a tomogram and as labels",
            where=both[0],
            found=f"{len(both)} such",
            todo="name the tomograms alone as such, and the labels alone under --labels",
        )


def read_classes(source: Source, labels: str, membrane: Sequence[int], protein: Sequence[int]) -> NDArray[np.uint8]:
    """Read the labels of a tomogram as classes; `membrane` and `protein` as in :func:`read_labelled`.

    Raises
    ------
    UsageError
        If they have another shape than the tomogram, a label is not a whole number, or they are grey values.
    """
    marks = _opened(labels)
    if source.shape != marks.shape:
        raise UsageError(
            "labels and tomogram differ in shape",
            where=labels,
            found=_shape(marks),
            allowed=f"{_shape(source)}, the shape of {source.path}",
            todo="give labels of this very tomogram, not binned, cut or turned",
        )
    return _classes(marks, labels, membrane, protein)


def known_slices(classes: NDArray[np.uint8], *, all_slices: bool) -> list[int]:
    """Return the slices whose classes are known: those with labels, or all."""
    return list(range(len(classes))) if all_slices else np.flatnonzero(classes.any(axis=(1, 2))).tolist()


def read_unlabelled(data: Sequence[str], *, neighbours: int, slices: int) -> OwnData:
    """Read up to `slices` evenly spaced slices of each tomogram.

    Raises
    ------
    UsageError
        If no tomogram is found.
    """
    sources = [_opened(entry.source) for entry in entries(data)]
    samples = [
        sample
        for source in sources
        for sample in _runs(source, sampled_slices(source.shape[0], slices), neighbours, None)
    ]
    return OwnData(tuple(samples), tuple(Path(source.path).name for source in sources), _voxels(sources))


def held_out(data: OwnData, seed: int) -> tuple[OwnData, tuple[Sample, ...]]:
    """Split into what is trained on and the tenth that is only scored.

    Raises
    ------
    UsageError
        If there are fewer than two labelled slices.
    """
    count = data.slice_count
    if count < 2:
        raise UsageError("too few labelled slices to hold one out", where="--labels", found=count, allowed="2 or more")
    out = max(1, round(_HELD_OUT * count))
    first = int(np.random.default_rng(seed).integers(count - out + 1))
    kept: list[Sample] = []
    scored: list[Sample] = []
    start = 0
    for sample in data.samples:
        places = range(start, start + len(sample.slices))
        start += len(sample.slices)
        for part, inside in ((scored, True), (kept, False)):
            chosen = [z for z, n in zip(sample.slices, places, strict=True) if (first <= n < first + out) == inside]
            if chosen:
                part.append(sample.only(chosen))
    return replace(data, samples=tuple(kept)), tuple(scored)


def _pairs(data: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Tomogram and labels, by name."""
    tomograms, marks = entries(data), entries(labels)
    require_apart([tomogram.source for tomogram in tomograms], [mark.source for mark in marks])
    taken: dict[str, str] = {}
    for mark in marks:
        fits = [tomogram for tomogram in tomograms if _names(tomogram.id, mark.id)]
        longest = [t for t in fits if len(t.id) == max(len(other.id) for other in fits)]
        if len(longest) != 1:
            raise UsageError(
                "these labels belong to no tomogram",
                where=mark.source,
                found=mark.id,
                allowed="a name that holds the name of one of " + ", ".join(t.id for t in tomograms[:8]),
                todo="rename the labels, or leave them out",
            )
        if longest[0].source in taken:
            raise UsageError(
                "two label files for one tomogram",
                where=longest[0].source,
                found=f"{taken[longest[0].source]}, {mark.source}",
            )
        taken[longest[0].source] = mark.source
    without = [tomogram.source for tomogram in tomograms if tomogram.source not in taken]
    if without:
        raise UsageError(
            "a tomogram has no labels",
            where=without[0],
            found=f"{len(without)} without labels",
            todo="give its labels, or name it under --unlabelled",
        )
    yield from taken.items()


def _names(tomogram: str, mark: str) -> bool:
    """Whether a tomogram's name stands in a label's as a word: TS_1 does not name TS_10."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(tomogram)}(?![A-Za-z0-9])", mark) is not None


def _opened(path: str) -> Source:
    if is_packed(path):
        raise UsageError("a packed file cannot be trained on", where=path, todo="unpack it first")
    return open_source(path)


def _shape(source: Source) -> str:
    return " x ".join(str(n) for n in source.shape)


def _slab(source: Source, first: int, last: int) -> NDArray[np.generic]:
    """Slices first up to last."""
    found: NDArray[np.generic] = source.read((first, 0, 0), (last, *source.shape[1:]))
    return found


def _classes(marks: Source, path: str, membrane: Sequence[int], protein: Sequence[int]) -> NDArray[np.uint8]:
    """Classes of a label volume."""
    classes = np.zeros(marks.shape, np.uint8)
    alike = pairs = 0
    for first in range(0, marks.shape[0], _SLAB_SLICES):
        slab = _slab(marks, first, min(first + _SLAB_SLICES, marks.shape[0]))
        if not np.isfinite(slab).all() or (slab != np.rint(slab)).any():
            raise UsageError("a label is not a whole number", where=path, todo="give labels, not scores or a tomogram")
        proteins = np.isin(slab, protein)
        membranes = np.isin(slab, membrane) if membrane else (slab != 0) & ~proteins
        part = classes[first : first + len(slab)]
        part[proteins], part[membranes] = PROTEIN, MEMBRANE
        left, right = slab[..., :-1], slab[..., 1:]
        both = (left != 0) & (right != 0)
        pairs += int(both.sum())
        alike += int((left[both] == right[both]).sum())
    if alike < _ALIKE * pairs:
        raise UsageError(
            "these labels are grey values",
            where=path,
            found=f"one value in {alike / pairs:.0%} of the neighbouring voxels that are not 0",
            allowed=f"{_ALIKE:.0%} or more: labels go on from voxel to voxel",
            todo="give labels, not scores or a tomogram",
        )
    return classes


def _runs(
    source: Source, slices: Sequence[int], neighbours: int, classes: NDArray[np.uint8] | None
) -> Iterator[Sample]:
    """Give the samples of slices and their neighbours, one for each stretch of the volume that is read."""
    if not slices:
        return
    spaced = np.concatenate([_slab(source, z, z + 1) for z in sampled_slices(source.shape[0])])
    try:
        centre, scale = centre_and_scale(spaced)
    except ValueError as error:
        raise TomogramError("nothing to learn from", where=source.path, found=error) from error
    ends = np.flatnonzero(np.diff(slices) > 2 * neighbours + 1)
    for run in np.split(np.asarray(slices), ends + 1):
        first, last = max(int(run[0]) - neighbours, 0), min(int(run[-1]) + neighbours + 1, source.shape[0])
        slab = _slab(source, first, last)
        if not np.isfinite(slab).all():
            raise TomogramError(
                "a voxel is not a finite number", where=source.path, found=f"slices {first} to {last - 1}"
            )
        own = np.broadcast_to(np.uint8(0), slab.shape) if classes is None else classes[first:last].copy()
        yield Sample(slab, own, centre, scale, tuple(int(z) - first for z in run))  # type: ignore[arg-type]


def _voxels(sources: Sequence[Source]) -> tuple[float, float] | None:
    known = [source.voxel_size_angstrom[0] for source in sources if source.voxel_size_angstrom]
    return (min(known), max(known)) if known else None
