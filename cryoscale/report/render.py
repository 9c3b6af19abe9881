"""Pictures of surfaces without a GPU or a window: an orthographic z-buffer, then shading of what is in front.

column, row = scale (R x)_right, -scale (R x)_up + centre; of all points of a column and row the one nearest to the
viewer is seen.

Triangles are drawn into buffers of depth, normal, value and surface number at twice the picture's size; light, the
darkening of hollows, and outlines are then computed per pixel from the buffers, so their cost does not depend on the
number of faces. Hollows are darkened by the unsharp mask of the depth (T. Luft et al., ACM Trans. Graph. 25 (2006)
1206). The background is transparent: a picture stands on light and on dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Buffers", "Frame", "Light", "Surface", "View", "light", "rasterise", "shade", "vertex_normals"]

_SUPERSAMPLING = 2
_KEY_LIGHT = np.array([-0.497, 0.718, 0.487], np.float32)
"""Unit vector right, up, towards: where most light comes from."""
_HALFWAY = np.array([-0.288, 0.416, 0.862], np.float32)
"""Unit vector halfway between the key light and the viewer: where the gloss is."""
_LINE_GREY = 128.0
_HOLLOW_SIGMAS = (0.006, 0.022)
"""Widths of the hollows that are darkened, as shares of the picture's diagonal."""
_OUTLINE_STEP = 0.02
"""A jump in depth of this share of the picture's diagonal is an outline."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh to be drawn."""

    number: int
    """Number of the membrane, from 1."""
    vertices: NDArray[np.float32]
    """(n, 3) positions z, y, x in nm."""
    faces: NDArray[np.int32]
    """(m, 3) vertex numbers, in any orientation."""
    values: NDArray[np.float32]
    """(n, k) what it may be coloured by: 0 seen to 1 inferred, a standard deviation in nm, a mean curvature in 1/nm."""


@dataclass(frozen=True)
class View:
    """Where the viewer stands, as the axes of the picture."""

    name: str
    right: tuple[float, float, float]
    """Unit vector z, y, x to the right of the picture."""
    up: tuple[float, float, float]
    """Unit vector z, y, x up the picture, at right angles to `right`."""

    @staticmethod
    def turned(name: str, azimuth_degrees: float, elevation_degrees: float) -> View:
        """Return a view from `azimuth` about z, counted from the front (-y), and `elevation` above the xy plane."""
        a, e = math.radians(azimuth_degrees), math.radians(elevation_degrees)
        right = (0.0, math.sin(a), math.cos(a))
        up = (math.cos(e), math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a))
        return View(name, right, up)

    @property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3) rows right, up, towards the viewer, each z, y, x."""
        right, up = np.array(self.right), np.array(self.up)
        # The cross product is taken on x, y, z, the right-handed order.
        towards = np.cross(right[::-1], up[::-1])[::-1]
        return np.stack([right, up, towards])


@dataclass(frozen=True)
class Frame:
    """What part of space a picture shows."""

    view: View
    box_nm: tuple[float, float, float]
    """Lengths z, y, x of the box that starts at (0, 0, 0) and is shown whole."""
    width: int
    """Pixels across; the height follows from the box."""
    margin: float = 0.02
    """Free space on each side, as a share of the width."""

    @property
    def extent_nm(self) -> tuple[float, float]:
        """Width and height in nm of the box as it is seen."""
        spans = np.abs(self.view.axes) @ np.array(self.box_nm)
        return float(spans[0]), float(spans[1])

    @property
    def pixels_per_nm(self) -> float:
        """Scale of the finished picture."""
        return self.width * (1 - 2 * self.margin) / self.extent_nm[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the finished picture in pixels."""
        height = round(self.extent_nm[1] * self.pixels_per_nm + 2 * self.margin * self.width)
        return max(1, height), self.width

    def project(self, points: NDArray[np.floating], *, oversampled: int = 1) -> NDArray[np.float32]:
        """Turn (n, 3) positions z, y, x in nm into (n, 3) column, row, nearness, in pixels from the picture's corner.

        A pixel's centre is half a pixel from its corner; nearness is counted from the middle of the box.
        """
        height, width = self.size
        scale = self.pixels_per_nm * oversampled
        seen = (points - np.array(self.box_nm) / 2) @ self.view.axes.T * scale
        seen[:, 0] += width * oversampled / 2
        seen[:, 1] = height * oversampled / 2 - seen[:, 1]
        return seen.astype(np.float32)


@dataclass(frozen=True)
class Buffers:
    """What is seen at each pixel of the oversampled picture."""

    nearness: NDArray[np.float32]
    """(h, w) nearness in oversampled pixels, -inf where nothing is."""
    normal: NDArray[np.float32]
    """(h, w, 3) right, up, towards; not of unit length."""
    value: NDArray[np.float32]
    """(h, w, k) values of the surface."""
    number: NDArray[np.int32]
    """(h, w) number of the surface, 0 where nothing is."""


