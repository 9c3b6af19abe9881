"""The stage on stored volumes: any chunks, any order, against one pass over the whole volume; sizes; stale chunks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import cryoscale.separate.groups as whole_groups
import cryoscale.separate.plan as stage
from cryoscale.chunks import Region, whole
from cryoscale.io.files import load_npz, save_npz
from cryoscale.io.omezarr import create_image, image_geometry, read_region, write_region
from cryoscale.merge import merge_regions, merge_regions_in_blocks
from cryoscale.records import Geometry, Plan, Receipt, Tomogram, Unit
from cryoscale.separate.separate import take_apart
from cryoscale.separate.surfels import Surfels
from tests.merge.shapes import random_mask, shells
from tests.plans import run_plan, traced_peak

SHAPE = (23, 29, 31)
GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0), (5.0, -7.0, 11.0))


def thirds(points: np.ndarray) -> np.ndarray:
    """A stand-in that looks at the group alone: thirds of its width, the middle one in no part."""
    x = points[:, 2] - points[:, 2].min()
    third = np.minimum(3 * x // (x.max() + 1), 2)
    part = np.array([1, 0, 2])[third]
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    found = np.unique(part)
    rank = np.zeros(found.size, np.int32)
    kept = np.flatnonzero(found > 0)
    rank[kept[np.argsort(first[kept], kind="stable")]] = np.arange(1, kept.size + 1)
    return rank[inverse].astype(np.int32)


def reference(groups: np.ndarray, minimum: int) -> np.ndarray:
    """The whole volume, group by group; numbers in raster order of first voxels."""
    parts = np.zeros(groups.shape, np.int64)
    for number in range(1, groups.max() + 1):
        points = np.argwhere(groups == number)
        part = thirds(points)
        parts[tuple(points.T)] = np.where(part > 0, part + parts.max(), 0)
    labels, number = np.zeros(groups.shape, np.uint32), 0
    for part in dict.fromkeys(parts[parts > 0].tolist()):
        pieces, _ = ndimage.label(parts == part, np.ones((3, 3, 3)))
        if np.bincount(pieces.ravel())[1:].max() >= minimum:
            number += 1
            labels[parts == part] = number
    return labels


def prepare(folder: Path, mask: np.ndarray) -> tuple[Tomogram, np.ndarray]:
    groups, regions = merge_regions_in_blocks(mask, SHAPE, 2.0)
    create_image(folder / "groups.ome.zarr", GEOMETRY, np.uint32, (8, 8, 8), labels=True)
    write_region(folder / "groups.ome.zarr", whole(SHAPE), groups.astype(np.uint32))
    save_npz(folder / "regions.npz", **regions.columns())
    return Tomogram("TS_001", "TS_001.mrc", str(folder), GEOMETRY), groups


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Surfels(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64))
    monkeypatch.setattr(whole_groups, "take_apart", lambda points: (thirds(points), nothing))
    monkeypatch.setattr(stage, "_BLOCK_VOXELS", (8, 16, 8))
    monkeypatch.setattr(stage, "_BATCH_VOXELS", 300)
    monkeypatch.setattr(stage, "_BATCH_GROUPS", 3)


def plan(tomogram: Tomogram, chunk: tuple[int, int, int], minimum: int) -> Any:
    return stage.plan(tomogram, chunk, groups="groups.ome.zarr", regions="regions.npz", minimum_voxels=minimum)


@pytest.mark.parametrize("chunk", [(8, 8, 8), (4, 16, 5), (2, 29, 31), (40, 40, 40)])
@pytest.mark.parametrize(("mask", "minimum"), [(shells(1, SHAPE), 1), (random_mask(2, SHAPE, 0.05), 3)])
def test_equals_one_pass_for_any_chunks_and_order(
    tmp_path: Path, chunk: tuple[int, int, int], mask: np.ndarray, minimum: int
) -> None:
    tomogram, groups = prepare(tmp_path, mask)
    summary, receipts = run_plan(plan(tomogram, chunk, minimum), seed=3)
    expected = reference(groups, minimum)
    found = read_region(tmp_path / summary["volume"])
    np.testing.assert_array_equal(found, expected)
    assert summary["count"] == expected.max() > 1
    assert summary["kept_voxels"] == (expected > 0).sum()
    assert summary["split"] > 0
    assert image_geometry(tmp_path / summary["volume"]) == GEOMETRY
    written = [name for receipt in receipts for name in receipt.files]
    assert len(set(written)) == len(written), "two units wrote one file"
    assert all((tmp_path / name).is_file() for name in written)
    table = load_npz(tmp_path / summary["regions"])
    for number in range(1, summary["count"] + 1):
        points = np.argwhere(expected == number)
        row = number - 1
        assert table["voxels"][row] == len(points)
        assert table["box"][row].tolist() == [*points.min(axis=0), *(points.max(axis=0) + 1)]
        assert table["coordinate_sum"][row].tolist() == points.sum(axis=0).tolist()
        assert table["first_voxel"][row] == np.ravel_multi_index(points[0], SHAPE)


def test_a_group_is_gathered_block_by_block_not_box_by_box(tmp_path: Path) -> None:
    """A sheet that runs from corner to corner: its box is the volume, its voxels are few."""
    shape, edge = (16, 384, 384), (8, 32, 32)
    volume = np.zeros(shape, np.uint32)
    y = np.arange(384)
    volume[y // 24, y, y[::-1]] = 7
    volume[y // 24, y, y] = 3
    create_image(tmp_path / "groups.ome.zarr", Geometry(shape, (10.0,) * 3), np.uint32, edge, labels=True)
    write_region(tmp_path / "groups.ome.zarr", whole(shape), volume)
    task = stage.Task(str(tmp_path / "groups.ome.zarr"), str(tmp_path), shape, edge, 1)
    stage._points(task, 3, whole(shape))  # compiled and cached outside the measurement
    points, peak = traced_peak(lambda: stage._points(task, 7, whole(shape)))
    np.testing.assert_array_equal(points, np.argwhere(volume == 7))
    assert points.dtype == np.int32
    assert peak < volume.nbytes / 8
    corner = Region((3, 50, 60), (14, 201, 130))
    inside = np.argwhere(volume[corner.slices] == 3) + corner.start
    assert len(inside) > 50
    np.testing.assert_array_equal(stage._points(task, 3, corner), inside)


def test_a_unit_that_swaps_the_order_of_blocks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stage.order_by_block

    def raster(*arguments: Any) -> Any:
        order, block, held = honest(*arguments)
        return np.sort(order), block, held

    tomogram, groups = prepare(tmp_path, shells(1, SHAPE))
    monkeypatch.setattr(stage, "order_by_block", raster)
    summary, _ = run_plan(plan(tomogram, (8, 8, 8), 1))
    assert np.any(read_region(tmp_path / summary["volume"]) != reference(groups, 1))


def test_nothing_in_nothing_out_and_stale_chunks_go_away(tmp_path: Path) -> None:
    tomogram, _ = prepare(tmp_path, shells(1, SHAPE))
    run_plan(plan(tomogram, (8, 8, 8), 1))
    tomogram, _ = prepare(tmp_path, np.zeros(SHAPE, bool))
    summary, _ = run_plan(plan(tomogram, (8, 8, 8), 1))
    assert summary["count"] == 0
    assert not read_region(tmp_path / summary["volume"]).any()


def test_all_too_small_is_said(tmp_path: Path) -> None:
    tomogram, _ = prepare(tmp_path, shells(1, SHAPE))
    summary, _ = run_plan(plan(tomogram, (8, 8, 8), 10_000))
    assert summary["count"] == 0
    assert "minimum_volume_nm3" in summary["warnings"][0]


def test_groups_come_from_merging(tmp_path: Path) -> None:
    mask = shells(1, SHAPE)
    _, groups = prepare(tmp_path, mask)
    np.testing.assert_array_equal(groups, merge_regions(mask, 2.0)[0])


def test_pieces_of_one_membrane_in_two_groups_are_one_for_any_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_groups, "take_apart", take_apart)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (84, 84, 50)), indexing="ij"), -1)
    mask = np.abs(np.linalg.norm(grid - [42, 42, -4], axis=-1) - 38) <= 1.5
    mask[30:50] = False
    geometry = Geometry(mask.shape, (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    groups, regions = merge_regions_in_blocks(mask, (64, 64, 64), 10.0)
    expected, count = whole_groups.separate_groups(groups)
    assert (groups.max(), count) == (2, 1)
    for k, chunk in enumerate(((32, 32, 32), (84, 20, 50))):
        folder = tmp_path / str(k)
        create_image(folder / "groups.ome.zarr", geometry, np.uint32, chunk, labels=True)
        write_region(folder / "groups.ome.zarr", whole(mask.shape), groups.astype(np.uint32))
        save_npz(folder / "regions.npz", **regions.columns())
        summary, _ = run_plan(plan(Tomogram("TS", "TS.mrc", str(folder), geometry), chunk, 100), seed=k)
        assert summary["count"] == 1
        np.testing.assert_array_equal(read_region(folder / summary["volume"]), expected)
        table = load_npz(folder / summary["regions"])
        points = np.argwhere(mask)
        assert table["voxels"].tolist() == [len(points)]
        assert table["box"].tolist() == [[*points.min(axis=0), *(points.max(axis=0) + 1)]]


@pytest.mark.parametrize("name", ["crowd", "sheet", "empty"])
def test_projected_bytes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every unit of the real stage, in blocks of its usual size, against its projection."""
    monkeypatch.undo()
    shape = (64, 128, 128)
    z, y, x = np.indices(shape)
    volumes = {
        "crowd": lambda: shells(0, shape, count=8),
        "sheet": lambda: np.abs(z + 0.25 * y + 0.1 * x - 48) < 1.5,
        "empty": lambda: np.zeros(shape, bool),
    }
    mask = volumes[name]()
    stored = Geometry(shape, (10.0, 10.0, 10.0))
    create_image(tmp_path / "groups.ome.zarr", stored, np.uint32, (32, 64, 64), labels=True)
    groups, regions = merge_regions_in_blocks(mask, shape, 10.0)
    write_region(tmp_path / "groups.ome.zarr", whole(shape), groups.astype(np.uint32))
    save_npz(tmp_path / "regions.npz", **regions.columns())
    tomogram = Tomogram("TS_001", "TS_001.mrc", str(tmp_path), stored)
    run_plan(plan(tomogram, (32, 64, 64), 1))  # compiled outside the measurement
    peaks = {}

    def measured(unit: Unit) -> Unit:
        def call(*args: Any) -> Receipt:
            receipt, peaks[unit.key] = traced_peak(lambda: unit.call(*args))
            assert peaks[unit.key] <= unit.bytes, unit.key
            return receipt

        return dataclasses.replace(unit, call=call)

    def watched(steps: Plan) -> Plan:
        units = next(steps)
        try:
            while True:
                units = steps.send((yield [measured(unit) for unit in units]))
        except StopIteration as end:
            return dict(end.value)

    summary, _ = run_plan(watched(plan(tomogram, (32, 64, 64), 1)))
    assert len(peaks) >= 2
    assert (summary["count"] > 0) == mask.any()


