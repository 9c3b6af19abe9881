r"""The data sets of `_grouping` slice by slice: 2-D masks with truth, for methods that work on slices.

    slice_rows(size) -> rows as `_grouping.quality_rows` returns them;      slices(size) -> the sets

Simulated slices hold closed curves, in polar coordinates about their centres

.. math:: r(\phi) = \frac{a b}{\sqrt{(b \cos\phi)^2 + (a \sin\phi)^2}} \bigl(1 + \textstyle\sum_k h_k
   \cos(k \phi + \phi_k)\bigr),

an ellipse with waves, broken into pieces: alone, one inside the other, in groups, and crossed by distractors, straight
or bent lines that belong to no closed curve and are instances of their own. Truth of a pixel where two cross: the
nearer mid-line. The other sets are slices through the volumes of `_grouping`; a membrane that a slice cuts into
several arcs stays one membrane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks import _grouping
from benchmarks._grouping import DataSet, Method, Volume

Array = NDArray[np.float64]

MINIMUM_PIXELS = 20
SIDE = 512


@dataclass(frozen=True)
class Line:
    """Points (n, 2), y, x, less than half a pixel apart, along a mid-line."""

    points: Array


# ------------------------------------------------------------------------------------------------------------ curves


def ring(rng: np.random.Generator, centre: Array, radius: float, pieces: int, gap_pixels: tuple[float, float]) -> Line:
    """Return a closed wavy curve, broken into pieces with gaps of a length along the curve."""
    turn = np.linspace(0, 2 * np.pi, 40 * round(radius), endpoint=False)
    a, b = radius * rng.uniform(0.75, 1.25, 2)
    r = a * b / np.hypot(b * np.cos(turn), a * np.sin(turn))
    for k in (2, 3, 5):
        r = r * (1 + rng.uniform(0, 0.16 / k) * np.cos(k * turn + rng.uniform(0, 2 * np.pi)))
    direction = turn + rng.uniform(0, 2 * np.pi)
    points = centre + r[:, None] * np.stack([np.sin(direction), np.cos(direction)], 1)
    step = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1)
    along, kept = np.cumsum(step), np.ones(len(points), bool)
    if pieces > 1:
        share = rng.uniform(0.6, 1.4, pieces)
        for middle in np.cumsum(share / share.sum()) * along[-1]:
            off = np.abs(along - middle)
            kept &= np.minimum(off, along[-1] - off) > rng.uniform(*gap_pixels) / 2
    return Line(points[kept])


def crossing(rng: np.random.Generator, through: Array, length: float) -> Line:
    """Return a bent line through a point."""
    t = np.arange(-length / 2, length / 2, 0.3)
    heading = rng.uniform(0, np.pi) + rng.uniform(-0.004, 0.004) * t
    steps = 0.3 * np.stack([np.sin(heading), np.cos(heading)], 1)
    points = np.cumsum(steps, axis=0)
    return Line(points - points[len(points) // 2] + through)


def draw(
    rng: np.random.Generator, lines: list[Line], thickness_pixels: float, roughness_pixels: float
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Return mask and truth (SIDE, SIDE) of lines; where two cross, the nearer one has the pixel."""
    nearest = np.full((SIDE, SIDE), np.inf)
    truth = np.zeros((SIDE, SIDE), np.int32)
    ragged = gaussian_filter(rng.normal(size=truth.shape), 1.2)
    ragged *= roughness_pixels / ragged.std()
    reach = int(thickness_pixels) + 2
    offsets = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1), bool)) - reach
    for number, line in enumerate(lines, 1):
        pixels = np.floor(line.points + 0.5).astype(int)[:, None] + offsets
        away = np.linalg.norm(pixels - line.points[:, None], axis=-1).ravel()
        flat = pixels.reshape(-1, 2)
        held = ((flat >= 0) & (flat < SIDE)).all(1)
        distance = np.full((SIDE, SIDE), np.inf)
        np.minimum.at(distance, tuple(flat[held].T), away[held])
        claimed = (distance + ragged <= thickness_pixels / 2) & (distance < nearest)
        truth[claimed], nearest[claimed] = number, distance[claimed]
    return truth > 0, truth


# ------------------------------------------------------------------------------------------------------------ slices


def _grid(rng: np.random.Generator, across: int) -> Iterator[Array]:
    """Places on a grid, shaken a little."""
    cell = SIDE / across
    for k in range(across * across):
        yield (np.array(divmod(k, across)) + 0.5 + rng.uniform(-0.04, 0.04, 2)) * cell


