"""The paper's 2-D fits of every membrane in one slice: pixels selected by ellipses, curves, nests of rings.

slab of labels -> ellipse of each membrane, carried from its better slices -> pixels near it -> nests -> curves

A membrane lies in the nest of another where the other's ellipse goes round it, and nothing else lies there with it: the
two membranes of an autophagosome become one field that is -1 outside, +1 between them and -1 within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from cryoscale.fit.curve import Curve, fit_curve
from cryoscale.fit.ellipse import Ellipse
from cryoscale.fit.ellipses import fit_ellipses_by_slice, goes_round, near_ellipse

__all__ = ["MembraneInSlice", "SliceFit", "field_near", "fit_slice", "nests"]

Array = NDArray[np.float64]
LEAST_PIXELS = 12
"""Membranes with fewer pixels in the slice get neither ellipse nor curve."""
INSIDE_SHARE = 0.95
FIELD_PIXELS = 14.0
MARGIN_PIXELS = 4.0


@dataclass(frozen=True)
class MembraneInSlice:
    """One membrane's pixels in the slice and what was made of them."""

    number: int
    pixels: Array
    """(n, 2) y, x."""
    selected: NDArray[np.bool_]
    """(n,) whether each lies near the ellipse; all where none describes them."""
    ellipse: Ellipse | None
    """None also where the membrane goes half way round in no slice."""


@dataclass(frozen=True)
class SliceFit:
    """The fits of one slice."""

    membranes: tuple[MembraneInSlice, ...]
    curves: tuple[Curve, ...]
    numbers: tuple[tuple[int, ...], ...]
    """For each curve its membranes, outermost first."""


def fit_slice(labels: NDArray[np.integer], row: int, *, anchors: str = "normals") -> SliceFit:
    """Fit ellipses and curves to the membranes of one slice.

    Parameters
    ----------
    labels
        (nz, ny, nx) numbers of membranes, 0 elsewhere: the slice and its neighbours.
    row
        Which of them is the slice.
    anchors
        As in `fit_curve`.

    Raises
    ------
    ValueError
        The slice is not one of them.
    """
    if labels.ndim != 3 or not 0 <= row < len(labels):
        msg = f"the slice must be one of {labels.shape} (z, y, x), found {row}"
        raise ValueError(msg)
    membranes = []
    boxes = find_objects(labels)
    counts = np.bincount(labels[row].ravel(), minlength=len(boxes) + 1)
    for number in np.flatnonzero(counts[1:] >= LEAST_PIXELS) + 1:
        membranes.append(_membrane(labels, int(number), boxes[number - 1], row))
    chains = nests([m.pixels[m.selected] for m in membranes], [m.ellipse for m in membranes])
    curves = tuple(_curve([membranes[i] for i in chain], anchors) for chain in chains)
    return SliceFit(tuple(membranes), curves, tuple(tuple(membranes[i].number for i in chain) for chain in chains))


def _membrane(labels: NDArray[np.integer], number: int, box: tuple[slice, ...], row: int) -> MembraneInSlice:
    corner = np.array([part.start for part in box])
    found = np.argwhere(labels[box] == number) + corner
    slices = {int(z): found[found[:, 0] == z, 1:].astype(np.float64) for z in np.unique(found[:, 0])}
    ellipses = fit_ellipses_by_slice(slices)
    ellipse = ellipses.get(row) if goes_round(ellipses) else None
    pixels = slices[row]
    selected = np.ones(len(pixels), np.bool_) if ellipse is None else near_ellipse(pixels, ellipse)
    if selected.sum() < LEAST_PIXELS:
        selected[:] = True
    return MembraneInSlice(number, pixels, selected, ellipse)


def _curve(chain: Sequence[MembraneInSlice], anchors: str) -> Curve:
    """Fit a nest in a box that holds the outermost ellipse, so that a gap in it can close."""
    outer, rings = chain[0], [m.pixels[m.selected] for m in chain]
    box = None
    if outer.ellipse is not None and outer.ellipse.describes:
        outline = np.concatenate([outer.ellipse.outline(), rings[0]])
        low, high = outline.min(0) - MARGIN_PIXELS, outline.max(0) + MARGIN_PIXELS
        size = np.ptp(rings[0], axis=0).max()
        low, high = np.maximum(low, rings[0].min(0) - size), np.minimum(high, rings[0].max(0) + size)
        box = (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))
    return fit_curve(rings, anchors=anchors, box=box)


def nests(rings: Sequence[Array], ellipses: Sequence[Ellipse | None]) -> list[list[int]]:
    """Return chains of rings, each inside the one before it, outermost first; most are chains of one.

    Parameters
    ----------
    rings
        (n, 2) pixels of each.
    ellipses
        Their ellipses; None, or one that is no ring itself, holds no other.
    """
    parents: list[int | None] = []
    for inner, pixels in enumerate(rings):
        around = [
            (ellipse.radius, outer)
            for outer, ellipse in enumerate(ellipses)
            if outer != inner
            and ellipse is not None
            and ellipse.is_ring
            and (ellipse.distance(pixels) < 0).mean() >= INSIDE_SHARE
        ]
        parents.append(min(around)[1] if around else None)
    children = {outer: [i for i, parent in enumerate(parents) if parent == outer] for outer in range(len(rings))}
    chains = []
    for start, parent in enumerate(parents):
        if parent is not None and len(children[parent]) == 1:
            continue
        chain = [start]
        while len(children[chain[-1]]) == 1:
            chain.append(children[chain[-1]][0])
        chains.append(chain)
    return chains


def field_near(curves: Sequence[Curve], shape: tuple[int, int], *, reach_pixels: float = FIELD_PIXELS) -> Array:
    """Return the mean field (ny, nx) near the data of the curves, NaN elsewhere; the nearest curve counts."""
    field, nearest = np.full(shape, np.nan), np.full(shape, np.inf)
    for curve in curves:
        low = np.maximum(np.ceil(curve.box[0]), 0).astype(int)
        high = np.minimum(np.floor(curve.box[1]).astype(int) + 1, shape)
        grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
        places = grid.reshape(-1, 2)
        distance = cKDTree(curve.data).query(places, distance_upper_bound=reach_pixels)[0]
        use = distance < nearest[tuple(places.T)]
        if use.any():
            at = tuple(places[use].T)
            field[at], nearest[at] = curve.mean(places[use].astype(np.float64)), distance[use]
    return field