def test_a_block_full_of_groups_takes_what_is_projected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Painting takes most where every voxel is in a group; half the projection would be too little."""
    monkeypatch.undo()
    shape = (32, 64, 64)
    stored = Geometry(shape, (10.0, 10.0, 10.0))
    create_image(tmp_path / "groups.ome.zarr", stored, np.uint32, shape, labels=True)
    groups = (np.indices(shape).sum(0) // 40 + 1).astype(np.uint32)
    write_region(tmp_path / "groups.ome.zarr", whole(shape), groups)
    _, regions = merge_regions_in_blocks(groups, shape, 1.0, separate_values=True)
    save_npz(tmp_path / "regions.npz", **regions.columns())
    nothing = Surfels(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64))
    monkeypatch.setattr(whole_groups, "take_apart", lambda points: (np.ones(len(points), np.int32), nothing))
    steps = plan(Tomogram("TS_001", "TS_001.mrc", str(tmp_path), stored), shape, 1)
    units = next(steps)
    while units[0].key[0] != "separate-paint":
        units = steps.send([unit.call(*unit.args) for unit in units])
    units[0].call(*units[0].args)  # compiled and cached outside the measurement
    receipt, peak = traced_peak(lambda: units[0].call(*units[0].args))
    assert units[0].bytes / 2 < peak <= units[0].bytes
    with pytest.raises(StopIteration):
        steps.send([receipt])
    assert (read_region(tmp_path / stage.INSTANCES) > 0).all()
