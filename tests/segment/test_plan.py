"""Units of the segment stage: whatever the chunks, the stores hold what the kernel says of the whole volume."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoscale.chunks import whole
from cryoscale.errors import UsageError
from cryoscale.io.omezarr import create_image, image_geometry, read_region, write_region
from cryoscale.records import Geometry, Receipt, Tomogram, Unit
from cryoscale.segment.plan import CLASSES, SCORES, plan
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import save_model
from cryoscale.segment.windows import for_inference, predict_slab
from cryoscale.spec import SegmentSpec
from tests.segment.networks import small
from tests.segment.test_unet import random_model

INTENSITY = (1.0, 2.0)


def ingested(folder: Path, volume: np.ndarray, chunk: tuple[int, int, int]) -> Tomogram:
    geometry = Geometry(volume.shape, (10.0, 10.0, 10.0), (5.0, 0.0, 0.0))
    create_image(folder / "t.ome.zarr", geometry, volume.dtype, chunk)
    write_region(folder / "t.ome.zarr", whole(volume.shape), volume)
    return Tomogram("t", "t.mrc", str(folder), geometry)


def planned(tomogram: Tomogram, spec: SegmentSpec, chunk: tuple[int, int, int]) -> tuple[list[Unit], object]:
    steps = plan(tomogram, spec, chunk, source="t.ome.zarr", intensity=INTENSITY)
    return next(steps), steps


def run(tomogram: Tomogram, spec: SegmentSpec, chunk: tuple[int, int, int]) -> tuple[dict[str, object], list[Receipt]]:
    steps = plan(tomogram, spec, chunk, source="t.ome.zarr", intensity=INTENSITY)
    receipts = [unit.call(*unit.args) for unit in next(steps)]
    with pytest.raises(StopIteration) as stopped:
        steps.send(receipts)
    return stopped.value.value, receipts


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, random_model(5, slices_in=3), {"voxel_size_angstrom": [5.0, 8.0]})
    return path


@pytest.mark.parametrize("chunk", [(8, 64, 64), (4, 16, 24), (16, 96, 96)])
def test_stores_hold_the_scores_of_the_whole(tmp_path: Path, weights: Path, chunk: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (10, 70, 85)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, chunk)
    spec = SegmentSpec(model=str(weights), region_voxels=64, score_threshold=0.3, batch_slices=3)
    summary, receipts = run(tomogram, spec, chunk)

    model: UNet = for_inference(random_model(5, slices_in=3))
    expected = predict_slab(model, volume, whole(volume.shape), volume.shape, centre=1.0, scale=2.0)
    scores, classes = read_region(tmp_path / SCORES), read_region(tmp_path / CLASSES)
    np.testing.assert_allclose(scores, expected[2] * 255, atol=0.51)
    sure = np.abs(expected[2] - 0.3) > 1e-4
    np.testing.assert_array_equal((classes == 2)[sure], (expected[2] >= 0.3)[sure])
    sure &= (classes != 2) & (np.abs(expected[0] - expected[1]) > 1e-4)
    np.testing.assert_array_equal(classes[sure], expected[:2].argmax(axis=0)[sure])

    assert summary["class_voxels"] == np.bincount(classes.ravel(), minlength=3).tolist()
    assert image_geometry(tmp_path / SCORES) == tomogram.geometry
    files = [name for receipt in receipts for name in receipt.files]
    assert len(set(files)) == len(files)
    assert all((tmp_path / name).is_file() for name in files)


def test_voxel_size_outside_the_cards_range_is_said(tmp_path: Path, weights: Path) -> None:
    tomogram = ingested(tmp_path, np.ones((4, 16, 16), np.float32), (4, 16, 16))
    summary, _ = run(tomogram, SegmentSpec(model=str(weights)), (4, 16, 16))
    assert summary["warnings"] == ["voxel size 10 Å is outside 5.0-8.0 Å, for which the model was trained"]


def test_model_that_changes_during_a_run_is_refused(tmp_path: Path, weights: Path) -> None:
    tomogram = ingested(tmp_path, np.ones((4, 16, 16), np.float32), (4, 16, 16))
    unit = planned(tomogram, SegmentSpec(model=str(weights)), (4, 16, 16))[0][0]
    save_model(weights, random_model(6, slices_in=3), {})
    with pytest.raises(UsageError, match="changed while the run was going on"):
        unit.call(*unit.args)


def _peak_of(unit: Unit, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(1)

    def field(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10

    before = field("VmRSS:")
    unit.call(*unit.args)
    results.put(field("VmHWM:") - before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_memory_stays_within_the_projection(tmp_path: Path) -> None:
    weights = tmp_path / "wide.safetensors"
    save_model(weights, UNet(slices_in=5, width=16, depth=3), {})
    volume = np.random.default_rng(0).normal(1.0, 2.0, (16, 256, 256)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, (16, 128, 128))
    unit = planned(tomogram, SegmentSpec(model=str(weights)), (16, 128, 128))[0][0]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_peak_of, args=(unit, results))
    process.start()
    measured = results.get(timeout=60)
    process.join()
    assert unit.bytes / 3 < measured <= unit.bytes


def test_without_a_threshold_the_networks_own_is_taken(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    model = small("twohead")
    assert isinstance(model, TwoHead)
    model.label_head[1].weight.data.mul_(8)  # some labels reach 0.9
    save_model(weights, model, {})
    volume = np.random.default_rng(0).normal(1.0, 2.0, (2, 32, 32)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, volume.shape)
    found = {}
    for threshold in (0.0, 0.5, 0.95):
        run(tomogram, SegmentSpec(model=str(weights), score_threshold=threshold), volume.shape)
        found[threshold] = read_region(tmp_path / CLASSES)
    np.testing.assert_array_equal(found[0.0], found[0.95])
    assert 0 < (found[0.95] == 2).sum() < (found[0.5] == 2).sum()
