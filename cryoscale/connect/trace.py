"""Phase 1: a walker traces the segmented pixels of a slice into ordered lists.

    reward(action) = number of NEW labelled pixels that enter the field of view         (paper section 4.1)

The walker stands on a segmented pixel and takes one of 8 one-pixel steps. It sees the pixels in a square around it
that hang together with its own inside that square: a membrane running beside its own, three pixels away, is another
membrane and stays unseen. It takes the step that brings most unseen pixels into view; of equal steps the one that
keeps it in the middle of the component (farthest from the background), then the one straight ahead.

    . . # # # # # # # .        view of half width 2 around o: the next step to the right
    . # # o # # # # # .        brings one column of new pixels, any other step none
    . . # # # # # # . .

When nothing new comes into view it stands half a view before the end. It walks on with a view no wider than the
membrane is thick, over pixels that it was the first to see, until that shows nothing new either, and from there
straight to the edge. Then it returns to the start and goes the other way. Pixels still unseen (branches, other
components) start further lists.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

__all__ = ["centred_positions", "nearest_list", "pixels_in_view", "trace_lists"]

_Bools = NDArray[np.bool_]
_Ints = NDArray[np.int32]
_Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _look(mask: _Bools, y: int, x: int, half: int, mark: _Ints, stamp: int, view: _Ints) -> int:
    """Fill `view` with the flat indices of the pixels in view from (y, x), nearest first; return how many."""
    ny, nx = mask.shape
    y0, y1, x0, x1 = max(y - half, 0), min(y + half + 1, ny), max(x - half, 0), min(x + half + 1, nx)
    view[0] = y * nx + x
    mark[y * nx + x] = stamp
    head, count = 0, 1
    while head < count:
        cy, cx = divmod(view[head], nx)
        head += 1
        for yy in range(max(cy - 1, y0), min(cy + 2, y1)):
            for xx in range(max(cx - 1, x0), min(cx + 2, x1)):
                index = yy * nx + xx
                if mask[yy, xx] and mark[index] != stamp:
                    mark[index] = stamp
                    view[count] = index
                    count += 1
    return count


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _thickness(depth: _Floats, view: _Ints, count: int, half: int) -> int:
    """Return the half width of a view that spans the membrane: its thickness from the deepest pixel in view."""
    deepest = 1.0
    for k in range(count):
        deepest = max(deepest, depth.flat[view[k]])
    return min(half, max(1, math.ceil(2.0 * deepest - 1.0)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _see(
    mask: _Bools, depth: _Floats, y: int, x: int, half: int, number: int,
    owner: _Ints, passed: _Ints, mark: _Ints, stamps: _Ints, view: _Ints,
) -> int:  # fmt: skip
    """Mark what is in view as seen by list `number`, and the membrane's own width as passed; return that width."""
    stamps[0] += 1
    count = _look(mask, y, x, half, mark, stamps[0], view)
    narrow: int = _thickness(depth, view, count, half)
    for k in range(count):
        if owner[view[k]] == 0:
            owner[view[k]] = number
    stamps[0] += 1
    count = _look(mask, y, x, narrow, mark, stamps[0], view)
    for k in range(count):
        passed[view[k]] = number
    return narrow


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_step(
    mask: _Bools, depth: _Floats, y: int, x: int, ahead: int, half: int, wide: bool, number: int,
    owner: _Ints, passed: _Ints, mark: _Ints, stamps: _Ints, view: _Ints,
) -> int:  # fmt: skip
    """Return the action of greatest reward, -1 where all rewards are 0.

    Wide: new is what no list has seen. Narrow: new is what this list saw first and has not passed.
    """
    ny, nx = mask.shape
    best, action, best_depth = 0, -1, 0.0
    for k in range(8):
        # Straight ahead first, then to either side of it, so that the first of equal steps turns least.
        a = (ahead + ((k + 1) // 2 if k % 2 else -(k // 2))) % 8
        yy, xx = y + _DY[a], x + _DX[a]
        if yy < 0 or xx < 0 or yy >= ny or xx >= nx or not mask[yy, xx]:
            continue
        stamps[0] += 1
        count = _look(mask, yy, xx, half, mark, stamps[0], view)
        reward = 0
        for j in range(count):
            index = view[j]
            reward += owner[index] == 0 if wide else (owner[index] == number and passed[index] != number)
        if reward > best or (reward == best and best > 0 and depth[yy, xx] > best_depth):
            best, action, best_depth = reward, a, depth[yy, xx]
    return action


_DY = np.array([0, 1, 1, 1, 0, -1, -1, -1])
_DX = np.array([1, 1, 0, -1, -1, -1, 0, 1])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(
    mask: _Bools, depth: _Floats, start: int, behind: int, ahead: int, half: int, number: int,
    owner: _Ints, passed: _Ints, mark: _Ints, stamps: _Ints, view: _Ints, trail: _Ints,
) -> tuple[int, int]:  # fmt: skip
    """Walk from `start` until nothing new comes into view; return the pixels written to `trail`, the first action.

    `behind` is a pixel of the way already gone to the other side, or `start`.
    """
    nx = mask.shape[1]
    y, x = divmod(start, nx)
    narrow = _see(mask, depth, y, x, half, number, owner, passed, mark, stamps, view)
    trail[0] = start
    count, first = 1, -1
    while count < trail.size:
        action = _best_step(mask, depth, y, x, ahead, half, True, number, owner, passed, mark, stamps, view)
        if action < 0:
            action = _best_step(mask, depth, y, x, ahead, narrow, False, number, owner, passed, mark, stamps, view)
        if action < 0:
            break
        if first < 0:
            first = action
        y, x, ahead = y + _DY[action], x + _DX[action], action
        narrow = _see(mask, depth, y, x, half, number, owner, passed, mark, stamps, view)
        trail[count] = y * nx + x
        count += 1
    return _go_to_the_edge(mask, owner, number, behind, narrow, trail, count), first


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _go_to_the_edge(mask: _Bools, owner: _Ints, number: int, behind: int, narrow: int, trail: _Ints, count: int) -> int:
    """Walk straight on over the list's own pixels, as the last steps went; return the new length of the trail."""
    ny, nx = mask.shape
    y, x = divmod(trail[count - 1], nx)
    back_y, back_x = divmod(trail[count - 1 - 2 * narrow] if count > 2 * narrow else behind, nx)
    longest = max(abs(y - back_y), abs(x - back_x))
    for k in range(1, 2 * narrow + 1 if longest > 0 else 0):
        yy, xx = round(y + k * (y - back_y) / longest), round(x + k * (x - back_x) / longest)
        if yy < 0 or xx < 0 or yy >= ny or xx >= nx or not mask[yy, xx] or owner[yy * nx + xx] != number:
            break
        trail[count] = yy * nx + xx
        count += 1
    return count


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _trace(mask: _Bools, depth: _Floats, order: _Ints, half: int, lists: _Ints, bounds: _Ints) -> int:
    """Trace from each pixel of `order` that no list has seen; return the number of lists."""
    owner, passed, mark = np.zeros(mask.size, np.int32), np.zeros(mask.size, np.int32), np.zeros(mask.size, np.int32)
    stamps, view = np.zeros(1, np.int32), np.empty((2 * half + 1) ** 2, np.int32)
    there, back = np.empty(lists.size, np.int32), np.empty(lists.size, np.int32)
    number, end = 0, 0
    for start in order:
        if owner[start] != 0:
            continue
        number += 1
        args = (half, number, owner, passed, mark, stamps, view)
        n, first = _walk(mask, depth, start, start, 0, *args, there)
        m, _ = _walk(
            mask, depth, start, there[min(n, 2 * half + 1) - 1], (first + 4) % 8 if first >= 0 else 0, *args, back
        )
        # Pixel by pixel: assigning slices would triple the time to compile.
        for k in range(m - 1, 0, -1):
            lists[end] = back[k]
            end += 1
        for k in range(n):
            lists[end] = there[k]
            end += 1
        bounds[number] = end
    return number


def trace_lists(mask: NDArray[np.bool_], half_view_voxels: int) -> list[NDArray[np.int32]]:
    """Trace every pixel of a slice into ordered lists.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    half_view_voxels : int
        The field of view is 2 * half_view_voxels + 1 voxels wide in y and x.

    Returns
    -------
    list of (n, 2) int32 arrays
        y, x of each list's pixels, each a neighbour of the one before. Every pixel of the mask was in view of a list.

    Raises
    ------
    ValueError
        The mask is no two-dimensional bool array, or the field of view is empty.

    Notes
    -----
    Paper section 4.1, first phase. Lists begin at the deepest pixel unseen, the first in raster order of equal ones.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        msg = f"mask is {mask.dtype} of shape {mask.shape}, not a two-dimensional bool array"
        raise ValueError(msg)
    if half_view_voxels < 1:
        msg = f"half_view_voxels={half_view_voxels} is less than 1"
        raise ValueError(msg)
    mask = _plain(mask)
    inside = np.flatnonzero(mask).astype(np.int32)
    if not inside.size:
        return []
    depth = _depth(mask)
    order = inside[np.argsort(-depth.ravel()[inside], kind="stable")]
    # Each step sees or passes a pixel for the first time; each of two ways to the edge stays on the list's own pixels.
    lists, bounds = np.empty(5 * inside.size, np.int32), np.zeros(inside.size + 1, np.int32)
    count = _trace(mask, depth, order, half_view_voxels, lists, bounds)
    nx = mask.shape[1]
    return [np.stack(np.divmod(lists[a:b], np.int32(nx)), 1) for a, b in pairwise(bounds[: count + 1])]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _centre(mask: _Bools, depth: _Floats, pixels: _Ints, half: int, centred: _Floats) -> None:
    mark, view = np.zeros(mask.size, np.int32), np.empty((2 * half + 1) ** 2, np.int32)
    nx = mask.shape[1]
    for k in range(len(pixels)):
        y, x = pixels[k]
        count = _look(mask, y, x, half, mark, 2 * k + 1, view)
        count = _look(mask, y, x, _thickness(depth, view, count, half), mark, 2 * k + 2, view)
        for j in range(count):
            centred[k, 0] += view[j] // nx / count
            centred[k, 1] += view[j] % nx / count


def centred_positions(mask: NDArray[np.bool_], pixels: NDArray[np.int32], half_view_voxels: int) -> NDArray[np.float64]:
    """Return the middle of the membrane at each of many pixels.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    pixels : (n, 2) int32 array
        y, x of pixels of the mask.
    half_view_voxels : int
        Half width of the field of view; the mean is over what hangs together within the membrane's own thickness.

    Returns
    -------
    (n, 2) float64 array
        y, x in voxels.
    """
    mask = _plain(mask)
    centred = np.zeros(pixels.shape)
    _centre(mask, _depth(mask), pixels, half_view_voxels, centred)
    return centred


def _plain(mask: _Bools) -> _Bools:
    """Return the mask contiguous and writable: every other kind would be compiled for anew."""
    return mask if mask.flags.c_contiguous and mask.flags.writeable else np.array(mask, order="C")


def _depth(mask: _Bools) -> _Floats:
    """Return the distance to the background, with background all round the slice."""
    depth: _Floats = np.ascontiguousarray(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])
    return depth


def pixels_in_view(mask: NDArray[np.bool_], y: int, x: int, half_view_voxels: int) -> NDArray[np.int32]:
    """Return (n, 2) y, x of the pixels that hang together with (y, x) in the square around it, nearest first."""
    mark, view = np.zeros(mask.size, np.int32), np.empty((2 * half_view_voxels + 1) ** 2, np.int32)
    count = _look(_plain(mask), y, x, half_view_voxels, mark, 1, view)
    return np.stack(np.divmod(view[:count], np.int32(mask.shape[1])), 1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(mask: _Bools, nearest: _Ints, queue: _Ints, count: int) -> None:
    """Give every pixel of the mask the number of the nearest one that has one, along the component."""
    ny, nx = mask.shape
    head = 0
    while head < count:
        y, x = divmod(queue[head], nx)
        head += 1
        for yy in range(max(y - 1, 0), min(y + 2, ny)):
            for xx in range(max(x - 1, 0), min(x + 2, nx)):
                if mask[yy, xx] and nearest[yy, xx] == 0:
                    nearest[yy, xx] = nearest[y, x]
                    queue[count] = yy * nx + xx
                    count += 1


def nearest_list(mask: NDArray[np.bool_], lists: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Give the pixels of a mask the number of the nearest list along their component.

    Parameters
    ----------
    mask : (ny, nx) bool array
        The segmented pixels.
    lists : list of (n, 2) int32 arrays
        y, x of pixels of the mask; of lists that share a pixel the first has it.

    Returns
    -------
    (ny, nx) int32 array
        k + 1 where list k is nearest in steps of 8-connected pixels, 0 outside the mask and where no list is.
    """
    nearest = np.zeros(mask.shape, np.int32)
    for k in range(len(lists) - 1, -1, -1):
        nearest[lists[k][:, 0], lists[k][:, 1]] = k + 1
    queue = np.empty(mask.size, np.int32)
    seeds = np.flatnonzero(nearest)
    queue[: seeds.size] = seeds
    _spread(_plain(mask), nearest, queue, seeds.size)
    return nearest
