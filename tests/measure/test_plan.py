"""Surface and measure together on spheres of known size: tables read by the csv module."""

import csv
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoscale.band import band_file
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.star import read_star
from cryoscale.measure import plan as stage
from cryoscale.measure.proteins import plan as on_membranes
from cryoscale.measure.vertices import plan as around_membranes
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import MeasureSpec, SurfaceSpec
from cryoscale.surface import plan as surface
from tests.plans import run_plan, traced_peak
from tests.surface.shapes import band_of, distance_to_sphere, save_band

SHAPE = (60, 50, 80)
GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0), (-500.0, 0.0, 250.0))
SPHERES = {1: ((28.0, 24.0, 20.0), 15.0), 2: ((28.0, 24.0, 57.0), 14.0), 4: ((28.0, 24.0, 20.0), 6.0)}
PROTEINS = np.array([[28, 24, 38], [28, 24, 20], [2, 2, 79]], float)
PROTEIN_FILES = (
    "protein_density.csv", "protein_pairs.csv", "proteins_relion5.star", "proteins_relion4.star", "proteins_warp.star"
)  # fmt: skip
VERTICES = tuple(f"vertices/membrane_000{number}.parquet" for number in SPHERES)
FITTED = [{"number": 1}, {"number": 2}, {"number": 3, "reason": "too few points"}, {"number": 4}]


@pytest.fixture
def tomogram(tmp_path):
    made = Tomogram("TS_001", "TS_001.mrc", str(tmp_path), GEOMETRY)
    for number, (centre, radius) in SPHERES.items():
        save_band(tmp_path / band_file(number), band_of(distance_to_sphere(SHAPE, centre, radius)))
    save_npz(tmp_path / "merge/regions.npz", voxels=np.array([1000, 900, 50, 200]))
    voxels = np.array([10, 20, 30])
    sums = (PROTEINS * voxels[:, None]).astype(np.int64)
    save_npz(tmp_path / "locate/regions.npz", voxels=voxels, coordinate_sum=sums)
    run_plan(surface.plan(made, SurfaceSpec(), (60, 50, 80), fitted=FITTED))
    return made


def run(tomogram, *, proteins=True, limit=20.0, seed=None):
    located = {"regions": "locate/regions.npz"} if proteins else {}
    merged = {"regions": "merge/regions.npz"}
    planned = stage.plan(tomogram, MeasureSpec(limit), SurfaceSpec(), merged=merged, proteins=located, fitted=FITTED)
    return run_plan(planned, seed=seed)


