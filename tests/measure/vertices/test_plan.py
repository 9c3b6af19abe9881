"""Tables of vertices from files: columns, errors, thickness from a density in blocks, memory."""

import csv

import arro3.io
import numpy as np
import pytest

from cryoscale.band import band_file
from cryoscale.chunks import Region
from cryoscale.io.files import save_npz
from cryoscale.io.meshes import read_ply
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.measure import plan as stage
from cryoscale.measure.vertices import plan as around_membranes
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import MeasureSpec, SurfaceSpec
from cryoscale.surface import plan as surface
from tests.plans import run_plan, traced_peak
from tests.surface.shapes import band_of, distance_to_sphere, save_band

SHAPE = (76, 80, 84)
CENTRE, INNER, OUTER = (37.3, 39.6, 41.1), 16.0, 27.0
THICKNESS_NM = 3.6
FITTED = [{"number": 1}, {"number": 2}]


def sphere_sites(radius, voxel=1.0):
    ways = np.random.default_rng(1).normal(size=(300, 3))
    places = (np.array(CENTRE) + radius * ways / np.linalg.norm(ways, axis=1, keepdims=True)).astype(np.float32)
    bend = np.tile(np.array([1 / radius, 1 / radius**2], np.float32), (300, 1))
    errors = np.tile(np.array([0.1, 0.01, 0.001, 0.02, 0.03], np.float32), (40, 1))
    covariance = (0.25 * np.ones((40, 40))).astype(np.float32)
    return {
        "bend_places": places, "bend": bend, "site_places": places[:40], "site_covariance": covariance,
        "site_errors": errors,
    }  # fmt: skip


def made(folder, voxel=10.0, origin=(-300.0, 40.0, 0.0), *, chunk=32, density=True):
    """Two concentric spheres of known thickness, as the stages before leave them."""
    geometry = Geometry(SHAPE, (voxel,) * 3, origin)
    tomogram = Tomogram("TS_001", "TS_001.mrc", str(folder), geometry)
    fields = [distance_to_sphere(SHAPE, CENTRE, radius) for radius in (INNER, OUTER)]
    for number, (field, radius) in enumerate(zip(fields, (INNER, OUTER), strict=True), 1):
        save_band(folder / band_file(number), band_of(field, sd=0.3), **sphere_sites(radius))
    save_npz(folder / "merge/regions.npz", voxels=np.array([1000, 900]))
    run_plan(surface.plan(tomogram, SurfaceSpec(), SHAPE, fitted=FITTED))
    if density:
        half = THICKNESS_NM / 2 * 10 / voxel
        peaks = [np.exp(-0.5 * ((field - side * half) / 0.9) ** 2) for field in fields for side in (-1, 1)]
        volume = (-sum(peaks)).astype(np.float32) + np.random.default_rng(0).normal(0, 0.05, SHAPE).astype(np.float32)
        create_image(tomogram.path("tomogram.ome.zarr"), geometry, np.float32, (chunk,) * 3)
        write_region(tomogram.path("tomogram.ome.zarr"), Region((0, 0, 0), SHAPE), volume)
    return tomogram


def measure(tomogram, *, density=True, seed=None, **options):
    merged = {"regions": "merge/regions.npz"}
    spec = MeasureSpec(**options)
    name = "tomogram.ome.zarr" if density else ""
    return run_plan(
        stage.plan(tomogram, spec, SurfaceSpec(), merged=merged, proteins={}, fitted=FITTED, density=name), seed=seed
    )


def table(tomogram, number):
    read = arro3.io.read_parquet(tomogram.path(f"vertices/membrane_{number:04d}.parquet")).read_all()
    return {name: np.array(read.column(name).to_pylist()) for name in read.column_names}


