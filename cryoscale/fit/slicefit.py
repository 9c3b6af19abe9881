"""The paper's 2-D fits of every membrane in one slice: pixels selected by ellipses, curves, nests of rings.

slab of labels -> ellipse of each membrane, carried from its better slices -> pixels near it -> nests -> curves

A membrane lies in the nest of another where the other's ellipse goes round it, and nothing else lies there with it: the
two membranes of an autophagosome become one field that is -1 outside, +1 between them and -1 within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from cryoscale.fit.curve import Curve, fit_curve
from cryoscale.fit.ellipse import Ellipse
from cryoscale.fit.ellipses import fit_ellipses_by_slice, goes_round, near_ellipse

__all__ = ["LEAST_PIXELS", "MembraneInSlice", "SliceFit", "field_near", "fit_slice", "nests"]

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


def fit_slice(labels: NDArray[np.generic], row: int, *, anchors: str = "normals") -> SliceFit:
    """Fit ellipses and curves to the membranes of one slice.

    Parameters
    ----------
    labels
        (nz, ny, nx) whole positive numbers of membranes, of any type and size, 0 elsewhere: the slice and its
        neighbours.
    row
        Which of them is the slice.
    anchors
        As in `fit_curve`.

    Raises
    ------
    ValueError
        The slice is not one of them, or the labels are no whole numbers from 0.
    """
    if labels.ndim != 3 or not 0 <= row < len(labels):
        msg = f"the slice must be one of {labels.shape} (z, y, x), found {row}"
        raise ValueError(msg)
    numbers, ranks = _ranked(labels, row)
    membranes = [
        _membrane(ranks, rank, number, box, row)
        for rank, (number, box) in enumerate(zip(numbers, find_objects(ranks, len(numbers)), strict=True), 1)
    ]
    chains = nests([m.pixels[m.selected] for m in membranes], [m.ellipse for m in membranes])
    curves = tuple(_curve([membranes[i] for i in chain], anchors) for chain in chains)
    return SliceFit(tuple(membranes), curves, tuple(tuple(membranes[i].number for i in chain) for chain in chains))


def _ranked(labels: NDArray[Any], row: int) -> tuple[list[int], NDArray[np.int32]]:
    """Return the membranes with enough pixels in a slice, ascending, and the slab with their ranks from 1.

    What is found and counted then grows with the membranes of the slice and not with the largest of their numbers.
    """
    for plane in labels:
        _check_numbers(plane)
    values, counts = np.unique(labels[row], return_counts=True)
    values = values[(counts >= LEAST_PIXELS) & (values != 0)]
    ranks = np.zeros(labels.shape, np.int32)
    if len(values):
        for plane, out in zip(labels, ranks, strict=True):
            at = np.minimum(np.searchsorted(values, plane), len(values) - 1)
            out[...] = np.where(values[at] == plane, at + 1, 0)
    return [int(value) for value in values], ranks


def _check_numbers(plane: NDArray[Any]) -> None:
    """Refuse labels that number nothing."""
    bad = ~(plane >= 0) if plane.dtype.kind in "iuf" else np.full(plane.shape, plane.dtype.kind != "b")
    if plane.dtype.kind == "f":
        bad |= ~np.isfinite(plane) | (plane != np.floor(plane))
    if bad.any():
        msg = f"labels must be whole numbers, 0 for background and positive; found {plane[bad][0]} ({plane.dtype})"
        raise ValueError(msg)


def _membrane(ranks: NDArray[np.int32], rank: int, number: int, box: tuple[slice, ...], row: int) -> MembraneInSlice:
    corner = np.array([part.start for part in box])
    found = np.argwhere(ranks[box] == rank) + corner
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