def rows(tomogram, name):
    with tomogram.path(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_tables(tomogram):
    summary, receipts = run(tomogram)
    assert {k: summary[k] for k in ("membranes", "closed", "without_surface", "neighbours", "proteins")} == {
        "membranes": 4,
        "closed": 3,
        "without_surface": 1,
        "neighbours": 3,
        "proteins": 3,
    }
    table = rows(tomogram, "membranes.csv")
    assert [row["number"] for row in table] == ["1", "2", "3", "4"]
    for row in table:
        if row["number"] == "3":
            continue
        radius = SPHERES[int(row["number"])][1]
        assert float(row["area_nm2"]) == pytest.approx(4 * np.pi * radius**2, rel=0.03)
        assert float(row["enclosed_volume_nm3"]) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
        assert int(row["voxels"]) == pytest.approx(4 * np.pi * radius**2 * 4, rel=0.05)
        assert row["closed"] == "closed" and float(row["fraction_inferred"]) == 0
        assert float(row["mean_sd_nm"]) == pytest.approx(0.5)
        assert tomogram.path(row["mesh"]).is_file()
    assert table[2]["closed"] == "no surface"
    assert table[2]["not_closed_reason"] == "no surface: too few points"
    assert table[2]["voxels"] == "0" and table[2]["segmented_voxels"] == "50" and table[2]["area_nm2"] == ""
    assert float(table[0]["z_low_angstrom"]) == pytest.approx(-500 + 130, abs=1)
    assert float(table[0]["x_high_angstrom"]) == pytest.approx(250 + 350, abs=1)
    written = [name for receipt in receipts for name in receipt.files]
    assert len(set(written)) == len(written) and all(tomogram.path(name).is_file() for name in written)


def test_points_left_out_before_the_fits_are_listed(tomogram):
    """In angstrom with the header's origin; of a membrane without a surface there is only the count."""
    path = tomogram.path(band_file(2))
    places, rules = np.array([[1.5, 2, 3], [4, 5, 6]]), np.array(["twig", "ellipsoid"])
    save_npz(path, **load_npz(path), pruned_places=places, pruned_rules=rules)
    fitted = [dict(entry) for entry in FITTED]
    fitted[1]["dropped"], fitted[2]["dropped"] = {"twig": 1, "ellipsoid": 1}, {"sparse": 7}
    merged = {"regions": "merge/regions.npz"}
    run_plan(stage.plan(tomogram, MeasureSpec(), SurfaceSpec(), merged=merged, proteins={}, fitted=fitted))
    assert [row["pruned_points"] for row in rows(tomogram, "membranes.csv")] == ["", "2", "7", ""]
    found = rows(tomogram, "pruned.csv")
    assert [(row["membrane"], row["rule"]) for row in found] == [("2", "twig"), ("2", "ellipsoid")]
    listed = np.array([[float(row[f"{axis}_angstrom"]) for axis in "zyx"] for row in found])
    np.testing.assert_allclose(listed, np.array(GEOMETRY.origin_angstrom) + 10 * places)


def test_neighbours_are_symmetric_and_right(tomogram):
    run(tomogram)
    found = {(r["membrane"], r["neighbour"]): float(r["distance_nm"]) for r in rows(tomogram, "neighbours.csv")}
    assert set(found) == {("1", "2"), ("1", "4"), ("2", "4")}
    assert found["2", "4"] == pytest.approx(17, abs=0.3)
    assert found["1", "2"] == pytest.approx(37 - 29, abs=0.3)
    assert found["1", "4"] == pytest.approx(9, abs=0.3)
    table = rows(tomogram, "membranes.csv")
    assert table[0]["neighbours"].startswith("2 at 8.") and "4 at 9." in table[0]["neighbours"]
    assert table[1]["neighbours"].startswith("1 at 8.")
    run(tomogram, limit=8.5)
    assert [r["neighbour"] for r in rows(tomogram, "neighbours.csv")] == ["2"]


def test_proteins(tomogram):
    run(tomogram)
    table = rows(tomogram, "proteins.csv")
    np.testing.assert_allclose([[float(r[f"{a}_voxel"]) for a in "zyx"] for r in table], PROTEINS)
    angstrom = [[float(r[f"{a}_angstrom"]) for a in "zyx"] for r in table]
    np.testing.assert_allclose(angstrom, PROTEINS * 10 + GEOMETRY.origin_angstrom)
    assert [r["nearest_membrane"] for r in table] == ["1", "4", "2"]
    distances = [3.0, 6.0, np.linalg.norm(PROTEINS[2] - SPHERES[2][0]) - 14]
    np.testing.assert_allclose([float(r["distance_nm"]) for r in table], distances, atol=0.3)
    assert [r["voxels"] for r in table] == ["10", "20", "30"]
    radii = np.cbrt(3 * np.array([10, 20, 30]) / (4 * np.pi))
    np.testing.assert_allclose([float(r["radius_nm"]) for r in table], radii, rtol=1e-6)
    # 3 nm off, a radius of 1.3 and half of the membrane's 4: on it; 6 nm off or more: not.
    assert [r["on_membrane"] for r in table] == ["yes", "no", "no"]
    assert [r["side"] for r in table] == ["outside", "inside", "outside"]
    normals = np.array([[float(r[f"normal_{a}"]) for a in "zyx"] for r in table])
    np.testing.assert_allclose(normals[0], [0, 0, 1], atol=0.02)
    away = PROTEINS[2] - SPHERES[2][0]
    np.testing.assert_allclose(normals[2], away / np.linalg.norm(away), atol=0.05)
    assert [r["neighbour"] for r in table] == ["", "", ""]
    density = rows(tomogram, "protein_density.csv")
    assert [(r["membrane"], r["proteins"]) for r in density] == [("1", "1"), ("2", "0"), ("4", "0")]
    assert float(density[0]["proteins_per_um2"]) == pytest.approx(1e6 / (4 * np.pi * 225), rel=0.02)
    assert rows(tomogram, "protein_pairs.csv") == []


def axes_in(star):
    """Where each particle's z axis points, z, y, x, as RELION and Warp take the angles."""
    angles = np.array([[float(v) for v in star[f"rlnAngle{name}"]] for name in ("Rot", "Tilt", "Psi")]).T
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply([0.0, 0, 1])[:, ::-1]


def test_star_files_for_each_program(tomogram):
    run(tomogram)
    normals = np.array([[float(r[f"normal_{a}"]) for a in "zyx"] for r in rows(tomogram, "proteins.csv")])
    for name in ("proteins_relion5.star", "proteins_relion4.star", "proteins_warp.star"):
        star = read_star(tomogram.path(name))
        np.testing.assert_allclose(axes_in(star), normals, atol=1e-6)
        assert star["rlnClassNumber"] == ["1", "2", "2"]
    np.testing.assert_allclose([float(v) for v in star["rlnCoordinateX"]], PROTEINS[:, 2])
    assert star["rlnMicrographName"] == ["TS_001.tomostar"] * 3
    star = read_star(tomogram.path("proteins_relion5.star"))
    centred = [[float(v) / 10 for v in star[f"rlnCenteredCoordinate{a}Angst"]] for a in "ZYX"]
    np.testing.assert_allclose(np.array(centred).T + np.array(SHAPE) / 2, PROTEINS)


def crowd(tomogram, count=14):
    """Proteins all around on sphere 1."""
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(count, 3))
    centre, radius = SPHERES[1]
    points = np.array(centre) + (radius + 1) * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    voxels = np.full(count, 1000)
    sums = np.rint(points * 1000).astype(np.int64)
    save_npz(tomogram.path("locate/regions.npz"), voxels=voxels, coordinate_sum=sums)
    return points


