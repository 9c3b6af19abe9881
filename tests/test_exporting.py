"""Exports open where the tomogram lies: read again by mrcfile, tifffile, zarr, trimesh and the OME-Zarr model."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
import trimesh
import zarr

from cryoscale.cli import main
from cryoscale.errors import UsageError
from cryoscale.exporting import export
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.io.parquet import write_parquet
from cryoscale.io.source import open_source
from cryoscale.io.star import Oriented, read_star, relion5_columns, write_star
from cryoscale.io.tables import write_csv
from cryoscale.io.tiffwrite import write_tiff
from cryoscale.report.colours import colour_of
from tests.report.scene import BALLS, GEOMETRY, volumes, write_products

NM = np.array(GEOMETRY.origin_angstrom) / 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    for levels, name in ((3, "TS_01"), (1, "TS_02")):
        made = write_products(root / name, levels)
        summary = {"id": name, "geometry": GEOMETRY.to_json(), "ingest": {"centre": 1.0, "scale": 0.5}}
        made.path("summary.json").write_text(json.dumps(summary))
        particles = Oriented(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.zeros((2, 3)), np.array([True, False]))
        write_star(made.path("proteins_relion5.star"), relion5_columns(name, particles, GEOMETRY))
        write_csv(made.path("proteins.csv"), ["number", "z_angstrom"], [[1, 10.5]])
    return root


def test_mrc_lies_on_the_tomogram(run: Path, tmp_path: Path) -> None:
    (path,) = export(run, "mrc", tmp_path, names=["TS_01"])
    with mrcfile.open(path) as stream:
        assert np.array_equal(stream.data, volumes()[1])
        assert stream.voxel_size.x == pytest.approx(10.0)
        assert [float(stream.header.origin[axis]) for axis in "zyx"] == list(GEOMETRY.origin_angstrom)
    assert mrcfile.validate(path)


@pytest.mark.parametrize("volume", ["membranes", "tomogram"])
def test_tiff_lies_on_the_tomogram(run: Path, tmp_path: Path, volume: str) -> None:
    (path,) = export(run, "tiff", tmp_path, names=["TS_02"], volumes=[volume])
    with tifffile.TiffFile(path) as stream:
        assert stream.is_imagej
        found = stream.imagej_metadata
        assert found is not None
        assert (found["slices"], found["spacing"], found["unit"]) == (40, 1.0, "nm")
        # ImageJ's origin: the voxel at which position 0 lies.
        assert [float(found[f"{axis}origin"]) for axis in "zyx"] == list(-NM)
        across, along = stream.pages[0].tags["XResolution"].value
        assert across / along == pytest.approx(1.0)
        raw, labels = volumes()
        assert np.array_equal(stream.asarray(), labels if volume == "membranes" else raw)
    assert open_source(path).voxel_size_angstrom == pytest.approx((10.0, 10.0, 10.0))


def test_tiff_of_what_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ImageJ"):
        write_tiff(tmp_path / "a.tif", [], GEOMETRY, "uint32")
    for slabs, words in (([np.zeros((3, 64, 72), np.uint8)], "3 planes"), ([np.zeros((3, 6, 7), np.uint8)], "no part")):
        with pytest.raises(ValueError, match=words):
            write_tiff(tmp_path / "a.tif", slabs, GEOMETRY, "uint8")
    assert list(tmp_path.iterdir()) == []


def test_zarr_has_multiscale_labels_with_colours(run: Path, tmp_path: Path) -> None:
    (path,) = export(run, "zarr", tmp_path, names=["TS_01"])
    labels = path / "labels" / "membranes"
    assert image_geometry(path) == image_geometry(labels) == GEOMETRY
    assert np.array_equal(read_region(labels), volumes()[1])
    assert np.allclose(read_region(path), volumes()[0])
    group = zarr.open_group(str(path), mode="r")
    assert group["labels"].attrs["ome"]["labels"] == ["membranes"]
    ome = group["labels/membranes"].attrs["ome"]
    assert ome["image-label"]["colors"][1] == {"label-value": 2, "rgba": [*colour_of(2), 255]}
    assert ome["image-label"]["source"] == {"image": "../../"}
    found = [group[f"labels/membranes/{level}"].shape for level in range(3)]
    assert found == [(40, 64, 72), (20, 32, 36), (10, 16, 18)]
    assert set(np.unique(read_region(labels, level=2))) == {0, 1, 2}


def test_zarr_is_what_the_specification_says(run: Path, tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05", reason="no ome-zarr-models here")
    stores = export(run, "zarr", tmp_path)
    assert stores
    for path in stores:
        models.Image.from_zarr(zarr.open_group(str(path), mode="r"))
        models.Labels.from_zarr(zarr.open_group(str(path / "labels"), mode="r"))
        models.ImageLabel.from_zarr(zarr.open_group(str(path / "labels" / "membranes"), mode="r"))


@pytest.mark.parametrize("kind", ["ply", "obj", "stl"])
def test_meshes_lie_on_the_tomogram(run: Path, tmp_path: Path, kind: str) -> None:
    files = export(run, kind, tmp_path)
    assert len(files) == 4
    for path, (centre, radius) in zip(files[:2], BALLS, strict=True):
        bounds = trimesh.load(path, process=False).bounds[:, ::-1] / 10 - NM
        assert np.allclose(bounds, [np.array(centre) - radius, np.array(centre) + radius], atol=0.05)


@pytest.mark.parametrize("kind", ["ply", "vtp", "parquet", "neuroglancer"])
def test_what_is_packed_is_exported_as_what_is_not(run: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(run / "TS_01", tmp_path / "TS_01"))
    (folder / "vertices").mkdir()
    for number in (1, 2):
        write_parquet(folder / "vertices" / f"membrane_{number:04d}.parquet", {"area_nm2": np.arange(9.0) + number})

    def exported(name: str) -> dict[str, bytes]:
        export(folder, kind, tmp_path / name)
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in files}

    single = exported("single")
    assert len(single) >= 2
    for place in ("meshes", "vertices"):
        with tarfile.open(folder / f"{place}.tar", "w") as archive:
            archive.add(folder / place, place)
        shutil.rmtree(folder / place)
    assert exported("packed") == single


def test_tables_and_particles_of_all_tomograms(run: Path, tmp_path: Path) -> None:
    names = {path.name for path in export(run, "csv", tmp_path)}
    assert names == {"membranes.csv", "proteins.csv"}
    with (tmp_path / "membranes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["tomogram"] for row in rows] == ["TS_01", "TS_01", "TS_02", "TS_02"]
    (star,) = export(run, "star", tmp_path)
    columns, single = read_star(star), read_star(run / "TS_01" / "proteins_relion5.star")
    assert columns["rlnTomoName"] == ["TS_01"] * 2 + ["TS_02"] * 2
    assert {name: values[:2] for name, values in columns.items()} == single


def test_neuroglancer_finds_everything(run: Path, tmp_path: Path) -> None:
    (folder,) = export(run, "neuroglancer", tmp_path, names=["TS_01"], url="http://127.0.0.1:9000")
    state = json.loads((folder / "state.json").read_text())
    assert state["layers"][0]["shaderControls"]["normalized"]["range"] == [-0.5, 2.5]
    sources = [state["layers"][0]["source"], *state["layers"][1]["source"]]
    for source in sources:
        local = tmp_path / source.split("9000/")[1]
        assert (local / "zarr.json").is_file() or (local / "info").is_file()
    assert json.loads((folder / "mesh" / "info").read_text())["@type"] == "neuroglancer_legacy_mesh"
    for number in state["layers"][1]["segments"]:
        (fragment,) = json.loads((folder / "mesh" / f"{number}:0").read_text())["fragments"]
        assert (folder / "mesh" / fragment).stat().st_size > 1000
    middle = NM[::-1] + (np.array([72, 64, 40]) - 1) / 2
    assert state["position"] == pytest.approx(middle.tolist())


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run / "TS_01"), "--format", "stl"]) == 0
    assert (run / "export" / "TS_01" / "membrane_0001.stl").is_file()
    assert capsys.readouterr().out.count("\n") == 2
    assert main(["export", str(run), "--format", "mrc", "--volume", "scores"]) == 2


def test_what_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no complete tomogram"):
        export(tmp_path, "mrc")
    with pytest.raises(UsageError, match="no such tomogram"):
        export(run, "mrc", names=["TS_99"])
