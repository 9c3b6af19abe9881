r"""What a curve's field is told beside "zero here": +1 inside, -1 outside, and the other way round in a nested ring.

Ring k of a nest, counted from the outermost, has its own interior on the side of the sign s_k = (-1)^k:

- ``"normals"``   at p -+ h n, values +-s_k: pairs along the outward normals n of every control point p
- ``"centroid"``  the paper's: -1 at c + alpha (p - c), c the centroid of the outermost ring; +1 half way between two
  rings; s_k at the centroid of the innermost

With the paper's the field knows nothing of the shape between the centroid and the curve, and of bent curves not even
the side. Pairs know both, and stand by open curves too; one that would come nearer to another part of the curve than
to its own point is shortened, and its value with it, so that the field stays a distance over h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.fit.normals import orient

__all__ = ["Anchors", "Controls", "centroid_anchors", "normal_anchors", "thin_ring"]

Array = NDArray[np.float64]
NORMAL_PIXELS = 8.0
"""Reach of the neighbourhood that gives a control point its normal."""
MOST_NEIGHBOURS = 14
"""Most pixels of a neighbourhood over its reach: a membrane as thick as the reach has 2 times the reach squared."""
LEAST_NEIGHBOURS = 6
MOVES = 2
WIDTHS = 1.5
"""Reach of a neighbourhood over the thickness of the membrane, where that is more."""
RIDGE = 1e-3
"""On the parabola's slope and bend: decides only where the pixels do not."""
NEAREST = 0.8
"""A pair is shortened while another control point is nearer than this share of its length."""
SHORTER = 0.75
SHORTENINGS = 6


@dataclass(frozen=True)
class Controls:
    """One ring's control points."""

    points: Array
    """(m, 2) means of the pixels in cells of a grid."""
    counts: Array
    """(m,) pixels each stands for."""
    normals: Array
    """(m, 2) unit normals, outward where the points enclose something."""


@dataclass(frozen=True)
class Anchors:
    """Places off the curve, the values there, and the distance over which the field goes from 0 to 1."""

    points: Array
    values: Array
    scale_pixels: float


def thin_ring(pixels: Array, cell_pixels: float) -> Controls:
    """Thin the pixels (n, 2) of a ring to control points on its middle line, with oriented normals.

    Cells of a grid are merged, their means move to the middle of the membrane, and what meets there is merged again: a
    thick membrane whose every layer said "zero here" would leave the field flat between them. Without cells
    (``cell_pixels`` 0) every pixel is a control point as it is.
    """
    if cell_pixels <= 0:
        _, normals, _ = _middle(pixels, pixels, NORMAL_PIXELS)
        return Controls(pixels, np.ones(len(pixels)), orient(pixels, normals))
    points, counts = _merge(pixels, np.ones(len(pixels)), cell_pixels)
    reach = NORMAL_PIXELS
    for _ in range(MOVES):
        points, normals, spread = _middle(points, pixels, reach)
        # 12^1/2 standard deviations are the width of a flat profile.
        reach = max(NORMAL_PIXELS, WIDTHS * 12**0.5 * spread)
    points, counts = _merge(points, counts, cell_pixels)
    points, normals, _ = _middle(points, pixels, reach)
    return Controls(points, counts, orient(points, normals) if len(points) > 1 else normals)


def _merge(points: Array, counts: Array, cell_pixels: float) -> tuple[Array, Array]:
    """Return the means of the points in each cell and how many pixels each stands for."""
    index = np.floor((points - points.min(0)) / cell_pixels + 0.5).astype(np.int64)
    _, where = np.unique(index, axis=0, return_inverse=True)
    total = np.bincount(where.ravel(), counts)
    means = np.stack([np.bincount(where.ravel(), points[:, axis] * counts) for axis in (0, 1)], 1)
    return means / total[:, None], total.astype(np.float64)


def _middle(points: Array, pixels: Array, reach_pixels: float) -> tuple[Array, Array, float]:
    """Move points to the middle of the pixels around them; return them, unit normals of any sign, and the thickness.

    In the frame of the local PCA a parabola is fitted to the heights; its value above the point is the middle (a mean
    would lie inside a curve, by reach^2 / 8 R), its slope corrects the normal. The thickness is the median standard
    deviation about the parabolas.
    """
    most = min(len(pixels), int(MOST_NEIGHBOURS * reach_pixels))
    distance, near = cKDTree(pixels).query(points, k=most)
    distance, near = distance.reshape(len(points), most), near.reshape(len(points), most)
    reach = np.maximum(reach_pixels, 1.1 * distance[:, min(most, LEAST_NEIGHBOURS) - 1])[:, None]
    weight = np.clip(1 - (distance / reach) ** 2, 0, None) + 1e-9
    weight /= weight.sum(1, keepdims=True)
    local = pixels[near] - points[:, None]
    spread = local - (weight[..., None] * local).sum(1, keepdims=True)
    frames = np.linalg.eigh(np.einsum("mk,mki,mkj->mij", weight, spread, spread))[1]
    across, along = frames[:, :, 0], frames[:, :, 1]
    u, height = np.einsum("mki,mi->mk", local, along) / reach, np.einsum("mki,mi->mk", local, across)
    terms = np.stack([np.ones_like(u), u, u * u], -1)
    matrix = np.einsum("mk,mki,mkj->mij", weight, terms, terms) + np.diag([0.0, RIDGE, RIDGE])
    fitted = np.linalg.solve(matrix, np.einsum("mk,mki,mk->mi", weight, terms, height)[..., None])[..., 0]
    left = height - np.einsum("mki,mi->mk", terms, fitted)
    move = np.clip(fitted[:, :1], -0.5 * reach, 0.5 * reach)
    normals = across - fitted[:, 1:2] / reach * along
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return points + move * across, normals, float(np.sqrt(np.median((weight * left**2).sum(1))))


def normal_anchors(rings: Sequence[Controls], length_pixels: float) -> Anchors:
    """Return pairs along the normals of the rings' control points, ``length_pixels`` long where there is room."""
    tree = cKDTree(np.concatenate([ring.points for ring in rings]))
    places, values = [], []
    for depth, ring in enumerate(rings):
        sign = -1.0 if depth % 2 else 1.0
        for side in (-1.0, 1.0):
            length = np.full(len(ring.points), length_pixels)
            for _ in range(SHORTENINGS):
                place = ring.points + (side * length)[:, None] * ring.normals
                length = np.where(tree.query(place)[0] < NEAREST * length, SHORTER * length, length)
            places.append(ring.points + (side * length)[:, None] * ring.normals)
            values.append(-side * sign * length / length_pixels)
    return Anchors(np.concatenate(places), np.concatenate(values), length_pixels)


def centroid_anchors(rings: Sequence[Controls], alpha: float) -> Anchors:
    """Return the paper's anchors (sections 4.3 and 5.2), for one ring or a nest of them."""
    outer, inner = rings[0].points, rings[-1].points
    middle = outer.mean(0)
    places, values = [middle + alpha * (outer - middle)], [np.full(len(outer), -1.0)]
    for depth, (ring, next_ring) in enumerate(pairwise(rings)):
        other = ring.points[cKDTree(ring.points).query(next_ring.points)[1]]
        places.append((other + next_ring.points) / 2)
        values.append(np.full(len(other), -1.0 if depth % 2 else 1.0))
    places.append(inner.mean(0)[None])
    values.append(np.array([1.0 if len(rings) % 2 else -1.0]))
    typical = float(np.median(np.linalg.norm(outer - middle, axis=1)))
    return Anchors(np.concatenate(places), np.concatenate(values), max((alpha - 1) * typical, 1e-9))
