"""The truth is consistent with itself and with what was asked for."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoscale.simulate import MEMBRANE_THICKNESS_NM, make_phantom
from cryoscale.simulate.phantom import draw
from cryoscale.simulate.scene import Bilayer, Scene
from cryoscale.simulate.shapes import Vesicle

SHAPE = (128, 224, 224)


@pytest.fixture(scope="module")
def demo():
    return make_phantom(SHAPE, seed=4)


@pytest.fixture(scope="module")
def training():
    return make_phantom((64, 128, 128), seed=11, preset="training")


def test_types(demo):
    assert demo.density.shape == demo.classes.shape == demo.instances.shape == demo.beam_angle.shape == SHAPE
    assert demo.density.dtype == demo.beam_angle.dtype == demo.proteins.dtype == np.float32
    assert demo.classes.dtype == np.uint8
    assert demo.instances.dtype == np.uint16
    assert demo.voxel_size_angstrom == 10.0


@pytest.mark.parametrize("name", ["demo", "training"])
def test_volumes_agree(name, request):
    phantom = request.getfixturevalue(name)
    np.testing.assert_array_equal(phantom.classes == 2, phantom.instances > 0)
    np.testing.assert_array_equal(np.isfinite(phantom.beam_angle), phantom.instances > 0)
    angle = phantom.beam_angle[phantom.instances > 0]
    assert 0 <= angle.min() <= angle.max() <= 90
    ids = [m.id for m in phantom.membranes]
    assert ids == list(range(1, len(ids) + 1))
    assert set(np.unique(phantom.instances)) == {0, *ids}
    assert phantom.proteins.shape[1] == 3
    assert (phantom.classes == 1).any()


def test_demo_is_what_it_says(demo):
    kinds = [m.kind for m in demo.membranes]
    assert kinds.count("sheet") == 1
    assert kinds.count("vesicle") >= 4
    assert all(m.closed == (m.kind == "vesicle") for m in demo.membranes)
    face = np.ones(SHAPE, bool)
    face[4:-4, 4:-4, 4:-4] = False
    assert not demo.instances[face].any()


def test_membranes_keep_apart_but_for_one_pair(demo):
    """Between truths 4 voxels thick: 8 voxels, and 2 to 6 for the pair that comes close."""
    points = [np.argwhere(demo.instances == m.id) for m in demo.membranes]
    gaps = sorted(
        cKDTree(a).query(b, distance_upper_bound=16)[0].min() for i, a in enumerate(points) for b in points[:i]
    )
    assert 2 <= gaps[0] <= 7
    assert gaps[1] >= 7


def test_closed_membranes_enclose_and_the_sheet_does_not(demo):
    for membrane, box in zip(demo.membranes, ndimage.find_objects(demo.instances), strict=True):
        own = demo.instances[box] == membrane.id
        inside = ndimage.binary_fill_holes(own) & ~own
        assert inside.any() == membrane.closed
        assert ndimage.label(own, np.ones((3, 3, 3)))[1] == 1


def test_nested_pair(demo):
    nested = [m for m in demo.membranes if m.inside]
    assert len(nested) == 1
    outer = ndimage.binary_fill_holes(demo.instances == nested[0].inside)
    assert outer[demo.instances == nested[0].id].all()
    assert not outer[(demo.instances > 0) & ~np.isin(demo.instances, [nested[0].id, nested[0].inside])].any()


@pytest.mark.parametrize("voxel_size_nm", [0.8, 1.0, 1.6])
def test_sphere_is_drawn_as_two_leaflets_4_nm_thick_in_the_truth(voxel_size_nm):
    scene = Scene((48, 48, 48), voxel_size_nm)
    bumps = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0)
    scene.membranes.append(Bilayer(Vesicle(np.full(3, 23.5), np.full(3, 14.2), np.eye(3), *bumps), leaflets_nm=3.4))
    phantom = draw(scene, np.random.default_rng(0))
    z, y, x = np.mgrid[:48, :48, :48] - 23.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    depth_nm = (radius - 14.2) * voxel_size_nm
    np.testing.assert_array_equal(phantom.instances == 1, np.abs(depth_nm) <= MEMBRANE_THICKNESS_NM / 2)
    own = phantom.instances == 1
    np.testing.assert_allclose(phantom.beam_angle[own], np.degrees(np.arccos(np.abs(z / radius)[own])), atol=0.05)
    centre, heads, ice = (phantom.density[np.abs(np.abs(depth_nm) - d) < 0.2].mean() for d in (0.0, 1.7, 5.0))
    assert heads > 1.25 * centre > 0
    assert ice < 0.01 * heads


def test_beam_angle_tells_caps_from_side_walls(demo):
    outer = max((m for m in demo.membranes if m.closed), key=lambda m: (demo.instances == m.id).sum())
    z, y, x = np.nonzero(demo.instances == outer.id)
    angle = demo.beam_angle[z, y, x]
    rank = (z - z.min()) / np.ptp(z)
    assert angle[(rank < 0.03) | (rank > 0.97)].mean() < 35
    assert angle[(rank > 0.45) & (rank < 0.55)].mean() > 60


def test_densities(demo):
    ice = demo.density[(demo.classes == 0) & (demo.density < 6)]
    assert ice.mean() < 0.2
    assert demo.density[demo.classes == 2].mean() > 1.0
    assert demo.density[demo.classes == 1].mean() > 1.0
    assert demo.density.max() > 6


@pytest.mark.parametrize("preset", ["demo", "training"])
def test_seed_decides_everything(preset):
    one, same, other = (make_phantom((48, 80, 80), seed=s, preset=preset) for s in (1, 1, 2))
    for name in ("density", "classes", "instances", "beam_angle", "proteins"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert one.membranes == same.membranes
    assert (one.density != other.density).any()


def test_training_scenes_vary():
    kinds, cut, most = set(), 0, 0
    for seed in range(8):
        phantom = make_phantom((48, 128, 128), seed=seed, preset="training")
        kinds |= {m.kind for m in phantom.membranes}
        cut += sum(m.kind == "vesicle" and not m.closed for m in phantom.membranes)
        most = max(most, len(phantom.membranes))
    assert kinds == {"vesicle", "tube", "sheet"}
    assert cut >= 3
    assert most >= 3


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"shape": (8, 64, 64)}, "^shape must be three sides"),
        ({"shape": (64, 64)}, "^shape must be three sides"),
        ({"preset": "castle"}, "^preset must be one of .*, real, got 'castle'$"),
        ({"preset": "real"}, "^shapes must be given"),
        ({"voxel_size_angstrom": 0.0}, "^voxel_size_angstrom must be above 0"),
        ({"voxel_size_angstrom": float("inf")}, "^voxel_size_angstrom must be above 0"),
    ],
)
def test_bad_arguments(bad, words):
    with pytest.raises(ValueError, match=words):
        make_phantom(**({"shape": (64, 64, 64)} | bad), seed=0)


def test_mid_surface_lies_on_the_sphere_it_came_from():
    scene = Scene((48, 48, 48), 1.0)
    bumps = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0)
    centre = np.array([23.2, 23.5, 23.9])
    scene.membranes.append(Bilayer(Vesicle(centre, np.full(3, 14.2), np.eye(3), *bumps), leaflets_nm=3.4))
    middle = draw(scene, np.random.default_rng(0)).midsurface
    out = middle.points - centre
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 14.2, atol=1e-5)
    np.testing.assert_allclose(middle.normals, out / 14.2, atol=1e-5)
    assert len(middle.points) == pytest.approx(4 * np.pi * 14.2**2, rel=0.03)
    assert (middle.membrane == 1).all()


@pytest.mark.parametrize("name", ["demo", "training"])
def test_mid_surfaces_are_in_the_middle_of_their_membranes(name, request):
    phantom = request.getfixturevalue(name)
    middle = phantom.midsurface
    np.testing.assert_allclose(np.linalg.norm(middle.normals, axis=1), 1, atol=1e-5)
    voxel = np.rint(middle.points).astype(int)
    held = ((voxel >= 0) & (voxel < phantom.instances.shape)).all(axis=1)
    at = tuple(voxel[held].T)
    np.testing.assert_array_equal(phantom.instances[at], middle.membrane[held])
    angle = np.degrees(np.arccos(np.minimum(np.abs(middle.normals[held, 0]), 1)))
    assert np.abs(angle - phantom.beam_angle[at]).max() < 3
    assert set(middle.membrane) == {m.id for m in phantom.membranes}
