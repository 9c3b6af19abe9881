r"""The mean shift of `sheets`, voxel by voxel: each walks along its own normal to the middle of its sheet.

A voxel looks at the same few hundred neighbours turn after turn, and shares them with the next voxels of its row. They
are gathered once, from a little further around than one look reaches, into four short columns; a turn is then one loop
over these that compilers turn into vector instructions, and whose sums have the same bits on any processor. Voxels that
walk out of what was gathered gather again.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cryoscale.separate.rows import row_range

__all__ = ["to_middles"]

REACH = 5.0
"""Radius r of the neighbourhood."""
FIRST_REACH = 4.0
"""The same for the first look, which sees all directions alike: less, so that the next sheet tilts it less."""
HALF_WIDTH = 2.0
"""h: less than the distance of two membranes' middles, more than the roughness of one."""
STEPS = 8
STILL = 0.03
RUN = 4
"""Voxels of a row that share their neighbours."""
FREE = 2.5
"""How far a voxel may be from the middle of what was gathered: neighbours are known to r + this."""
_ROOM = int(4 / 3 * np.pi * (REACH + FREE + 0.87) ** 3) + 1
"""Voxels that a ball of radius r + FREE can hold at most: their cubes lie within 0.87 of it."""
_LARGEST = 2.0**31
"""No sum is larger: a 32-bit whole number holds it."""


@njit(cache=True, nogil=True, error_model="numpy")
def _least_direction(a00, a01, a02, a11, a12, a22, v):  # type: ignore[no-untyped-def]
    """Put the unit eigenvector of the smallest eigenvalue of a symmetric matrix into v; closed form."""
    mean = (a00 + a11 + a22) / 3.0
    square = (a00 - mean) ** 2 + (a11 - mean) ** 2 + (a22 - mean) ** 2 + 2.0 * (a01 * a01 + a02 * a02 + a12 * a12)
    p = np.sqrt(square / 6.0) + 1e-12
    b0, b1, b2, b01, b02, b12 = (a00 - mean) / p, (a11 - mean) / p, (a22 - mean) / p, a01 / p, a02 / p, a12 / p
    half = 0.5 * (b0 * (b1 * b2 - b12 * b12) - b01 * (b01 * b2 - b12 * b02) + b02 * (b01 * b12 - b1 * b02))
    least = mean + 2.0 * p * np.cos(np.arccos(min(1.0, max(-1.0, half))) / 3.0 + 2.0943951023931953)
    x, y, z = a00 - least, a11 - least, a22 - least
    # The eigenvector is across every row of A - least: the longest cross product is the safest.
    best = 0.0
    v[0], v[1], v[2] = 1.0, 0.0, 0.0
    for pair in range(3):
        if pair == 0:
            c0, c1, c2 = a01 * a12 - a02 * y, a02 * a01 - x * a12, x * y - a01 * a01
        elif pair == 1:
            c0, c1, c2 = a01 * z - a02 * a12, a02 * a02 - x * z, x * a12 - a01 * a02
        else:
            c0, c1, c2 = y * z - a12 * a12, a12 * a02 - a01 * z, a01 * a12 - y * a02
        length = c0 * c0 + c1 * c1 + c2 * c2
        if length > best and length > 1e-20:
            best = length
            scale = 1.0 / np.sqrt(length)
            v[0], v[1], v[2] = c0 * scale, c1 * scale, c2 * scale


@njit(cache=True, nogil=True)
def _gather(x, start, nz, ny, weight, centre, near):  # type: ignore[no-untyped-def]
    """Put offset (z, y, x) and scaled weight of the voxels around a place into the columns of near.

    Returns how many, and the scale: a power of two for which no sum of theirs overflows.
    """
    count, reach, total = 0, REACH + FREE, 0.0
    for z in range(max(int(np.ceil(centre[0] - reach)), 0), min(int(centre[0] + reach) + 1, nz)):
        for y in range(max(int(np.ceil(centre[1] - reach)), 0), min(int(centre[1] + reach) + 1, ny)):
            dz, dy = z - centre[0], y - centre[1]
            room = reach * reach - dz * dz - dy * dy
            if room <= 0.0:
                continue
            room = np.sqrt(room)
            a, b = row_range(x, start[z * ny + y], start[z * ny + y + 1], centre[2] - room, centre[2] + room)
            for i in range(a, b):
                near[0, count], near[1, count], near[2, count] = dz, dy, x[i] - centre[2]
                near[3, count] = weight[i]
                total += weight[i]
                count += 1
    # No neighbour counts that is farther than the reach of a look.
    scale = 2.0 ** np.floor(np.log2(_LARGEST / (REACH * REACH * max(total, 1e-6))))
    for i in range(count):
        near[3, i] *= np.float32(scale)
    return count, scale


