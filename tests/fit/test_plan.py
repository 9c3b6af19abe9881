"""The stage on membranes that are none: every number gets an answer, and the sound ones are not disturbed."""

import numpy as np
import pytest

from cryoscale.band import band_file
from cryoscale.chunks import Region
from cryoscale.fit import plan as stage
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import FitSpec
from tests.plans import run_plan, traced_peak

SHAPE = (40, 60, 70)
GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0))
SPHERE, NOTHING, ONE, THREE, LINE, SHEET, TWO = 1, 2, 3, 4, 5, 6, 7


@pytest.fixture
def tomogram(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    grid = np.stack(np.indices(SHAPE), -1)
    labels[np.abs(np.linalg.norm(grid - [20, 20, 20], axis=-1) - 12) < 1.2] = SPHERE
    labels[2, 2, 2] = ONE
    labels[2, 50, [5, 6, 8]] = THREE
    labels[5, 55, 5:60] = LINE
    labels[20, 38:58, 42:68] = SHEET
    labels[[0, 39], [59, 0], [69, 69]] = TWO
    made = Tomogram("TS_001", "TS_001.mrc", str(tmp_path), GEOMETRY)
    create_image(tmp_path / "instances.ome.zarr", GEOMETRY, labels.dtype, (16, 32, 32))
    write_region(tmp_path / "instances.ome.zarr", Region((0, 0, 0), SHAPE), labels)
    boxes = []
    for number in range(1, TWO + 1):
        at = np.argwhere(labels == number) if number != NOTHING else np.zeros((1, 3), int)
        boxes.append([*at.min(0), *(at.max(0) + 1)])
    counts = np.bincount(labels.ravel(), minlength=TWO + 1)[1:]
    save_npz(tmp_path / "regions.npz", box=np.array(boxes), voxels=counts)
    return made


def test_each_gets_a_surface_or_the_reason_why_not(tomogram, tmp_path):
    planned = stage.plan(
        tomogram, FitSpec(minimum_open_area_nm2=300.0), instances="instances.ome.zarr", regions="regions.npz"
    )
    membranes = {entry["number"]: entry for entry in run_plan(planned)[0]["membranes"]}
    assert sorted(membranes) == list(range(1, TWO + 1))
    assert "reason" not in membranes[SPHERE] and membranes[SPHERE]["closed"]
    assert "reason" not in membranes[SHEET] and not membranes[SHEET]["closed"]
    says = {NOTHING: "found 0", ONE: "found 1", THREE: "found 3", LINE: "one line", TWO: "found 2"}
    for number, words in says.items():
        assert words in membranes[number]["reason"], membranes[number]
        assert not (tmp_path / band_file(number)).exists()
    assert (tmp_path / band_file(SPHERE)).is_file() and (tmp_path / band_file(SHEET)).is_file()


def test_what_was_left_out_before_the_fit_is_listed(tomogram, tmp_path):
    twig = np.array([[20, 20, x] for x in range(36, 56)])
    labels = np.zeros(SHAPE, np.uint16)
    labels[tuple(twig.T)] = SPHERE
    path = str(tmp_path / "instances.ome.zarr")
    write_region(path, Region((0, 0, 0), SHAPE), np.maximum(read_region(path, Region((0, 0, 0), SHAPE)), labels))
    table = load_npz(tmp_path / "regions.npz")
    table["box"][SPHERE - 1, 5] = 56
    save_npz(tmp_path / "regions.npz", **table)
    planned = stage.plan(tomogram, FitSpec(), instances="instances.ome.zarr", regions="regions.npz")
    entry = run_plan(planned)[0]["membranes"][SPHERE - 1]
    found = load_npz(tmp_path / band_file(SPHERE), "pruned_places", "pruned_rules")
    assert len(found["pruned_places"]) == sum(entry["dropped"].values()) >= len(twig) - 4
    for rule, count in entry["dropped"].items():
        assert (found["pruned_rules"] == rule).sum() == count
    listed = set(map(tuple, found["pruned_places"].astype(int).tolist()))
    assert set(map(tuple, twig[4:].tolist())) <= listed


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    """A thin, curved sheet across the whole of a flat volume: its labels, its score and its box."""
    shape = (44, 200, 210)
    folder, geometry = tmp_path_factory.mktemp("leaf"), Geometry(shape, (10.0, 10.0, 10.0))
    z, y, x = np.indices(shape)
    height = np.abs(z - 22 - 14 * np.sin(y / 31 + 0.3) * np.cos(x / 37))
    labels = (height < 2).astype(np.uint16)
    score = np.exp(-((height / 1.7) ** 2)).astype(np.float32)
    for name, values in (("labels", labels), ("score", score)):
        create_image(folder / name, geometry, values.dtype, (32, 32, 32))
        write_region(folder / name, Region((0, 0, 0), shape), values)
    at = np.argwhere(labels)
    box = Region(tuple(at.min(0).tolist()), tuple((at.max(0) + 1).tolist()))
    return str(folder / "labels"), str(folder / "score"), box, shape


@pytest.mark.parametrize("scored", [False, True])
def test_points_do_not_know_the_tiles(leaf, scored, monkeypatch):
    labels, score, box, shape = leaf
    found = {}
    for tile in (23, 64, 1000):
        monkeypatch.setattr(stage, "_TILE_VOXELS", tile)
        found[tile] = stage._points(labels, score if scored else "", 1, box, shape)
    assert len(found[64]) > 30_000
    assert np.array_equal(found[23], found[1000]) and np.array_equal(found[64], found[1000])
    if scored:
        monkeypatch.setattr(stage, "_TILE_VOXELS", 23)
        monkeypatch.setattr(stage, "RIDGE_HALO", stage.RIDGE_HALO - 1)
        assert not np.array_equal(stage._points(labels, score, 1, box, shape), found[1000])


def test_memory_follows_a_tile_and_the_voxels(leaf, monkeypatch):
    labels, score, box, shape = leaf
    points, peak = traced_peak(lambda: stage._points(labels, score, 1, box, shape))
    allowed = stage.tile_bytes(box) + 3 * points.nbytes
    assert peak < allowed
    assert stage.tile_bytes(box) == stage.tile_bytes(Region((0, 0, 0), (box.shape[0], 10_000, 10_000)))
    monkeypatch.setattr(stage, "_TILE_VOXELS", 1000)
    _, whole = traced_peak(lambda: stage._points(labels, score, 1, box, shape))
    assert whole > allowed