def rows(tomogram, name):
    with tomogram.path(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    found = made(tmp_path_factory.mktemp("measured"))
    measure(found, vertices_csv=True)
    return found


def test_vertices_of_two_spheres(tomogram):
    for number, radius in ((1, INNER), (2, OUTER)):
        found, mesh = table(tomogram, number), read_ply(tomogram.path(f"meshes/membrane_{number:04d}.ply"))
        np.testing.assert_allclose(found["z_angstrom"], mesh.vertices[:, 0], rtol=1e-6)
        assert found["area_nm2"].sum() == pytest.approx(4 * np.pi * radius**2, rel=0.02)
        np.testing.assert_allclose(found["mean_curvature_per_nm"], 1 / radius, rtol=1e-5)
        np.testing.assert_allclose(found["principal_2_per_nm"], 1 / radius, rtol=1e-2)
        np.testing.assert_allclose(found["shape_index"], 1, atol=1e-2)
        np.testing.assert_allclose(found["mean_curvature_se_per_nm"], 0.01, rtol=1e-5)
        np.testing.assert_allclose(found["principal_1_se_per_nm"], 0.02, rtol=1e-5)
        np.testing.assert_allclose(found["nearest_distance_nm"], OUTER - INNER, atol=0.25)
        np.testing.assert_allclose(found["nearest_distance_se_nm"], np.hypot(0.3, 0.3), rtol=1e-3)
        assert set(found["nearest_membrane"]) == {3 - number} and found["seen"].all()
        up = np.abs(mesh.normals[:, 0])
        np.testing.assert_allclose(found["beam_angle_degrees"], np.degrees(np.arccos(np.minimum(up, 1))), atol=0.1)


def test_thickness_from_the_density(tomogram):
    for row in rows(tomogram, "membranes.csv"):
        assert float(row["thickness_nm"]) == pytest.approx(THICKNESS_NM, abs=0.06)
        assert 0 < float(row["thickness_se_nm"]) < 0.1
        assert int(row["thickness_good_patches"]) > 0.5 * int(row["thickness_patches"])
    patches = rows(tomogram, "thickness.csv")
    good = [float(row["thickness_nm"]) for row in patches if row["quality"] == "good"]
    assert np.mean(good) == pytest.approx(THICKNESS_NM, abs=0.06)
    flat = [row["quality"] for row in patches if float(row["beam_angle_degrees"]) < 30]
    assert flat and set(flat) <= {"beam", "faint"}
    found = table(tomogram, 2)
    by_patch = {int(row["patch"]): row for row in patches if row["membrane"] == "2"}
    for patch, value, fine in zip(found["patch"], found["thickness_nm"], found["thickness_good"], strict=True):
        assert (by_patch[patch]["quality"] == "good") == fine
        assert np.isnan(value) or value == pytest.approx(float(by_patch[patch]["thickness_nm"]), rel=1e-5)


def test_membranes_table_has_errors_and_the_double_membrane(tomogram):
    inner, outer = rows(tomogram, "membranes.csv")
    # All sites move together by half a voxel: the volume's error is area times 0.5 nm.
    for row, radius in ((inner, INNER), (outer, OUTER)):
        assert float(row["enclosed_volume_se_nm3"]) == pytest.approx(4 * np.pi * radius**2 * 0.5, rel=0.03)
        assert float(row["area_se_nm2"]) == pytest.approx(8 * np.pi * radius * 0.5, rel=0.03)
        assert float(row["major_axis_nm"]) == pytest.approx(2 * radius, rel=0.01)
        assert float(row["major_axis_se_nm"]) == pytest.approx(1.0, rel=0.1)
        assert float(row["mean_curvature_se_per_nm"]) == pytest.approx(0.5 / radius**2, rel=0.05)
        assert float(row["mean_curvature_seen_per_nm"]) == pytest.approx(1 / radius, rel=1e-3)
        assert float(row["mean_curvature_seen_se_per_nm"]) == pytest.approx(0.5 / radius**2, rel=0.05)
        assert float(row["principal_2_se_per_nm"]) >= 0.5 / radius**2 * 0.95
        assert row["nearest_distance_seen_nm"] == row["nearest_distance_nm"]
        assert row["double_distance_seen_nm"] == row["double_distance_nm"]
        assert row["boundary_length_nm"] == "0" and row["euler_number"] == "2"
    assert (inner["double_with"], outer["double_with"]) == ("2", "1")
    assert float(inner["double_distance_nm"]) == pytest.approx(OUTER - INNER, abs=0.1)
    for row in (inner, outer):
        assert float(row["double_distance_se_nm"]) == pytest.approx(0.5 * 2**0.5, rel=0.03)
        assert float(row["distance_median_seen_se_nm"]) == pytest.approx(0.5 * 2**0.5, rel=0.05)
    (pair,) = rows(tomogram, "neighbours.csv")
    assert float(pair["contact_area_se_nm2"]) == pytest.approx(8 * np.pi * INNER * 0.5, rel=0.05)
    assert pair["double"] == "yes" and float(pair["facing_angle_median_degrees"]) < 3
    assert float(pair["contact_area_nm2"]) == pytest.approx(4 * np.pi * INNER**2, rel=0.02)


def test_csv_and_parquet_say_the_same(tomogram):
    found, lines = table(tomogram, 1), rows(tomogram, "vertices/membrane_0001.csv")
    assert tuple(lines[0]) == tuple(found)
    for name, values in found.items():
        cells = [line[name] for line in lines]
        if values.dtype == bool:
            assert [cell == "yes" for cell in cells] == values.tolist()
        else:
            np.testing.assert_allclose([float(cell) if cell else np.nan for cell in cells], values, rtol=1e-6)
    read = arro3.io.read_parquet(tomogram.path("membranes.parquet")).read_all()
    table_rows = rows(tomogram, "membranes.csv")
    assert read.column_names == list(table_rows[0])
    assert read.column("area_nm2").to_pylist() == pytest.approx(
        [float(row["area_nm2"]) for row in table_rows], rel=1e-6
    )


def test_chunks_groups_and_order_change_nothing(tomogram, tmp_path, monkeypatch):
    other = made(tmp_path, chunk=80)
    monkeypatch.setattr(around_membranes, "group_membranes", lambda _: 1)
    measure(other, seed=1)
    for name in ("membranes.csv", "thickness.csv", "vertices/membrane_0001.parquet"):
        assert other.path(name).read_bytes() == tomogram.path(name).read_bytes()


def test_without_density_thickness_is_not_known(tmp_path):
    tomogram = made(tmp_path, density=False)
    summary, _ = measure(tomogram, density=False)
    assert "thickness.csv" not in summary["tables"] and not tomogram.path("vertices/membrane_0001.csv").exists()
    assert {row["thickness_nm"] for row in rows(tomogram, "membranes.csv")} == {""}
    assert np.isnan(table(tomogram, 1)["thickness_nm"]).all()
    # Tables of an earlier run that found more membranes go.
    tomogram.path("vertices/membrane_0003.parquet").write_bytes(b"old")
    measure(tomogram, density=False)
    assert not tomogram.path("vertices/membrane_0003.parquet").exists()


def test_memory_stays_within_the_projection(tmp_path):
    shape = (124, 124, 124)
    geometry = Geometry(shape, (10.0, 10.0, 10.0))
    for number, radius in ((1, 45.0), (2, 55.0)):
        save_band(tmp_path / band_file(number), band_of(distance_to_sphere(shape, (62, 62, 62), radius)))
    surface.build_group(str(tmp_path), 0, (1, 2), geometry, shape, SurfaceSpec())
    tomogram, names = Tomogram("t", "t.mrc", str(tmp_path), geometry), [f"meshes/membrane_000{k}.ply" for k in (1, 2)]
    create_image(tmp_path / "raw.ome.zarr", geometry, np.float32, (64, 64, 64))
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write_region(tmp_path / "raw.ome.zarr", Region((0, 0, 0), shape), noise)
    around = around_membranes.Surroundings(geometry, "raw.ome.zarr", 4.0, MeasureSpec())
    (unit,) = around_membranes.units(tomogram, around, [(2, names[1], ((1, names[0]),))])
    unit.call(*unit.args)
    _, peak = traced_peak(lambda: unit.call(*unit.args))
    base = around_membranes._BASE_BYTES
    assert (unit.bytes - base) / 4 < peak < unit.bytes
