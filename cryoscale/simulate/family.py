"""The family of scenes by name, and what each is imaged with.

- demo: vesicles, one inside another, two that nearly touch, an open sheet (`presets.demo_scene`)
- training: what the shipped weights were trained on, later with cell and microtubules too (`presets.training_scene`)
- shrec2021: the scene of the demo, imaged as the tomograms of SHREC 2021 were
- cell: the scene of training, with cristae and the ice's own faces; wider numbers
- microtubules: the scene of training, or microtubules with the grain of their walls in bundles among fewer membranes
- heldout: shapes that neither training nor cell has, with numbers of their own: balls run into each other, their
  doubles, coiled tubes, scrolls; never to be trained on
- real: membranes of a label volume, with proteins, gold and ribosomes around them
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cryoscale.simulate.blend import Blend
from cryoscale.simulate.conditions import DEMO, TRAINING, WIDE, Conditions
from cryoscale.simulate.labels import Drawn
from cryoscale.simulate.presets import GOLD_VOLTS, add_distractors, add_membranes, add_microtubules, demo_scene
from cryoscale.simulate.presets import training_scene as _training_scene
from cryoscale.simulate.ribbon import Ribbon, meander, scroll
from cryoscale.simulate.scene import (
    Bilayer,
    Ice,
    Scene,
    add_balls,
    add_proteins,
    random_direction,
    random_rotation,
)
from cryoscale.simulate.shapes import Shape, Sheet, Tube

Doubles = npt.NDArray[np.float64]
NARROWEST_TUBE_NM = 15.0
"""Least radius of a membrane tube among microtubules: one as narrow as they are, 11 nm, could not be told from them."""
SURROUNDINGS_NM = 20.0
"""How far outside a volume a membrane is known, to be drawn right inside."""
FEWER_MEMBRANES = 0.4
"""Membranes made up beside real ones, or among microtubules, as a share of the usual number."""
MICROTUBULES = 0.7
"""Share of a cell's filaments that are microtubules."""


def cell_scene(rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float) -> Scene:
    """Everything at once: all shapes of training, envelopes with cristae, distractors, faces of ice and carbon.

    One scene in sixteen has no membrane at all.
    """
    scene = Scene(shape, voxel_nm)
    crowd = float(np.prod(shape)) * voxel_nm**3 / (112.0 * 256.0 * 256.0)
    if rng.random() < 0.35:
        add_ice(rng, scene)
    if rng.random() >= 1 / 16:
        if rng.random() < 0.4:
            _add_envelope(rng, scene)
        add_membranes(rng, scene, crowd, NARROWEST_TUBE_NM)
    # At times a bundle: the walls of microtubules are what is most like a membrane.
    add_distractors(rng, scene, crowd, int(rng.poisson(rng.choice([1.0, 4.0, 12.0]))), MICROTUBULES)
    return scene


def microtubule_scene(rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float) -> Scene:
    """Microtubules, most of them flat and some in bundles, among fewer membranes than in training or none.

    One scene in three is that of training: what it teaches must not be lost.
    """
    if rng.random() < 0.35:
        return _training_scene(rng, shape, voxel_nm, NARROWEST_TUBE_NM)
    scene = Scene(shape, voxel_nm)
    crowd = float(np.prod(shape)) * voxel_nm**3 / (112.0 * 256.0 * 256.0)
    if rng.random() < 0.75:
        add_membranes(rng, scene, FEWER_MEMBRANES * crowd, NARROWEST_TUBE_NM)
    add_microtubules(rng, scene, 5 + int(rng.poisson(min(3.0 * crowd, 15.0))))
    add_distractors(rng, scene, crowd, int(rng.poisson(1.0)), 0.0)
    return scene


def add_ice(rng: np.random.Generator, scene: Scene) -> None:
    """Put one or both faces of the ice, tilted and wavy, into the volume."""
    depth, breadth = scene.shape[0], float(min(scene.shape[1:]))
    for upper in (False, True) if rng.random() < 0.5 else (bool(rng.random() < 0.5),):
        inwards = rng.uniform(0.0, 0.15) * depth
        length = rng.uniform(0.5, 2.0) * breadth
        turn = rng.uniform(0.0, 2.0 * np.pi)
        along = 2.0 * np.pi / length * np.array([np.cos(turn), np.sin(turn)])
        wave = np.array([rng.uniform(0.0, 0.04) * depth, *along, rng.uniform(0.0, 2.0 * np.pi)])
        slope = rng.uniform(-0.1, 0.1, 2) * depth / breadth
        scene.ice.append(Ice(depth - 1 - inwards if upper else inwards, slope, wave, upper))


