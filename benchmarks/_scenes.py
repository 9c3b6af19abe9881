r"""Simulated membranes that touch, nest, run in parallel and are broken into pieces, with known truth.

    mask = { p : |d(p)| + noise(p) <= t / 2 },      truth(p) = the membrane with the smallest |d(p)|

d is the distance to the mid-surface of a membrane, t its thickness, both in voxels. Shapes: ellipsoids, and shapes
that are none: a bumpy vesicle, a peanut, a banana, a wavy sheet. What real masks lack is taken away: bands of 8 to 12
voxels (so that the pieces have to be joined), in `wide_gaps` of 14 to 36, caps whose normal is along the beam, holes;
noise makes the borders ragged and scatters outliers, whose truth is 0. Axes z, y, x with z the beam; the seed decides
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

Array = NDArray[np.float64]

MARGIN = 10
"""Empty voxels around a scene."""
FAMILIES = ("ellipsoid", "bumpy", "peanut", "banana")


# ------------------------------------------------------------------------------------------------------------ shapes


def _ellipsoid(q: Array) -> Array:
    axes = np.array([28.0, 32.0, 40.0])
    return np.asarray(28.0 * (np.linalg.norm(q / axes, axis=-1) - 1.0))


def _bumpy(q: Array) -> Array:
    r = np.maximum(np.linalg.norm(q, axis=-1), 1e-6)
    z, y, x = np.moveaxis(q / r[..., None], -1, 0)
    waves = x**3 - 3 * x * y**2 + 1.8 * x * z**2 + 1.6 * y**3 * z - 0.8 * x * y * z + 0.35 * y * (3 * z**2 - 1)
    return np.asarray(r - 34.0 * (1.0 + 0.10 * waves))


def _peanut(q: Array) -> Array:
    one = np.linalg.norm(q - [4.0, 0.0, -20.0], axis=-1) - 24.0
    two = np.linalg.norm(q - [-4.0, 0.0, 20.0], axis=-1) - 20.4
    return np.asarray(-6.0 * np.logaddexp(-one / 6.0, -two / 6.0))


def _banana(q: Array) -> Array:
    z, y, x = np.moveaxis(q, -1, 0)
    turn = np.clip(np.arctan2(y, x), -np.deg2rad(115.0), np.deg2rad(115.0))
    return np.asarray(np.sqrt((x - 30 * np.cos(turn)) ** 2 + (y - 30 * np.sin(turn)) ** 2 + (0.85 * z) ** 2) - 13.0)


def _sheet(q: Array) -> Array:
    z, y, x = np.moveaxis(q, -1, 0)
    return np.asarray(x - 7.0 * np.sin(2 * np.pi * y / 170.0 + 0.4) - 0.004 * z**2 - 0.1 * z)


_FIELDS: dict[str, tuple[Callable[[Array], Array], tuple[float, float, float]]] = {
    "ellipsoid": (_ellipsoid, (30.0, 34.0, 42.0)),
    "bumpy": (_bumpy, (44.0, 44.0, 44.0)),
    "peanut": (_peanut, (32.0, 30.0, 48.0)),
    "banana": (_banana, (18.0, 46.0, 46.0)),
    "sheet": (_sheet, (40.0, 60.0, 28.0)),
}
"""Of each shape a function that is 0 on the surface and negative inside, and half the box that holds it, voxels."""


@dataclass(frozen=True)
class Cut:
    """A band without membrane: |w . (p - c) - offset| <= width / 2."""

    direction: Array
    offset: float
    width: float


@dataclass(frozen=True)
class Membrane:
    """A shape, placed."""

    kind: str
    scale: float
    rotation: Array
    """Columns are the shape's own axes."""
    centre: Array
    inset: float = 0.0
    """Voxels further inside than the shape itself."""
    cuts: tuple[Cut, ...] = ()
    cap_limit: float = 1.0
    """Where |normal . beam| is above this the membrane is missing."""

    @cached_property
    def points(self) -> Array:
        """Points (n, 3) about a voxel apart on the shape (without inset)."""
        function, half = _FIELDS[self.kind]
        extent = self.scale * np.array(half)
        axes = [np.arange(-h - 2.0, h + 2.5) for h in extent]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        found = marching_cubes(function(grid / self.scale), 0.0)[0] + [axis[0] for axis in axes]
        return np.asarray(self.centre + found[(np.abs(found) <= extent).all(1)] @ self.rotation.T)

    def moved(self, shift: Array) -> Membrane:
        """Return the same shape elsewhere."""
        return replace(self, centre=self.centre + shift)

    def distance(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> Array:
        """Return the signed distance to the mid-surface in a box of voxels; NaN where the membrane is missing."""
        grid = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1) - self.centre
        local = grid @ self.rotation
        function, half = _FIELDS[self.kind]
        value = self.scale * function(local / self.scale)
        gradient = np.stack([np.gradient(value, axis=a) for a in range(3)], axis=-1)
        length = np.maximum(np.linalg.norm(gradient, axis=-1), 0.3)
        distance = value / length
        if self.inset:
            # The first-order distance is good near the surface only.
            inside = (distance < -1.5) & (distance > -1.6 * self.inset - 6)
            distance[inside] = -cKDTree(self.points - self.centre).query(grid[inside])[0]
        distance = distance + self.inset
        missing = np.abs(gradient[..., 0]) / length >= self.cap_limit
        missing |= (np.abs(local) > self.scale * np.array(half)).any(-1)
        for cut in self.cuts:
            missing |= np.abs(grid @ cut.direction - cut.offset) <= cut.width / 2
        distance[missing] = np.nan
        return np.asarray(distance)


