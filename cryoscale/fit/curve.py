r"""Curves in a slice as the zero of a Gaussian process with the thin-plate kernel: the paper's second fit (4.3).

With r the distance between two places, R a length no two places exceed, and s the amplitude:

    K(r) = s^2 (2 r^2 ln r - (1 + 2 ln R) r^2 + R^2) / R^2,     grad K = s^2 2 (x - x') ln(r^2 / R^2) / R^2

(Williams & Fitzgibbon 2007). f = 0 on the curve, +1 inside, -1 outside; nested rings alternate (see `anchors`). Then

    mean  mu(q) = k(q)^T C^-1 y,     variance  v(q) = K(0) - k(q)^T C^-1 k(q),     C = K + diag(noise^2)
    sd of the curve's position = sqrt(v) / |grad mu|,  in pixels

R is 1.5 times the diagonal of the common box of data, anchors and every place that may be asked for: the box is fixed
at the fit, and a question from outside it is refused, for there the kernel is no covariance. Noise is not optional for
pixels of a mask: the position of a control point has the sd ``noise_pixels / sqrt(pixels merged)``, on the scale of
the anchors. The amplitude maximises the marginal likelihood on a grid; whether it ended at a bound is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage.measure import find_contours

from cryoscale.fit.anchors import Anchors, Controls, centroid_anchors, normal_anchors, thin_ring
from cryoscale.fit.ellipse import check_pixels

__all__ = ["Contour", "Curve", "fit_curve", "thin_plate"]

Array = NDArray[np.float64]
Box = tuple[tuple[float, float], tuple[float, float]]
CELL_PIXELS = 3.0
MOST_CONTROLS = 800
MOST_MERGED = 9.0
"""Merging more pixels than this makes a control point no better: their errors are alike."""
ANCHOR_SD = 0.25
"""Standard deviation of an anchor's value over its size: 2 pixels of 8."""
PAIR_PIXELS, PAIR_SHARE = 8.0, 0.35
"""Length of a pair: 8 pixels, less where the ring's radius is small."""
AMPLITUDES = np.geomspace(0.1, 100.0, 7)
JITTER = 1e-10
"""Of K(0) on the diagonal, where interpolation is asked for."""
R_SHARE = 1.5
"""R over the diagonal of the common box (1.25 over the largest distance is the least that was ever needed)."""
BLOCK = 2_000_000
"""Most elements of a kernel matrix between places and constraints."""
SUPPORT_PIXELS = 3.0
LEAST_SUPPORT = 0.15
"""Share of a contour that must have data within 3 pixels: the field also vanishes far from all data."""
MOST_PLACES = 2**25
"""Nodes of the grid that a contour is looked for on: a slice of 11,000 by 11,000 pixels."""
OPEN_SD_RATIO = 2.0
"""An open curve ends where its sd exceeds this many times the median sd at the control points."""


@dataclass(frozen=True)
class Contour:
    """One piece of the curve."""

    points: Array
    """(m, 2) y, x in pixels, in order; the last is the first where it is closed."""
    sd_pixels: Array
    """(m,) standard deviation of the position, along the normal."""
    normals: Array
    """(m, 2) unit vectors from +1 to -1."""
    support_pixels: Array
    """(m,) distance to the nearest pixel of the data: what is far was inferred, not seen."""
    closed: bool


