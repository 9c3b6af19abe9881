r"""Least squares of a height over a plane: the paraboloid that a smooth surface is, seen from near.

    h(u, v) = c0 + c1 u + c2 v + c3 u^2 + c4 u v + c5 v^2,     sum of squares = sum h^2 - 2 c . b + c . A c

with A = sum f f^T, b = sum h f, f = (1, u, v, u^2, u v, v^2): only sums are kept, so one pass over the elements is
enough. A ridge of 1e-3 of the weight decides where the elements do not. These are pieces of compiled loops.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["TERMS", "add_element", "set_frame", "solve", "squares"]

TERMS = 6
RIDGE = 1e-3


@njit(cache=True, nogil=True)
def set_frame(n0, n1, n2, frame):  # type: ignore[no-untyped-def]
    """Put the unit normal and two unit tangents into the rows of `frame` (3, 3)."""
    frame[0, 0], frame[0, 1], frame[0, 2] = n0, n1, n2
    if abs(n0) <= abs(n1) and abs(n0) <= abs(n2):
        u0, u1, u2 = 0.0, -n2, n1
    elif abs(n1) <= abs(n2):
        u0, u1, u2 = n2, 0.0, -n0
    else:
        u0, u1, u2 = -n1, n0, 0.0
    length = np.sqrt(u0 * u0 + u1 * u1 + u2 * u2)
    u0, u1, u2 = u0 / length, u1 / length, u2 / length
    frame[1, 0], frame[1, 1], frame[1, 2] = u0, u1, u2
    frame[2, 0], frame[2, 1], frame[2, 2] = n1 * u2 - n2 * u1, n2 * u0 - n0 * u2, n0 * u1 - n1 * u0


@njit(cache=True, nogil=True, error_model="numpy")
def mean_normal(one, other, mean):  # type: ignore[no-untyped-def]
    """Put the unit mean of two normals, the second turned the way of the first, into `mean`."""
    cosine = square = 0.0
    for axis in range(3):
        cosine += one[axis] * other[axis]
    for axis in range(3):
        mean[axis] = one[axis] + (other[axis] if cosine >= 0.0 else -other[axis])
        square += mean[axis] * mean[axis]
    for axis in range(3):
        mean[axis] /= np.sqrt(square)


@njit(cache=True, nogil=True)
def add_element(frame, place, centre, scale, tall, f, matrix, vector):  # type: ignore[no-untyped-def]
    """Add an element to the sums unless it is higher than `tall`. Returns its height, or a NaN if it was left out."""
    h = u = v = 0.0
    for axis in range(3):
        d = place[axis] - centre[axis]
        h += d * frame[0, axis]
        u += d * frame[1, axis]
        v += d * frame[2, axis]
    if abs(h) > tall:
        return np.nan
    u, v = u / scale, v / scale
    f[0], f[1], f[2], f[3], f[4], f[5] = 1.0, u, v, u * u, u * v, v * v
    for i in range(TERMS):
        vector[i] += f[i] * h
        for j in range(TERMS):
            matrix[i, j] += f[i] * f[j]
    return h


@njit(cache=True, nogil=True)
def solve(matrix, vector, work, coefficients):  # type: ignore[no-untyped-def]
    """Put the coefficients of the best paraboloid into `coefficients`."""
    weight = matrix[0, 0]
    for i in range(TERMS):
        coefficients[i] = vector[i]
        for j in range(TERMS):
            work[i, j] = matrix[i, j]
        work[i, i] += RIDGE * weight
    for i in range(TERMS):
        for j in range(i + 1, TERMS):
            factor = work[j, i] / work[i, i]
            for k in range(i, TERMS):
                work[j, k] -= factor * work[i, k]
            coefficients[j] -= factor * coefficients[i]
    for i in range(TERMS - 1, -1, -1):
        for k in range(i + 1, TERMS):
            coefficients[i] -= work[i, k] * coefficients[k]
        coefficients[i] /= work[i, i]


@njit(cache=True, nogil=True)
def squares(matrix, vector, heights, coefficients):  # type: ignore[no-untyped-def]
    """Sum of squared distances to a paraboloid, from the sums; `heights` is the sum of squared heights."""
    total = heights
    for i in range(TERMS):
        total -= 2.0 * coefficients[i] * vector[i]
        for j in range(TERMS):
            total += coefficients[i] * coefficients[j] * matrix[i, j]
    return max(total, 0.0)


@njit(cache=True, nogil=True)
def joint_excess(matrix, vector, heights, work, coefficients):  # type: ignore[no-untyped-def]
    """How much farther, root mean square, the worse of two sides lies from their joint paraboloid than from its own.

    The sums of the sides are rows 0 and 1 of matrix (3, k, k), vector (3, k) and heights (2,); row 2 of the first two
    must be 0 and takes the joint ones, and `coefficients` those of the joint paraboloid.
    """
    for side in range(2):
        for i in range(TERMS):
            vector[2, i] += vector[side, i] / matrix[side, 0, 0]
            for j in range(TERMS):
                matrix[2, i, j] += matrix[side, i, j] / matrix[side, 0, 0]
    worst = 0.0
    for side in range(2):
        solve(matrix[side], vector[side], work, coefficients)
        own = squares(matrix[side], vector[side], heights[side], coefficients)
        solve(matrix[2], vector[2], work, coefficients)
        joint = squares(matrix[side], vector[side], heights[side], coefficients)
        worst = max(worst, (joint - own) / matrix[side, 0, 0])
    return np.sqrt(worst)
