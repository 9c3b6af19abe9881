"""The scenes that stored results and shipped weights depend on: one to show, one that they were first trained on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cryoscale.simulate.lattice import WALLS_NM, radius_nm, random_lattice
from cryoscale.simulate.scene import (
    Bilayer,
    Carbon,
    Filament,
    Scene,
    add_balls,
    add_proteins,
    beside,
    clearance,
    encloses,
    first_that,
    random_curve,
    random_direction,
    random_sheet,
    random_vesicle,
)
from cryoscale.simulate.shapes import Shape, Tube

Doubles = npt.NDArray[np.float64]

#: Voxels between the volume's faces and the mid-surface of every membrane of the demo.
DEMO_MARGIN_VOXELS = 10.0
#: Least distance between mid-surfaces in the demo, 8 voxels between membranes 4 nm thick at 10 ångström.
DEMO_GAP_VOXELS = 12.0
GOLD_VOLTS = 12.0
NARROWEST_NM = 8.0
"""Least radius of a membrane tube in the scene of training."""


def demo_scene(rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float) -> Scene:
    """Six to ten vesicles, one of them inside another and two of them close together, and one open sheet.

    All of it lies inside the volume. A volume much smaller than (200, 400, 400) voxels of 10 Å gets what fits.
    """
    scene = Scene(shape, voxel_nm)
    room = 0.5 * shape[0] - DEMO_MARGIN_VOXELS
    largest = min(60.0 / voxel_nm, room / 1.05, 0.3 * min(shape[1:]))
    smallest = min(18.0 / voxel_nm, 0.5 * largest)

    def suits(new: Shape) -> bool:
        return _stands_alone(scene, new)

    def vesicle(low: float, high: float) -> Callable[[], Shape]:
        return lambda: random_vesicle(rng, rng.uniform(0.0, shape), rng.uniform(low, high))

    def add(new: Shape | None) -> None:
        if new is not None:
            scene.membranes.append(Bilayer(new, rng.uniform(2.5, 3.5)))

    count = int(rng.integers(6, 11))
    # The least inner vesicle and the gap must fit into the shortest axis of the outer one.
    for _ in range(5 if 0.35 * largest > DEMO_GAP_VOXELS else 0):
        outer = first_that(vesicle(0.8 * largest, largest), suits, 200)
        inner = _inner(rng, outer) if outer else None
        if inner:
            add(outer)
            add(inner)
            break
    add(first_that(lambda: _demo_sheet(rng, scene, largest), suits, 200))
    fixed = first_that(vesicle(0.4 * largest, 0.65 * largest), suits, 200)
    add(fixed)
    if fixed is not None:
        add(_partner(rng, scene, fixed, (smallest, 0.55 * largest)))
    for attempt in range(4 * count):
        if sum(m.shape.kind == "vesicle" for m in scene.membranes) >= count:
            break
        add(first_that(vesicle(smallest, max(smallest, largest * 0.75 ** (attempt / 2))), suits, 15))
    crowd = np.prod(shape) * voxel_nm**3 / (200.0 * 400.0 * 400.0)
    add_proteins(rng, scene, bound=int(40 * crowd), loose=int(40 * crowd))
    add_balls(rng, scene, max(1, round(4 * crowd)), (5.0, 6.5), GOLD_VOLTS, lobes=0)
    return scene


def _demo_sheet(rng: np.random.Generator, scene: Scene, largest: float) -> Shape:
    radius = rng.uniform(0.65, 0.9) * largest
    return random_sheet(rng, rng.uniform(0.0, scene.shape), radius, random_direction(rng, 0.5), 0.3)


def _inner(rng: np.random.Generator, outer: Shape) -> Shape | None:
    """Make a vesicle that fits into another."""
    middle = outer.samples.mean(axis=0)
    room = float(np.linalg.norm(outer.samples - middle, axis=1).min()) - DEMO_GAP_VOXELS

    def make() -> Shape:
        centre = middle + rng.uniform(-0.2, 0.2, 3) * room
        return random_vesicle(rng, centre, rng.uniform(0.5, 0.9) * max(room, 1.0), 0.7)

    return first_that(make, lambda new: encloses(outer, new) and clearance(outer, new) >= DEMO_GAP_VOXELS, 50)


def _partner(rng: np.random.Generator, scene: Scene, fixed: Shape, radii: tuple[float, float]) -> Shape | None:
    """Make a vesicle 6 to 10 voxels from another and clear of all the rest."""
    others = [m.shape for m in scene.membranes if m.shape is not fixed]
    rest = Scene(scene.shape, scene.voxel_nm, [Bilayer(other, 3.0) for other in others])

    def make() -> Shape:
        moving = random_vesicle(rng, fixed.samples.mean(axis=0), rng.uniform(*radii))
        return beside(fixed, moving, random_direction(rng, 0.4), rng.uniform(6.0, 9.5))

    return first_that(make, lambda new: _stands_alone(rest, new), 80)


def _stands_alone(scene: Scene, new: Shape) -> bool:
    if not scene.holds(new.samples, DEMO_MARGIN_VOXELS).all():
        return False
    apart = not any(encloses(m.shape, new) or encloses(new, m.shape) for m in scene.membranes)
    return apart and scene.clears(new, DEMO_GAP_VOXELS)


def training_scene(
    rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float, narrowest_nm: float = NARROWEST_NM
) -> Scene:
    """Crowded and varied: vesicles, tubes, sheets and double membranes, cut by the borders as they come.

    One scene in sixteen has no membrane at all. Filaments, ribosome-like lumps, gold and carbon belong to no class.
    ``narrowest_nm`` is the least radius of a tube.
    """
    scene = Scene(shape, voxel_nm)
    crowd = float(np.prod(shape)) * voxel_nm**3 / (112.0 * 256.0 * 256.0)
    if rng.random() >= 1 / 16:
        add_membranes(rng, scene, crowd, narrowest_nm)
    add_distractors(rng, scene, crowd, int(rng.poisson(1.0)))
    return scene


def add_membranes(rng: np.random.Generator, scene: Scene, crowd: float, narrowest_nm: float) -> None:
    """Try 6 to 22 membranes at random for each (112, 256, 256) voxels of 1 nm, of which there are `crowd`.

    ``narrowest_nm`` is the least radius of a tube.
    """
    wanted = crowd * rng.uniform(6.0, 22.0)
    for _ in range(int(min(max(2, 2.0 * wanted), 60))):
        if len(scene.membranes) < wanted:
            _add_membrane(rng, scene, narrowest_nm)


def add_distractors(
    rng: np.random.Generator, scene: Scene, crowd: float, filaments: int, microtubules: float = 0.5
) -> None:
    """Put in filaments, proteins, gold, ribosome-like lumps, carbon and the grain of the ice, as they come.

    ``microtubules`` is the share of the filaments that are hollow.
    """
    add_filaments(rng, scene, filaments, microtubules)
    add_proteins(rng, scene, bound=int(rng.integers(0, 120) * crowd), loose=int(rng.integers(0, 80) * crowd))
    add_balls(rng, scene, int(rng.poisson(1.5)), (2.5, 6.0), rng.uniform(6.0, GOLD_VOLTS), lobes=0)
    if rng.random() < 0.4:
        add_balls(rng, scene, int(rng.integers(1, 12)), (11.0, 13.5), rng.uniform(1.8, 2.6), lobes=9)
    if rng.random() < 0.1:
        add_carbon(rng, scene)
    if rng.random() < 0.5:
        scene.texture_volts = rng.uniform(0.05, 0.4)


def _add_membrane(rng: np.random.Generator, scene: Scene, narrowest_nm: float) -> None:
    """Try one membrane at random: alone, doubled, close to the last one, or wherever it falls."""
    gap = rng.uniform(6.5, 12.0) / scene.voxel_nm
    head, leaflets = rng.uniform(1.2, 2.6), rng.uniform(2.5, 3.6)
    lumen = rng.normal(0.0, 0.15) if rng.random() < 0.4 else 0.0
    new = _training_shape(rng, scene, narrowest_nm)
    last = scene.membranes[-1].shape if scene.membranes else None
    if new.kind == "vesicle" and last is not None and rng.random() < 0.25:
        near = random_vesicle(rng, last.samples.mean(axis=0), _training_radius(rng, scene))
        new = beside(last, near, random_direction(rng, 0.6), gap)
        gap *= 0.9
    if scene.holds(new.samples).mean() < 0.05 or not scene.clears(new, gap):
        return
    scene.membranes.append(Bilayer(new, leaflets, head, lumen))
    apart = rng.uniform(8.0, 25.0) / scene.voxel_nm
    if rng.random() < 0.25 and (new.kind == "sheet" or 2.5 * apart < _least_radius(new)):
        inner = new.inset(apart)
        if scene.clears(inner, 6.5 / scene.voxel_nm) and scene.holds(inner.samples).any():
            scene.membranes.append(Bilayer(inner, leaflets, head))


def _training_radius(rng: np.random.Generator, scene: Scene) -> float:
    return float(np.exp(rng.uniform(np.log(11.0), np.log(100.0)))) / scene.voxel_nm


def _training_shape(rng: np.random.Generator, scene: Scene, narrowest_nm: float) -> Shape:
    size = np.array(scene.shape)
    kind = rng.random()
    if kind < 0.6:
        radius = _training_radius(rng, scene)
        return random_vesicle(rng, rng.uniform(-0.5 * radius, size + 0.5 * radius), radius, rng.uniform(0.3, 1.5))
    if kind < 0.75:
        curve = random_curve(rng, rng.uniform(0.0, size), rng.uniform(40, 250) / scene.voxel_nm, rng.uniform(0, 1), 0.5)
        return Tube(curve, rng.uniform(narrowest_nm, 22.0) / scene.voxel_nm)
    radius = np.exp(rng.uniform(np.log(25.0), np.log(200.0))) / scene.voxel_nm
    normal = random_direction(rng, rng.choice([0.3, 1.0]))
    return random_sheet(rng, rng.uniform(0.0, size), radius, normal, rng.choice([0.0, 0.3]))


def _least_radius(shape: Shape) -> float:
    return 0.5 * float(np.ptp(shape.samples, axis=0).min())


def add_filaments(rng: np.random.Generator, scene: Scene, count: int, microtubules: float) -> None:
    """Put microtubules and thin filaments where there is room."""
    for _ in range(count):
        hollow = bool(rng.random() < microtubules)
        radius = (10.5 if hollow else 3.0) / scene.voxel_nm
        length, bend = rng.uniform(100.0, 400.0) / scene.voxel_nm, rng.uniform(0.0, 0.15)
        for _ in range(10):
            curve = random_curve(rng, rng.uniform(0.0, scene.shape), length, bend, 0.3)
            if scene.free(curve, radius + 7.0 / scene.voxel_nm):
                scene.filaments.append(Filament(Tube(curve, radius, "filament"), rng.uniform(1.5, 2.5), hollow))
                break


def add_microtubules(rng: np.random.Generator, scene: Scene, count: int) -> None:
    """Put microtubules where there is room, alone or in bundles of up to six side by side, most of them lying flat."""
    for _ in range(count):
        side_by_side = int(rng.integers(2, 7)) if rng.random() < 0.3 else 1
        length, bend = rng.uniform(150.0, 600.0) / scene.voxel_nm, rng.uniform(0.0, 0.1)
        volts, apart = rng.uniform(1.2, 2.8), rng.uniform(27.0, 45.0) / scene.voxel_nm
        wall_nm = rng.uniform(*WALLS_NM)
        for _ in range(40):
            middle = random_curve(rng, rng.uniform(0.0, scene.shape), length, bend, rng.choice([0.1, 0.3, 1.0]))
            axis = (middle[-1] - middle[0]) / np.linalg.norm(middle[-1] - middle[0])
            lattice = random_lattice(rng, axis)
            radius = radius_nm(lattice.protofilaments) / scene.voxel_nm
            if scene.free(middle, radius + 7.0 / scene.voxel_nm):
                break
        else:
            continue
        across = np.cross(axis, random_direction(rng))
        across /= np.linalg.norm(across)
        for number in range(side_by_side):
            curve = middle + number * apart * across
            if scene.free(curve, radius + 7.0 / scene.voxel_nm):
                tube = Tube(curve, radius, "filament")
                turned = replace(lattice, phase=lattice.phase + number)
                scene.filaments.append(Filament(tube, volts, hollow=True, lattice=turned, wall_nm=wall_nm))


def add_carbon(rng: np.random.Generator, scene: Scene) -> None:
    """Put the edge of a hole in the carbon film across the volume, or just beside it."""
    radius = rng.uniform(400.0, 1000.0) / scene.voxel_nm
    turn = rng.uniform(0.0, 2.0 * np.pi)
    size = np.array(scene.shape[1:])
    away = radius + rng.uniform(-0.4, 0.1) * size.min()
    centre = 0.5 * size + away * np.array([np.cos(turn), np.sin(turn)]) * rng.choice([-1.0, 1.0])
    scene.carbon.append(Carbon(centre, radius, rng.uniform(8.0, 15.0) / scene.voxel_nm, rng.uniform(1.0, 3.0)))