@dataclass(frozen=True)
class Light:
    """How each pixel of the oversampled picture is lit, whatever its colour."""

    bright: NDArray[np.float32]
    """(h, w) factor on the material's colour."""
    gloss: NDArray[np.float32]
    """(h, w) white that is added, as a share."""
    inside: NDArray[np.bool_]
    """(h, w) whether the surface's inner side is seen."""


def vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """(n, 3) sums of the normals of the faces round each vertex, weighted by area; axes as in `vertices`."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    of_face = np.cross(b - a, c - a)
    out = np.zeros((len(vertices), 3), np.float32)
    for axis in range(3):
        for corner in range(3):
            out[:, axis] += np.bincount(faces[:, corner], weights=of_face[:, axis], minlength=len(vertices))
    return out


def rasterise(surfaces: Sequence[Surface], frame: Frame, *, cut_nm: float | None = None) -> Buffers:
    """Draw surfaces into buffers at twice the size of the picture.

    Parameters
    ----------
    surfaces
        Drawn in any order: the result does not depend on it, but where two are equally near.
    frame
        View, box and size.
    cut_nm
        What lies nearer to the viewer than the plane this far from the middle of the box is cut away.

    Raises
    ------
    ValueError
        The arrays of a surface do not fit together.
    """
    height, width = (n * _SUPERSAMPLING for n in frame.size)
    buffers = Buffers(
        np.full((height, width), -np.inf, np.float32),
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width, surfaces[0].values.shape[1] if surfaces else 1), np.float32),
        np.zeros((height, width), np.int32),
    )
    cut = np.inf if cut_nm is None else cut_nm * frame.pixels_per_nm * _SUPERSAMPLING
    for surface in surfaces:
        _check(surface)
        points = frame.project(surface.vertices, oversampled=_SUPERSAMPLING)
        normals = _unit(vertex_normals(surface.vertices, surface.faces)) @ frame.view.axes.T.astype(np.float32)
        _draw(
            points, surface.faces, normals.astype(np.float32), surface.values.astype(np.float32),
            surface.number, cut, buffers.nearness, buffers.normal, buffers.value, buffers.number,
        )  # fmt: skip
    return buffers


def _check(surface: Surface) -> None:
    count = len(surface.vertices)
    if surface.vertices.shape != (count, 3) or surface.faces.shape[1:] != (3,) or surface.values.shape[:1] != (count,):
        msg = (
            f"surface {surface.number}: vertices {surface.vertices.shape}, faces {surface.faces.shape} and values "
            f"{surface.values.shape} must be (n, 3), (m, 3) and (n, k)"
        )
        raise ValueError(msg)
    if len(surface.faces) and not (surface.faces.min() >= 0 and surface.faces.max() < count):
        msg = f"surface {surface.number}: faces name vertices outside 0 to {count - 1}"
        raise ValueError(msg)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1).astype(vectors.dtype)


@njit(cache=True, nogil=True)
def _draw(points, faces, normals, values, number, cut, nearness, normal, value, numbers):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    height, width = nearness.shape
    for face in range(faces.shape[0]):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, az = points[i, 0], points[i, 1], points[i, 2]
        bx, by, bz = points[j, 0], points[j, 1], points[j, 2]
        cx, cy, cz = points[k, 0], points[k, 1], points[k, 2]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0 or not np.isfinite(area):
            continue
        left = max(0, math.ceil(min(ax, bx, cx) - 0.5))
        right = min(width - 1, math.floor(max(ax, bx, cx) - 0.5))
        top = max(0, math.ceil(min(ay, by, cy) - 0.5))
        bottom = min(height - 1, math.floor(max(ay, by, cy) - 0.5))
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                u = ((cy - by) * (bx - x) - (cx - bx) * (by - y)) / area
                v = ((ay - cy) * (cx - x) - (ax - cx) * (cy - y)) / area
                w = 1.0 - u - v
                # A hair of tolerance, so that no pixel falls between two triangles that share an edge.
                if u < -1e-5 or v < -1e-5 or w < -1e-5:
                    continue
                near = u * az + v * bz + w * cz
                if near > cut or near <= nearness[row, column]:
                    continue
                nearness[row, column] = near
                for channel in range(values.shape[1]):
                    value[row, column, channel] = (
                        u * values[i, channel] + v * values[j, channel] + w * values[k, channel]
                    )
                numbers[row, column] = number
                for axis in range(3):
                    normal[row, column, axis] = u * normals[i, axis] + v * normals[j, axis] + w * normals[k, axis]


def light(buffers: Buffers) -> Light:
    """Light what the buffers show: a key light from the upper left, the sky, hollows, outlines and a little gloss."""
    there = buffers.number > 0
    diagonal = math.hypot(*there.shape)
    unit = _unit(buffers.normal)
    inside = unit[..., 2] < 0
    unit = np.where(inside[..., None], -unit, unit)
    key = np.clip(unit @ _KEY_LIGHT, 0, 1)
    gloss = np.clip(unit @ _HALFWAY, 0, 1) ** 40
    bright = 0.58 + 0.08 * unit[..., 1] + 0.46 * key
    bright *= 1 - 0.6 * _hollows(buffers.nearness, there, diagonal)
    bright *= 1 - 0.62 * _outlines(buffers.nearness, there, diagonal)
    return Light(bright.astype(np.float32), (0.16 * gloss * ~inside).astype(np.float32), inside)


def shade(
    buffers: Buffers,
    lighting: Light,
    colours: NDArray[np.floating],
    *,
    lines: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Paint lit surfaces and reduce them to the picture's size.

    Parameters
    ----------
    buffers, lighting
        From `rasterise` and `light`.
    colours
        (h, w, 3) colour of the material at each pixel of the buffers, 0 to 255.
    lines
        (k, 2, 3) ends of straight lines to draw behind and before the surfaces, as `Frame.project` gives them for
        the oversampled picture.

    Returns
    -------
    ndarray
        (h / 2, w / 2, 4) red, green, blue, alpha.
    """
    alpha = (buffers.number > 0).astype(np.float32)
    # The inside of a membrane, seen through a cut, is paler than its outside.
    material = np.where(lighting.inside[..., None], 0.80 * colours + 0.05 * 255, colours).astype(np.float32)
    lit = material * lighting.bright[..., None] + 255 * lighting.gloss[..., None]
    if lines is not None:
        _draw_lines(lines, buffers.nearness, lit, alpha)
    return _reduce(np.clip(lit, 0, 255), alpha)


