"""The wall of a microtubule: as many protofilaments as asked, tubulin every 4.05 nm, as much of it as a smooth wall."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.simulate import SCENES
from cryoscale.simulate.lattice import Lattice, radius_nm, random_lattice
from cryoscale.simulate.phantom import draw
from cryoscale.simulate.scene import Filament, Scene
from cryoscale.simulate.shapes import Tube

VOXEL_NM = 0.5
AXIS = np.array([0.0, 0.6, 0.8])
LATTICE = Lattice(AXIS, 13, 1e9, 0.4, 0.5, 0.3)


def _places(turn, height_nm):
    """Places in voxels on the wall and its normals, by a frame of the test's own; the angle runs the other way."""
    first, second = np.array([1.0, 0.0, 0.0]), np.cross([1.0, 0.0, 0.0], AXIS)
    normals = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
    return (11.2 * normals + height_nm[:, None] * AXIS) / VOXEL_NM, normals


def _harmonic(values):
    """Number of periods in the values of one round, and what share of their mean the wave is."""
    spectrum = np.abs(np.fft.rfft(values))
    number = int(spectrum[1:].argmax()) + 1
    return number, 2 * spectrum[number] / spectrum[0]


@pytest.mark.parametrize("count", [11, 13, 15])
def test_protofilaments_go_round_and_monomers_along(count):
    lattice = replace(LATTICE, protofilaments=count)
    round_, still = np.linspace(0, 2 * np.pi, 390, endpoint=False), np.zeros(390)
    number, contrast = _harmonic(replace(lattice, along=0.0).density(*_places(round_, still), VOXEL_NM))
    assert (number, contrast) == (count, pytest.approx(0.5, rel=1e-6))
    along = np.arange(390) * 40.5 / 390
    number, contrast = _harmonic(lattice.density(*_places(still + 0.3, along), VOXEL_NM))
    box = np.mean(np.cos(2 * np.pi * np.linspace(-0.5, 0.5, 20_001) * VOXEL_NM / 4.05))
    assert (number, contrast) == (10, pytest.approx(0.3 * box, rel=1e-4))


def test_the_grain_adds_nothing_and_takes_nothing():
    turn, height = (part.ravel() for part in np.meshgrid(np.arange(130) * 2 * np.pi / 130, np.arange(100) * 4.05 / 100))
    assert LATTICE.density(*_places(turn, height), VOXEL_NM).mean() == pytest.approx(1.0, abs=1e-9)


def test_a_wall_with_a_lattice_is_drawn_in_no_class():
    curve = np.linspace([20.0, 0, 20], [20.0, 79, 20], 20)
    smooth = Filament(Tube(curve, radius_nm(13), "filament"), 2.0, hollow=True)
    lattice = replace(LATTICE, axis=np.array([0.0, 1.0, 0.0]))
    phantoms = []
    for filament in (smooth, replace(smooth, lattice=lattice)):
        scene = Scene((40, 80, 40), 1.0, filaments=[filament])
        phantoms.append(draw(scene, np.random.default_rng(0)))
    plain, grained = (phantom.density[:, 20:60] for phantom in phantoms)
    assert grained.sum() == pytest.approx(plain.sum(), rel=0.01)
    ratio = grained[plain > 0.5] / plain[plain > 0.5]
    assert ratio.min() < 0.5 < 1.5 < ratio.max()
    assert not phantoms[1].classes.any()
    assert plain[20, 20].argmax() in (9, 31)  # 11.2 voxels from the axis


@pytest.mark.parametrize("wall_nm", [3.4, 4.8])
def test_a_wall_is_as_thick_as_asked_at_half_its_density(wall_nm):
    # So wide that it is nearly flat, and cut where it stands upright in the slices.
    tube = Tube(np.linspace([60.0, 0, 60], [60.0, 39, 60], 20), 50.0, "filament")
    phantom = draw(
        Scene((120, 40, 120), 0.5, filaments=[Filament(tube, 2.0, hollow=True, wall_nm=wall_nm)]),
        np.random.default_rng(0),
    )
    line = phantom.density[60, 20, :60].astype(float)
    fine = np.interp(np.linspace(0, 59, 59_001), np.arange(60), line)
    assert (fine >= 0.5 * fine.max()).sum() / 1000 * 0.5 == pytest.approx(wall_nm, rel=0.02)


def test_the_presets_microtubules_have_the_radius_of_their_number():
    filaments = [
        f
        for seed in range(6)
        for f in SCENES["microtubules"](np.random.default_rng(seed), (64, 128, 128), 1.2).filaments
    ]
    grained = [f for f in filaments if f.lattice is not None]
    assert len(grained) >= 10
    for filament in grained:
        assert filament.hollow
        assert 3.4 <= filament.wall_nm <= 4.8
        assert filament.tube.radius * 1.2 == pytest.approx(11.2 * filament.lattice.protofilaments / 13)
    assert np.ptp([f.wall_nm for f in grained]) > 0.7
    counts = [random_lattice(np.random.default_rng(seed), AXIS).protofilaments for seed in range(200)]
    assert 0.5 < np.mean(np.array(counts) == 13) < 0.7
    assert set(counts) == {11, 12, 13, 14, 15}
