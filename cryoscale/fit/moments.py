r"""Paraboloids through points whose noise has a known covariance: moments of where the points should be.

Noise that moves points along an inclined or bent surface biases a regression through them: slopes and curvatures come
out too small, and where the points end (at the rim of a cap that nobody saw) all that moved beyond lies outward. With S
the covariance of the noise e, a moment of the true places x follows from the noisy ones,

    E phi(x + e) = g(x),     phi = g - 1/2 S : grad grad g     (to second order)

(corrected scores: T. Nakamura, Biometrika 77 (1990) 127). With y the height of a point above the tangent plane, u and v
its place there, t = (1, u, v, u^2, uv, v^2) and w the neighbourhood's weight, g is w t t^T on the left and w t y on the
right of the normal equations: the paraboloid is that of the true places, whatever their density. Where too little would
be left of an eigenvalue of the left side, `LEAST_LEFT` of it is kept. Curvatures lean on those around, weakly.

Frames turn with the slope that is found, `ROUNDS` times. A neighbourhood whose points lie to one side says where the
surface goes on from its own curvature, and errs outward; so only whole neighbourhoods make control points. On shapes
with noise of 1 and 1.5 voxels along z and 0.5 across, caps missing, rims were off by 0.5 to 1 standard deviations of
their own, all outward; caps grew from them 0.3 to 0.6 voxel too tall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Paraboloids", "fit_paraboloids"]

Array = NDArray[np.float64]
ROUNDS = 3
LEAST_LEFT = 0.3
"""Share of an eigenvalue of the normal equations that stays, however much of it noise may be."""
PRIOR = np.array([0, 1e-3, 1e-3, 3e-3, 1.5e-3, 3e-3])
"""Ridge on slopes, towards none, and on curvatures, towards those around; of lengths over the neighbourhood's reach."""
REGULAR = np.array([1e-9, 1e-5, 1e-5, 1e-5, 5e-6, 1e-5])
"""What is added to the noisy normal equations where they are compared; as the ridge, alike however u and v turn."""
AROUND = 16
"""Control points whose curvatures are one prior."""
STEEPEST = 0.5
"""Most that a frame turns in one round."""
ONE_SIDED = 0.17
"""Distance of a neighbourhood's middle from its control point, over its reach, beyond which points end there."""
LEAST_WHOLE = 0.4
"""Share of control points that must be from whole neighbourhoods: else the points are all rim, and none is left out."""


@dataclass(frozen=True)
class Paraboloids:
    """What m neighbourhoods of k points say; lengths in voxels."""

    places: Array
    """(m, 3) where the paraboloids cross the normals through the control points."""
    normals: Array
    """(m, 3) unit normals there."""
    pull: Array
    """(m, k) noise of a place for one standard deviation of each point's noise across the axis of the worst."""
    along: Array
    """(m, k, 2) places of the points in the tangent plane."""
    whole: NDArray[np.bool_]
    """(m,) whether points lie on all sides."""


def fit_paraboloids(
    centres: Array, local: Array, weights: Array, reach: Array, normals: Array, *, noise: Array, most: float
) -> Paraboloids:
    """Fit paraboloids around control points.

    Parameters
    ----------
    centres
        (m, 3) control points.
    local, weights
        (m, k, 3) and (m, k) the points around each, from the control point, and how much they count.
    reach
        (m,) of the neighbourhoods: points farther than that have no part in them.
    normals
        (m, 3) first unit normals.
    noise
        (3, 3) covariance of the points' noise, in squared voxels, its least eigenvalue that across the worst axis.
    most
        Longest way from a control point to its place.
    """
    scaled = local / reach[:, None, None]
    inside = np.maximum(1 - (scaled**2).sum(2), 0)
    share = weights / (weights * inside**2).sum(1, keepdims=True)
    around = cKDTree(centres).query(centres, k=min(AROUND, len(centres)))[1].reshape(len(centres), -1)
    bend = np.zeros((len(centres), 3, 3))
    for turn in range(ROUNDS):
        frames = _frames(normals)
        turned = scaled @ frames
        spread = np.swapaxes(frames, 1, 2) @ noise @ frames / reach[:, None, None] ** 2
        left, right, rows = _normal_equations(turned, share, inside, spread)
        usual, bends = _floored(left[:, 0], left[:, 1]), _in_frames(bend, frames) * reach[:, None]
        inverse = np.asarray(np.linalg.inv(usual + np.diag(PRIOR)), np.float64)
        found = (inverse @ (right + PRIOR * bends)[..., None])[..., 0]
        slopes = np.clip(found[:, 1:3], -STEEPEST, STEEPEST) if turn < ROUNDS - 1 else found[:, 1:3]
        normals = frames[:, :, 0] - (frames[:, :, 1:] @ slopes[..., None])[..., 0]
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        bend = _common_bends(found / reach[:, None], inverse, frames, around)
    places = centres + np.clip(found[:, 0] * reach, -most, most)[:, None] * frames[:, :, 0]
    least = np.linalg.eigvalsh(noise)[0] / reach[:, None] ** 2
    pull = (rows @ inverse[:, 0, :, None])[..., 0] * np.sqrt(_across(turned, found, spread) / least)
    along = turned[..., 1:] * reach[:, None, None]
    return Paraboloids(places, normals, pull, along, _whole(turned, share * inside**2))


def _across(turned: Array, found: Array, spread: Array) -> Array:
    """Return the variance (m, k) of each point's distance from the paraboloid below it."""
    u, v = turned[..., 1], turned[..., 2]
    _, b, c, uu, uv, vv = found.T[:, :, None]
    axis = np.stack([np.ones_like(u), -(b + 2 * uu * u + uv * v), -(c + uv * u + 2 * vv * v)], -1)
    return np.asarray(((axis @ spread) * axis).sum(2))


