"""Units of the segment stage: whatever the chunks, the stores hold what the kernel says of the whole volume."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryoscale.chunks import whole
from cryoscale.errors import UsageError
from cryoscale.io.omezarr import create_image, image_geometry, read_region, read_values, write_region
from cryoscale.records import Geometry, Receipt, Tomogram, Unit
from cryoscale.segment import build_model
from cryoscale.segment.forward import for_inference
from cryoscale.segment.plan import CLASSES, SCORES, gpu_count, plan
from cryoscale.segment.predict import predict_slab
from cryoscale.segment.twohead import TwoHead
from cryoscale.segment.weights import save_model
from cryoscale.spec import SegmentSpec
from tests.plans import run_plan
from tests.segment.networks import SMALL, small

INTENSITY = (1.0, 2.0)


def ingested(folder: Path, volume: np.ndarray, chunk: tuple[int, int, int], voxel: float = 10.0) -> Tomogram:
    geometry = Geometry(volume.shape, (voxel,) * 3, (5.0, 0.0, 0.0))
    create_image(folder / "t.ome.zarr", geometry, volume.dtype, chunk)
    write_region(folder / "t.ome.zarr", whole(volume.shape), volume)
    return Tomogram("t", "t.mrc", str(folder), geometry)


def planned(tomogram: Tomogram, spec: SegmentSpec, chunk: tuple[int, int, int]) -> tuple[list[Unit], object]:
    steps = plan(tomogram, spec, chunk, source="t.ome.zarr", intensity=INTENSITY)
    return next(steps), steps


def run(tomogram: Tomogram, spec: SegmentSpec, chunk: tuple[int, int, int]) -> tuple[dict[str, Any], list[Receipt]]:
    return run_plan(plan(tomogram, spec, chunk, source="t.ome.zarr", intensity=INTENSITY))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, small("unet25d", 5), {"voxel_size_angstrom": [5.0, 12.0]})
    return path


@pytest.mark.parametrize("chunk", [(8, 64, 64), (4, 16, 24), (16, 96, 96)])
def test_stores_hold_the_scores_of_the_whole(tmp_path: Path, weights: Path, chunk: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (10, 70, 85)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, chunk)
    spec = SegmentSpec(model=str(weights), region_voxels=64, score_threshold=0.3, batch_slices=3)
    summary, receipts = run(tomogram, spec, chunk)

    model = for_inference(small("unet25d", 5))
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


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("known", [[5.0, 12.0], [14.0, 16.0]])
def test_every_network_runs_in_the_engine(tmp_path: Path, name: str, known: list[float]) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, small(name), {"voxel_size_angstrom": known})
    volume = np.random.default_rng(0).normal(1.0, 2.0, (6, 40, 34)).astype(np.int16)
    for number, chunk in enumerate([(8, 40, 40), (4, 24, 40)]):
        tomogram = ingested(tmp_path / str(number), volume, chunk)
        run(tomogram, SegmentSpec(model=str(path), region_voxels=64, score_type="float16"), chunk)
    whole_, cut = (read_region(tmp_path / number / SCORES) for number in "01")
    assert whole_.dtype == np.float16
    np.testing.assert_allclose(whole_.astype(float), cut.astype(float), atol=5e-4)
    assert np.ptp(whole_) > 0


def test_the_networks_voxels_have_their_own_centre_and_scale(tmp_path: Path, weights: Path) -> None:
    """White noise averaged onto voxels twice as large has a smaller deviation: the network sees it as one again."""
    volume = np.random.default_rng(0).normal(7.0, 3.0, (16, 48, 48)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, (16, 48, 48), voxel=2.5)
    steps = plan(tomogram, SegmentSpec(model=str(weights)), (16, 48, 48), source="t.ome.zarr", intensity=(7.0, 3.0))
    (unit,) = next(steps)
    measured = unit.call(*unit.args).numbers
    assert measured["centre"] == pytest.approx(7.0, abs=0.1)
    assert measured["scale"] == pytest.approx(3.0 * (2 / 3 / 2) ** 1.5, rel=0.1)
    (block,) = steps.send([Receipt((), measured)])
    assert block.args[4] == (measured["centre"], measured["scale"])


def test_scores_are_stored_as_asked_with_their_scale(tmp_path: Path, weights: Path) -> None:
    values = {}
    for kind in ("uint8", "float16"):
        tomogram = ingested(tmp_path / kind, np.random.default_rng(0).normal(size=(4, 32, 32)), (4, 32, 32))
        run(tomogram, SegmentSpec(model=str(weights), score_type=kind), (4, 32, 32))
        assert read_region(tmp_path / kind / SCORES).dtype == kind
        values[kind] = read_values(tmp_path / kind / SCORES)
        assert values[kind].dtype == np.float32
    assert 0.5 < values["uint8"].max() <= 1
    np.testing.assert_allclose(values["uint8"], values["float16"], atol=0.003)


def test_symmetries_are_an_option(tmp_path: Path, weights: Path) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (3, 32, 48)).astype(np.float32)
    tomogram = ingested(tmp_path, volume, (4, 32, 48))
    run(tomogram, SegmentSpec(model=str(weights), symmetries=True), (4, 32, 48))
    model = for_inference(small("unet25d", 5))
    expected = predict_slab(model, volume, whole(volume.shape), volume.shape, centre=1.0, scale=2.0, symmetries=True)
    np.testing.assert_allclose(read_region(tmp_path / SCORES), expected[2] * 255, atol=0.51)


def test_long_units_write_what_short_ones_do(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit for a GPU, run on the CPU: several slabs, read ahead and written behind, bfloat16, a larger batch."""
    volume = np.random.default_rng(0).normal(1.0, 2.0, (22, 32, 40)).astype(np.float32)
    monkeypatch.setattr(
        "cryoscale.segment.forward.for_inference", lambda model, device, **how: for_inference(model, **how)
    )
    found = {}
    for gpu in (False, True):
        tomogram, spec = ingested(tmp_path / str(gpu), volume, (4, 32, 40)), SegmentSpec(model=str(weights))
        units = next(plan(tomogram, spec, (4, 32, 40), source="t.ome.zarr", intensity=INTENSITY, gpu=gpu))
        assert [unit.gpu for unit in units] == [gpu] * (2 if gpu else 6)
        receipts = [unit.call(*unit.args) for unit in units]
        files = [name for receipt in receipts for name in receipt.files]
        assert len(set(files)) == len(files) == 12
        found[gpu] = read_values(tmp_path / str(gpu) / SCORES)
    assert 0 < np.abs(found[True] - found[False]).mean() < 0.02


