"""The grey values of a tomogram's membranes and of what is around them, for images that shall look like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import UsageError
from cryoscale.io.source import Source, open_source
from cryoscale.labelled import known_slices, read_classes, require_apart
from cryoscale.segment.normalise import sampled_slices
from cryoscale.simulate.phantom import BACKGROUND, MEMBRANE, PROTEIN
from cryoscale.simulate.slices import Intensities, fit_intensities

__all__ = ["match_intensities"]


def match_intensities(
    match: str,
    labels: str = "",
    *,
    membrane: Sequence[int] = (),
    protein: Sequence[int] = (),
    all_slices: bool = False,
) -> Intensities:
    """Fit the Gaussians of background and membrane to evenly spaced slices of a tomogram.

    Parameters
    ----------
    match
        The tomogram.
    labels
        Its labels, if there are any: then only slices with labels are looked at, for an unlabelled membrane is none of
        the background.
    membrane, protein, all_slices
        What the labels mean (`labelled.read_labelled`); proteins are neither of the two.

    Raises
    ------
    UsageError
        If tomogram and labels do not fit each other, or the values cannot be fitted.
    """
    source = open_source(match)
    if not labels:
        return _fitted(_values(source, sampled_slices(source.shape[0])), None, match)
    require_apart([match], [labels])
    classes = read_classes(source, labels, membrane, protein)
    known = known_slices(classes, all_slices=all_slices)
    taken = [known[place] for place in sampled_slices(len(known))]
    seen = classes[taken]
    for value, name in ((MEMBRANE, "membrane"), (BACKGROUND, "background")):
        if not (seen == value).any():
            raise UsageError(
                f"no voxel of the labels is {name}",
                where=labels,
                found=f"none in {len(taken)} slices of the {len(known)} with labels",
                todo="check the labels, and --mask-labels",
            )
    either = seen != PROTEIN
    return _fitted(_values(source, taken)[either], seen[either] == MEMBRANE, match)


def _values(source: Source, slices: Sequence[int]) -> NDArray[np.generic]:
    """Read slices of a tomogram; refuse what is not finite."""
    values = np.concatenate([source.read((z, 0, 0), (z + 1, *source.shape[1:])) for z in slices])
    for z, plane in zip(slices, values, strict=True):
        if not np.isfinite(plane).all():
            raise UsageError(
                "a voxel is not a finite number",
                where=source.path,
                found=f"slice {z}",
                todo="mend the tomogram, or match another one",
            )
    return values


def _fitted(values: NDArray[np.generic], marked: NDArray[np.bool_] | None, match: str) -> Intensities:
    try:
        return fit_intensities(values, marked)
    except ValueError as error:
        raise UsageError(
            "no intensities to match", where=match, found=error, todo="match a tomogram with noise in it"
        ) from error