# ----------------------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Noise:
    """What a segmentation does to a membrane."""

    roughness_voxels: float = 0.3
    """Standard deviation of where its borders are."""
    outlier_share: float = 0.0
    """Single false voxels per true one."""
    holes: int = 0
    """Round holes of radius 3 to 6 voxels per membrane."""


@dataclass(frozen=True)
class Scene:
    """Membranes in one volume."""

    name: str
    membranes: tuple[Membrane, ...]
    thickness_voxels: float
    noise: Noise = field(default_factory=Noise)


def draw(scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Return mask and truth of a scene: (nz, ny, nx) bool, and int32 with membrane k + 1 where it is membrane k.

    Outliers are in the mask with truth 0.
    """
    everything = np.concatenate([membrane.points for membrane in scene.membranes])
    origin = np.floor(everything.min(0)).astype(int) - MARGIN
    shape = np.ceil(everything.max(0)).astype(int) + MARGIN - origin
    nearest = np.full(shape, np.inf, np.float32)
    truth = np.zeros(shape, np.int32)
    ragged = gaussian_filter(rng.normal(size=shape), 1.2)
    ragged *= scene.noise.roughness_voxels / ragged.std()
    for number, membrane in enumerate(scene.membranes, 1):
        placed = membrane.moved(-origin.astype(float))
        reach = placed.points
        low = np.maximum(np.floor(reach.min(0)).astype(int) - 6, 0)
        high = np.minimum(np.ceil(reach.max(0)).astype(int) + 7, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        away = np.abs(placed.distance(low, high))
        for _ in range(scene.noise.holes):
            centre = reach[rng.integers(len(reach))] - low
            grid = np.ogrid[tuple(slice(0, n) for n in away.shape)]
            squared = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
            away[squared <= rng.uniform(3.0, 6.0) ** 2] = np.nan
        claimed = (away + ragged[box] <= scene.thickness_voxels / 2) & (away < nearest[box])
        truth[box][claimed] = number
        nearest[box][claimed] = away[claimed]
    mask = truth > 0
    count = round(scene.noise.outlier_share * np.count_nonzero(mask))
    mask[tuple(rng.integers(0, shape, (count, 3)).T)] = True
    return mask, truth


# ------------------------------------------------------------------------------------------------------------ placing


def _direction(rng: np.random.Generator) -> Array:
    v = rng.normal(size=3)
    return np.asarray(v / np.linalg.norm(v))


def _membrane(rng: np.random.Generator, kind: str, low: float = 0.65, high: float = 0.9) -> Membrane:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Membrane(kind, float(rng.uniform(low, high)), rotation, np.zeros(3))


def _beside(fixed: Array, moving: Membrane, direction: Array, clearance: float) -> Membrane:
    """Move a membrane in along a line from far away until it is `clearance` voxels from the nearest fixed point."""
    tree, points = cKDTree(fixed), moving.points[::4]

    def apart(shift: float) -> float:
        return float(tree.query(points + shift * direction)[0].min())

    far = float(np.ptp(fixed, axis=0).max() + np.ptp(points, axis=0).max()) * 1.2 + 20.0
    far += float(np.abs(fixed.mean(0) - moving.centre).max())
    near = far
    while (gap := apart(near)) > clearance:
        far, near = near, near - max(0.5, 0.9 * (gap - clearance))
    for _ in range(12):
        middle = (near + far) / 2
        near, far = (middle, far) if apart(middle) <= clearance else (near, middle)
    return moving.moved(far * direction)


def _within(outer: Membrane, inner: Membrane, direction: Array, clearance: float) -> Membrane:
    """Move a membrane from the centre of another one outwards until it is `clearance` voxels from it."""
    tree, shift = cKDTree(outer.points), 0.0
    start = inner.moved(outer.centre - inner.centre)
    while (gap := tree.query(start.points[::4] + shift * direction)[0].min()) > clearance + 0.1:
        shift += 0.9 * float(gap - clearance)
    return start.moved(shift * direction)


def broken(
    rng: np.random.Generator, membrane: Membrane, cuts: int, cap_limit: float = 1.0, *, wide: bool = False
) -> Membrane:
    """Take bands of 8 to 12 voxels through the middle of a membrane away, and its caps.

    Wide bands have 14 to 36 voxels, and no more than 35 % of the membrane's length across them, or 18.
    """
    bands, directions = [], np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for k in range(cuts):
        size = float(np.ptp((membrane.points - membrane.centre) @ directions[k]))
        low, high = (14.0, max(18.0, min(36.0, 0.35 * size))) if wide else (7.0, 11.0)
        bands.append(Cut(directions[k], float(rng.uniform(-0.12, 0.12)) * size, float(rng.uniform(low, high))))
    return replace(membrane, cuts=tuple(bands), cap_limit=cap_limit)


def _break_some(rng: np.random.Generator, membranes: Sequence[Membrane]) -> tuple[Membrane, ...]:
    """Leave a third whole, cut a third once or lose their caps, cut a third twice."""
    return tuple(
        broken(rng, membrane, *((0, 1.0), (1, 1.0), (0, 0.8), (1, 0.85), (2, 1.0), (2, 1.0))[int(rng.integers(6))])
        for membrane in membranes
    )


def _noise(rng: np.random.Generator) -> Noise:
    """Draw anything from a clean mask to a poor one."""
    level = rng.random()
    return Noise(0.2 + 0.5 * level, 0.02 if level > 0.4 else 0.0, int(6 * level))


# ------------------------------------------------------------------------------------------------------------ scenes


def touching(gap: float, seed: int) -> Scene:
    """Return two closed membranes `gap` empty voxels apart where they are nearest."""
    rng = np.random.default_rng([1, seed])
    thickness = float(rng.uniform(3, 5))
    kinds = (("ellipsoid", "ellipsoid"), ("bumpy", "peanut"), ("banana", "ellipsoid"), ("peanut", "bumpy"))[seed % 4]
    first, second = (_membrane(rng, kind) for kind in kinds)
    second = _beside(first.points, second, _direction(rng), gap + thickness)
    return Scene(f"gap {gap:g}, {' + '.join(kinds)}, {seed}", _break_some(rng, (first, second)), thickness, _noise(rng))


def nested(seed: int) -> Scene:
    """Return one or two closed membranes inside another, touching it or nearly."""
    rng = np.random.default_rng([2, seed])
    thickness, gap = float(rng.uniform(3, 5)), float((0, 1, 2, 3, 5)[seed % 5])
    outer = _membrane(rng, ("bumpy", "ellipsoid")[seed % 2], 1.0, 1.2)
    inner = _membrane(rng, FAMILIES[int(rng.integers(3))], 0.4, 0.5)
    inner = _within(outer, inner, _direction(rng), gap + thickness)
    return Scene(f"nested, gap {gap:g}, {outer.kind}, {seed}", _break_some(rng, (outer, inner)), thickness, _noise(rng))


def double(seed: int) -> Scene:
    """Return a membrane and a second one at an even distance inside it, as around an organelle."""
    rng = np.random.default_rng([3, seed])
    thickness, gap = float(rng.uniform(3, 4)), float((1, 2, 3, 5)[seed % 4])
    outer = _membrane(rng, ("ellipsoid", "bumpy", "peanut")[seed % 3], 0.9, 1.1)
    inner = replace(outer, inset=gap + thickness)
    return Scene(f"double, gap {gap:g}, {outer.kind}, {seed}", _break_some(rng, (outer, inner)), thickness, _noise(rng))


def sheets(seed: int) -> Scene:
    """Return a wavy sheet, a second one parallel to it, and a vesicle against the first."""
    rng = np.random.default_rng([4, seed])
    thickness, gap = float(rng.uniform(3, 4.5)), float((1, 2, 0, 3, 5)[seed % 5])
    sheet = _membrane(rng, "sheet", 0.7, 0.9)
    second = sheet.moved((gap + 1 + thickness) * sheet.rotation[:, 2])
    vesicle = _membrane(rng, FAMILIES[int(rng.integers(3))])
    vesicle = _beside(sheet.points, vesicle, -sheet.rotation[:, 2], gap + thickness)
    membranes = _break_some(rng, (sheet, second, vesicle))
    return Scene(f"sheets, gap {gap:g}, {vesicle.kind}, {seed}", membranes, thickness, _noise(rng))


def crowd(seed: int, count: int = 7) -> Scene:
    """Return membranes of every kind, each 0 to 8 voxels from its nearest neighbour."""
    rng = np.random.default_rng([5, seed])
    thickness = float(rng.uniform(3, 5))
    members = [_membrane(rng, "ellipsoid")]
    for k in range(1, count):
        fixed = np.concatenate([member.points for member in members])
        gap = float(rng.choice([0, 1, 2, 3, 5, 8]))
        new = _membrane(rng, (*FAMILIES, "sheet")[k % 5], 0.5, 0.75)
        # Towards the middle of the others.
        new = new.moved(fixed.mean(0) - new.centre)
        members.append(_beside(fixed, new, _direction(rng), gap + thickness))
    return Scene(f"crowd of {count}, {seed}", _break_some(rng, members), thickness, _noise(rng))


def wide_gaps(seed: int) -> Scene:
    """Return membranes with wide bands missing, or two that end towards each other and are not one.

    One membrane, one within another, five side by side; two sheets or two vesicles.
    """
    rng = np.random.default_rng([6, seed])
    thickness = float(rng.uniform(1.5, 4.5))
    if seed % 4 == 3:
        return Scene(f"wide gaps, ends, {seed}", _two_ends(rng, thickness), thickness, _noise(rng))
    if seed % 4 == 2:
        members = [_membrane(rng, "ellipsoid", 0.7, 1.0)]
        for _ in range(4):
            fixed = np.concatenate([member.points for member in members])
            new = _membrane(rng, (*FAMILIES, "sheet")[int(rng.integers(5))], 0.7, 1.0)
            new = new.moved(fixed.mean(0) - new.centre)
            members.append(_beside(fixed, new, _direction(rng), float(rng.choice([2, 5, 10, 20])) + thickness))
    else:
        members = [_membrane(rng, (*FAMILIES, "sheet")[int(rng.integers(5 - seed % 4))], 1.1, 1.7)]
        if seed % 4 == 1:
            members.append(replace(members[0], inset=float(rng.choice([2, 3, 5, 8])) + thickness))
    name = ("one", "double", "crowd")[seed % 4]
    gapped = [broken(rng, m, int(rng.integers(1, 3)), (1.0, 0.85)[int(rng.integers(2))], wide=True) for m in members]
    return Scene(f"wide gaps, {name}, {seed}", tuple(gapped), thickness, _noise(rng))


def _two_ends(rng: np.random.Generator, thickness: float) -> tuple[Membrane, Membrane]:
    """Two sheets one behind the other, out of line, or two vesicles one above the other without their caps."""
    if rng.random() < 0.5:
        first = _membrane(rng, "sheet", 0.8, 1.2)
        turned, signs = np.linalg.qr(first.rotation + 0.25 * rng.normal(size=(3, 3)))
        second = replace(_membrane(rng, "sheet", 0.8, 1.2), rotation=turned * np.sign(np.diag(signs)))
        second = second.moved(first.rotation[:, 2] * float(rng.uniform(-15, 15)))
        return first, _beside(first.points, second, first.rotation[:, 1], float(rng.uniform(14, 30)))
    first, second = (_membrane(rng, FAMILIES[int(rng.integers(4))], 0.8, 1.2) for _ in range(2))
    second = _beside(first.points, second, np.array([1.0, 0.0, 0.0]), float(rng.uniform(2, 12)) + thickness)
    return replace(first, cap_limit=0.8), replace(second, cap_limit=0.8)
