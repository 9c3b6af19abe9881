"""One slice, from mask to membranes: trace, cut at junctions, learn the joins, number the pixels.

mask ──trace──> lists ──split──> segments ──cost──> joins ──learn──> closed paths, the rest open ──> labels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryoscale.connect.connection import ConnectOptions, SliceConnection
from cryoscale.connect.qlearning import closed_walks
from cryoscale.connect.reward import join_costs
from cryoscale.connect.segments import middle_lines, split_lists
from cryoscale.connect.trace import nearest_list, trace_lists

__all__ = ["connect_slice", "open_paths"]

_Path = tuple[tuple[int, bool], ...]


def open_paths(
    cost: NDArray[np.float64], free: Sequence[int], dearest: float
) -> list[tuple[tuple[tuple[int, bool], ...], float]]:
    """Join segments that are in no closed path into open ones, the cheapest join first.

    Parameters
    ----------
    cost : (2 S, 2 S) float64 array
        Cost of joining end A (row) to end B (column).
    free : sequence of int
        The segments.
    dearest : float
        Joins that cost more are left; 0 leaves every segment to itself.

    Returns
    -------
    list of (path, cost)
        Each path as (segment, reversed), with what its joins cost; in order of the first segment of each.
    """
    ends = np.array([2 * s + e for s in free for e in (0, 1)], np.int64)
    partner = {int(e): -1 for e in ends}
    chain = {s: s for s in free}
    table = cost[np.ix_(ends, ends)]
    pairs = [(float(table[i, j]), i, j) for i, j in np.argwhere(table <= dearest) if i < j] if dearest > 0 else []
    for _, i, j in sorted(pairs):
        a, b = int(ends[i]), int(ends[j])
        # An end joins once, and no join closes a path: the walks that close were found before.
        if partner[a] < 0 and partner[b] < 0 and chain[a >> 1] != chain[b >> 1]:
            partner[a], partner[b] = b, a
            old, new = chain[b >> 1], chain[a >> 1]
            chain = {s: new if c == old else c for s, c in chain.items()}
    paths: list[tuple[_Path, float]] = []
    seen: set[int] = set()
    for end in (int(e) for s in free for e in (2 * s, 2 * s + 1)):
        if partner[end] >= 0 or end >> 1 in seen:
            continue
        path, total = [(end >> 1, bool(end & 1))], 0.0
        while (following := partner[end ^ 1]) >= 0:
            total += float(cost[end ^ 1, following])
            end = following
            path.append((end >> 1, bool(end & 1)))
        seen.update(s for s, _ in path)
        paths.append((tuple(path), total))
    return paths


def _join_points(
    segments: Sequence[NDArray[np.int32]], paths: Sequence[_Path], closed: Sequence[bool], ring: Sequence[bool]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the end points of every join, and the path each belongs to."""
    points, owner = [], []
    for number, (path, shut) in enumerate(zip(paths, closed, strict=True), 1):
        following = [*path[1:], path[0]] if shut and not ring[path[0][0]] else path[1:]
        for (a, a_reversed), (b, b_reversed) in zip(path, following, strict=False):
            points.append((segments[a][0 if a_reversed else -1], segments[b][-1 if b_reversed else 0]))
            owner.append(number)
    return np.array(points, np.int32).reshape(-1, 2, 2), np.array(owner, np.int32)


def connect_slice(mask: NDArray[np.bool_], options: ConnectOptions, seed: int) -> SliceConnection:
    """Trace a slice and join its segments into membranes.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    options : ConnectOptions
        Lengths in voxels (`options_in_voxels` makes them of the run's), costs and the schedule of learning.
    seed : int
        Of the random choices, 0 or more; the same seed gives the same result.

    Returns
    -------
    SliceConnection
        Segments, closed and open paths, the values learned and the labels.

    Raises
    ------
    ValueError
        The mask is no two-dimensional bool array.

    Notes
    -----
    Paper section 4.1. The slices of a tomogram are independent of each other.
    """
    lists = trace_lists(mask, options.half_view_voxels)
    segments, ring = split_lists(mask, lists, options.half_view_voxels, options.minimum_length_voxels)
    cost = join_costs(middle_lines(mask, segments, options.half_view_voxels), ring, options)
    walks = closed_walks(cost, options, seed)
    found: list[tuple[_Path, bool, float]] = [
        (((s, False),), True, options.closing_reward) for s in range(len(segments)) if ring[s]
    ]
    found += [(path, True, reward) for path, reward in zip(walks.paths, walks.reward, strict=True)]
    found.sort(key=lambda entry: -entry[2])
    in_closed = {s for path, _, _ in found for s, _ in path}
    free = [s for s in range(len(segments)) if s not in in_closed]
    found += [(path, False, -total) for path, total in open_paths(cost, free, options.dearest_open_join)]
    paths, closed = [path for path, _, _ in found], [shut for _, shut, _ in found]
    number = np.zeros(len(segments) + 1, np.int32)
    for k, path in enumerate(paths, 1):
        number[[s + 1 for s, _ in path]] = k
    joins, join_path = _join_points(segments, paths, closed, ring)
    return SliceConnection(
        segments=tuple(segments),
        ring=tuple(ring),
        paths=tuple(paths),
        closed=tuple(closed),
        reward=tuple(reward for _, _, reward in found),
        joins=joins,
        join_path=join_path,
        q=walks.q,
        failed=walks.failed,
        episodes=walks.episodes,
        labels=number[nearest_list(mask, segments)],
    )