@dataclass(frozen=True)
class Curve:
    """A fitted field; evaluated inside its box only."""

    points: Array
    """(n, 2) constraints, control points first."""
    weights: Array
    """(n,) C^-1 y."""
    lower: Array
    """(n, n) Cholesky factor of C."""
    controls: int
    """How many of the constraints lie on the curve."""
    data: Array
    """(k, 2) pixels that were fitted."""
    amplitude: float
    length_pixels: float
    """R."""
    box: Box
    """Least and greatest y, x."""
    log_evidence: float
    at_bound: bool
    """Whether the amplitude is the least or greatest of those compared."""

    def mean(self, q: Array) -> Array:
        """Return mu (m,) at places (m, 2)."""
        return np.concatenate([self._kernel(part) @ self.weights for part in self._parts(q)])

    def gradient(self, q: Array) -> Array:
        """Return grad mu (m, 2) at places (m, 2), per pixel, in closed form."""
        factor = 2 * self.amplitude**2 / self.length_pixels**2
        out = []
        for part in self._parts(q):
            square = cdist(part, self.points, "sqeuclidean")
            pull = np.log(np.maximum(square, 1e-300) / self.length_pixels**2) * self.weights
            out.append(factor * (pull.sum(1)[:, None] * part - pull @ self.points))
        return np.concatenate(out)

    def variance(self, q: Array) -> Array:
        """Return v (m,) at places (m, 2); not negative."""
        out = []
        for part in self._parts(q):
            half = solve_triangular(self.lower, self._kernel(part).T, lower=True, check_finite=False)
            out.append(np.maximum(self.amplitude**2 - (half * half).sum(0), 0.0))
        return np.concatenate(out)

    def sd_pixels(self, q: Array) -> Array:
        """Return the standard deviation (m,) of the curve's position near places (m, 2) on it."""
        slope = np.linalg.norm(self.gradient(q), axis=1)
        return np.asarray(np.sqrt(self.variance(q)) / np.maximum(slope, 1e-300))

    def contours(self, *, step_pixels: float = 2.0) -> list[Contour]:
        """Return the pieces of the zero level that data supports, longest first; open ones end where evidence does.

        Raises
        ------
        ValueError
            The step is not positive, or so small against the box that the grid would not fit into memory.
        """
        (y0, x0), (y, x) = self.box[0], self._axes(step_pixels)
        grid = np.stack(np.meshgrid(y, x, indexing="ij"), -1)
        field = self.mean(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        tree = cKDTree(self.data)
        limit = OPEN_SD_RATIO * float(np.median(self.sd_pixels(self.points[: self.controls])))
        found = []
        for line in find_contours(field, 0.0):
            if len(line) < 3:
                continue
            places = self._on_zero(line * (y[1] - y[0], x[1] - x[0]) + (y0, x0), step_pixels)
            closed = bool((line[0] == line[-1]).all())
            support = tree.query(places)[0]
            if (support <= SUPPORT_PIXELS).mean() < LEAST_SUPPORT:
                continue
            slope = self.gradient(places)
            steep = np.maximum(np.linalg.norm(slope, axis=1), 1e-300)
            sd = np.sqrt(self.variance(places)) / steep
            keep = slice(None) if closed else _ends(sd <= limit)
            normals = -slope / steep[:, None]
            found.append(Contour(places[keep], sd[keep], normals[keep], support[keep], closed))
        return sorted((c for c in found if len(c.points) > 2), key=lambda c: -len(c.points))

    def _axes(self, step_pixels: float) -> list[Array]:
        """Return the grid's places along y and x, about a step apart."""
        if not (step_pixels > 0 and math.isfinite(step_pixels)):
            msg = f"step_pixels must be a positive length, found {step_pixels}"
            raise ValueError(msg)
        counts = [max(3.0, np.ceil((b - a) / step_pixels) + 1) for a, b in zip(*self.box, strict=True)]
        if math.prod(counts) > MOST_PLACES:
            msg = (
                f"the box {self.box} of the fit has {math.prod(counts):.2g} places {step_pixels:g} pixels apart; at "
                f"most {MOST_PLACES:.2g}: give coordinates in pixels, or a larger step_pixels"
            )
            raise ValueError(msg)
        return [np.linspace(a, b, int(n)) for a, b, n in zip(*self.box, counts, strict=True)]

    def _on_zero(self, places: Array, step: float) -> Array:
        """Move places along the gradient to the zero, two Newton steps of less than half a step of the grid."""
        for _ in range(2):
            slope = self.gradient(places)
            move = (self.mean(places) / np.maximum((slope * slope).sum(1), 1e-300))[:, None] * slope
            size = np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-300)
            places = np.clip(places - move * np.minimum(1.0, 0.5 * step / size), *self.box)
        return places

    def _kernel(self, q: Array) -> Array:
        return thin_plate(cdist(q, self.points, "sqeuclidean"), self.amplitude, self.length_pixels)

    def _parts(self, q: Array) -> list[Array]:
        q = np.asarray(q, np.float64)
        low, high = np.array(self.box)
        outside = ((q < low - 1e-9) | (q > high + 1e-9)).any(1)
        if outside.any():
            msg = f"place {q[outside][0]} lies outside the box {self.box} of the fit; give a larger box"
            raise ValueError(msg)
        rows = max(1, BLOCK // len(self.points))
        return [q[start : start + rows] for start in range(0, len(q), rows)] or [q]


def _ends(trusted: NDArray[np.bool_]) -> slice:
    """Return the part from the first to the last place that is trusted."""
    at = np.flatnonzero(trusted)
    return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0)