def _whole(turned: Array, weights: Array) -> NDArray[np.bool_]:
    """Mark neighbourhoods (m,) whose points lie on all sides; all of them where few would be left."""
    middle = np.einsum("mk,mka->ma", weights, turned[..., 1:])
    whole = np.linalg.norm(middle, axis=1) <= ONE_SIDED
    return np.asarray(whole | (whole.mean() < LEAST_WHOLE))


def _frames(normals: Array) -> Array:
    """Return orthonormal axes (m, 3, 3), in columns, the first of them the normals (m, 3)."""
    aside = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0, 0]], [[0, 1.0, 0]])
    u = np.cross(normals, aside)
    u /= np.linalg.norm(u, axis=1)[:, None]
    return np.asarray(np.stack([normals, u, np.cross(normals, u)], 2))


def _floored(noisy: Array, left: Array) -> Array:
    """Return the matrices ``left`` (m, 6, 6) with no eigenvalue, seen from ``noisy``, below `LEAST_LEFT`."""
    lower = np.linalg.cholesky(noisy + np.diag(REGULAR))
    upper = np.linalg.inv(lower)
    value, vector = np.linalg.eigh(upper @ left @ np.swapaxes(upper, 1, 2))
    back = lower @ vector
    return np.asarray(back * np.maximum(value, LEAST_LEFT)[:, None] @ np.swapaxes(back, 1, 2))


def _in_frames(bend: Array, frames: Array) -> Array:
    """Return curvature tensors (m, 3, 3) as terms (m, 6) of the paraboloids in their frames."""
    plane = np.swapaxes(frames[:, :, 1:], 1, 2) @ bend @ frames[:, :, 1:]
    zero = np.zeros(len(bend))
    return np.stack([zero, zero, zero, plane[:, 0, 0], 2 * plane[:, 0, 1], plane[:, 1, 1]], 1)


def _common_bends(found: Array, inverse: Array, frames: Array, around: NDArray[np.int64]) -> Array:
    """Return the mean curvature tensors (m, 3, 3) of control points around, the surer ones counting more."""
    half = found[:, 4] / 2
    plane = np.stack([found[:, 3], half, half, found[:, 5]], 1).reshape(-1, 2, 2)
    bend = frames[:, :, 1:] @ plane @ np.swapaxes(frames[:, :, 1:], 1, 2)
    alike = np.einsum("mi,mki->mk", frames[:, :, 0], frames[around, :, 0])
    surely = 1 / (inverse[:, 3, 3] + inverse[:, 4, 4] / 2 + inverse[:, 5, 5])
    weights = surely[around] * alike**2
    return np.asarray(np.einsum("mk,mkij->mij", weights * np.sign(alike), bend[around]) / weights.sum(1)[:, None, None])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _normal_equations(turned: Any, share: Any, inside: Any, spread: Any) -> Any:
    """Return left sides (m, 2, 6, 6), of the noisy and of the true places, right sides (m, 6) and rows (m, k, 6).

    The rows are what a height of one more at each point adds to the right side.
    """
    count, points = share.shape
    left, right, rows = np.zeros((count, 2, 6, 6)), np.zeros((count, 6)), np.zeros((count, points, 6))
    t, slope, bent, lean = np.empty(6), np.zeros((6, 2)), np.zeros(6), np.empty(6)
    for i in range(count):
        s = spread[i]
        bent[3], bent[4], bent[5] = 2 * s[1, 1], 2 * s[1, 2], 2 * s[2, 2]
        for k in range(points):
            if inside[i, k] <= 0:
                continue
            x = turned[i, k]
            y, u, v = x
            t[0], t[1], t[2], t[3], t[4], t[5] = 1.0, u, v, u * u, u * v, v * v
            slope[1, 0], slope[2, 1] = 1.0, 1.0
            slope[3, 0], slope[4, 0], slope[4, 1], slope[5, 1] = 2 * u, v, u, 2 * v
            sx = s[:, 0] * y + s[:, 1] * u + s[:, 2] * v
            # w = share (1 - x^2)^2, its slope -4 share (1 - x^2) x, and S : its second derivatives.
            w, fall = share[i, k] * inside[i, k] ** 2, -4 * share[i, k] * inside[i, k]
            curl = 8 * share[i, k] * (sx[0] * y + sx[1] * u + sx[2] * v) + fall * (s[0, 0] + s[1, 1] + s[2, 2])
            for j in range(6):
                lean[j] = fall * (sx[1] * slope[j, 0] + sx[2] * slope[j, 1])
                rows[i, k, j] = w * t[j] - 0.5 * (curl * t[j] + 2 * lean[j] + w * bent[j])
                across = fall * sx[0] * t[j] + w * (s[0, 1] * slope[j, 0] + s[0, 2] * slope[j, 1])
                right[i, j] += rows[i, k, j] * y - across
            for j in range(6):
                for n in range(6):
                    both = slope[j, 0] * (s[1, 1] * slope[n, 0] + s[1, 2] * slope[n, 1])
                    both += slope[j, 1] * (s[1, 2] * slope[n, 0] + s[2, 2] * slope[n, 1])
                    left[i, 0, j, n] += w * t[j] * t[n]
                    left[i, 1, j, n] += rows[i, k, j] * t[n] - t[j] * lean[n] - w * (0.5 * t[j] * bent[n] + both)
    return left, right, rows
