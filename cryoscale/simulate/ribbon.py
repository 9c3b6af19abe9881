r"""Folded sheets: a curve in a plane, drawn out along a line at right angles to it.

A meander has straight walls joined by half circles that turn to one side and the other, as the inner membrane of a
mitochondrion does at its cristae. With wall lengths :math:`L_i` and radii :math:`r_i` it advances by :math:`2 r_i` at
each turn, so that its walls are :math:`2 r_i` apart and its length is :math:`\sum L_i + \pi \sum r_i`. A scroll is the
spiral :math:`\rho = r + p\,\varphi / 2 \pi`, whose turns are p apart. The distance of a point is that to the nearest of
both curve and rim; its sign tells the two sides of the curve.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cryoscale.simulate.shapes import SAMPLES

Doubles = npt.NDArray[np.float64]

#: Distance between the points of a curve, in voxels: a turn of radius 4 is then right to 0.01 voxel.
SPACING_VOXELS = 0.5


@dataclass(frozen=True)
class Ribbon:
    """A curve in a plane, drawn out to both sides of it."""

    centre: Doubles
    rotation: Doubles
    """Columns: the two axes of the curve's plane, then the line that it is drawn out along."""
    curve: Doubles
    """(k, 2) points in that plane, close together."""
    half_width: float
    kind: str = "fold"
    closed: bool = False

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.curve)

    @cached_property
    def _normals(self) -> Doubles:
        """Normals (k, 2) at the points of the curve, to the left of its course."""
        along = np.gradient(self.curve, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        return np.stack([-along[:, 1], along[:, 0]], axis=1)

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """See :class:`Shape`."""
        local = (points - self.centre) @ self.rotation
        plane = local[:, :2]
        nearest = self._tree.query(plane)[1]
        best, foot, normal = np.full(len(plane), np.inf), np.empty_like(plane), np.empty_like(plane)
        for first in (np.maximum(nearest - 1, 0), np.minimum(nearest, len(self.curve) - 2)):
            start, step = self.curve[first], self.curve[first + 1] - self.curve[first]
            part = np.clip(((plane - start) * step).sum(axis=1) / (step * step).sum(axis=1), 0.0, 1.0)[:, None]
            at = start + part * step
            away = ((plane - at) ** 2).sum(axis=1)
            nearer = away < best
            best[nearer], foot[nearer] = away[nearer], at[nearer]
            mixed = (1.0 - part) * self._normals[first] + part * self._normals[first + 1]
            normal[nearer] = mixed[nearer]
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        beyond = np.maximum(np.abs(local[:, 2]) - self.half_width, 0.0)
        side = ((plane - foot) * normal).sum(axis=1)
        return np.copysign(np.sqrt(best + beyond**2), side), normal @ self.rotation[:, :2].T

    @cached_property
    def samples(self) -> Doubles:
        """See :class:`Shape`."""
        rows = max(2, round(np.sqrt(SAMPLES * 2.0 * self.half_width / (SPACING_VOXELS * len(self.curve)))))
        every = np.unique(np.linspace(0, len(self.curve) - 1, max(SAMPLES // rows, 2)).round().astype(int))
        along = np.linspace(-self.half_width, self.half_width, rows)
        flat = np.repeat(self.curve[every], rows, axis=0)
        return self.centre + np.column_stack([flat, np.tile(along, len(every))]) @ self.rotation.T

    def inset(self, gap: float) -> "Ribbon":
        """See :class:`Shape`."""
        return replace(self, curve=self.curve - gap * self._normals)


def meander(walls: npt.ArrayLike, radii: npt.ArrayLike) -> Doubles:
    """Points of a meander in a plane, about its middle: walls along the first axis, advancing along the second.

    Parameters
    ----------
    walls : array_like (n + 1,)
        Lengths of the straight parts.
    radii : array_like (n,)
        Radii of the half circles between them.

    Returns
    -------
    ndarray (k, 2)
    """
    lengths, turns = np.atleast_1d(np.asarray(walls, float)), np.atleast_1d(np.asarray(radii, float))
    if len(lengths) != len(turns) + 1 or min(lengths.min(), turns.min()) <= 0:
        msg = f"a meander has one wall more than turns, all longer than 0, got {lengths} and {turns}"
        raise ValueError(msg)
    parts, at, way = [], np.zeros(2), 1.0
    for i, length in enumerate(lengths):
        steps = np.arange(0.0, length, SPACING_VOXELS)
        parts.append(at + np.outer(steps, [way, 0.0]))
        at = at + np.array([way * length, 0.0])
        if i < len(turns):
            radius = turns[i]
            angle = np.arange(0.0, np.pi, min(SPACING_VOXELS / radius, 0.2))
            parts.append(at + radius * np.stack([way * np.sin(angle), 1.0 - np.cos(angle)], axis=1))
            at, way = at + np.array([0.0, 2.0 * radius]), -way
    curve = np.vstack([*parts, at])
    kept = np.r_[True, np.linalg.norm(np.diff(curve, axis=0), axis=1) > 1e-6]
    curve = curve[kept]
    middle: Doubles = 0.5 * (curve.min(axis=0) + curve.max(axis=0))
    return np.asarray(curve - middle)


def scroll(radius: float, pitch: float, turns: float) -> Doubles:
    """Points (k, 2) of a spiral from `radius` outwards by `pitch` at each of its turns."""
    if min(radius, pitch, turns) <= 0:
        msg = f"radius, pitch and turns of a scroll must be above 0, got {radius}, {pitch}, {turns}"
        raise ValueError(msg)
    angle = np.linspace(0.0, 2.0 * np.pi * turns, max(int(2.0 * np.pi * turns * (radius + pitch * turns)), 8) * 2)
    rho = radius + pitch * angle / (2.0 * np.pi)
    return np.stack([rho * np.cos(angle), rho * np.sin(angle)], axis=1)
