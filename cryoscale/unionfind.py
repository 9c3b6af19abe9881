"""Union-find over integers, smallest member as the root.

A forest is one array: ``parent[i] <= i``, and ``i`` is a root when ``parent[i] == i``. Uniting two trees hangs the
larger root below the smaller one, and every search halves its path, so that m operations on n elements cost O(m log
n) at worst and nearly O(m) in practice. Because the root is always the smallest member, and elements are numbered in
raster order, **the root of a region is its first element in raster order whatever the order of the unions**: this is
what makes the numbers of the regions independent of chunks, workers and history.

The same forest serves runs of voxels inside a block, and pieces of regions across blocks.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["flatten", "join_pairs", "number_trees", "root", "separate", "unite"]


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def root(parent: NDArray[np.int64], element: int) -> int:
    """Return the smallest member of the tree that holds `element`, halving the path on the way.

    Parameters
    ----------
    parent : (n,) integer array
        The forest; changed in place.
    element : int
        An index into `parent`.

    Returns
    -------
    int
        The root.
    """
    while parent[element] != element:
        parent[element] = parent[parent[element]]
        element = parent[element]
    return element


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def unite(parent: NDArray[np.int64], first: int, second: int) -> None:
    """Put `first` and `second` into one tree, in place.

    Parameters
    ----------
    parent : (n,) integer array
        The forest; changed in place.
    first, second : int
        Indices into `parent`.
    """
    a = root(parent, first)
    b = root(parent, second)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def separate(parent: NDArray[np.int64]) -> None:
    """Make every element a tree of its own, in place.

    Parameters
    ----------
    parent : (n,) integer array
        The forest.
    """
    for i in range(parent.shape[0]):
        parent[i] = i


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def join_pairs(parent: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
    """Unite every pair of a list, in place.

    Parameters
    ----------
    parent : (n,) integer array
        The forest; changed in place.
    pairs : (m, 2) integer array
        Indices into `parent`; any order, repeats allowed.
    """
    for k in range(pairs.shape[0]):
        unite(parent, pairs[k, 0], pairs[k, 1])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def flatten(parent: NDArray[np.int64]) -> None:
    """Point every element straight at its root, in place.

    One ascending pass is enough, since a parent is never larger than its child.

    Parameters
    ----------
    parent : (n,) integer array
        The forest; changed in place.
    """
    for i in range(parent.shape[0]):
        parent[i] = parent[parent[i]]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def number_trees(parent: NDArray[np.int32]) -> int:
    """Replace every element's parent by the number of its tree, in place: 1, 2, ... in the order of the roots.

    Parameters
    ----------
    parent : (n,) integer array
        The forest.

    Returns
    -------
    int
        The number of trees.
    """
    count = 0
    for i in range(parent.shape[0]):
        if parent[i] == i:
            count += 1
            parent[i] = count
        else:
            parent[i] = parent[parent[i]]  # a smaller element: it holds its number already
    return count
