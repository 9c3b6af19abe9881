"""From products on disk to pictures and a page."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import cryoscale.report.plan as plan_module
from cryoscale.io.omezarr import read_region
from cryoscale.records import Receipt, Tomogram
from cryoscale.report import ReportRun
from cryoscale.report.plan import draw_pictures, plan, projected_bytes, read_tomogram, write_report
from cryoscale.report.png import png_size
from cryoscale.spec import ReportSpec
from tests.report.scene import BALLS, GEOMETRY, write_products

ALL = {"raw", "overlay", "sections", "surfaces", "uncertainty", "thumbnail"}


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory: pytest.TempPathFactory) -> Tomogram:
    return write_products(tmp_path_factory.mktemp("run") / "TS_01")


def finish(tomogram: Tomogram, spec: ReportSpec) -> tuple[list[Receipt], dict]:  # type: ignore[type-arg]
    stage = plan(tomogram, spec)
    receipts: list[Receipt] = []
    try:
        units = next(stage)
        receipts = [unit.call(*unit.args) for unit in units]
        stage.send(receipts)
    except StopIteration as stop:
        return receipts, stop.value
    raise AssertionError("one phase was expected")


def test_pictures_and_page(tomogram: Tomogram) -> None:
    receipts, summary = finish(tomogram, ReportSpec())
    assert set(summary["pictures"]) == ALL
    slices = {f"pictures/slices_{axes}.{kind}" for axes in ("xy", "xz", "yz") for kind in ("jpg", "png")}
    assert set(receipts[0].files) == {f"pictures/{name}.png" for name in ALL} | slices | {"pictures/scene.bin"}
    sizes = {name: png_size(tomogram.path(f"pictures/{name}.png").read_bytes()) for name in ALL}
    assert sizes["raw"] == sizes["overlay"]
    assert sizes["raw"][0] == 72 * 6
    assert sizes["surfaces"][0] == 960
    assert "5 slices (5.0 nm)" in summary["pictures"]["raw"][1]
    report = read_tomogram(tomogram, summary, stage_seconds={"report": 3.0})
    assert len(report.membranes) == 2
    assert report.protein_count is None
    assert [stack.name for stack in report.stacks] == ["xy", "xz", "yz"]
    assert report.scene is not None
    assert report.scene.facts["box"] == [72.0, 64.0, 40.0]
    # Two spheres of 5 voxels' thickness shrink by less than a voxel a slice, but at their caps.
    assert 1.0 <= np.median(report.steps_pixels) < 3.0
    path = Path(tomogram.folder).parent / "report.html"
    write_report(path, ReportRun("Test", "0.1.0", "run", "today", tomograms=(report,)))
    page = path.read_text(encoding="utf-8")
    assert page.count('src="data:image/png') == 5
    assert "cut by the border" in page


def test_planes_cut_the_spheres(tomogram: Tomogram) -> None:
    surfaces, planes, near = plan_module._read_surfaces(tomogram.folder, GEOMETRY)
    # Ångström with an origin in the file, nm from the first voxel here.
    for surface, (centre, radius) in zip(surfaces, BALLS, strict=True):
        assert np.allclose(np.linalg.norm(surface.vertices - np.array(centre), axis=1), radius, atol=1e-3)
    assert 16 <= planes[0] <= 22
    assert all(len(points) == len(inferred) > 0 for points, inferred in near)


def test_inferred_pixels_follow_the_mesh(tomogram: Tomogram) -> None:
    _, planes, near = plan_module._read_surfaces(tomogram.folder, GEOMETRY)
    root = Path(tomogram.folder)
    plane = plan_module._read_slice(root, GEOMETRY, 1, planes[1], near[1])
    z = np.nonzero(plane.labels)[0]
    inferred = plane.inferred[np.nonzero(plane.labels)]
    assert inferred.any()
    assert not inferred.all()
    # Caps are inferred: farther from the middle in z than what was seen.
    assert np.abs(z[inferred] - 20).mean() > np.abs(z[~inferred] - 20).mean() + 4
    raw = read_region(root / "tomogram.ome.zarr")[:, planes[1] - 2 : planes[1] + 3].mean(axis=1)
    assert np.allclose(plane.raw, raw, atol=1e-5)


def test_without_a_tomogram_and_without_meshes(tomogram: Tomogram, tmp_path: Path) -> None:
    folder = tmp_path / "TS_01"
    shutil.copytree(tomogram.folder, folder)
    shutil.rmtree(folder / "tomogram.ome.zarr")
    shutil.rmtree(folder / "meshes")
    receipt = draw_pictures(str(folder), GEOMETRY)
    assert set(receipt.numbers["pictures"]) == {"overlay"}


def test_wide_volumes_are_thinned(tomogram: Tomogram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_WIDEST", 40)
    _, planes, near = plan_module._read_surfaces(tomogram.folder, GEOMETRY)
    plane = plan_module._read_slice(Path(tomogram.folder), GEOMETRY, 0, planes[0], near[0])
    assert plane.raw.shape == plane.labels.shape == (32, 36)
    assert plane.nm_per_pixel == 2.0


def test_large_meshes_are_thinned(tomogram: Tomogram, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_module._read_surfaces(tomogram.folder, GEOMETRY)[0]
    monkeypatch.setattr(plan_module, "_MOST_FACES", 1000)
    thin, planes, _ = plan_module._read_surfaces(tomogram.folder, GEOMETRY)
    assert sum(len(s.faces) for s in thin) < sum(len(s.faces) for s in whole) / 3
    assert 15 <= planes[0] <= 23


def test_slices_are_thinned_as_the_volume_is(tomogram: Tomogram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: thinned by another factor or shifted, the small volumes differ from those of the whole one."""
    monkeypatch.setattr(plan_module, "_SMALL", 20)
    monkeypatch.setattr(plan_module, "_BLOCK", (8, 16, 24))
    root, shape = Path(tomogram.folder), GEOMETRY.shape
    assert plan_module._factor(shape) == 4
    raw, labels = (read_region(root / f"{name}.ome.zarr") for name in ("tomogram", "membranes"))
    small = plan_module._small_raw(root / "tomogram.ome.zarr", shape, 4)
    assert np.allclose(small, raw.reshape(10, 4, 16, 4, 18, 4).mean(axis=(1, 3, 5)), atol=1e-5)
    cubes = labels.reshape(10, 4, 16, 4, 18, 4)
    wanted = np.where((cubes > 0).mean(axis=(1, 3, 5)) >= 0.25, cubes.max(axis=(1, 3, 5)), 0)
    assert np.array_equal(plan_module._small_labels(root / "membranes.ome.zarr", shape, 4), wanted)


def test_without_their_files_slices_and_surfaces_are_not_shown(tomogram: Tomogram, tmp_path: Path) -> None:
    _, summary = finish(tomogram, ReportSpec())
    folder = tmp_path / "TS_01"
    shutil.copytree(tomogram.folder, folder)
    (folder / "pictures/slices_xz.jpg").unlink()
    (folder / "pictures/scene.bin").unlink()
    report = read_tomogram(dataclasses.replace(tomogram, folder=str(folder)), summary)
    assert report.stacks == ()
    assert report.scene is None


def test_no_pictures_where_none_are_asked_for(tomogram: Tomogram) -> None:
    receipts, summary = finish(tomogram, ReportSpec(tomograms_with_pictures=0))
    assert receipts == []
    assert summary == {"pictures": {}}
    assert read_tomogram(tomogram, summary).pictures == {}


def test_memory_follows_the_picture_not_the_tomogram() -> None:
    small = projected_bytes(GEOMETRY, 0)
    huge = dataclasses.replace(GEOMETRY, shape=(4000, 8000, 8000))
    assert projected_bytes(huge, 0) < small + (1 << 30)
    assert projected_bytes(GEOMETRY, 1 << 20) > small
