r"""Samples of where a fitted field is zero, on a sparse grid, coarse to fine.

Nodes whose distance |f| / |grad f| exceeds half their cell's diagonal are not refined, and of the finer nodes around
the others only those are looked at that may be a corner of a cell with the zero set in it: f and its gradient at the
nearest coarser node tell, to first order. Where that left out a corner of a cell that the zero set passes, the corner
is added, and so on along the zero set. Samples lie where the finest grid's edges change sign. The grid's nodes are
whole multiples of its step, as those of `cells` are, which takes over what is known there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.fit.cells import CORNERS
from cryoscale.fit.nodes import Nodes, find

__all__ = ["Samples", "trace"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Field = Callable[[Array], tuple[Array, Array]]
SLACK = 1.2
"""On half a cell's diagonal, within which a node is refined, and on the whole one, within which a finer node is looked
at: with less, more is added one after the other, and a small piece apart from all others may be missed."""
MOST_NODES = 4_000_000
"""Largest coarse grid: 2,500 voxels along each axis where the step is 4."""
AT_ONCE = 100_000
"""Nodes that the field is evaluated at together."""


@dataclass(frozen=True)
class Samples:
    """Points on the zero set, about 1.5 per step^2."""

    points: Array
    """(n, 3) in voxels."""
    normals: Array
    """(n, 3) unit gradients."""
    slopes: Array
    """(n,) lengths of the gradients."""
    areas: Array
    """(n,) area each stands for."""
    cells: Index
    """(n, 4) numbers of the cells around its edge."""
    border: NDArray[np.bool_]
    """(n,) whether one of those cells is incomplete: the traced region ends there."""
    nodes: Nodes
    """The finest grid's."""

    @property
    def step(self) -> float:
        """Return the distance of the finest grid's nodes, in voxels."""
        return self.nodes.pitch


