"""The stage end to end on analytic spheres: meshes, labels, sd; any chunking, any order."""

import json
import tracemalloc

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from cryoscale.band import band_file
from cryoscale.chunks import Region
from cryoscale.io.meshes import read_ply
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import SurfaceSpec
from cryoscale.surface import plan as stage
from tests.plans import run_plan
from tests.surface.shapes import band_of, distance_to_sphere, save_band

SHAPE = (40, 50, 60)
SPHERES = {1: ((19.3, 20.1, 19.8), 12.0), 2: ((20.4, 24.2, 41.7), 11.0), 5: ((19.0, 20.0, 20.0), 5.0)}
GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0), (-50.0, 100.0, 1000.0))
SPEC = SurfaceSpec(thickness_nm=3.0, inferred_beyond_nm=4.0)


def prepare(folder):
    fitted = [{"number": 3, "reason": "too few points"}]
    for number, (centre, radius) in SPHERES.items():
        fitted.append({"number": number, "closed": True})
        distance = distance_to_sphere(SHAPE, centre, radius)
        save_band(folder / band_file(number), band_of(distance, sd=0.1 * number, support=support_of(number)))
    return Tomogram("TS_001", "TS_001.mrc", str(folder), GEOMETRY), fitted


def support_of(number):
    """Distance in voxels of each grid point's foot on a sphere to the part of it below its centre."""
    centre, radius = SPHERES[number]
    offset = np.moveaxis(np.indices(SHAPE, dtype=float), 0, -1) - centre
    feet = radius * offset / np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-9)
    seen = np.argwhere(np.abs(distance_to_sphere(SHAPE, centre, radius)) <= 0.9) - centre
    return cKDTree(seen[seen[:, 0] < 0]).query(feet)[0]


def dense_oracle():
    distances = np.stack([np.abs(distance_to_sphere(SHAPE, *SPHERES[k])).astype(np.float32) for k in SPHERES])
    nearest = distances.argmin(axis=0)
    inside = distances.min(axis=0) <= 1.5
    numbers = np.array(list(SPHERES))
    return np.where(inside, numbers[nearest], 0), np.where(inside, 0.1 * numbers[nearest], 0)


@pytest.mark.parametrize("chunk", [(8, 16, 16), (40, 50, 60), (16, 8, 32)])
def test_support_is_that_of_the_membrane_whose_voxel_it_is(tmp_path, chunk):
    tomogram, fitted = prepare(tmp_path)
    summary, _ = run_plan(stage.plan(tomogram, SPEC, chunk, fitted=fitted), seed=2)
    support = read_region(tmp_path / summary["support"])
    labels, _ = dense_oracle()
    wanted = sum(np.where(labels == number, support_of(number), 0) for number in SPHERES)
    np.testing.assert_allclose(support, wanted, rtol=1e-5)
    assert support.dtype == np.float32 and image_geometry(tmp_path / summary["support"]) == GEOMETRY
    assert support[labels > 0].min() < 1 < 8 < support.max(), "the part that was not seen is far from what was"


def test_support_of_the_membrane_that_lost_a_voxel_is_seen(tmp_path):
    """Mutant: of two membranes that claim a voxel, the farther one's support."""
    tomogram, fitted = prepare(tmp_path)
    summary, _ = run_plan(stage.plan(tomogram, SPEC, (8, 16, 16), fitted=fitted))
    support = read_region(tmp_path / summary["support"])
    distances = np.stack([np.abs(distance_to_sphere(SHAPE, *SPHERES[number])) for number in SPHERES])
    claimed = (distances <= 1.5).sum(axis=0) > 1
    losing = np.choose(np.where(distances <= 1.5, distances, -1).argmax(axis=0), [support_of(n) for n in SPHERES])
    assert claimed.sum() > 20
    assert not np.isclose(support[claimed], losing[claimed], atol=1e-3).all()


@pytest.mark.parametrize("chunk", [(8, 16, 16), (40, 50, 60), (16, 8, 32)])
def test_labels_and_sd_equal_the_dense_oracle(tmp_path, chunk):
    tomogram, fitted = prepare(tmp_path)
    summary, receipts = run_plan(stage.plan(tomogram, SPEC, chunk, fitted=fitted), seed=1)
    labels, sd = read_region(tmp_path / summary["labels"]), read_region(tmp_path / summary["position_sd"])
    wanted, wanted_sd = dense_oracle()
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_allclose(sd, wanted_sd, rtol=1e-6)
    assert labels.dtype == np.uint16 and sd.dtype == np.float32
    assert image_geometry(tmp_path / summary["labels"]) == GEOMETRY
    assert summary["count"] == 5
    for number in SPHERES:
        assert summary["membranes"][str(number)]["voxels"] == (wanted == number).sum()
    written = [name for receipt in receipts for name in receipt.files]
    assert len(set(written)) == len(written), "two units wrote one file"
    assert all((tmp_path / name).is_file() for name in written)
    assert json.loads((tmp_path / summary["table"]).read_text()) == summary["membranes"]


