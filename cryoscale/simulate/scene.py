"""What lies in the ice: lists of membranes, proteins, filaments and beads, and the rules for placing them at random.

Everything here is geometry in voxels: nothing has been drawn yet. Two membranes keep clear of each other when no
sample of one comes nearer to the other than the gap asked, mid-surface to mid-surface.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cryoscale.simulate.lattice import WALL_NM, Lattice
from cryoscale.simulate.shapes import Shape, Sheet, Tube, Vesicle

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bilayer:
    """A membrane: two leaflets about a mid-surface."""

    shape: Shape
    leaflets_nm: float
    """Distance between the two density maxima."""
    head_volts: float = 2.0
    lumen_volts: float = 0.0
    """Excess of what a closed membrane holds."""


@dataclass(frozen=True)
class Blob:
    """A globule made of overlapping balls."""

    centre: Doubles
    radius_voxels: float
    volts: float
    balls: Doubles
    """(k, 4): centre z, y, x and radius of each ball, in units of the radius."""
    protein: bool = True


@dataclass(frozen=True)
class Filament:
    """A rod, or a hollow one such as a microtubule: dense, but no membrane."""

    tube: Tube
    volts: float
    hollow: bool
    lattice: Lattice | None = None
    """Of a hollow one's wall; without it the wall is smooth."""
    wall_nm: float = WALL_NM
    """Thickness of a hollow one's wall, at half its density."""


@dataclass(frozen=True)
class Carbon:
    """The edge of a round hole in a film at the bottom of the ice."""

    hole_centre: Doubles
    hole_radius_voxels: float
    thickness_voxels: float
    volts: float


@dataclass(frozen=True)
class Ice:
    """The upper or lower face of the ice, a plane with a wave upon it; beyond it is vacuum."""

    height: float
    """In voxels of z, at the middle of the volume."""
    slope: Doubles
    """Rise along y and x."""
    wave: Doubles
    """Amplitude in voxels, wave numbers along y and x in radian / voxel, phase in radian."""
    upper: bool

    def depth(self, z: Doubles, y: Doubles, x: Doubles, shape: tuple[int, int, int]) -> Doubles:
        """Voxels along z from places to the face, above 0 in the ice; places broadcast against each other."""
        v, u = y - 0.5 * (shape[1] - 1), x - 0.5 * (shape[2] - 1)
        amplitude, along_y, along_x, phase = self.wave
        face = self.height + self.slope[0] * v + self.slope[1] * u
        face = face + amplitude * np.sin(along_y * v + along_x * u + phase)
        return np.asarray(face - z if self.upper else z - face)


@dataclass
class Scene:
    """The content of a phantom, while it is being put together."""

    shape: tuple[int, int, int]
    voxel_nm: float
    membranes: list[Bilayer] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    filaments: list[Filament] = field(default_factory=list)
    carbon: list[Carbon] = field(default_factory=list)
    ice: list[Ice] = field(default_factory=list)
    texture_volts: float = 0.0
    """Standard deviation of a fine-grained background."""

    def holds(self, points: Doubles, margin: float = 0.0) -> npt.NDArray[np.bool_]:
        """Which points lie inside the volume, ``margin`` voxels from its faces or more."""
        within = (points >= margin) & (points <= np.array(self.shape) - 1 - margin)
        return np.asarray(within.all(axis=1))

    def frozen(self, points: Doubles, margin: float) -> npt.NDArray[np.bool_]:
        """Which points lie in the ice, ``margin`` voxels from its faces or more; without faces all of them."""
        inside = np.ones(len(points), bool)
        for face in self.ice:
            inside &= face.depth(points[:, 0], points[:, 1], points[:, 2], self.shape) >= margin
        return inside

    def clears(self, shape: Shape, gap_voxels: float) -> bool:
        """Whether a new surface keeps the gap to every membrane and face of the ice there is."""
        if not self.frozen(shape.samples, gap_voxels).all():
            return False
        return all(clearance(shape, membrane.shape) >= gap_voxels for membrane in self.membranes)

    def free(self, points: Doubles, gap_voxels: float) -> bool:
        """Whether all points keep the gap to every membrane, bead and face of the ice there is."""
        if not self.frozen(points, gap_voxels).all():
            return False
        for membrane in self.membranes:
            if np.abs(membrane.shape.distance(points)[0]).min() < gap_voxels:
                return False
        for blob in self.blobs:
            if np.linalg.norm(points - blob.centre, axis=1).min() < gap_voxels + blob.radius_voxels:
                return False
        return True


def clearance(one: Shape, other: Shape) -> float:
    """Least distance between two surfaces in voxels, about 1 voxel too large at worst; 0 where they cross."""
    forth = one.distance(other.samples)[0]
    back = other.distance(one.samples)[0]
    return float(min(np.abs(forth).min(), np.abs(back).min()))


def encloses(outer: Shape, inner: Shape) -> bool:
    """Whether a closed surface has (the first sample of) another inside it."""
    return outer.closed and float(outer.distance(inner.samples[:1])[0][0]) < 0


def first_that(make: Callable[[], Shape], suits: Callable[[Shape], bool], attempts: int) -> Shape | None:
    """Make shapes until one suits."""
    for _ in range(attempts):
        shape = make()
        if suits(shape):
            return shape
    return None