def _add_envelope(rng: np.random.Generator, scene: Scene) -> None:
    """Try a piece of a mitochondrion: an inner membrane folded into cristae, and the outer one beside it."""
    nm = 1.0 / scene.voxel_nm
    folds = int(rng.integers(1, 5))
    tip, mouth = rng.uniform(6.5, 12.0) * nm, rng.uniform(8.0, 25.0) * nm
    walls = rng.uniform(30.0, 140.0, folds) * nm
    # Down and up again beside each lumen; the turns are tips inside and mouths at the envelope.
    curve = meander(np.repeat(walls, 2), np.resize([tip, mouth], 2 * folds - 1))
    rotation, centre = random_rotation(rng), rng.uniform(0.0, scene.shape)
    inner = Ribbon(centre, rotation, curve, rng.uniform(50.0, 160.0) * nm)
    apart = rng.uniform(8.0, 16.0) * nm
    foot = centre + rotation[:, 0] * (curve[:, 0].min() - apart)
    outer = Sheet(foot, rotation, max(float(np.ptp(curve[:, 1])), inner.half_width), np.zeros(3), np.zeros(4))
    leaflets, head = rng.uniform(2.5, 3.5), rng.uniform(1.2, 2.6)
    for new in (inner, outer):
        if scene.holds(new.samples).mean() >= 0.05 and scene.clears(new, 6.5 * nm):
            scene.membranes.append(Bilayer(new, leaflets, head))


def heldout_scene(rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float) -> Scene:
    """Shapes and numbers of their own, so that a score says what a network knows of membranes as such."""
    scene = Scene(shape, voxel_nm)
    crowd = float(np.prod(shape)) * voxel_nm**3 / (112.0 * 256.0 * 256.0)
    wanted = max(3.0, crowd * rng.uniform(9.0, 13.0))
    makers = (_scroll, _blend, _coil, _blend)
    for attempt in range(int(np.clip(4.0 * wanted, 60, 120))):
        if len(scene.membranes) >= wanted:
            break
        new = makers[attempt % len(makers)](rng, scene)
        if scene.holds(new.samples).mean() < 0.3 or not scene.clears(new, 10.0 / voxel_nm):
            continue
        head = rng.normal(1.9, 0.15)
        scene.membranes.append(Bilayer(new, rng.uniform(2.8, 3.2), head))
        inner = new.inset(14.0 / voxel_nm)
        if new.kind == "blend" and rng.random() < 0.3 and scene.clears(inner, 10.0 / voxel_nm):
            scene.membranes.append(Bilayer(inner, rng.uniform(2.8, 3.2), head))
    add_proteins(rng, scene, bound=int(50 * crowd), loose=int(30 * crowd))
    add_balls(rng, scene, max(1, round(crowd)), (4.0, 5.0), 10.0, lobes=0)
    add_balls(rng, scene, max(1, round(3 * crowd)), (12.0, 13.0), 2.2, lobes=7)
    scene.texture_volts = 0.15
    return scene


def _blend(rng: np.random.Generator, scene: Scene) -> Shape:
    radius = rng.uniform(28.0, 55.0) / scene.voxel_nm
    balls = int(rng.integers(2, 5))
    radii = radius * rng.uniform(0.6, 1.0, balls)
    steps = np.stack([random_direction(rng) for _ in range(balls)]) * (0.85 * radii[:, None])
    return Blend(rng.uniform(0.0, scene.shape) + np.cumsum(steps, axis=0), radii, 0.25 * float(radii.min()))


def _coil(rng: np.random.Generator, scene: Scene) -> Shape:
    t = np.linspace(0.0, 2.0 * np.pi * rng.uniform(0.6, 1.3), 60)[:, None]
    axis, across, third = random_rotation(rng).T
    radius, rise = rng.uniform(35.0, 60.0) / scene.voxel_nm, rng.uniform(60.0, 90.0) / scene.voxel_nm
    curve = radius * (np.cos(t) * across + np.sin(t) * third) + rise * t / (2.0 * np.pi) * axis
    return Tube(rng.uniform(0.0, scene.shape) + curve - curve.mean(axis=0), rng.uniform(12.0, 18.0) / scene.voxel_nm)


