r"""The posterior variance and its gradient at places on a large surface, from the constraints that matter to each.

    v(q) = k(q, q) - k(q, S) C(S, S)^-1 k(S, q)

with C the covariance of the constraints with their noise, and S the `NEAR` constraints nearest to a block of places
together with `SPREAD` that are spread over all of them: what lies far away says little about a place beyond what its
own neighbours say, and the spread ones know most of that. In a part that was not seen nothing is near, and then
`LONELY_NEAR` are taken. Leaving constraints out can only widen the result. With no more than NEAR + SPREAD constraints
it is the exact posterior.

A place costs |S|^2 however many constraints there are. Blocks lie on a grid of their own, and every place of a block
is computed in one product, so the result is decided by the set of all places.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf
from scipy.spatial import cKDTree

from cryoscale.fit.covariance import Kernel
from cryoscale.fit.evaluate import variance_gradient

__all__ = ["local_variance", "spread_out"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
NEAR = 400
"""For `DENSE` constraints or fewer; more of them lie closer together, and as many more count."""
DENSE = 1000
DENSEST = 2.0
"""Largest multiple of `NEAR`."""
SPREAD = 128
BLOCK = 48.0
"""Edge of the blocks, in voxels."""
LONELY = 0.2
"""A block whose nearest constraint is farther than this share of its `NEAR`th lies in a part that was not seen."""
LONELY_NEAR = 1200
"""Constraints that such a block gets: all of its surroundings are equally far from it."""


def local_variance(
    kernel: Kernel, points: Array, places: Array, within: Callable[[Index], Array]
) -> tuple[Array, Array]:
    """Return the variance of a Gaussian process (m,) at places, never negative, and its gradient (m, 3).

    Parameters
    ----------
    kernel
        Covariance function.
    points
        (n, 3) constraints, in voxels.
    places
        (m, 3) places asked about, in voxels.
    within
        Covariance with noise (s, s) of the constraints of these rows, of which the lower triangle is read, and which
        may be overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance is not positive definite.
    """
    value, gradient = np.empty(len(places)), np.empty((len(places), 3))
    if len(points) <= NEAR + SPREAD:
        return variance_gradient(kernel, points, _factor(within(np.arange(len(points)))), places, inverted=False)
    spread, tree = spread_out(points, SPREAD), cKDTree(points)
    for block in _blocks(places):
        rows = np.union1d(_near(tree, places[block].mean(0)), spread)
        factor = _factor(within(rows))
        value[block], gradient[block] = variance_gradient(kernel, points[rows], factor, places[block], inverted=False)
    return value, gradient


def _near(tree: cKDTree, middle: Array) -> Index:
    """Return the rows of the constraints that a block with this middle needs."""
    near = min(tree.n, round(NEAR * min(max(1.0, tree.n / DENSE), DENSEST)))
    far, rows = tree.query(middle, k=near)
    if far[0] <= LONELY * far[-1]:
        return np.asarray(rows)
    return np.asarray(tree.query(middle, k=min(max(near, LONELY_NEAR), tree.n))[1])


def _factor(matrix: Array) -> Array:
    lower, info = dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if info:
        msg = f"the covariance of {len(matrix)} constraints is not positive definite at pivot {info}"
        raise np.linalg.LinAlgError(msg)
    return np.asarray(lower)


def _blocks(places: Array) -> list[Index]:
    """Return the rows of the places in each block, in raster order of the blocks."""
    if not len(places):
        return []
    cell = np.floor(places / BLOCK).astype(np.int64)
    order = np.lexsort(cell.T[::-1])
    ends = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(1)) + 1
    return np.split(order, ends)


def spread_out(points: Array, count: int) -> Index:
    """Return the rows of points each of which is farthest from those before it."""
    rows = np.zeros(count, np.int64)
    far = ((points - points[0]) ** 2).sum(1)
    for number in range(1, count):
        rows[number] = far.argmax()
        far = np.minimum(far, ((points - points[rows[number]]) ** 2).sum(1))
    return rows
