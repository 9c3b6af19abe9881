"""The family of scenes: what SHREC 2021 had is a default, held-out shapes are held out, ice ends where it says."""

import inspect
from dataclasses import fields

import numpy as np
import pytest

from cryoscale.simulate import (
    CONDITIONS,
    MEMBRANE_THICKNESS_NM,
    SCENES,
    Conditions,
    Drawn,
    image_phantom,
    make_phantom,
    training_conditions,
    training_volume,
)
from cryoscale.simulate.family import posed_scene
from cryoscale.simulate.microscope import tilt_angles
from cryoscale.simulate.phantom import VACUUM_VOLTS, draw
from cryoscale.simulate.scene import Bilayer, Ice, Scene
from cryoscale.simulate.shapes import Vesicle
from cryoscale.simulate.training import _drawn_as_shipped


def test_every_number_of_shrec_2021_is_a_default():
    given = {name: p.default for name, p in inspect.signature(image_phantom).parameters.items()}
    wanted = Conditions()
    assert CONDITIONS["shrec2021"] == wanted
    assert len(tilt_angles(given["tilt_range_degrees"], given["tilt_step_degrees"])) == 61
    assert (given["tilt_range_degrees"],) * 2 == wanted.tilt_range_degrees == (60.0, 60.0)
    assert (given["tilt_step_degrees"],) == wanted.tilt_steps_degrees
    assert given["voltage_kv"] == wanted.voltage_kv == 300.0
    assert given["cs_mm"] == wanted.cs_mm == 2.7
    assert wanted.defocus_um == (2.0, 5.0)
    assert wanted.dose_per_angstrom2 == (100.0, 120.0)
    assert wanted.snr == (0.12, 0.58)
    assert wanted.voxel_size_angstrom == (10.0, 10.0)
    for name in ("defocus_um", "dose_per_angstrom2", "amplitude_contrast", "voxel_size_angstrom", "shift_sd_nm"):
        low, high = getattr(wanted, name)
        assert low <= given[name] <= high, name
    scene = SCENES["shrec2021"](_rng(0), (100, 200, 200), 1.0)
    assert all(2.5 <= membrane.leaflets_nm <= 3.5 for membrane in scene.membranes)
    assert any(blob.protein for blob in scene.blobs)
    assert any(blob.volts > 10 for blob in scene.blobs)


def _rng(seed):
    return np.random.default_rng(seed)


def test_conditions_stay_in_their_ranges_and_come_from_the_seed():
    wide = CONDITIONS["cell"]
    drawn = [wide.drawn(_rng(seed)) for seed in range(200)]
    assert drawn[3] == wide.drawn(_rng(3))
    taken = inspect.signature(image_phantom).parameters
    assert set(drawn[0]) == set(taken) - {"density", "seed"}
    for field in fields(wide):
        range_ = getattr(wide, field.name)
        if field.name in drawn[0] and isinstance(range_, tuple) and field.name not in ("snr", "sirt_iterations"):
            values = [one[field.name] for one in drawn]
            assert range_[0] <= min(values) < max(values) <= range_[1]
            assert np.ptp(values) > 0.9 * (range_[1] - range_[0])
    snrs = np.array([one["snr"] for one in drawn])
    assert 0.04 < np.isinf(snrs).mean() < 0.17
    assert 0.05 <= snrs.min() < 0.07
    assert {one["tilt_step_degrees"] for one in drawn} == {1.0, 2.0, 3.0}
    assert {one["sirt_iterations"] for one in drawn} == {0, 8, 15, 30}


def test_held_out_shapes_are_in_no_training_scene():
    def kinds(preset, seeds):
        scenes = [SCENES[preset](_rng(seed), (64, 128, 128), 1.6) for seed in seeds]
        return {m.shape.kind for scene in scenes for m in scene.membranes}, scenes

    held, scenes = kinds("heldout", range(95_000, 95_003))
    trained = kinds("training", range(3))[0] | kinds("cell", range(3))[0]
    assert {"blend", "scroll"} <= held
    assert held - {"tube"} and not (held - {"tube"}) & trained
    # A coil has more points than the parabolas of training, and turns more.
    coils = [m.shape.curve for scene in scenes for m in scene.membranes if m.shape.kind == "tube"]
    assert coils
    assert all(_turn(curve) > 3.0 for curve in coils)