def _scroll(rng: np.random.Generator, scene: Scene) -> Shape:
    nm = 1.0 / scene.voxel_nm
    curve = scroll(rng.uniform(20.0, 35.0) * nm, rng.uniform(28.0, 40.0) * nm, rng.uniform(0.8, 1.8))
    rotation = random_rotation(rng)
    return Ribbon(rng.uniform(0.0, scene.shape), rotation, curve, rng.uniform(40.0, 90.0) * nm, "scroll")


def real_scene(
    rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float, shapes: Sequence[Drawn]
) -> Scene:
    """Put the membranes of a label volume, their common box in the middle, among proteins, gold and ribosomes."""
    scene = Scene(shape, voxel_nm)
    low = np.min([drawn.points.min(axis=0) for drawn in shapes], axis=0)
    high = np.max([drawn.points.max(axis=0) for drawn in shapes], axis=0)
    moved = 0.5 * (np.array(shape) - 1.0) - 0.5 * (low + high)
    for drawn in shapes:
        membrane = replace(drawn, points=drawn.points + moved)
        if scene.holds(membrane.points).any():
            scene.membranes.append(Bilayer(membrane, rng.uniform(2.5, 3.5)))
    crowd = float(np.prod(shape)) * voxel_nm**3 / (200.0 * 400.0 * 400.0)
    add_proteins(rng, scene, bound=int(40 * crowd), loose=int(40 * crowd))
    add_balls(rng, scene, max(1, round(4 * crowd)), (5.0, 6.5), GOLD_VOLTS, lobes=0)
    add_balls(rng, scene, max(1, round(6 * crowd)), (11.0, 13.5), 2.2, lobes=9)
    return scene


def posed_scene(
    rng: np.random.Generator, shape: tuple[int, int, int], voxel_nm: float, volumes: Sequence[Sequence[Drawn]]
) -> Scene:
    """Put the membranes of one of several label volumes, in nm, turned and cut as they come, among everything else.

    A few membranes of the training come with them where there is room.
    """
    scene = Scene(shape, voxel_nm)
    shapes = volumes[int(rng.integers(len(volumes)))]
    every = np.concatenate([drawn.points for drawn in shapes])
    # Some point of them lies in the middle half: none comes in vain.
    pivot, place = every[int(rng.integers(len(every)))], rng.uniform(0.25, 0.75, 3) * shape
    rotation, leaflets, head = random_rotation(rng), rng.uniform(2.5, 3.5), rng.uniform(1.2, 2.6)
    for drawn in shapes:
        membrane = drawn.posed(pivot, rotation, 1.0 / voxel_nm, place)
        if scene.holds(membrane.points).any():
            margin = SURROUNDINGS_NM / voxel_nm + membrane.spacing
            scene.membranes.append(Bilayer(membrane.within(shape, margin), leaflets, head))
    crowd = float(np.prod(shape)) * voxel_nm**3 / (112.0 * 256.0 * 256.0)
    add_membranes(rng, scene, FEWER_MEMBRANES * crowd, NARROWEST_TUBE_NM)
    add_distractors(rng, scene, crowd, int(rng.poisson(rng.choice([1.0, 4.0, 12.0]))), MICROTUBULES)
    return scene


SCENES: dict[str, Callable[[np.random.Generator, tuple[int, int, int], float], Scene]] = {
    "demo": demo_scene,
    "training": _training_scene,
    "shrec2021": demo_scene,
    "cell": cell_scene,
    "microtubules": microtubule_scene,
    "heldout": heldout_scene,
}

CONDITIONS: dict[str, Conditions] = {
    "demo": DEMO,
    "training": TRAINING,
    "shrec2021": Conditions(),
    "cell": WIDE,
    "microtubules": TRAINING,
    "heldout": Conditions(snr=(0.1, 0.3), defocus_um=(2.5, 4.5), shift_sd_nm=(0.4, 0.6)),
    "real": Conditions(),
}
"""Of each preset; for training itself, `training.training_volume` draws about the same in an order of its own."""
