r"""Phantoms: a density to image, and the truth to score against.

A membrane at signed distance d from its mid-surface, with leaflets s apart, has the density

.. math:: v(d) = v_0 \bigl(e^{-(d - s/2)^2 / 2 \tau^2} + e^{-(d + s/2)^2 / 2 \tau^2}\bigr),

in volts over ice, and its truth are the voxels with :math:`|d| \le` half of :data:`MEMBRANE_THICKNESS_NM`. Where a
protein reaches into that, the membrane keeps the voxel. The mid-surface itself is known by the feet of the voxels that
it passes through, with their normals.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cryoscale.simulate.family import SCENES, real_scene
from cryoscale.simulate.labels import Drawn
from cryoscale.simulate.scene import Bilayer, Blob, Carbon, Filament, Ice, Scene, encloses
from cryoscale.simulate.shapes import Doubles, Shape

BACKGROUND, PROTEIN, MEMBRANE = 0, 1, 2

#: Voxels this near to both sides of a mid-surface together are membrane in the truth.
MEMBRANE_THICKNESS_NM = 4.0
#: Standard deviation of a leaflet's density across the membrane.
LEAFLET_SD_NM = 0.75
#: Vacuum beside vitreous ice, whose mean inner potential is 3.5 V (Harscher and Lichte, 1998).
VACUUM_VOLTS = -3.5

_BLOCK = 8
_FOOT_VOXELS = 0.05
"""A foot farther from the surface is none: it belongs to the rim."""

Voxels = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True)
class Membrane:
    """What the truth knows of one membrane."""

    id: int
    """Its value in ``instances``."""
    kind: str
    """vesicle, tube, sheet, fold, blend or real."""
    closed: bool
    """It encloses a volume and the border does not cut it."""
    inside: int
    """Id of the closed membrane around it, 0 for none."""
    leaflets_nm: float
    """Between the middles of its two layers: its thickness."""


@dataclass(frozen=True)
class MidSurface:
    """Points of the membranes' middles, about one for each voxel of area."""

    points: npt.NDArray[np.float32]
    """(n, 3) z, y, x in voxels."""
    normals: npt.NDArray[np.float32]
    """(n, 3) of length 1; outwards where the membrane is closed."""
    membrane: npt.NDArray[np.uint16]
    """(n,) ids."""


@dataclass(frozen=True)
class Phantom:
    """A density and its truth; all volumes are (z, y, x)."""

    density: npt.NDArray[np.float32]
    """Volts in excess of ice."""
    classes: npt.NDArray[np.uint8]
    """0 background, 1 protein, 2 membrane."""
    instances: npt.NDArray[np.uint16]
    """0, or the id of the membrane."""
    beam_angle: npt.NDArray[np.float32]
    """Degrees between the membrane's normal and the beam: 0 a cap, 90 a side wall; NaN outside membranes."""
    proteins: npt.NDArray[np.float32]
    """(m, 3) centres z, y, x in voxels."""
    membranes: tuple[Membrane, ...]
    midsurface: MidSurface
    voxel_size_angstrom: float


def make_phantom(
    shape: tuple[int, int, int] = (200, 400, 400),
    *,
    seed: int,
    voxel_size_angstrom: float = 10.0,
    preset: str = "demo",
    shapes: Sequence[Drawn] = (),
) -> Phantom:
    """Make up a piece of a cell in ice.

    Parameters
    ----------
    shape : (z, y, x)
        At least 32 voxels a side.
    seed : int
        Decides everything.
    voxel_size_angstrom : float
    preset
        A scene by its name in :data:`cryoscale.simulate.family.SCENES`, or "real".
    shapes
        Membranes of a label volume (`labels.drawn_shapes`, in these voxels): what the preset "real" is made of.

    Raises
    ------
    ValueError
        When an argument is none of the above.
    """
    if preset not in SCENES and preset != "real":
        msg = f"preset must be one of {', '.join(SCENES)}, real, got {preset!r}"
        raise ValueError(msg)
    if (preset == "real") != bool(shapes):
        msg = f"shapes must be given with the preset real and with no other, got {len(shapes)} with {preset!r}"
        raise ValueError(msg)
    if len(shape) != 3 or min(shape) < 32:
        msg = f"shape must be three sides of at least 32 voxels, got {shape}"
        raise ValueError(msg)
    if not 0 < voxel_size_angstrom < math.inf:
        msg = f"voxel_size_angstrom must be above 0, got {voxel_size_angstrom}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    voxel_nm = voxel_size_angstrom / 10.0
    return draw(real_scene(rng, shape, voxel_nm, shapes) if shapes else SCENES[preset](rng, shape, voxel_nm), rng)


