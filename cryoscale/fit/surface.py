r"""A fitted surface: the zero set of a Gaussian process, with its uncertainty.

    distance(q) = mean(q) / |grad mean(q)|,     distance_sd(q)^2 = variance(q) / |grad mean(q)|^2 + systematic(normal)

The paper (section 5.2, equation 5) thickens a surface by thinning and dilation of the voxels where the density of
f = 0 is high; a distance gives a uniform thickness by construction. All arguments and results are in the unit of the
points that were fitted; inside, everything is in voxels (see `select` for what that means).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.band import Band, band_mesh
from cryoscale.fit.curvature import (
    STENCIL,
    Curvature,
    CurvatureErrors,
    curvature,
    curvature_errors,
    difference_weights,
)
from cryoscale.fit.model import Model
from cryoscale.fit.narrow import Points, narrow_band
from cryoscale.fit.nearest import PointGrid
from cryoscale.fit.samples import Samples
from cryoscale.fit.systematic import INDEPENDENT, Systematic
from cryoscale.fit.zero_set import Verdict

__all__ = ["Surface"]

Array = NDArray[np.float64]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]
MESH_REACH = 2.5
"""Half width in grid steps of the band that is meshed."""
COARSEST_STEP = 5.0
"""Largest grid step, in voxels."""
RIM_VOXELS = 2.05
"""How far an open surface reaches beyond raw points that do not scatter."""
RIM_SCATTER = 1.0
"""What is taken off that, in standard deviations of the raw points: the outermost have been moved outward."""
LEAST_RIM_VOXELS = 0.5
RIM_POINT = 2
"""Which of the raw points next to a place tells how far it is from them: a single one makes no rim."""
MOUTH = 0.3
"""How much nearer, in steps of the samples, those of a hole must be than those outside where it opens."""
CROWD_SHARE = 0.25
"""A point with a smaller share of the usual number of neighbours does not make a rim; at a straight rim it is half."""
RING_VOXELS = 2.0
"""Width of what is looked at beyond the limit: the outside, seen from within."""
SCATTER_POINTS = 2000
LARGEST_SD = 1e3


@dataclass(frozen=True)
class Surface:
    """One membrane's surface; made by `fit_surface`."""

    model: Model
    unit: float
    """Length of a voxel in the unit of the points."""
    samples: Samples
    verdict: Verdict
    data: Array
    """(n, 3) selected raw points, in voxels."""
    limit: float
    """Distance within which a place counts as seen, in voxels."""
    size: float
    """Radius of the object, in voxels."""
    choice: dict[str, Any]
    """What was chosen and dropped: kernel, amplitude, noise, log evidence, .."""
    systematic: Systematic = INDEPENDENT
    """What the points have wrong in common."""
    pruned: dict[str, Array] = field(default_factory=dict)
    """(k, 3) points that were left out before the fit, in their unit, by the rule that dropped them; see `select`."""

    @property
    def closed(self) -> bool:
        """Return whether the surface is believed to be closed."""
        return self.verdict.closed

    @property
    def radius(self) -> float:
        """Return the size of the object: the median distance of its points to their middle."""
        return self.size * self.unit

    def mean(self, q: object) -> Array:
        """Return the field (m,) at places (m, 3): about the signed distance, negative inside."""
        return self.model.value(self._places(q)) * self.unit

    def gradient(self, q: object) -> Array:
        """Return the gradient of the mean (m, 3), a pure number."""
        return self.model.value_gradient(self._places(q))[1]

    def hessian(self, q: object) -> Array:
        """Return the Hessian of the mean (m, 3, 3), in 1 / length."""
        return self.model.hessian(self._places(q)) / self.unit

    def normals(self, q: object) -> Array:
        """Return unit normals (m, 3) of the level sets at places (m, 3): outward where the surface is closed."""
        slope = self.gradient(q)
        return np.asarray(slope / _length(slope)[:, None])

    def curvature(self, q: object) -> Curvature:
        """Return mean, Gaussian and principal curvatures with their directions, from the field's derivatives."""
        return curvature(self.gradient(q), self.hessian(q))

    def mean_curvature(self, q: object) -> Array:
        """Return the mean curvature (m,) in 1 / length: 1 / r on a sphere."""
        return self.curvature(q).mean

    def gaussian_curvature(self, q: object) -> Array:
        """Return the Gaussian curvature (m,) in 1 / length^2."""
        return self.curvature(q).gaussian

    def curvature_errors(self, q: object) -> CurvatureErrors:
        """Return the standard errors of normals and curvatures at places (m, 3); see `curvature` for how."""
        places = self._places(q)
        covariance = self.model.covariance(places, STENCIL, difference_weights())
        scale = np.repeat([1.0, 1 / self.unit], [3, 6])
        return curvature_errors(self.gradient(q), self.hessian(q), covariance * scale[:, None] * scale)

    def variance(self, q: object) -> Array:
        """Return the variance of the field (m,), in squared units of length."""
        return self.model.variance(self._places(q)) * self.unit**2

    def distance(self, q: object) -> Array:
        """Return the signed distance (m,) to the surface, first order: exact near it."""
        value, slope = self.model.value_gradient(self._places(q))
        return value / _length(slope) * self.unit

    def distance_sd(self, q: object) -> Array:
        """Return the standard deviation (m,) of the position of the surface near places (m, 3)."""
        places = self._places(q)
        return self._position_sd(places, self.model.value_gradient(places)[1]) * self.unit

    def band(self, width: float, *, box: Box | None = None) -> Band:
        """Return the points of the integer grid within ``width`` of the surface.

        Parameters
        ----------
        width
            Largest |distance|, in the unit of the points, which is the step of the grid.
        box
            Corners (z, y, x) of the volume: grid points outside [low, high) are left out.

        Raises
        ------
        ValueError
            If the width is not positive, or the grid is coarser than the voxels the surface was fitted to allow.
        """
        return self._grid_band(width, 1.0, box)

    def mesh(self, spacing: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return triangles of the surface.

        Parameters
        ----------
        spacing
            Step of the marching cubes' grid, in the unit of the points.

        Returns
        -------
        tuple
            Vertices (n, 3) float32, z, y, x, in the unit of the points, and faces (m, 3) int32.
        """
        if not spacing > 0:
            msg = f"mesh spacing must be positive, found {spacing}"
            raise ValueError(msg)
        mesh = band_mesh(self._grid_band(MESH_REACH, spacing, None, certain=False))
        return (mesh.vertices * np.float32(spacing)).astype(np.float32), mesh.faces

    def _grid_band(self, width: float, spacing: float, box: Box | None, *, certain: bool = True) -> Band:
        """Return a band on a grid of any step; its standard deviations are 0 where they are not wanted."""
        if not width > 0:
            msg = f"band width must be positive, found {width}"
            raise ValueError(msg)
        step = spacing / self.unit
        if step > COARSEST_STEP:
            most = COARSEST_STEP * self.unit
            msg = f"grid step {spacing} is coarser than {most:g}, {COARSEST_STEP:g} voxels of the points"
            raise ValueError(msg)
        gap, known, reach = 1.5 * self.samples.step, self.samples.nodes, width * step
        # Whether a place lies within an open rim, others as far as the limit decide, on either side of the border.
        near = box if box is None or self.closed else _grown(box, math.ceil((self.limit + 2 * reach) / step))
        kept = _around(self.samples.points[self.verdict.keep], near, step, reach + gap)
        parts = narrow_band(self.model.value_gradient, kept, gap, step=step, width=reach, known=known)
        # Each column's pieces are let go when it is whole.
        columns = list(zip(*(_cut(part, near) for part in parts), strict=True))
        if not columns:
            nothing = np.zeros(0, np.float32)
            return Band(np.zeros((0, 3), np.int32), nothing, nothing, nothing, self.closed)
        index, distance, slope = (np.concatenate(columns.pop(0)) for _ in range(3))
        foot = index * step - (distance / _length(slope))[:, None] * slope
        support, keep = self._membership(foot)
        keep &= _inside(index, box)
        if not keep.all():
            index, distance, slope, foot, support = (part[keep] for part in (index, distance, slope, foot, support))
        sd = np.zeros(len(foot))
        if certain:
            sd = np.minimum(self._sd_of(self.model.variance_near(foot, slope), slope), LARGEST_SD)
        return _assemble(index, distance / step, sd / step, support / step, self.closed)

    def _membership(self, foot: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the distance of feet to the nearest raw point, and which feet lie on the membrane."""
        support = self._grid.distance(foot)
        verdict = self.verdict
        if self.closed and verdict.keep.all():
            return support, np.ones(len(foot), bool)
        near = self._sample_tree.query(foot)[1]
        if self.closed:
            return support, verdict.keep[near]
        crowd = self._crowd_tree.query(foot, k=[RIM_POINT])[0][:, 0]
        hole = self._in_a_hole(foot, crowd)
        keep = self._member[near] & (hole | (crowd <= self.limit + RING_VOXELS))
        keep[keep] = within_rim(foot[keep], hole[keep], crowd[keep], self.limit, self._rim)
        return support, keep

    def _in_a_hole(self, foot: Array, support: Array) -> NDArray[np.bool_]:
        """Return which feet (m, 3) nothing was seen near of, and yet lie on the membrane.

        The samples that were not seen decide, for the nearest of all may be a seen one across a hole's edge. A gap
        with none of them near is smaller than their distance, and bridged. Where a hole opens to the outside, the
        bridge ends ahead of the middle between its samples and those outside.
        """
        hole, step = support > self.limit, self.samples.step
        blind = self.verdict.support > self.limit
        within, outside = (
            _distance_to(self.samples.points[blind & kind], foot[hole])
            for kind in (self.verdict.hole, ~self.verdict.hole)
        )
        hole[hole] = (within + MOUTH * step < outside) | (np.minimum(within, outside) > 1.5 * step)
        return hole

    @cached_property
    def _rim(self) -> float:
        """How far the surface reaches beyond its raw points, in voxels.

        Their scatter across the surface is taken for that along it.
        """
        value, slope = self.model.value_gradient(self.data[:: -(-len(self.data) // SCATTER_POINTS)])
        scatter = 1.4826 * float(np.median(np.abs(value) / _length(slope)))
        return max(RIM_VOXELS - RIM_SCATTER * scatter, LEAST_RIM_VOXELS)

    @cached_property
    def _sample_tree(self) -> cKDTree:
        return _tree(self.samples.points)

    @cached_property
    def _grid(self) -> PointGrid:
        return PointGrid.of(self.data)

    @cached_property
    def _crowd_tree(self) -> cKDTree:
        """Raw points but those that strayed so far beyond the rim that they are alone there."""
        count = _tree(self.data).query_ball_point(self.data, self.limit, return_length=True) - 1
        return _tree(self.data[count >= CROWD_SHARE * np.median(count)])

    @cached_property
    def _member(self) -> NDArray[np.bool_]:
        """Samples next to the membrane: near the rim the nearest sample may lie just beyond it."""
        kept = cKDTree(self.samples.points[self.verdict.keep])
        return np.asarray(kept.query(self.samples.points)[0] <= 1.8 * self.samples.step)

    def _position_sd(self, places: Array, slope: Array) -> Array:
        """Return the standard deviation of the position (m,), in voxels, from the field's gradient (m, 3)."""
        return self._sd_of(self.model.variance(places), slope)

    def _sd_of(self, variance: Array, slope: Array) -> Array:
        size = _length(slope)
        return np.sqrt(variance / size**2 + self.systematic.variance(slope / size[:, None]))

    def _places(self, q: object) -> Array:
        places = np.asarray(q, np.float64)
        if places.ndim != 2 or places.shape[1] != 3:
            msg = f"places must have shape (m, 3), z, y, x; found {places.shape}"
            raise ValueError(msg)
        return np.asarray(places / self.unit)


def _around(samples: Array, box: Box | None, step: float, reach: float) -> Array:
    """Return the samples that grid points in the box may be within reach of."""
    if box is None:
        return samples
    low, high = (step * np.asarray(corner) for corner in box)
    return np.asarray(samples[((samples >= low - reach) & (samples <= high + reach)).all(1)])


def _grown(box: Box, margin: int) -> Box:
    (z, y, x), (depth, height, width) = box
    return (z - margin, y - margin, x - margin), (depth + margin, height + margin, width + margin)


def _cut(points: Points, box: Box | None) -> tuple[NDArray[np.int32], Array, Array]:
    """Return what of some grid points, distances and gradients lies in the box."""
    inside = _inside(points[0], box)
    return points[0][inside].astype(np.int32), points[1][inside], points[2][inside]


def _inside(index: Any, box: Box | None) -> NDArray[np.bool_]:
    if box is None:
        return np.ones(len(index), bool)
    return np.asarray(((index >= box[0]) & (index < np.array(box[1]))).all(1))


def _tree(points: Array) -> cKDTree:
    """Return a tree for places that may be far from all points: cells halved in the middle are searched 4 x faster."""
    return cKDTree(points, leafsize=32, compact_nodes=False, balanced_tree=False)


def _distance_to(points: Array, places: Array) -> Array:
    """Return the distances of places (m, 3) to the nearest of points (n, 3), infinite where there is none."""
    return np.asarray(cKDTree(points).query(places)[0]) if len(points) else np.full(len(places), np.inf)


def _length(slope: Array) -> Array:
    return np.asarray(np.maximum(np.linalg.norm(slope, axis=1), 1e-12))


def within_rim(foot: Array, hole: NDArray[np.bool_], support: Array, limit: float, rim: float) -> NDArray[np.bool_]:
    """Return which places on an open surface lie inside its rim.

    A closing: the surface is what lies within ``limit`` of the raw points, less what is then within ``limit`` - ``rim``
    of the outside. Small voids of a sparse cloud stay filled, and the surface reaches only ``rim`` beyond the points.

    Parameters
    ----------
    foot
        (n, 3) places on the surface, some of them up to `RING_VOXELS` beyond the limit, in voxels.
    hole
        (n,) places in gaps that are bridged: always inside.
    support
        (n,) distances to the raw points, in voxels: to the `RIM_POINT`th nearest of those that are not alone.
    limit
        Distance within which a place counts as seen, in voxels.
    rim
        How far the surface reaches beyond its raw points, in voxels.
    """
    beyond = ~hole & (support > limit)
    doubtful = ~hole & (support > rim) & ~beyond
    if beyond.any() and doubtful.any():
        outside = cKDTree(foot[beyond]).query(foot[doubtful], distance_upper_bound=limit)[0]
        beyond[np.flatnonzero(doubtful)[outside <= limit - rim]] = True
    return ~beyond


def _assemble(index: Any, distance: Array, sd: Array, support: Array, closed: bool) -> Band:
    """Return one band in raster order."""
    low = index.min(0, initial=0)
    number = np.ravel_multi_index(tuple((index - low).T), tuple(index.max(0, initial=0) - low + 1))
    order = np.argsort(number, kind="stable")  # whole numbers: by their digits, three times as fast
    return Band(
        index[order].astype(np.int32),
        distance[order].astype(np.float32),
        sd[order].astype(np.float32),
        support[order].astype(np.float32),
        closed,
    )
