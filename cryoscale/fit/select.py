r"""From raw membrane voxels to control points: prune what is not membrane, then thin.

1. *Spacing*: the unit ("voxel") of every length below is the median distance of a point to its nearest neighbour,
   which is exactly the voxel size for voxels of a mask. Give it where points are sparser than voxels.
2. *Outliers*: mean distance to the k nearest neighbours above twice its median (and above 5 robust standard
   deviations); twigs, where the neighbourhood is a line and not a sheet; small islands, the ends of twigs among them.
3. *Ellipsoid*: only where a robust ellipsoid fits all points well, points farther from it than
   max(3 voxels, 3.5 robust standard deviations, 0.12 radius) are dropped.
   *Ellipses*: where it does not, slice by slice, points far from the ellipse of their slice (paper: section 5.1; see
   `ellipses`) where the membrane itself lies on that ellipse beneath them: a membrane that leaves its ellipse, as
   waisted ones do, has nothing else there, and stays. Nor is a slice touched a fifth of whose points are off: bent
   membranes are no ellipse, though most of their points may lie on one.
4. *Thinning*: a voxel grid of about one cell per 35 square voxels of membrane, coarser when that gives more than the
   cap. A control point is the mean of its cell's points, moved along the normal to the middle of the points around it,
   so that a cell which holds one face of a thick membrane does not pull the surface there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoscale.fit.bins import NEIGHBOURS, bin_points, joined, moments_around, nearest_squares
from cryoscale.fit.checks import checked_cloud
from cryoscale.fit.ellipses import near_ellipses, slice_numbers
from cryoscale.fit.ellipsoid import fit_ellipsoid

__all__ = ["Selection", "check_points", "infer_spacing", "select_points", "thin"]

Array = NDArray[np.float64]
MOST_POINTS = 60_000
"""More raw points than this are first merged in cells of 2 voxels."""
LINE = 1e-6
"""Second over first extent of a cloud up to which it is a line."""
CORE = (0.05, 0.95)
"""Shares of a cloud along each axis between which its middle lies."""
ISLAND_CELL = 4.0
ISLAND_SHARE = 0.02
TWIG_RADIUS = 5.0
MOST_FLAT = 3.0
"""Ratio of axes, or of the ellipsoid's radius to the points' own, beyond which an ellipsoid says nothing."""
BENEATH = 3.0
"""Voxels from the foot of a point on its ellipse within which the membrane must lie for the point to be foreign."""
MOST_OFF = 0.2
"""Share of a slice's points off its ellipse from which that is no description of the slice."""
SLICE = 3
"""Voxels in z that are one slice where ellipses tell what is foreign."""
PER_CELL = 4.0
"""Points of a cell in which the neighbours of a point are looked for."""
FINER = 12
"""How often cells are halved at most where points crowd."""
WITHIN = 1 - 1e-9
"""Edges of a cell within which all points are in the cells around."""
TWIG_RATIO = 0.06
"""Second over first principal variance below which a neighbourhood is a line."""


@dataclass(frozen=True)
class Selection:
    """The points kept, how much each counts, and those that were dropped."""

    points: Array
    """(n, 3) in voxels."""
    weights: Array
    """(n,) number of raw points (times their weights) that each stands for."""
    dropped: dict[str, Array] = field(default_factory=dict)
    """(k, 3) points as they were given, in voxels, by the rule that dropped them."""


def check_points(points: object, weights: object = None) -> tuple[Array, Array]:
    """Return points (n, 3) and weights (n,) as doubles without repeated points.

    Raises
    ------
    ValueError
        If `checked_cloud` refuses them, fewer than 4 distinct points remain or they lie on a line.
    """
    array, share = checked_cloud(points, weights)
    order = np.argsort(array[:, 0])
    if (np.diff(array[order, 0]) == 0).any():
        order = np.lexsort(array.T[::-1])
    new = np.append(True, (np.diff(array[order], axis=0) != 0).any(1))[: len(order)]
    array, share = array[order[new]], np.bincount(np.cumsum(new) - 1, share[order]).astype(np.float64)
    if len(array) < 4:
        msg = f"a surface needs at least 4 distinct points; found {len(array)}"
        raise ValueError(msg)
    if _on_a_line(array) and _on_a_line(_core(array)):
        msg = f"the {len(array)} points lie on one line; a surface needs points beside it"
        raise ValueError(msg)
    return array, share