def _turn(curve):
    """Angle in radian by which a curve turns in all."""
    along = np.diff(curve, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return np.arccos(np.clip((along[1:] * along[:-1]).sum(axis=1), -1, 1)).sum()


@pytest.mark.parametrize("preset", ["cell", "microtubules", "heldout"])
def test_one_seed_one_scene(preset):
    one, same, other = (make_phantom((48, 80, 80), seed=s, preset=preset, voxel_size_angstrom=18.0) for s in (9, 9, 5))
    for name in ("density", "classes", "instances", "beam_angle", "proteins"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    np.testing.assert_array_equal(one.midsurface.points, same.midsurface.points)
    assert (one.density != other.density).any()
    np.testing.assert_array_equal(one.classes == 2, one.instances > 0)
    assert set(np.unique(one.instances)) - {0} == {m.id for m in one.membranes}


def test_cells_have_folds():
    kinds = [m.shape.kind for s in range(8) for m in SCENES["cell"](_rng(s), (48, 128, 128), 1.6).membranes]
    assert kinds.count("fold") >= 2


def test_volumes_to_train_on_come_from_any_preset():
    tomogram, classes = training_volume(12, (32, 64, 96), "cell")
    assert tomogram.shape == classes.shape == (32, 64, 96)
    assert np.isfinite(tomogram).all()
    np.testing.assert_array_equal(tomogram, training_volume(12, (32, 64, 96), "cell")[0])


def _ball(radius: float) -> list[list[Drawn]]:
    """A sphere's mid-surface, in nm."""
    way = np.random.default_rng(0).normal(size=(40_000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return [[Drawn(radius * way + 500.0, way, 1.0, closed=True)]]


def test_real_shapes_are_turned_but_keep_their_size():
    for seed, voxel_nm in ((0, 0.8), (1, 1.6), (2, 1.0)):
        scene = posed_scene(_rng(seed), (96, 96, 96), voxel_nm, _ball(20.0))
        phantom = draw(scene, _rng(seed))
        q = np.argwhere(phantom.instances == 1)
        middle = np.linalg.lstsq(np.column_stack([2 * q, np.ones(len(q))]), (q**2).sum(1), rcond=None)[0]
        radius = np.sqrt(middle[3] + (middle[:3] ** 2).sum())
        assert len(q) > 100
        assert radius == pytest.approx(20.0 / voxel_nm, abs=0.3)
        # As thick as any membrane, by the normals that were turned with it.
        away = np.linalg.norm(q - middle[:3], axis=1) - radius
        assert np.quantile(np.abs(away), 0.99) < 0.5 * MEMBRANE_THICKNESS_NM / voxel_nm + 0.5


def test_volumes_to_train_on_are_made_of_real_shapes():
    shape = (32, 64, 96)
    volumes = [*_ball(15.0), *_ball(30.0)]
    tomogram, classes = training_volume(4, shape, "real", volumes)
    assert tomogram.shape == classes.shape == shape and np.isfinite(tomogram).all()
    assert (classes == 2).any()
    np.testing.assert_array_equal(tomogram, training_volume(4, shape, "real", volumes)[0])
    for preset, given in (("real", ()), ("cell", volumes)):
        with pytest.raises(ValueError, match="volumes must be given with the preset real and with no other"):
            training_volume(4, shape, preset, given)
    assert training_conditions("real").voxel_size_angstrom == training_conditions("training").voxel_size_angstrom


def test_ice_ends_at_its_faces():
    """Vacuum beyond a tilted, wavy face of known height; nothing of the specimen in it; ice as it was below."""
    scene = Scene((48, 40, 40), 1.0)
    wave = np.array([2.0, 0.2, 0.1, 0.5])
    upper, lower = Ice(36.0, np.array([0.1, -0.05]), wave, True), Ice(6.0, np.zeros(2), np.zeros(4), False)
    scene.ice += [upper, lower]
    bumps = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0)
    ball = Vesicle(np.array([20.0, 20, 20]), np.full(3, 9.0), np.eye(3), *bumps)
    scene.membranes.append(Bilayer(ball, 3.0))
    phantom = draw(scene, _rng(0))
    z, y, x = np.mgrid[:48, :40, :40].astype(float)
    face = 36 + 0.1 * (y - 19.5) - 0.05 * (x - 19.5) + 2 * np.sin(0.2 * (y - 19.5) + 0.1 * (x - 19.5) + 0.5)
    vacuum, ice = (z > face + 3) | (z < 3), (z < face - 3) & (z > 9)
    np.testing.assert_allclose(phantom.density[vacuum], VACUUM_VOLTS, atol=0.01)
    scene.ice.clear()
    np.testing.assert_allclose(phantom.density[ice], draw(scene, _rng(0)).density[ice], atol=0.01)
    scene.ice += [upper, lower]
    assert not scene.clears(Vesicle(np.array([34.0, 20, 20]), np.full(3, 9.0), np.eye(3), *bumps), 2.0)
    assert not scene.free(np.array([[5.0, 20, 20]]), 0.5)
    assert scene.free(np.array([[20.0, 20, 4]]), 2.0)


def test_what_results_and_weights_depend_on_is_what_it_was():
    """The order of the draws of the demo and of the shipped weights' training, by what comes out of them."""
    for preset, kinds, membrane, volts in (
        ("demo", ["sheet", "vesicle", "vesicle", "vesicle"], 8743, 25918.976),
        ("training", ["sheet"], 16485, 75025.111),
    ):
        phantom = make_phantom((48, 80, 80), seed=1, preset=preset)
        assert [m.kind for m in phantom.membranes] == kinds
        assert np.count_nonzero(phantom.instances) == membrane
        assert phantom.density.sum(dtype=float) == pytest.approx(volts, rel=1e-6)
    drawn = _drawn_as_shipped(_rng([3, 1]))
    expected = {"voxel_size_angstrom": 10.026024622802117, "snr": 0.1167797380865562, "phase_flip": False}
    expected |= {"tilt_range_degrees": 56.83912598397883, "tilt_step_degrees": 3.0, "defocus_um": 4.71962537353097}
    expected |= {"amplitude_contrast": 0.09300645196382532, "shift_sd_nm": 0.521530144743721}
    assert drawn == pytest.approx(expected, rel=1e-12)
    demo = CONDITIONS["demo"].drawn(_rng(0))
    assert demo["tilt_step_degrees"] == 3.0
    assert (demo["defocus_um"], demo["dose_per_angstrom2"], demo["shift_sd_nm"]) == (3.0, 110.0, 0.5)
    assert (demo["detector_at_nyquist"], demo["sirt_iterations"], demo["voxel_size_angstrom"]) == (1.0, 0, 10.0)