def thin_plate(square: Array, amplitude: float, length_pixels: float) -> Array:
    """Return K at squared distances, any shape; a covariance while no distance exceeds the length R.

    Examples
    --------
    >>> float(thin_plate(np.array([0.0]), 2.0, 10.0)[0]), float(thin_plate(np.array([100.0]), 2.0, 10.0)[0])
    (4.0, 0.0)
    """
    t = square / length_pixels**2
    return amplitude**2 * (t * np.log(np.maximum(t, 1e-300)) - t + 1)


def fit_curve(
    rings: object,
    *,
    anchors: str = "normals",
    alpha: float = 1.2,
    noise_pixels: float = 1.0,
    anchor_sd: float = ANCHOR_SD,
    amplitude: float | None = None,
    box: Box | None = None,
    cell_pixels: float = CELL_PIXELS,
) -> Curve:
    """Fit a curve, or a nest of curves, to pixels of a slice.

    Parameters
    ----------
    rings
        (n, 2) pixels y, x of one curve, open or closed; or a sequence of them from the outermost ring inwards.
    anchors
        ``"normals"``, pairs along the normals, for curves of any shape; ``"centroid"``, the paper's.
    alpha
        Of the paper's outside anchors: their distance from the centroid over that of the curve.
    noise_pixels
        Standard deviation of a pixel's position; 0 interpolates.
    anchor_sd
        Standard deviation of the anchors' values, over their sizes.
    amplitude
        s, the prior standard deviation of the field; None chooses it by marginal likelihood.
    box
        Least and greatest y, x of the places that will be asked for; None takes those of data and anchors, and 4
        pixels more.
    cell_pixels
        Pixels within cells of this size make one control point, on the middle line; 0 takes every pixel as it is.

    Raises
    ------
    ValueError
        Wrong shape, values that are not finite, fewer than 4 distinct pixels in a ring, unknown anchors, ``alpha`` not
        above 1, an amplitude that is not positive, negative noise or cells, a box that is none.
    numpy.linalg.LinAlgError
        The covariance cannot be factorised: interpolation of points too near to each other.
    """
    pixels = _check(rings, anchors)
    _check_numbers(alpha, noise_pixels, anchor_sd, amplitude, cell_pixels)
    parts = _thin(pixels, cell_pixels)
    outer = parts[0].points
    radius = float(np.median(np.linalg.norm(outer - outer.mean(0), axis=1)))
    off = (
        normal_anchors(parts, max(min(PAIR_PIXELS, PAIR_SHARE * radius), 1.0))
        if anchors == "normals"
        else centroid_anchors(parts, alpha)
    )
    data = np.concatenate(pixels)
    places = np.concatenate([*(part.points for part in parts), off.points])
    box = _common_box(np.concatenate([places, data]), box)
    length = R_SHARE * math.dist(*box)
    square = cdist(places, places, "sqeuclidean")
    noise, values = _noise(parts, off, noise_pixels, anchor_sd), np.concatenate([_zeros(parts), off.values])
    choices = AMPLITUDES if amplitude is None else np.array([amplitude])
    best, (weights, lower, evidence) = 0, _solve(square, values, noise, float(choices[0]), length)
    for number, s in enumerate(choices[1:], 1):
        other = _solve(square, values, noise, float(s), length)
        if other[2] > evidence:
            best, (weights, lower, evidence) = number, other
    at_bound = amplitude is None and best in (0, len(choices) - 1)
    controls = len(values) - len(off.values)
    return Curve(places, weights, lower, controls, data, float(choices[best]), length, box, evidence, at_bound)


