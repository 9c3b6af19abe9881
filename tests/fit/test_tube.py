"""What is a slender straight tube, on surfaces of known shape; and that a run leaves microtubules out."""

from types import SimpleNamespace

import numpy as np
import pytest

from cryoscale.band import Band, band_file
from cryoscale.chunks import Region
from cryoscale.fit import fit_surface
from cryoscale.fit import plan as stage
from cryoscale.fit import tube as module
from cryoscale.fit.tube import tube_radius
from cryoscale.io.files import save_npz
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import FitSpec
from tests.plans import run_plan


def tube(radius: float, length: float, *, turn: float = 360.0, bend: float = 0.0, seed: int = 0) -> np.ndarray:
    """Points on a tube, on `turn` degrees of it, its axis an arc whose height is `bend` times its length."""
    rng = np.random.default_rng(seed)
    count = int(radius * length * np.radians(turn))
    angle, along = np.radians(turn) * (rng.random(count) - 0.5), length * (rng.random(count) - 0.5)
    far = radius + rng.normal(0, 0.3, count)
    lifted = 4 * bend * length * (0.25 - (along / length) ** 2)
    return np.column_stack([far * np.sin(angle), far * np.cos(angle) + lifted, along]) + 100.0


@pytest.mark.parametrize("radius", [9.0, 11.0, 20.0])
def test_the_radius_of_a_tube(radius: float) -> None:
    found = tube_radius(fit_surface(tube(radius, 9 * radius) * 1.3, spacing=1.3))
    assert found == pytest.approx(1.3 * radius, rel=0.04)


def test_a_tube_cut_by_the_borders_and_slightly_bent() -> None:
    assert tube_radius(fit_surface(tube(11.0, 120.0, bend=0.03), spacing=1.0)) == pytest.approx(11.0, rel=0.05)


def test_what_is_no_slender_straight_tube(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    ball = rng.normal(size=(3000, 3))
    sphere = 11.0 * ball / np.linalg.norm(ball, axis=1)[:, None]
    sheet = np.column_stack([rng.normal(0, 0.3, 3000), rng.uniform(0, 60, (3000, 2))])
    groove = fit_surface(tube(11.0, 100.0, turn=180.0), spacing=1.0)
    for points in (sphere, sheet, tube(11.0, 30.0), tube(11.0, 150.0, bend=0.4)):
        assert tube_radius(fit_surface(points, spacing=1.0)) is None
    assert tube_radius(groove) is None
    monkeypatch.setattr(module, "LARGEST_GAP_DEGREES", 360.0)
    assert tube_radius(groove) is not None


SHAPE = (40, 40, 90)


def written(tmp_path, labels, distance):
    """A tomogram of labelled walls, at a distance from each voxel, with a score."""
    labels, score = labels.astype(np.uint16), np.exp(-((distance / 1.5) ** 2)).astype(np.float32)
    geometry = Geometry(SHAPE, (10.0, 10.0, 10.0))
    for name, values in (("labels", labels), ("score", score)):
        create_image(tmp_path / name, geometry, values.dtype, (32, 32, 32))
        write_region(tmp_path / name, Region((0, 0, 0), SHAPE), values)
    numbers = range(1, int(labels.max()) + 1)
    boxes = [[*np.argwhere(labels == k).min(0), *(np.argwhere(labels == k).max(0) + 1)] for k in numbers]
    save_npz(tmp_path / "regions.npz", box=np.array(boxes), voxels=np.bincount(labels.ravel())[1:])
    return Tomogram("TS_001", "TS_001.mrc", str(tmp_path), geometry)


@pytest.fixture
def microtubule(tmp_path):
    """Two tubes side by side, 11 nm and 7 nm in radius."""
    z, y, _ = np.indices(SHAPE)
    wall, narrow = np.abs(np.hypot(z - 13, y - 14) - 11.2), np.abs(np.hypot(z - 30, y - 31) - 7.0)
    return written(tmp_path, (wall < 1.5) + 2 * (narrow < 1.5), np.minimum(wall, narrow))


@pytest.mark.parametrize(
    ("scores", "drop", "dropped"), [("score", True, True), ("score", False, False), ("", True, False)]
)
def test_a_microtubule_that_the_network_found_is_left_out(microtubule, scores, drop, dropped, tmp_path):
    spec = FitSpec(drop_microtubules=drop, minimum_open_area_nm2=100.0)
    planned = stage.plan(microtubule, spec, instances="labels", regions="regions.npz", scores=scores)
    entries = {entry["number"]: entry for entry in run_plan(planned)[0]["membranes"]}
    assert ("microtubule: straight tube of radius 11" in entries[1].get("reason", "")) == dropped
    assert (tmp_path / band_file(1)).exists() != dropped
    assert "reason" not in entries[2] and (tmp_path / band_file(2)).exists()


@pytest.mark.parametrize("drop", [True, False])
def test_its_two_walls_are_left_out_and_a_flat_sheet_beside_them_is_not(tmp_path, drop):
    z, y, _ = np.indices(SHAPE)
    side = (y - 14) / np.maximum(np.hypot(z - 20, y - 14), 1)
    wall, sheet = np.abs(np.hypot(z - 20, y - 14) - 11.2), np.where(np.abs(z - 20) < 10, np.abs(y - 36), 99)
    labels = (wall < 1.5) * ((side > 0.6) + 2 * (side < -0.6)) + 3 * (sheet < 1.5)
    tomogram = written(tmp_path, labels, np.minimum(np.where(np.abs(side) > 0.6, wall, 99), sheet))
    spec = FitSpec(drop_microtubules=drop, minimum_open_area_nm2=100.0)
    planned = stage.plan(tomogram, spec, instances="labels", regions="regions.npz", scores="score")
    one, two, flat = run_plan(planned)[0]["membranes"]
    assert ("a microtubule: with 2 the walls of a straight tube of radius 11" in one.get("reason", "")) == drop
    assert ("a microtubule: with 1 the walls" in two.get("reason", "")) == drop
    assert "reason" not in flat


@pytest.mark.parametrize("scores", ["score", ""])
def test_a_thin_scrap_of_the_networks_is_left_out_and_a_mask_as_thin_is_not(tmp_path, scores):
    z, y, _ = np.indices(SHAPE)
    far = np.abs(z - 14 - 0.004 * (y - 20) ** 2), np.abs(z - 30 - 0.004 * (y - 20) ** 2)
    # Every third row of the second, as fringes are; both have a ridge all over.
    labels = (far[0] < 1.6) + 2 * ((far[1] < 0.8) & (y % 3 == 0))
    tomogram = written(tmp_path, labels, np.minimum(*far))
    spec = FitSpec(minimum_open_area_nm2=100.0)
    planned = stage.plan(tomogram, spec, instances="labels", regions="regions.npz", scores=scores)
    whole, scrap = run_plan(planned)[0]["membranes"]
    assert "reason" not in whole
    assert ("too thin for a membrane: 0." in scrap.get("reason", "")) == bool(scores)


def test_a_surface_without_area_is_no_division_by_it():
    none = np.zeros(0, np.float32)
    band, surface = Band(np.zeros((0, 3), np.int32), none, none, none, False), SimpleNamespace(closed=False)
    spec = FitSpec(minimum_open_area_nm2=0.0, drop_microtubules=False)
    assert stage._no_membrane(surface, band, 1.0, spec, network_voxels=5) == ""