def beside(fixed: Shape, moving: Vesicle, direction: Doubles, gap_voxels: float) -> Vesicle:
    """Bring a vesicle from afar, against the direction, to within the gap of another surface."""
    size = float(np.ptp(fixed.samples, axis=0).max() + np.ptp(moving.samples, axis=0).max())
    away = 1.5 * size
    for _ in range(40):
        # No distance is ever overestimated by much, so these steps stop short of the surface.
        near = float(np.abs(fixed.distance(moving.samples + away * direction)[0]).min())
        away -= near - gap_voxels
        if near - gap_voxels < 0.05:
            break
    return replace(moving, centre=moving.centre + away * direction)


def random_rotation(rng: np.random.Generator) -> Doubles:
    """Draw a rotation matrix, all equally likely."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    rotation: Doubles = q
    return rotation


def random_direction(rng: np.random.Generator, steepness: float = 1.0) -> Doubles:
    """Draw a unit vector, its z part flattened by ``steepness`` below 1."""
    direction: Doubles = rng.normal(size=3) * [steepness, 1.0, 1.0]
    return direction / float(np.linalg.norm(direction))


def random_vesicle(rng: np.random.Generator, centre: Doubles, radius: float, roughness: float = 1.0) -> Vesicle:
    """Draw an ellipsoid of axis ratios up to about 1.6 with three to six low bumps; ``roughness`` scales both."""
    axes = np.clip(np.exp(rng.normal(0.0, 0.14 * roughness, 3)), 0.7, 1.4)
    bumps = int(rng.integers(3, 7))
    directions = rng.normal(size=(bumps, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    heights = rng.uniform(-0.12, 0.12, bumps) * roughness
    return Vesicle(centre, radius * axes, random_rotation(rng), directions, rng.integers(2, 5, bumps), heights)


def random_sheet(rng: np.random.Generator, centre: Doubles, radius: float, normal: Doubles, curve: float) -> Sheet:
    """Draw a disc bent by up to ``curve`` times its radius, with a wave upon it."""
    across = np.cross(normal, random_direction(rng))
    across /= np.linalg.norm(across)
    rotation = np.stack([normal, across, np.cross(normal, across)], axis=1)
    quadric = rng.uniform(-curve, curve, 3) / radius
    waves = rng.uniform(1.0, 2.5) / radius
    turn = rng.uniform(0.0, 2.0 * np.pi)
    height = rng.uniform(0.0, 0.25) * curve / waves
    wave = np.array([height, waves * np.cos(turn), waves * np.sin(turn), rng.uniform(0.0, 2.0 * np.pi)])
    return Sheet(centre, rotation, radius, quadric, wave)


def random_curve(rng: np.random.Generator, centre: Doubles, length: float, bend: float, steepness: float) -> Doubles:
    """Draw a parabola of about the given length through the centre: 17 points."""
    along = random_direction(rng, steepness)
    across = np.cross(along, random_direction(rng))
    across /= np.linalg.norm(across)
    t = np.linspace(-0.5, 0.5, 17)[:, None]
    curve: Doubles = centre + length * (t * along + bend * (t**2 - 0.08) * across)
    return curve


def random_blob(
    rng: np.random.Generator, centre: Doubles, radius_voxels: float, volts: float, *, protein: bool, lobes: int = 4
) -> Blob:
    """Draw a core ball with lobes around it, all within the radius."""
    outward = rng.normal(size=(lobes, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    size = rng.uniform(0.35, 0.55, lobes)
    balls = np.column_stack([outward * (1.0 - size[:, None]), size])
    return Blob(centre, radius_voxels, volts, np.vstack([[0.0, 0.0, 0.0, 0.7], balls]), protein)


def add_proteins(rng: np.random.Generator, scene: Scene, bound: int, loose: int) -> None:
    """Put proteins of 6 to 12 nm on membranes, half embedded at most, and in the ice between."""
    for i in range(bound + loose):
        radius = rng.uniform(3.0, 6.0) / scene.voxel_nm
        centre = rng.uniform(0.0, np.array(scene.shape) - 1.0)
        if i < bound and scene.membranes:
            shape = scene.membranes[int(rng.integers(len(scene.membranes)))].shape
            foot = shape.samples[int(rng.integers(len(shape.samples))), None]
            side = rng.choice([-1.0, 1.0])
            centre = (foot + side * (radius + rng.uniform(-1.0, 1.5) / scene.voxel_nm) * shape.distance(foot)[1])[0]
            near = 0.5 * radius
        else:
            near = radius + 3.0 / scene.voxel_nm
        if scene.holds(centre[None], radius + 1.0)[0] and scene.free(centre[None], near):
            scene.blobs.append(random_blob(rng, centre, radius, rng.uniform(1.6, 2.6), protein=True))


def add_balls(
    rng: np.random.Generator, scene: Scene, count: int, radii_nm: tuple[float, float], volts: float, lobes: int
) -> None:
    """Put gold beads (no lobes) or ribosome-like lumps where there is room; neither is a class of its own."""
    for _ in range(count):
        radius = rng.uniform(*radii_nm) / scene.voxel_nm
        for _ in range(20):
            centre = rng.uniform(0.0, np.array(scene.shape) - 1.0)
            if scene.holds(centre[None], radius + 2.0)[0] and scene.free(centre[None], radius + 4.0 / scene.voxel_nm):
                ball = random_blob(rng, centre, radius, volts, protein=False, lobes=lobes)
                whole = Blob(centre, radius, volts, np.array([[0.0, 0.0, 0.0, 1.0]]), protein=False)
                scene.blobs.append(ball if lobes else whole)
                break