def test_neighbours_and_pairs_along_a_sphere(tomogram):
    points = crowd(tomogram)
    run(tomogram)
    way = (points - SPHERES[1][0]) / (SPHERES[1][1] + 1)
    angle = np.arccos(np.clip(way @ way.T, -1, 1)) + 10 * np.eye(len(points))
    table = rows(tomogram, "proteins.csv")
    assert {r["on_membrane"] for r in table} == {"yes"}
    assert [int(r["neighbour"]) - 1 for r in table] == angle.argmin(axis=1).tolist()
    along = [float(r["neighbour_along_surface_nm"]) for r in table]
    np.testing.assert_allclose(along, 15 * angle.min(axis=1), rtol=0.03)
    (density,) = rows(tomogram, "protein_density.csv")
    assert density["proteins"] == "14"
    assert float(density["mean_neighbour_along_surface_nm"]) == pytest.approx(np.mean(along), rel=1e-5)
    pairs = rows(tomogram, "protein_pairs.csv")
    assert [float(r["radius_along_surface_nm"]) for r in pairs] == [5.0 * k for k in range(1, 11)]
    for r in pairs:
        radius = float(r["radius_along_surface_nm"])
        assert int(r["pairs"]) == pytest.approx((15 * angle <= radius).sum(), abs=2)
        cap = (1 - np.cos(min(radius / 15, np.pi))) / 2
        assert float(r["pairs_by_chance"]) == pytest.approx(14 * 13 * cap, rel=0.03)
        assert float(r["ratio_chance_low"]) <= 1 <= float(r["ratio_chance_high"])
        assert float(r["ripley_l_nm"]) == pytest.approx(radius * float(r["ratio"]) ** 0.5, rel=1e-5)


def test_groups_and_order_do_not_change_the_tables(tomogram, monkeypatch):
    crowd(tomogram)
    run(tomogram)
    names = ("membranes.csv", "membranes.parquet", "neighbours.csv", "proteins.csv", *PROTEIN_FILES, *VERTICES)
    before = [tomogram.path(name).read_bytes() for name in names]
    monkeypatch.setattr(stage, "_GROUP_MEMBRANES", 1)
    monkeypatch.setattr(around_membranes, "group_membranes", lambda _: 1)
    monkeypatch.setattr(on_membranes, "GROUP_MEMBRANES", 1)
    run(tomogram, seed=1)
    assert [tomogram.path(name).read_bytes() for name in names] == before


def test_without_proteins(tomogram):
    summary, _ = run(tomogram, proteins=False)
    assert summary["proteins"] == 0 and summary["tables"] == ["membranes.csv", "membranes.parquet", "neighbours.csv"]
    assert not tomogram.path("proteins.csv").exists()


def test_no_surfaces_at_all(tomogram):
    tomogram.path("surface/membranes.json").write_text("{}")
    summary, _ = run(tomogram)
    assert summary["closed"] == 0 and summary["without_surface"] == 4
    assert {r["nearest_membrane"] for r in rows(tomogram, "proteins.csv")} == {""}


def test_memory_stays_within_the_projection(tmp_path):
    shape = (110, 110, 110)
    geometry = Geometry(shape, (10.0, 10.0, 10.0))
    save_band(tmp_path / band_file(1), band_of(distance_to_sphere(shape, (55, 55, 55), 50)))
    surface.build_group(str(tmp_path), 0, (1,), geometry, (110, 110, 110), SurfaceSpec())
    mesh = "meshes/membrane_0001.ply"
    projected = stage.mesh_bytes([(tmp_path / mesh).stat().st_size]) - stage._BASE_BYTES
    tracemalloc.start()
    stage.measure_group(str(tmp_path), 0, ((1, mesh, True),), geometry, 4.0, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert projected / 4 < peak < projected


def test_memory_of_placing_proteins_stays_within_the_projection(tmp_path):
    shape = (70, 70, 70)
    geometry = Geometry(shape, (10.0, 10.0, 10.0))
    save_band(tmp_path / band_file(1), band_of(distance_to_sphere(shape, (35, 35, 35), 30)))
    surface.build_group(str(tmp_path), 0, (1,), geometry, shape, SurfaceSpec())
    ways = np.random.default_rng(0).normal(size=(40, 3))
    points = 35 + 30 * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    save_npz(tmp_path / "r.npz", voxels=np.ones(40, int), coordinate_sum=np.rint(points).astype(int))
    save_npz(tmp_path / "n.npz", distance_nm=np.zeros(40), number=np.ones(40, int))
    located = on_membranes.Located(geometry, "r.npz", ("n.npz",))
    tomogram, meshes = Tomogram("t", "t.mrc", str(tmp_path), geometry), {1: "meshes/membrane_0001.ply"}
    (unit,) = on_membranes.units(tomogram, MeasureSpec(30.0, 30.0), 4.0, located, meshes)
    _, peak = traced_peak(lambda: unit.call(*unit.args))
    # The constant part is for pairs: 1,000 random points of 500 proteins, all within reach of each other.
    for_pairs = on_membranes._PAIR_BYTES
    assert (unit.bytes - for_pairs) / 4 < peak < unit.bytes - for_pairs / 2