def draw(scene: Scene, rng: np.random.Generator) -> Phantom:
    """Draw a scene into volumes; ``rng`` decides the grain of textures alone."""
    density = np.zeros(scene.shape, np.float32)
    classes = np.zeros(scene.shape, np.uint8)
    instances = np.zeros(scene.shape, np.uint16)
    beam_angle = np.full(scene.shape, np.nan, np.float32)
    drawn: list[tuple[int, Bilayer]] = []
    middles: list[tuple[Doubles, Doubles]] = []
    for bilayer in scene.membranes:
        new = len(drawn) + 1
        middle = _draw_bilayer(bilayer, new, scene.voxel_nm, density, instances, beam_angle)
        if middle is not None:
            drawn.append((new, bilayer))
            middles.append(middle)
    for filament in scene.filaments:
        _draw_filament(filament, scene.voxel_nm, density)
    for blob in scene.blobs:
        _draw_blob(blob, density, classes)
    classes[instances > 0] = MEMBRANE
    for carbon in scene.carbon:
        _draw_carbon(carbon, density, rng)
    if scene.texture_volts > 0:
        grain = gaussian_filter(rng.standard_normal(scene.shape, np.float32), 1.2 / scene.voxel_nm, mode="wrap")
        density += grain * np.float32(scene.texture_volts / grain.std())
    for face in scene.ice:
        _draw_vacuum(face, density)
    proteins = np.array([blob.centre for blob in scene.blobs if blob.protein], np.float32).reshape(-1, 3)
    membranes = tuple(_record(number, bilayer, drawn, scene) for number, bilayer in drawn)
    surface = _mid_surface(middles)
    return Phantom(density, classes, instances, beam_angle, proteins, membranes, surface, 10.0 * scene.voxel_nm)


def _mid_surface(middles: list[tuple[Doubles, Doubles]]) -> MidSurface:
    """Put the points and normals of all membranes, in their order, together."""
    none = np.empty((0, 3))
    points, normals = (
        np.concatenate([none, *part]).astype(np.float32) for part in zip(*middles, (none, none), strict=True)
    )
    ids = np.repeat(np.arange(1, len(middles) + 1, dtype=np.uint16), [len(points) for points, _ in middles])
    return MidSurface(points, normals, ids)


def _record(number: int, bilayer: Bilayer, drawn: list[tuple[int, Bilayer]], scene: Scene) -> Membrane:
    surface, others = bilayer.shape, [(i, other.shape) for i, other in drawn if i != number]
    whole = bool(scene.holds(surface.samples, 1.0).all())
    around = [(np.ptp(other.samples), i) for i, other in others if encloses(other, surface)]
    inside = min(around)[1] if around else 0
    return Membrane(number, surface.kind, surface.closed and whole, inside, bilayer.leaflets_nm)


def _draw_bilayer(
    bilayer: Bilayer,
    number: int,
    voxel_nm: float,
    density: npt.NDArray[np.float32],
    instances: npt.NDArray[np.uint16],
    beam_angle: npt.NDArray[np.float32],
) -> tuple[Doubles, Doubles] | None:
    """Add one membrane; return points and normals of its middle, None if it got no voxel.

    Voxels of an earlier membrane stay that one's.
    """
    half = 0.5 * bilayer.leaflets_nm / voxel_nm
    # A voxel holds the mean over itself: a box of standard deviation 0.29.
    spread = np.hypot(LEAFLET_SD_NM / voxel_nm, 0.29)
    filled = bilayer.shape.closed and bilayer.lumen_volts != 0.0
    found = False
    middle: list[tuple[Doubles, Doubles]] = []
    for voxels, points in _voxels_near(bilayer.shape, density.shape, half + 3.5 * spread, filled):
        distance, normal = bilayer.shape.distance(points)
        leaflets = np.exp(-0.5 * ((distance - half) / spread) ** 2) + np.exp(-0.5 * ((distance + half) / spread) ** 2)
        volts = bilayer.head_volts * leaflets
        if filled:
            volts += bilayer.lumen_volts * _soft(-distance)
        density[voxels] += volts.astype(np.float32)
        own = (np.abs(distance) <= 0.5 * MEMBRANE_THICKNESS_NM / voxel_nm) & (instances[voxels] == 0)
        taken = (voxels[0][own], voxels[1][own], voxels[2][own])
        instances[taken] = number
        beam_angle[taken] = np.degrees(np.arccos(np.minimum(np.abs(normal[own, 0]), 1.0)))
        found = found or bool(own.any())
        through = own & (np.abs(distance) <= 0.5)
        feet = points[through] - distance[through, None] * normal[through]
        upon = np.abs(bilayer.shape.distance(feet)[0]) <= _FOOT_VOXELS
        middle.append((feet[upon], normal[through][upon]))
    if not found:
        return None
    return np.concatenate([feet for feet, _ in middle]), np.concatenate([normal for _, normal in middle])