def trace(
    field: Field, low: Array, high: Array, step: float, *, near: Array | None = None, reach: float = 0
) -> Samples:
    """Sample the zero set of a field in a box.

    Parameters
    ----------
    field
        Returns value (m,) and gradient (m, 3) at places (m, 3).
    low, high
        Corners (3,) of the box, in voxels.
    step
        Final distance of grid nodes; tracing starts at 1, 2, 4 .. times it.
    near, reach
        Where given, only nodes within ``reach`` of these points (n, 3) are looked at.

    Raises
    ------
    ValueError
        If the box is larger than any membrane.
    """
    factor = 1
    while factor < 4 and np.prod((high - low) / (step * factor)) > 12_000:
        factor *= 2
    if np.prod((high - low) / (step * factor)) > MOST_NODES:
        msg = f"points that span {np.round(high - low).astype(int).tolist()} voxels, z, y, x, are not one membrane"
        raise ValueError(msg)
    first = np.floor(low / step).astype(np.int64)
    count = np.ceil((high / step - first) / factor).astype(np.int64) + 1
    last = first + (count - 1) * factor
    tree = None if near is None else cKDTree(near)

    def wanted(index: Index, factor: int) -> Index:
        if tree is None:
            return index
        away = tree.query(index * step, distance_upper_bound=reach + factor * step)[0]
        return np.asarray(index[np.isfinite(away)])

    def known(index: Index) -> Nodes:
        return Nodes(step, index, *field(np.asarray(index * step, np.float64)))

    parts: Iterable[Index] = _planes(first, count, factor)
    while factor > 1:
        around = _joined([_about(known(wanted(part, factor)), factor) for part in parts])
        index = _children(around, factor, first, last)
        factor //= 2
        parts = np.array_split(index, len(index) // AT_ONCE + 1)
    nodes = _joined([known(wanted(part, 1)) for part in parts])
    edges = _crossed(nodes)
    while len(lacking := wanted(edges.lacking[((edges.lacking >= first) & (edges.lacking <= last)).all(1)], 1)):
        nodes = nodes.joined(known(lacking))
        edges = _crossed(nodes)
    return _samples(field, nodes, edges)


def _planes(first: Index, count: Index, factor: int) -> Iterator[Index]:
    """Yield the nodes of the coarsest grid, some planes at a time."""
    thick = max(1, AT_ONCE // int(count[1] * count[2]))
    for start in range(0, int(count[0]), thick):
        planes = np.arange(start, min(start + thick, int(count[0])))
        axes = np.meshgrid(planes, np.arange(count[1]), np.arange(count[2]), indexing="ij")
        yield first + np.stack(axes, -1).reshape(-1, 3) * factor


def _joined(parts: list[Nodes]) -> Nodes:
    """Return the nodes of parts that follow each other."""
    index, value, slope = (np.concatenate([getattr(p, name) for p in parts]) for name in ("index", "value", "slope"))
    return Nodes(parts[0].pitch, index, value, slope)


def _distance(nodes: Nodes) -> Array:
    """Return how far the zero set is from nodes (n,), in voxels, to first order."""
    return np.asarray(np.abs(nodes.value) / np.maximum(np.linalg.norm(nodes.slope, axis=1), 1e-12))


def _about(nodes: Nodes, factor: int) -> Nodes:
    """Return the nodes of a grid of some steps that are refined, or from which finer nodes are judged."""
    keep = _distance(nodes) < (SLACK * 0.5 + 1.0) * 3**0.5 * factor * nodes.pitch
    return Nodes(nodes.pitch, nodes.index[keep], nodes.value[keep], nodes.slope[keep])


def _children(nodes: Nodes, factor: int, first: Index, last: Index) -> Index:
    """Return the finer nodes, half as far apart as these, inside the box that may be corners at the zero set.

    They are looked for up to two steps along each axis from nodes that the zero set may come nearer to than half their
    cell's diagonal.
    """
    step = factor // 2
    refined = nodes.index[_distance(nodes) < SLACK * 0.5 * 3**0.5 * factor * nodes.pitch] - first
    # One axis after the other, each at most five times as many as before, instead of 125 times at once.
    shape = last - first + 1 + 4 * step
    keys = np.ravel_multi_index(tuple((refined + 2 * step).T), tuple(shape))
    for stride in (shape[1] * shape[2], shape[2], 1):
        keys = np.unique(keys[:, None] + np.arange(-2, 3) * (step * stride))
    child = np.stack(np.unravel_index(keys, tuple(shape)), 1) - 2 * step
    child = first + child[((child >= 0) & (child <= last - first)).all(1)]
    nearest = child - (child - first) % factor
    row = nodes.rows(nearest)
    told = nodes.value[row] + nodes.pitch * ((child - nearest) * nodes.slope[row]).sum(1)
    # Where the field is flat it alone decides, so that a small slope makes no surface look far.
    slope = np.maximum(np.linalg.norm(nodes.slope[row], axis=1), 1.0)
    return np.asarray(child[(row < 0) | (np.abs(told) <= SLACK * 3**0.5 * step * nodes.pitch * slope)])


@dataclass(frozen=True)
class _Edges:
    """Where edges between neighbouring nodes change sign."""

    places: Array
    """(n, 3) on the edges, where a straight line between the ends is zero."""
    cells: Index
    """(n, 4) numbers of the cells around each edge."""
    complete: NDArray[np.bool_]
    """Whether all corners of a cell are known, by its number."""
    lacking: Index
    """(k, 3) the corners that are not."""


def _crossed(nodes: Nodes) -> _Edges:
    """Return the edges between neighbouring nodes along which the field changes sign."""
    low, step, value = nodes.index.min(0, initial=0), nodes.pitch, nodes.value
    shape = nodes.index.max(0, initial=0) - low + 3
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    keys = (nodes.index - low + 1) @ strides
    places, cells = [], []
    for axis in range(3):
        there = find(keys, keys + strides[axis])
        here = np.flatnonzero(there >= 0)
        there = there[here]
        cross = (value[here] < 0) != (value[there] < 0)
        here, there = here[cross], there[cross]
        t = value[here] / (value[here] - value[there])
        places.append(step * (nodes.index[here] + t[:, None] * np.eye(3)[axis]))
        a, b = strides[(axis + 1) % 3], strides[(axis + 2) % 3]
        cells.append(keys[here][:, None] - np.array([0, a, b, a + b]))
    cell = np.concatenate(cells)
    unique, where = np.unique(cell, return_inverse=True)
    corners = unique[:, None] + CORNERS @ strides
    lacks = find(keys, corners) < 0
    lacking = np.stack(np.unravel_index(np.unique(corners[lacks]), tuple(shape)), 1) + low - 1
    return _Edges(np.concatenate(places), where.reshape(cell.shape), np.logical_not(lacks.any(1)), lacking)


def _samples(field: Field, nodes: Nodes, edges: _Edges) -> Samples:
    """Move the places of edges to the zero set."""
    place, step = edges.places, nodes.pitch
    f, g = field(place)
    size = np.maximum(np.linalg.norm(g, axis=1), 1e-12)
    normal = g / size[:, None]
    place = place - np.clip(f / size, -step, step)[:, None] * normal
    area = step**2 / np.maximum(np.abs(normal).sum(1), 1e-12)
    border = np.logical_not(edges.complete[edges.cells].all(1))
    return Samples(place, normal, size, area, edges.cells, border, nodes)