def broken_rings(seed: int) -> tuple[str, list[Line]]:
    """Nine rings in 2 to 8 pieces with gaps of 6 to 14 pixels."""
    rng = np.random.default_rng([21, seed])
    lines = [ring(rng, c, rng.uniform(35, 58), int(rng.integers(2, 9)), (6, 14)) for c in _grid(rng, 3)]
    return f"broken rings, {seed}", lines


def nested_rings(seed: int) -> tuple[str, list[Line]]:
    """Four pairs, one ring inside the other, 10 to 30 pixels apart."""
    rng = np.random.default_rng([22, seed])
    lines = []
    for centre in _grid(rng, 2):
        state = rng.bit_generator.state
        radius = rng.uniform(80, 96)
        for smaller in (0.0, rng.uniform(10, 30)):
            # The same waves for both, so that the rings never cross.
            shape = np.random.default_rng(state["state"]["state"] % (1 << 32))
            lines.append(ring(shape, centre, radius - smaller, int(rng.integers(2, 6)), (6, 14)))
    return f"nested rings, {seed}", lines


def crossed_rings(seed: int) -> tuple[str, list[Line]]:
    """Nine broken rings and five lines across them."""
    rng = np.random.default_rng([23, seed])
    _, lines = broken_rings(seed)
    through = [lines[k].points[int(rng.integers(len(lines[k].points)))] for k in rng.permutation(9)[:5]]
    return f"crossed rings, {seed}", [*lines, *(crossing(rng, p, rng.uniform(50, 110)) for p in through)]


def dense_rings(seed: int) -> tuple[str, list[Line]]:
    """Sixteen rings side by side, some touching, in 2 to 5 pieces each: about 55 segments."""
    rng = np.random.default_rng([24, seed])
    lines = [ring(rng, c, rng.uniform(48, 54), int(rng.integers(2, 6)), (5, 12)) for c in _grid(rng, 4)]
    return f"dense rings, {seed}", lines


def _simulated(make: Callable[[int], tuple[str, list[Line]]], seed: int) -> Volume:
    name, lines = make(seed)
    rng = np.random.default_rng([29, seed])
    mask, truth = draw(rng, lines, float(rng.uniform(3, 4.5)), float(rng.uniform(0.1, 0.5)))
    return Volume(name, mask, {"by curve": truth[mask]}, 10.0)


@lru_cache(maxsize=1)
def _volume(make: Callable[[], Volume]) -> Volume:
    return make()


def _cut(make: Callable[[], Volume], share: float) -> Volume:
    """Cut a slice out of a volume at a share of its depth."""
    volume = _volume(make)
    z = int(share * len(volume.mask))
    mask = volume.mask[z]
    first = int(np.count_nonzero(volume.mask[:z]))
    truth = {}
    for view, numbers in volume.truth.items():
        cut = numbers[first : first + int(np.count_nonzero(mask))]
        large = np.bincount(cut, minlength=1) >= MINIMUM_PIXELS
        truth[view] = np.where(large[cut], cut, 0).astype(np.int32)
    return Volume(f"{volume.name}, slice {z}", mask, truth, volume.voxel_size_angstrom)


def slices(size: str = "small") -> list[DataSet]:
    """Return 2-D sets: simulated curves, and slices of every set of `_grouping.sets`.

    Parameters
    ----------
    size : str
        "small": few and cropped; "full": everything.
    """
    small = size == "small"
    found = []
    kinds = {"broken rings": broken_rings, "nested rings": nested_rings}
    kinds |= {"crossed rings": crossed_rings, "dense rings": dense_rings}
    for name, make in kinds.items():
        makers = tuple(partial(_simulated, make, seed) for seed in range(2 if small else 8))
        found.append(DataSet(f"{name}, slices", "simulated", makers, MINIMUM_PIXELS))
    for data in _grouping.sets(size):
        shares = (0.3, 0.5, 0.7) if len(data.makers) == 1 else (0.5,)
        cuts = tuple(partial(_cut, make, share) for make in data.makers for share in shares)
        found.append(DataSet(f"{data.name}, slices", data.kind, cuts, MINIMUM_PIXELS))
    return found


def slice_rows(size: str = "small", chosen: Mapping[str, Method] | None = None) -> list[dict[str, Any]]:
    """Score methods slice by slice; the rows are those of `_grouping.quality_rows`.

    Parameters
    ----------
    size : str
        "small" or "full", see `slices`.
    chosen : mapping, optional
        Methods by name, from a mask (ny, nx) to the instance of each of its pixels in raster order; without it
        8-connected components and merging within a distance.
    """
    plain = chosen or {name: method for name, method in _grouping.methods().items() if name != "ours"}
    return [row for data in slices(size) for row in _grouping.rows_of(data, plain)]
