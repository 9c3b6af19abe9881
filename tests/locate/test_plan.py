"""From a volume of components to a table of proteins, in any order of the units."""

import dataclasses

import numpy as np
import pytest

from cryoscale.chunks import Region
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.locate import plan as stage
from cryoscale.pipeline import _located
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import LocateSpec, RunSpec
from tests.locate.test_meanshift import balls
from tests.plans import run_plan, traced_peak

SHAPE = (40, 40, 60)
PAIR = [(20, 20, 14), (20, 20, 24)]
ALONE = [(8, 8, 50)]
THREE = [(33, 10, 8), (33, 19.5, 8), (33, 29, 8)]


@pytest.fixture
def tomogram(tmp_path):
    geometry = Geometry(SHAPE, (10.0, 10.0, 10.0))
    labels = np.zeros(SHAPE, np.uint32)
    for number, centres in enumerate((ALONE, PAIR, THREE), 1):
        labels[balls(centres, 5.0)] = number
    create_image(tmp_path / "proteins.ome.zarr", geometry, labels.dtype, (16, 16, 16), labels=True)
    write_region(tmp_path / "proteins.ome.zarr", Region((0, 0, 0), SHAPE), labels)
    points = [np.argwhere(labels == number) for number in (1, 2, 3)]
    box = [[*p.min(axis=0), *(p.max(axis=0) + 1)] for p in points]
    sums = [p.sum(axis=0) for p in points]
    voxels = np.array([len(p) for p in points])
    save_npz(tmp_path / "locate/regions.npz", voxels=voxels, box=np.array(box), coordinate_sum=np.array(sums))
    return Tomogram("t", "t.mrc", str(tmp_path), geometry)


LOCATED = {"volume": "proteins.ome.zarr", "regions": "locate/regions.npz"}


def table(tomogram, radius_nm=5.0, seed=None):
    summary, _ = run_plan(stage.plan(tomogram, LocateSpec(radius_nm), located=LOCATED), seed=seed)
    found = load_npz(tomogram.path(summary["regions"]))
    return summary, found["coordinate_sum"] / found["voxels"][:, None], found["voxels"]


def test_pairs_and_rows_come_apart_in_the_order_of_their_components(tomogram):
    summary, centres, voxels = table(tomogram)
    assert (summary["split"], summary["count"]) == (2, 6)
    np.testing.assert_allclose(centres, [*ALONE, *PAIR, *THREE], atol=0.8)
    assert voxels.sum() == load_npz(tomogram.path("locate/regions.npz"))["voxels"].sum()


def test_a_large_radius_leaves_components_whole(tomogram):
    summary, centres, _ = table(tomogram, 20.0)
    before = load_npz(tomogram.path("locate/regions.npz"))
    assert summary["split"] == 0
    np.testing.assert_array_equal(centres, before["coordinate_sum"] / before["voxels"][:, None])


def test_batches_and_order_change_nothing(tomogram, monkeypatch):
    _, centres, _ = table(tomogram)
    monkeypatch.setattr(stage, "_BATCH_VOXELS", 500)
    monkeypatch.setattr(stage, "_SLAB_SLICES", 3)
    _, again, _ = table(tomogram, seed=1)
    np.testing.assert_array_equal(again, centres)


def test_memory_follows_the_voxels_of_a_component_not_its_box(tmp_path):
    shape = (200, 64, 64)
    labels = np.zeros(shape, np.uint32)
    labels[:, 3, 3] = labels[199, 3:60, 3] = labels[199, 59, 3:60] = 1
    geometry = Geometry(shape, (10.0, 10.0, 10.0))
    create_image(tmp_path / "proteins.ome.zarr", geometry, labels.dtype, (32, 64, 64), labels=True)
    write_region(tmp_path / "proteins.ome.zarr", Region((0, 0, 0), shape), labels)
    points = np.argwhere(labels)
    box = np.array([[*points.min(axis=0), *(points.max(axis=0) + 1)]])
    save_npz(
        tmp_path / "locate/regions.npz", voxels=np.array([len(points)]), box=box, coordinate_sum=points.sum(0)[None]
    )
    tomogram = Tomogram("t", "t.mrc", str(tmp_path), geometry)
    (unit,) = next(stage.plan(tomogram, LocateSpec(2.0), located=LOCATED))
    unit.call(*unit.args)
    _, peak = traced_peak(lambda: unit.call(*unit.args))
    assert peak < min(labels.nbytes, unit.bytes - stage._BASE_BYTES // 2)


def test_a_run_takes_proteins_apart_where_their_radius_is_given(tmp_path):
    geometry = Geometry(SHAPE, (10.0, 10.0, 10.0))
    classes = balls(PAIR, 5.0).astype(np.uint8)
    classes[30:, :, 40:] = 2
    create_image(tmp_path / "classes.ome.zarr", geometry, classes.dtype, (16, 16, 16), labels=True)
    write_region(tmp_path / "classes.ome.zarr", Region((0, 0, 0), SHAPE), classes)
    tomogram = Tomogram("t", "t.mrc", str(tmp_path), geometry)
    for radius_nm, count in ((0.0, 1), (5.0, 2)):
        spec = RunSpec(locate=LocateSpec(radius_nm))
        spec = dataclasses.replace(spec, ingest=dataclasses.replace(spec.ingest, chunk_voxels=(16, 16, 16)))
        summary, _ = run_plan(_located(tomogram, spec, {"source": "classes.ome.zarr"}))
        assert summary["count"] == count == len(load_npz(tomogram.path(summary["regions"]))["voxels"])