def test_voxel_size_outside_the_cards_range_is_said(tmp_path: Path, weights: Path) -> None:
    tomogram = ingested(tmp_path, np.random.default_rng(0).normal(size=(4, 16, 16)), (4, 16, 16), voxel=20.0)
    outside = "voxel size 20 Å is outside 5.0-12.0 Å, the range of the model"
    summary, _ = run(tomogram, SegmentSpec(model=str(weights), rescale=False), (4, 16, 16))
    assert summary["warnings"] == [outside]
    summary, _ = run(tomogram, SegmentSpec(model=str(weights)), (4, 16, 16))
    assert summary["warnings"] == [f"{outside}: it was scored at 12 Å"]


def test_model_that_changes_during_a_run_is_refused(tmp_path: Path, weights: Path) -> None:
    tomogram = ingested(tmp_path, np.ones((4, 16, 16), np.float32), (4, 16, 16))
    unit = planned(tomogram, SegmentSpec(model=str(weights)), (4, 16, 16))[0][0]
    save_model(weights, small("unet25d", 6), {})
    with pytest.raises(UsageError, match="changed while the run was going on"):
        unit.call(*unit.args)


def _peak_of(unit: Unit, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(1)

    def field(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10

    # From here on: what imports took, and gave back since, would count as the unit's.
    Path("/proc/self/clear_refs").write_text("5")
    before = field("VmRSS:")
    unit.call(*unit.args)
    results.put(field("VmHWM:") - before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize(
    ("name", "options", "shape", "known"),
    [
        ("unet25d", {"width": 16, "depth": 3}, (16, 256, 256), [8.0, 12.0]),
        ("unet25d", {"width": 16, "depth": 3}, (16, 256, 256), [16.0, 16.0]),
        ("unet3d", {"width": 8, "depth": 2}, (16, 96, 96), [8.0, 12.0]),
    ],
)
def test_memory_stays_within_the_projection(
    tmp_path: Path, name: str, options: dict[str, int], shape: tuple[int, int, int], known: list[float]
) -> None:
    weights = tmp_path / "wide.safetensors"
    save_model(weights, build_model(name, **options), {"voxel_size_angstrom": known})
    volume = np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32)
    tomogram = ingested(tmp_path, volume, (16, 128, 128))
    steps = plan(tomogram, SegmentSpec(model=str(weights)), (16, 128, 128), source="t.ome.zarr", intensity=INTENSITY)
    unit = next(steps)[0]
    if unit.key[0] == "segment-scale":
        unit = steps.send([unit.call(*unit.args)])[0]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_peak_of, args=(unit, results))
    process.start()
    measured = results.get(timeout=120)
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


def test_without_a_threshold_the_cards_is_taken(tmp_path: Path, weights: Path) -> None:
    volume = np.random.default_rng(0).normal(1.0, 2.0, (4, 32, 32)).astype(np.float32)
    tomogram, membrane = ingested(tmp_path, volume, volume.shape), {}
    card = json.loads(weights.with_suffix(".json").read_text())
    for threshold in (0.25, 0.4):
        # The weights are the same, and kept by this process from the first to the second.
        weights.with_suffix(".json").write_text(json.dumps(card | {"score_threshold": threshold}))
        run(tomogram, SegmentSpec(model=str(weights), score_type="float16"), volume.shape)
        membrane[threshold] = read_region(tmp_path / CLASSES) == 2
        scores = read_region(tmp_path / SCORES).astype(float)
        sure = np.abs(scores - threshold) > 1e-3
        np.testing.assert_array_equal(membrane[threshold][sure], scores[sure] >= threshold)
    assert membrane[0.25].sum() > membrane[0.4].sum() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch is always asked")
@pytest.mark.parametrize(("driver", "count"), [("/dev/null", 3), ("/dev/no-such-driver", 0)])
def test_torch_is_asked_for_gpus_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, driver: str, count: int
) -> None:
    monkeypatch.setattr("cryoscale.segment.plan._DRIVERS", ("/dev/neither", driver))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert gpu_count() == count
