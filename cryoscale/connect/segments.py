"""From traced lists to segments: cut where lists meet, rings recognised, short ones dropped.

    x x x x x x x x x          a list that goes straight on through a junction,
            y                  one that ends at it: the first is cut there,
            y                  and the joins decide by smoothness who goes on to whom

The walker has to take some way through a crossing, and nothing says that it is the right one. A list that ends in view
of another one therefore cuts it, and a list that turns sharply in view of another one is cut where it turns. The halves
draw back by half a view, where the crossing no longer bends them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from cryoscale.connect.trace import centred_positions, pixels_in_view

__all__ = ["closes", "middle_lines", "split_lists"]

_Pixels = NDArray[np.int32]

ROUNDNESS = 0.1
"""Least 4 pi area / length^2 of a ring (a circle has 1, an ellipse of axes 1 : 20 has 0.12, a list folded back 0)."""

SHARP_TURN_RADIANS = 0.8
"""Turn at which a list is cut where another one passes: two lists may meet in a crossing, each turning aside."""


def _roundness(pixels: _Pixels) -> float:
    y, x = pixels.astype(np.float64).T
    area = 0.5 * abs(float(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1))))
    length = float(np.hypot(y - np.roll(y, -1), x - np.roll(x, -1)).sum())
    return 4.0 * math.pi * area / max(length, 1.0) ** 2


class _Places:
    """Which list runs through a pixel, and where along it."""

    def __init__(self, shape: tuple[int, int], lists: list[_Pixels]) -> None:
        self.number = np.full(shape, -1, np.int32)
        self.position = np.zeros(shape, np.int32)
        for k in range(len(lists) - 1, -1, -1):
            self.number[lists[k][:, 0], lists[k][:, 1]] = k
            self.position[lists[k][:, 0], lists[k][:, 1]] = np.arange(len(lists[k]))


def _meeting(
    mask: NDArray[np.bool_], lists: list[_Pixels], places: _Places, k: int, end: int, half: int
) -> tuple[int, int] | None:
    """Return list and position that end `end` of list k runs into; of its own list only what lies far along it."""
    own = len(lists[k]) - 1 if end else 0
    y, x = (int(c) for c in lists[k][own])
    view = pixels_in_view(mask, y, x, 2 * half + 3)
    number, position = places.number[view[:, 0], view[:, 1]], places.position[view[:, 0], view[:, 1]]
    met = (number >= 0) & ((number != k) | (np.abs(position - own) > 4 * half))
    if not met.any():
        return None
    first = int(np.argmax(met))
    return int(number[first]), int(position[first])


def _corners(pixels: _Pixels, reach: int) -> list[int]:
    """Return where a list turns most, wherever it turns sharply between `reach` pixels before and after."""
    if len(pixels) <= 2 * reach:
        return []
    line = pixels.astype(np.float64)
    before, after = line[reach:-reach] - line[: -2 * reach], line[2 * reach :] - line[reach:-reach]
    turn = np.abs(np.angle((before[:, 0] + 1j * before[:, 1]) * (after[:, 0] - 1j * after[:, 1])))
    corners = []
    while turn.max() > SHARP_TURN_RADIANS:
        sharpest = int(np.argmax(turn))
        corners.append(sharpest + reach)
        turn[max(0, sharpest - 2 * reach) : sharpest + 2 * reach + 1] = 0.0
    return corners


def _others_in_view(mask: NDArray[np.bool_], places: _Places, k: int, pixel: _Pixels, half: int) -> bool:
    view = pixels_in_view(mask, int(pixel[0]), int(pixel[1]), 2 * half + 3)
    number = places.number[view[:, 0], view[:, 1]]
    return bool(((number >= 0) & (number != k)).any())


def closes(mask: NDArray[np.bool_], pixels: NDArray[np.int32], half_view_voxels: int) -> bool:
    """Tell whether a traced list is a closed ring: it ends in view of where it begins, and goes round background.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    pixels : (n, 2) int32 array
        y, x of the list.
    half_view_voxels : int
        Half width of the field of view.
    """
    if len(pixels) < 8 or _roundness(pixels) < ROUNDNESS:
        return False
    y, x = (int(c) for c in pixels[-1])
    view = pixels_in_view(mask, y, x, half_view_voxels + 3)
    inside = polygon(*pixels.T, mask.shape)
    return bool((view == pixels[0]).all(1).any() and not mask[inside].all())


def _close(pixels: _Pixels) -> _Pixels:
    """Append the pixels of the straight line from the last to the first."""
    a, b = pixels[-1].astype(np.float64), pixels[0].astype(np.float64)
    steps = int(np.abs(a - b).max())
    between = [np.rint(a + (b - a) * i / steps) for i in range(1, steps)]
    return np.concatenate([pixels, np.array(between, np.int32).reshape(-1, 2)])


def _cut(pixels: _Pixels, ring: bool, cuts: list[int], margin: int) -> list[_Pixels]:
    """Cut a list at positions, each half drawn back by `margin`; a ring is opened at the first."""
    if not cuts:
        return [pixels]
    cuts = sorted(cuts)
    if ring:
        pixels, cuts = np.roll(pixels, -cuts[0], 0), [c - cuts[0] for c in cuts]
        edges = [*cuts, len(pixels)]
    else:
        edges = [-margin, *cuts, len(pixels) - 1 + margin]
    return [pixels[max(a + margin, 0) : max(b - margin + 1, 0)] for a, b in pairwise(edges)]


def split_lists(
    mask: NDArray[np.bool_], lists: list[NDArray[np.int32]], half_view_voxels: int, minimum_length_voxels: int
) -> tuple[list[NDArray[np.int32]], list[bool]]:
    """Cut traced lists where others end at them, drop the short ones and find the rings.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    lists : list of (n, 2) int32 arrays
        y, x of each list, from `cryoscale.connect.trace.trace_lists`.
    half_view_voxels : int
        Half width of the field of view the lists were traced with.
    minimum_length_voxels : int
        Lists and halves of fewer pixels are dropped, before and after the cut.

    Returns
    -------
    segments : list of (n, 2) int32 arrays
        y, x of each segment.
    ring : list of bool
        Whether a segment is closed by itself; its last pixel then touches its first.
    """
    lists = [pixels for pixels in lists if len(pixels) >= minimum_length_voxels]
    places = _Places((mask.shape[0], mask.shape[1]), lists)
    rings = [closes(mask, pixels, half_view_voxels) for pixels in lists]
    cuts: list[list[int]] = [[] for _ in lists]
    keep = [[0, len(pixels) - 1] for pixels in lists]
    for k, pixels in enumerate(lists):
        for corner in _corners(pixels, 2 * half_view_voxels):
            if _others_in_view(mask, places, k, pixels[corner], half_view_voxels):
                cuts[k].append(corner)
        for end in () if rings[k] else (0, 1):
            met = _meeting(mask, lists, places, k, end, half_view_voxels)
            if met is None:
                continue
            number, position = met
            rest = len(lists[number]) - 1 - position
            if rings[number] or min(position, rest) > 2 * half_view_voxels:
                cuts[number].append(position)
            # Met near its end: what lies beyond is a hook, into a bump where it began.
            elif min(position, rest) <= half_view_voxels:
                side = int(position > rest)
                keep[number][side] = (min if side else max)(keep[number][side], position)
    segments, closed = [], []
    for pixels, ring, positions, (a, b) in zip(lists, rings, cuts, keep, strict=True):
        whole = ring and not positions
        inside = [p - a for p in positions if a < p < b]
        for piece in [_close(pixels)] if whole else _cut(pixels[a : b + 1], ring, inside, half_view_voxels):
            if len(piece) >= minimum_length_voxels:
                segments.append(piece)
                closed.append(whole)
    return segments, closed


def middle_lines(
    mask: NDArray[np.bool_], segments: list[NDArray[np.int32]], half_view_voxels: int
) -> list[NDArray[np.float64]]:
    """Return the middle of the membrane along each segment.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    segments : list of (n, 2) int32 arrays
        y, x of each segment.
    half_view_voxels : int
        Half width of the field of view.

    Returns
    -------
    list of (n + 2, 2) float64 arrays
        y, x of the middle at each pixel, and before and after them the middle as far out as the end pixels lie: a mean
        over pixels draws the ends in.
    """
    if not segments:
        return []
    centred = centred_positions(mask, np.concatenate(segments), half_view_voxels)
    lines = np.split(centred, np.cumsum([len(pixels) for pixels in segments])[:-1])
    reach = 2 * half_view_voxels
    out = []
    for pixels, line in zip(segments, lines, strict=True):
        ends = []
        for end, last, inner in ((pixels[0], line[0], line[:reach][-1]), (pixels[-1], line[-1], line[-reach:][0])):
            along = (last - inner) / max(float(np.hypot(*(last - inner))), 1e-9)
            ends.append(last + along * max(0.0, float(np.dot(end - last, along))))
        out.append(np.concatenate([ends[:1], line, ends[1:]]))
    return out
