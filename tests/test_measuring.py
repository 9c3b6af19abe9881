"""``cryoscale measure`` alone: meshes and labels from anywhere."""

import csv

import numpy as np
import pytest
import trimesh

from cryoscale.cli import main
from cryoscale.io.mrc import write_mrc
from tests.phantoms import SPHERES, spheres_mask


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("suffix", "unit", "scale"), [("obj", "nm", 1.0), ("stl", "angstrom", 10.0)])
def test_meshes(tmp_path, suffix, unit, scale, capsys):
    for name, radius in (("inner", 20.0), ("outer", 32.0)):
        trimesh.creation.icosphere(4, radius * scale).export(tmp_path / f"{name}.{suffix}")
    sources = [str(tmp_path / f"{name}.{suffix}") for name in ("inner", "outer")]
    command = ["measure", *sources, "--unit", unit, "--output", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    assert "2 membranes, 2 closed" in capsys.readouterr().out
    for row, radius in zip(rows(tmp_path / "out" / "membranes.csv"), (20.0, 32.0), strict=True):
        assert float(row["area_nm2"]) == pytest.approx(4 * np.pi * radius**2, rel=0.01)
        assert float(row["enclosed_volume_nm3"]) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
        assert float(row["mean_curvature_per_nm"]) == pytest.approx(1 / radius, rel=0.02)
        assert float(row["nearest_distance_nm"]) == pytest.approx(12, abs=0.1)
        # What only a fit knows stays empty.
        assert row["area_se_nm2"] == row["mean_sd_nm"] == row["fraction_inferred"] == row["thickness_nm"] == ""
    assert (tmp_path / "out" / "vertices" / "membrane_0002.parquet").is_file()
    before = (tmp_path / "out" / "membranes.csv").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "out" / "membranes.csv").stat().st_mtime_ns == before


def test_meshes_over_a_density(tmp_path):
    """A bilayer of 3.4 nm around a sphere of radius 20 nm, voxels of 1 nm, with an origin."""
    places = np.moveaxis(np.indices((56, 56, 56), dtype=np.float32), 0, -1)
    distance = np.linalg.norm(places - 28.2, axis=-1) - 20
    layers = sum(np.exp(-0.5 * ((distance - side * 1.7) / 0.9) ** 2) for side in (-1, 1))
    noise = np.random.default_rng(0).normal(0, 0.1, layers.shape)
    write_mrc(tmp_path / "tomo.mrc", (noise - layers).astype(np.float32), 10.0, (-100.0, 50.0, 200.0))
    sphere = trimesh.creation.icosphere(5, 200.0)
    sphere.apply_translation((482.0, 332.0, 182.0))
    sphere.export(tmp_path / "a.ply")
    command = ["measure", str(tmp_path / "a.ply"), "--density", str(tmp_path / "tomo.mrc")]
    assert main([*command, "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    (row,) = rows(tmp_path / "out" / "membranes.csv")
    assert float(row["thickness_nm"]) == pytest.approx(3.4, abs=0.1)
    assert int(row["thickness_good_patches"]) > 0.6 * int(row["thickness_patches"])


def test_labels(tmp_path):
    mask = spheres_mask()
    write_mrc(tmp_path / "labels.mrc", np.where(mask == 2, 7, mask).astype(np.int8), 10.0)
    assert main(["measure", str(tmp_path / "labels.mrc"), "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    table = [row for row in rows(tmp_path / "out" / "labels" / "membranes.csv") if row["closed"] != "no surface"]
    assert sorted(row["label"] for row in table) == ["1", "7"]
    for row in table:
        _, radius = SPHERES[["1", "7"].index(row["label"])]
        area = 4 * np.pi * radius**2
        assert float(row["area_nm2"]) == pytest.approx(area, abs=max(3 * float(row["area_se_nm2"]), 0.04 * area))
        assert 0 < float(row["mean_curvature_se_per_nm"]) < 0.1 / radius
        assert float(row["area_seen_nm2"]) < float(row["area_nm2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.ply", "b.mrc"], "labels and meshes"),
        (["a.mrc", "b.mrc", "--density", "t.mrc"], "one density"),
        (["a.ply", "--mask-labels", "1"], "about labels"),
        (["absent.obj"], "cannot be opened"),
    ],
)
def test_refused(tmp_path, capsys, words, message):
    assert main(["measure", *words, "--output", str(tmp_path / "out"), "--workers", "1"]) in (2, 3)
    assert message in capsys.readouterr().err