def test_meshes_lie_on_the_spheres_in_angstrom(tmp_path):
    tomogram, fitted = prepare(tmp_path)
    summary, _ = run_plan(stage.plan(tomogram, SPEC, (16, 16, 16), fitted=fitted))
    for number, (centre, radius) in SPHERES.items():
        path = tmp_path / summary["membranes"][str(number)]["mesh"]
        assert path.name == f"membrane_{number:04d}.ply"
        foreign = trimesh.load(path, process=False)
        middle = (np.array(centre) * 10 + GEOMETRY.origin_angstrom)[::-1]
        reach = np.linalg.norm(foreign.vertices - middle, axis=1)
        assert np.abs(reach - 10 * radius).max() < 0.4
        assert foreign.is_watertight
        assert foreign.volume == pytest.approx(4 / 3 * np.pi * (10 * radius) ** 3, rel=0.03), "inside out or wrong"
        own = read_ply(path)
        assert summary["membranes"][str(number)]["vertices"] == len(own.vertices)
        np.testing.assert_allclose(own.properties["sd_nm"], 0.1 * number, rtol=1e-5)
        np.testing.assert_array_equal(own.properties["seen"], own.properties["support_nm"] <= SPEC.inferred_beyond_nm)
        assert set(own.properties["seen"]) == {0, 1}


def test_groups_do_not_change_the_result(tmp_path, monkeypatch):
    tomogram, fitted = prepare(tmp_path)
    first, _ = run_plan(stage.plan(tomogram, SPEC, (16, 16, 16), fitted=fitted))
    labels = read_region(tmp_path / stage.LABELS)
    meshes = {path.name: path.read_bytes() for path in (tmp_path / "meshes").iterdir()}
    monkeypatch.setattr(stage, "_GROUP_MEMBRANES", 1)
    second, receipts = run_plan(stage.plan(tomogram, SPEC, (16, 16, 16), fitted=fitted))
    assert first == second
    assert sum("voxel_file" in receipt.numbers for receipt in receipts) == 3
    np.testing.assert_array_equal(read_region(tmp_path / stage.LABELS), labels)
    assert {path.name: path.read_bytes() for path in (tmp_path / "meshes").iterdir()} == meshes


def test_a_second_run_clears_what_the_first_left(tmp_path):
    tomogram, fitted = prepare(tmp_path)
    run_plan(stage.plan(tomogram, SPEC, (8, 8, 8), fitted=fitted))
    run_plan(stage.plan(tomogram, SPEC, (8, 8, 8), fitted=[{"number": 5}]))
    assert set(np.unique(read_region(tmp_path / stage.LABELS))) == {0, 5}


def test_no_membranes_give_empty_volumes(tmp_path):
    tomogram, _ = prepare(tmp_path)
    summary, _ = run_plan(stage.plan(tomogram, SPEC, (16, 16, 16), fitted=[]))
    assert summary["count"] == 0 and summary["membranes"] == {}
    assert not read_region(tmp_path / stage.LABELS).any()


def test_a_band_without_surface_gives_no_mesh_but_its_voxels(tmp_path):
    tomogram, _ = prepare(tmp_path)
    save_band(tmp_path / band_file(3), band_of(distance_to_sphere(SHAPE, (20, 20, 20), -1.0), closed=False))
    summary, _ = run_plan(stage.plan(tomogram, SPEC, (16, 16, 16), fitted=[{"number": 3}]))
    entry = summary["membranes"]["3"]
    assert entry["mesh"] == "" and entry["faces"] == 0 and entry["voxels"] == 1 and not entry["band_closed"]
    assert not (tmp_path / "meshes").exists()


def test_wrong_offset_is_seen(tmp_path):
    """Mutant: painting a block at its neighbour's place does not give the oracle."""
    tomogram, fitted = prepare(tmp_path)
    run_plan(stage.plan(tomogram, SPEC, (40, 25, 30), fitted=fitted))
    labels = read_region(tmp_path / stage.LABELS)
    assert not np.array_equal(np.roll(labels, 1, axis=2), dense_oracle()[0])


def test_memory_stays_within_the_projection(tmp_path):
    """Python's own allocations, without the base of libraries that the projection has on top."""
    shape = (110, 110, 110)
    save_band(tmp_path / band_file(1), band_of(distance_to_sphere(shape, (55, 55, 55), 45)))
    geometry = Geometry(shape, (10.0, 10.0, 10.0))
    projected = stage.mesh_bytes([(tmp_path / band_file(1)).stat().st_size]) - stage._BASE_BYTES
    tracemalloc.start()
    receipt = stage.build_group(str(tmp_path), 0, (1,), geometry, (64, 64, 64), SPEC)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < projected
    assert peak > projected / 4, "the projection has become far too careful"
    stage.create_image(tmp_path / stage.LABELS, geometry, np.uint32, (64, 64, 64), labels=True)
    for name in (stage.POSITION_SD, stage.SUPPORT):
        stage.create_image(tmp_path / name, geometry, np.float32, (64, 64, 64))
    region = Region((0, 0, 0), (64, 64, 64))
    projected = stage.paint_bytes((64, 64, 64), receipt.numbers["blocks"]["0"]) - stage._BASE_BYTES
    tracemalloc.start()
    stage.paint(str(tmp_path), 0, region, "uint32", (receipt.numbers["voxel_file"],))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < projected