@njit(cache=True, nogil=True)
def _add_moments(near, count, offset, normal, far, wide, sums):  # type: ignore[no-untyped-def]
    """Put the sums of w, w d and w d d^T over the neighbours into ``sums``, d from the offset; far 1/r^2, wide 1/h^2.

    Each term is a float32, cut to a whole number: sums of whole numbers do not depend on their order, which is that of
    the processor's vectors. What is cut off moves a voxel by 1e-5 to 1e-4; where no direction stands out, as in a full
    cube, the normal may turn and more changes.
    """
    oz, oy, ox = np.float32(offset[0]), np.float32(offset[1]), np.float32(offset[2])
    nz, ny, nx = np.float32(normal[0]), np.float32(normal[1]), np.float32(normal[2])
    one, none, far, wide = np.float32(1.0), np.float32(0.0), np.float32(far), np.float32(wide)
    total = sz = sy = sx = zz = zy = zx = yy = yx = xx = np.int32(0)
    for i in range(count):
        dz, dy, dx = near[0, i] - oz, near[1, i] - oy, near[2, i] - ox
        across = dz * nz + dy * ny + dx * nx
        w = near[3, i] * max(one - far * (dz * dz + dy * dy + dx * dx), none) * max(one - wide * across * across, none)
        wz, wy, wx = w * dz, w * dy, w * dx
        total = np.int32(total + np.int32(w))
        sz, sy, sx = np.int32(sz + np.int32(wz)), np.int32(sy + np.int32(wy)), np.int32(sx + np.int32(wx))
        zz, zy, zx = (
            np.int32(zz + np.int32(wz * dz)),
            np.int32(zy + np.int32(wz * dy)),
            np.int32(zx + np.int32(wz * dx)),
        )
        yy, yx, xx = (
            np.int32(yy + np.int32(wy * dy)),
            np.int32(yx + np.int32(wy * dx)),
            np.int32(xx + np.int32(wx * dx)),
        )
    sums[0], sums[1], sums[2], sums[3], sums[4] = total, sz, sy, sx, zz
    sums[5], sums[6], sums[7], sums[8], sums[9] = zy, zx, yy, yx, xx


@njit(cache=True, nogil=True, error_model="numpy")
def _step(near, count, offset, normal, first, sums):  # type: ignore[no-untyped-def]
    """One turn: ``normal`` becomes that at the offset, which moves along it. Returns the weight and the step."""
    if first:
        _add_moments(near, count, offset, normal, 1.0 / FIRST_REACH**2, 0.0, sums)
    else:
        _add_moments(near, count, offset, normal, 1.0 / REACH**2, 1.0 / HALF_WIDTH**2, sums)
    total = sums[0]
    if total <= 0.0:
        return 0.0, 0.0
    z, y, x = sums[1] / total, sums[2] / total, sums[3] / total
    _least_direction(
        sums[4] / total - z * z, sums[5] / total - z * y, sums[6] / total - z * x,
        sums[7] / total - y * y, sums[8] / total - y * x, sums[9] / total - x * x, normal,
    )  # fmt: skip
    step = z * normal[0] + y * normal[1] + x * normal[2]
    for axis in range(3):
        offset[axis] += step * normal[axis]
    return total, step


@njit(cache=True, nogil=True)
def to_middles(points, x, start, nz, ny, weight):  # type: ignore[no-untyped-def]
    """Walk every voxel of `rows.Rows` to the middle of its sheet.

    Parameters
    ----------
    points, x, start, nz, ny
        The rows.
    weight : (n,) float32 array
        Of each voxel: its depth squared.

    Returns
    -------
    middle, normal : (n, 3) float32 arrays
        Where it came to lie, and the unit normal there.
    support : (n,) float32 array
        Sum of the weights that it saw there.
    """
    n = len(points)
    middle, normal = np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
    support, near, sums = np.empty(n, np.float32), np.empty((4, _ROOM), np.float32), np.empty(10)
    centre, offset, v = np.empty(3), np.empty(3), np.zeros(3)
    count, scale, first, known = 0, 1.0, 0, False
    for k in range(n):
        row_ends = points[k, 1] != points[first, 1] or points[k, 0] != points[first, 0]
        if not known or row_ends or x[k] - x[first] >= RUN:
            first, known = k, True
            centre[0], centre[1], centre[2] = points[k, 0], points[k, 1], x[k] + 0.5 * (RUN - 1)
            count, scale = _gather(x, start, nz, ny, weight, centre, near)
        offset[0] = offset[1] = 0.0
        offset[2] = x[k] - centre[2]
        total = 0.0
        for turn in range(STEPS + 1):
            if offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2 > FREE**2:
                centre += offset
                offset[:] = 0.0
                count, scale = _gather(x, start, nz, ny, weight, centre, near)
                known = False
            total, step = _step(near, count, offset, v, turn == 0, sums)
            if turn > 1 and abs(step) < STILL:
                break
        for axis in range(3):
            middle[k, axis], normal[k, axis] = centre[axis] + offset[axis], v[axis]
        support[k] = total / scale
    return middle, normal, support