def _hollows(nearness: NDArray[np.float32], there: NDArray[np.bool_], diagonal: float) -> NDArray[np.float32]:
    """(h, w) darkness 0 to 1 of pixels that lie behind their surroundings."""
    depth = np.where(there, nearness, 0).astype(np.float32)
    weight = there.astype(np.float32)
    dark = np.zeros_like(depth)
    for share in _HOLLOW_SIGMAS:
        sigma = share * diagonal
        # Wide blurs are done on a coarser picture: nobody sees the difference, and the time no longer grows with them.
        blurred, total = (_blur(values, sigma) for values in (depth, weight))
        behind = np.where(there, blurred / np.maximum(total, 1e-6) - depth, 0) * np.clip(total, 0, 1)
        dark += 0.5 * np.clip(behind / (2.5 * sigma), 0, 1)
    return dark


def _blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    step = max(1, int(sigma // 4))
    height, width = values.shape
    padded = np.pad(values, ((0, -height % step), (0, -width % step)), mode="edge")
    coarse = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
    blurred = ndimage.gaussian_filter(coarse, sigma / step, truncate=2.5)
    fine = ndimage.zoom(blurred, step, order=1, grid_mode=True, mode="nearest")
    return np.asarray(fine[:height, :width], np.float32)


def _outlines(nearness: NDArray[np.float32], there: NDArray[np.bool_], diagonal: float) -> NDArray[np.float32]:
    """(h, w) 1 on the rim of a surface, where what is next to it lies far behind it."""
    floor = np.where(there, nearness, np.float32(-4 * diagonal))
    farthest = ndimage.minimum_filter(floor, 3)
    rim = there & (floor - farthest > _OUTLINE_STEP * diagonal)
    return np.asarray(rim, np.float32)


def _draw_lines(
    lines: NDArray[np.float32],
    nearness: NDArray[np.float32],
    lit: NDArray[np.floating],
    alpha: NDArray[np.float32],
) -> None:
    """Draw grey lines two oversampled pixels wide, hidden where a surface is nearer."""
    height, width = nearness.shape
    for start, end in lines:
        steps = np.linspace(0, 1, 2 + 2 * round(float(np.hypot(*(end - start)[:2]))))[:, None]
        points = start + (end - start) * steps
        for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = (np.floor(points[:, axis] - 0.5).astype(int) + shift[axis] for axis in (0, 1))
            valid = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            column, row, near = column[valid], row[valid], points[valid, 2]
            front = near > nearness[row, column]
            column, row = column[front], row[front]
            over = np.where(alpha[row, column] > 0.6, 0.45, 1.0).astype(np.float32)[:, None]
            lit[row, column] = (1 - over) * lit[row, column] + over * _LINE_GREY
            alpha[row, column] = np.maximum(alpha[row, column], 0.55)


def _reduce(lit: NDArray[np.floating], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Average blocks of 2 x 2 pixels, colours weighted by alpha."""
    height, width = (n // _SUPERSAMPLING for n in alpha.shape)
    weight = alpha.reshape(height, _SUPERSAMPLING, width, _SUPERSAMPLING)
    colour = (lit * alpha[..., None]).reshape(height, _SUPERSAMPLING, width, _SUPERSAMPLING, 3).sum(axis=(1, 3))
    total = weight.sum(axis=(1, 3))
    out = np.zeros((height, width, 4))
    out[..., :3] = colour / np.maximum(total, 1e-6)[..., None]
    out[..., 3] = 255 * total / _SUPERSAMPLING**2
    return np.rint(out).astype(np.uint8)