def _on_a_line(points: Array) -> bool:
    """Return whether nothing of points (n, 3) shows beside their longest extent; it does of no two."""
    if len(points) < 3:
        return True
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(spread[1] <= LINE * spread[0])


def _core(points: Array) -> Array:
    """Return the points in the middle along every axis: beside one far enough away all others look like one place."""
    low, high = np.quantile(points, CORE, axis=0)
    return np.asarray(points[((points >= low) & (points <= high)).all(1)])


def infer_spacing(points: Array) -> float:
    """Return the median distance from a point to its nearest neighbour, in the unit of the points (n, 3)."""
    sample = points[:: max(1, len(points) // 5000)]
    return float(np.median(cKDTree(points).query(sample, k=2)[0][:, 1]))


def select_points(points: Array, weights: Array, *, size: float = 1.0) -> Selection:
    """Drop the points that are not membrane.

    Parameters
    ----------
    points, weights
        (n, 3) and (n,), distinct, in voxels.
    size
        Typical distance between neighbouring raw points; voxels that were merged beforehand are farther apart.
    """
    dropped: dict[str, Array] = {}
    raw, where = points, np.arange(len(points))
    if len(points) > MOST_POINTS:
        where = bin_points(points, 2.0).where
        points, weights = _means(points, weights, where)
    cells = np.arange(len(points))

    def drop(name: str, keep: NDArray[np.bool_], least: float = 0.5) -> None:
        nonlocal points, weights, cells
        if not keep.all() and keep.mean() >= least:
            # A cell's mean was never a point: what is listed is what the cell held.
            dropped[name] = raw[np.isin(where, cells[~keep])]
            points, weights, cells = points[keep], weights[keep], cells[keep]

    if len(points) > 3 * NEIGHBOURS:
        drop("sparse", ~_sparse(points))
        drop("twig", ~_twigs(points, TWIG_RADIUS * size))
        drop("island", ~_islands(points, max(ISLAND_CELL, 3 * size)))
        off = _off_ellipsoid(points)
        if off is None:
            drop("ellipses", ~_off_ellipses(points), least=0.9)
        else:
            drop("ellipsoid", ~off, least=0.8)
    return Selection(points, weights, dropped)


def _sparse(points: Array) -> NDArray[np.bool_]:
    """Mark points whose nearest neighbours are far.

    Neighbours are looked for in cells of a few points. Those that are not found are farther than a cell's edge; where
    that is enough to mark a point it says all: it moves no median. The others are looked at again in larger cells.
    """
    cell = _cell_of_few(points)
    square, mean = np.empty((len(points), NEIGHBOURS)), np.empty(len(points))
    cut, asked = np.ones(len(points), bool), np.arange(len(points))
    while True:
        nearest_squares(points, asked, bin_points(points, cell), square)
        edge = (WITHIN * cell) ** 2
        cut[asked] = ~(square[asked, -1] < edge)
        mean[asked] = np.sqrt(np.minimum(square[asked], edge)).mean(1)
        middle = np.median(mean)
        spread = 1.4826 * np.median(np.abs(mean - middle))
        sparse = mean > max(2 * middle, middle + 5 * spread)
        asked = np.flatnonzero(cut & ~sparse)
        if not len(asked):
            return np.asarray(sparse)
        cell *= 2


def _cell_of_few(points: Array) -> float:
    """Return the edge of cells that hold some `PER_CELL` points, and nowhere very many."""
    cell = 2.0
    cell *= (PER_CELL * len(bin_points(points, cell).keys) / len(points)) ** 0.5
    for _ in range(FINER):
        if (np.bincount(bin_points(points, cell).where) ** 2).sum() <= 4 * PER_CELL * len(points):
            break
        cell /= 2
    return float(cell)


def _islands(points: Array, cell: float) -> NDArray[np.bool_]:
    """Mark points in small groups of neighbouring cells."""
    bins = bin_points(points, cell)
    group = joined(bins)[bins.where]
    return np.asarray(np.bincount(group)[group] < ISLAND_SHARE * len(points))


def _twigs(points: Array, radius: float) -> NDArray[np.bool_]:
    """Mark points whose surroundings are a line; judged on a thinned cloud, for every point of a thinned cell."""
    bins = bin_points(points, radius / 2.5)
    count = np.bincount(bins.where)
    centres = np.stack([np.bincount(bins.where, points[:, a]) / count for a in range(3)], 1)
    sums = moments_around(centres, bins, 1.2 * radius)
    middle = sums[:, 1:4] / sums[:, :1]
    spread = (sums[:, 4:] / sums[:, :1]).reshape(-1, 3, 3) - middle[:, :, None] * middle[:, None]
    # With a <= b <= c the variances, b < r c takes ab + bc + ca < (r^2 + 2r) (a + b + c)^2: few need a closer look.
    trace = np.trace(spread, axis1=1, axis2=2)
    pairs = (trace**2 - (spread**2).sum((1, 2))) / 2
    line = (sums[:, 0] >= 4) & (pairs < 1.01 * (TWIG_RATIO**2 + 2 * TWIG_RATIO) * trace**2)
    values = np.linalg.eigvalsh(spread[line])
    line[line] = values[:, 1] < TWIG_RATIO * values[:, 2]
    return np.asarray(line[bins.where])


def _off_ellipsoid(points: Array) -> NDArray[np.bool_] | None:
    """Mark points far from the ellipsoid of all; None where that does not describe them."""
    ellipsoid, spread = fit_ellipsoid(points)
    distance = np.abs(ellipsoid.distance(points))
    radius = min(ellipsoid.radius, float(np.median(np.linalg.norm(points - points.mean(0), axis=1))))
    flat = ellipsoid.axes.max() > MOST_FLAT * ellipsoid.axes.min() or ellipsoid.radius > MOST_FLAT * radius
    if flat or spread > max(1.5, 0.05 * radius):
        return None
    return np.asarray(distance > max(3.0, 3.5 * spread, 0.12 * radius))


def _off_ellipses(points: Array) -> NDArray[np.bool_]:
    """Mark points far from the ellipse of their slice, outside of what else is membrane there."""
    near, ellipses = near_ellipses(points, thickness=SLICE)
    foreign = np.zeros(len(points), bool)
    index = slice_numbers(points, SLICE)
    for z in np.unique(index[~near]):
        rows = np.flatnonzero(index == z)
        far, on = rows[~near[rows]], rows[near[rows]]
        if len(far) <= MOST_OFF * len(rows):
            feet = ellipses[int(z)].feet(points[far, 1:])
            foreign[far] = cKDTree(points[on, 1:]).query(feet)[0] <= BENEATH
    return foreign


def merge_cells(points: Array, weights: Array, cell: float) -> tuple[Array, Array]:
    """Return the weighted means (m, 3) of the points in each cell of a grid, and the sums of their weights (m,)."""
    return _means(points, weights, bin_points(points, cell).where)


def _means(points: Array, weights: Array, where: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return what `merge_cells` does where it is known which cell each point is in."""
    total = np.bincount(where, weights).astype(np.float64)
    means = np.stack([np.bincount(where, points[:, axis] * weights) for axis in range(3)], 1) / total[:, None]
    return means, total


def thin(points: Array, weights: Array, *, cap: int, cell: float = 6.0) -> tuple[Array, Array, float]:
    """Thin to about one control point per cell^2 of membrane, and to ``cap`` at most.

    Returns
    -------
    tuple
        Control points (m, 3), the number of points each stands for (m,), and the cell that was used, in voxels.
    """
    low = cell
    means, total = merge_cells(points, weights, low)
    if len(means) <= cap:
        return means, total, low
    for _ in range(12):
        high = low * max(1.03, (len(means) / cap) ** 0.5)
        means, total = merge_cells(points, weights, high)
        low = high
        if len(means) <= cap:
            break
    return means, total, low