def _check_numbers(
    alpha: float, noise_pixels: float, anchor_sd: float, amplitude: float | None, cell_pixels: float
) -> None:
    """Refuse options that no field, or a field of zeros, would come from."""
    for name, value, fits, allowed in (
        ("alpha", alpha, alpha > 1, "above 1"),
        ("noise_pixels", noise_pixels, noise_pixels >= 0, "not negative"),
        ("anchor_sd", anchor_sd, anchor_sd >= 0, "not negative"),
        ("amplitude", 1.0 if amplitude is None else amplitude, amplitude is None or amplitude > 0, "above 0, or None"),
        ("cell_pixels", cell_pixels, cell_pixels >= 0, "not negative"),
    ):
        if not (fits and math.isfinite(value)):
            msg = f"{name} must be {allowed}, and finite; found {value}"
            raise ValueError(msg)


def _check(rings: object, anchors: str) -> list[Array]:
    if anchors not in ("normals", "centroid"):
        msg = f"anchors must be 'normals' or 'centroid', found {anchors!r}"
        raise ValueError(msg)
    several = isinstance(rings, Sequence) and len(rings) > 0 and np.ndim(rings[0]) == 2
    return [check_pixels(ring, 4) for ring in (rings if isinstance(rings, Sequence) and several else [rings])]


def _thin(pixels: list[Array], cell: float) -> list[Controls]:
    """Thin every ring to control points, in larger cells where there would be too many in all."""
    while True:
        parts = [thin_ring(ring, cell) for ring in pixels]
        count = sum(len(part.points) for part in parts)
        if count <= MOST_CONTROLS or cell <= 0:
            return parts
        cell *= max(1.05, count / MOST_CONTROLS)


def _zeros(parts: list[Controls]) -> Array:
    return np.zeros(sum(len(part.points) for part in parts))


def _noise(parts: list[Controls], off: Anchors, noise_pixels: float, anchor_sd: float) -> Array:
    """Return the sds of the values; a shift of a control point by one pixel changes f by one over the scale."""
    counts = np.concatenate([part.counts for part in parts])
    on = noise_pixels / np.sqrt(np.minimum(counts, MOST_MERGED)) / off.scale_pixels
    return np.concatenate([on, anchor_sd * np.abs(off.values)])


def _common_box(places: Array, asked: Box | None) -> Box:
    if asked is not None and not (np.shape(asked) == (2, 2) and np.isfinite(asked).all()):
        msg = f"box must be the least and the greatest y, x that will be asked for, all finite; found {asked}"
        raise ValueError(msg)
    margin = 4.0 if asked is None else 0.0
    corners = np.concatenate([places - margin, places + margin, *([] if asked is None else [np.array(asked)])])
    (y0, x0), (y1, x1) = corners.min(0).tolist(), corners.max(0).tolist()
    return (y0, x0), (y1, x1)


def _solve(square: Array, values: Array, noise: Array, amplitude: float, length: float) -> tuple[Array, Array, float]:
    matrix = thin_plate(square, amplitude, length)
    matrix[np.diag_indices(len(matrix))] += noise**2 + JITTER * amplitude**2
    lower = cholesky(matrix, lower=True, check_finite=False)
    weights = cho_solve((lower, True), values, check_finite=False)
    half_log_det = float(np.log(np.diag(lower)).sum())
    evidence = -0.5 * float(values @ weights) - half_log_det - 0.5 * len(values) * math.log(2 * math.pi)
    return weights, lower, evidence