def _draw_filament(filament: Filament, voxel_nm: float, density: npt.NDArray[np.float32]) -> None:
    wall = filament.wall_nm / (math.sqrt(8.0 * math.log(2.0)) * voxel_nm)
    for voxels, points in _voxels_near(filament.tube, density.shape, 3.5 * wall, not filament.hollow):
        distance, normals = filament.tube.distance(points)
        profile = np.exp(-0.5 * (distance / wall) ** 2) if filament.hollow else _soft(-distance)
        if filament.lattice is not None:
            profile *= filament.lattice.density(points, normals, voxel_nm)
        density[voxels] += (filament.volts * profile).astype(np.float32)


def _draw_blob(blob: Blob, density: npt.NDArray[np.float32], classes: npt.NDArray[np.uint8]) -> None:
    """Add one globule; its surface is where it has half its density."""
    low = np.maximum(np.floor(blob.centre - blob.radius_voxels - 3.0).astype(int), 0)
    high = np.minimum(np.ceil(blob.centre + blob.radius_voxels + 4.0).astype(int), density.shape)
    block = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    points = _points(block)
    depth = np.full(len(points), -np.inf)
    for *offset, size in blob.balls * blob.radius_voxels:
        depth = np.maximum(depth, size - np.linalg.norm(points - (blob.centre + offset), axis=1))
    solid = depth.reshape(density[block].shape)
    density[block] = np.maximum(density[block], (blob.volts * _soft(solid)).astype(np.float32))
    if blob.protein:
        classes[block][solid >= 0] = PROTEIN


def _draw_carbon(carbon: Carbon, density: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Add an amorphous film along the last z planes, outside its hole."""
    planes = min(int(carbon.thickness_voxels), density.shape[0])
    y, x = np.ogrid[: density.shape[1], : density.shape[2]]
    outside = np.hypot(y - carbon.hole_centre[0], x - carbon.hole_centre[1]) - carbon.hole_radius_voxels
    film = carbon.volts * _soft(outside) * (1.0 + 0.3 * rng.standard_normal((planes, *density.shape[1:])))
    density[density.shape[0] - planes :] += film.astype(np.float32)


def _draw_vacuum(face: Ice, density: npt.NDArray[np.float32]) -> None:
    """Take everything beyond a face of the ice away."""
    z, y, x = np.ogrid[tuple(slice(0.0, side) for side in density.shape)]
    depth, height, breadth = density.shape
    ice = _soft(face.depth(z, y, x, (depth, height, breadth)))
    density *= ice.astype(np.float32)
    density += (VACUUM_VOLTS * (1.0 - ice)).astype(np.float32)


def _soft(depth: Doubles) -> Doubles:
    """Step from 0 to 1 over about 2 voxels; ``depth`` in voxels."""
    step: Doubles = 0.5 + 0.5 * np.tanh(1.5 * depth)
    return step


def _voxels_near(
    surface: Shape, shape: tuple[int, ...], reach: float, filled: bool
) -> Iterator[tuple[Voxels, Doubles]]:
    """Yield, some thousands at a time, the voxels near a surface (or inside it too), as indices and points (n, 3)."""
    corners = np.stack(np.meshgrid(*(np.arange(0, side, _BLOCK) for side in shape), indexing="ij"), -1).reshape(-1, 3)
    distance = surface.distance((corners + 0.5 * (_BLOCK - 1)).astype(np.float64))[0]
    reach += 0.5 * np.sqrt(3.0) * _BLOCK
    corners = corners[(np.abs(distance) < reach) | (filled & (distance < 0))]
    within = np.indices((_BLOCK, _BLOCK, _BLOCK)).reshape(3, -1).T
    for first in range(0, len(corners), 64):
        index = (corners[first : first + 64, None] + within).reshape(-1, 3)
        index = index[(index < shape).all(axis=1)]
        yield (index[:, 0], index[:, 1], index[:, 2]), index.astype(np.float64)


def _points(block: tuple[slice, slice, slice]) -> Doubles:
    grid = np.meshgrid(*(np.arange(s.start, s.stop, dtype=np.float64) for s in block), indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 3)
