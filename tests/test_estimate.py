"""What a dry run says, against the units of the run itself."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numba
import pytest

import cryoscale.rates as rates_module
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.errors import UsageError
from cryoscale.estimate import StageEstimate, estimate_tomogram, print_estimate, totals_of
from cryoscale.manifest import entries
from cryoscale.measure.plan import expected_units
from cryoscale.rates import Contents, Rates, StageRate, measured_rates
from cryoscale.records import Geometry, Unit
from cryoscale.spec import ConnectSpec, IngestSpec, MergeSpec, RunSpec, SeparateSpec
from tests.phantoms import SHAPE, write_spheres

GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0))
SMALL = IngestSpec(chunk_voxels=(16, 32, 32))
GROUPING = ("ingest", "merge", "separate")


class Noting(LoopExecutor):
    """Runs units and keeps them, by stage."""

    def __init__(self) -> None:
        super().__init__()
        self.units: dict[str, list[Unit]] = defaultdict(list)

    def submit(self, unit: Unit, folder: str, fingerprint: str, *, order: int = 0) -> None:
        if fingerprint:
            self.units[unit.key[0].split("-")[0]].append(unit)
        super().submit(unit, folder, fingerprint, order=order)


def run_units(tmp_path: Path, spec: RunSpec, until: str) -> dict[str, list[Unit]]:
    source, executor = write_spheres(tmp_path / "spheres.mrc"), Noting()
    collection = Collection(entries([str(source)], "{path}"), tmp_path / "out", spec, until=until)
    assert run_collection(collection, executor).exit_code == 0
    return executor.units


def estimates(spec: RunSpec, stages: tuple[str, ...]) -> dict[str, StageEstimate]:
    return {found.stage: found for found in estimate_tomogram(GEOMETRY, (1,), spec, stages, masked=True)}


@pytest.mark.parametrize("chunk", [(16, 32, 32), (8, 16, 80)])
@pytest.mark.parametrize("separate_labels", [False, True])
def test_grouping_takes_the_units_and_memory_that_were_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: tuple[int, int, int], separate_labels: bool
) -> None:
    for stage in ("merge", "separate"):
        monkeypatch.setattr(f"cryoscale.{stage}.plan._BLOCK_VOXELS", (20, 40, 40))
    merge = MergeSpec(separate_labels=separate_labels)
    spec = RunSpec(ingest=dataclasses.replace(SMALL, chunk_voxels=chunk), merge=merge)
    stages = GROUPING[:2] if separate_labels else GROUPING
    units, told = run_units(tmp_path, spec, stages[-1]), estimates(spec, stages)
    assert set(units) == set(told)
    for stage in stages:
        assert len(units[stage]) == told[stage].units > 2, stage
        assert max(unit.bytes for unit in units[stage]) <= told[stage].unit_bytes, stage
    assert told["merge"].units > 16
    # Memory of blocks is known beforehand; that of groups is told for larger membranes than these.
    assert told["merge"].unit_bytes == max(unit.bytes for unit in units["merge"])


def test_learning_takes_the_units_and_memory_that_were_told(tmp_path: Path) -> None:
    connect = ConnectSpec(episodes=2, actions_per_episode=2)
    spec = RunSpec(ingest=SMALL, merge=MergeSpec(connect="qlearning"), connect=connect)
    units, told = run_units(tmp_path, spec, "connect")["connect"], estimates(spec, ("connect",))["connect"]
    assert len(units) == told.units == 2 * 6 + 1 + 3
    assert told.unit_bytes == max(unit.bytes for unit in units)


def test_surfaces_take_the_units_that_were_told(tmp_path: Path) -> None:
    spec = RunSpec(ingest=SMALL)
    units, told = run_units(tmp_path, spec, "surface")["surface"], estimates(spec, ("surface",))["surface"]
    assert len(units) == told.units == 1 + 2 + 2  # meshes, blocks of 2 x 4 x 4 chunks, the table and the labels
    # Membranes are projected larger than these are.
    assert max(unit.bytes for unit in units) <= told.unit_bytes


def test_a_wider_distance_and_more_voxels_take_more() -> None:
    def told(stage: str, geometry: Geometry = GEOMETRY, **options: object) -> StageEstimate:
        return estimate_tomogram(geometry, (4,), RunSpec(**options), (stage,))[0]  # type: ignore[arg-type]

    near = told("merge", merge=MergeSpec(distance_nm=2.0), separate=SeparateSpec(join_nm=2.0))
    assert near.unit_bytes < told("merge").unit_bytes
    large = Geometry((400, 1000, 1000), (10.0, 10.0, 10.0))
    for stage in ("merge", "separate", "connect", "locate", "surface"):
        assert told(stage).units < told(stage, large).units
    # 199 vesicles of 60,319 voxels are 3 %, 1.2 * 1.08 * 1.08 times as many are cut; a file has 2 x 4 x 4 chunks
    groups, blocks = 139, 4 * 2 * 2
    assert told("separate", large).units == groups + 1 + blocks


def test_rates_are_measured_once_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write_spheres(tmp_path / "spheres.mrc")
    spec = RunSpec(ingest=SMALL)
    job = Collection(entries([str(source)], "{path}"), tmp_path / "out", spec, until="merge")
    rates = measured_rates(job, 10.0)
    assert set(rates.stages) == {"ingest", "merge"}
    monkeypatch.setattr("cryoscale.rates._measure", None)
    assert measured_rates(job, 10.0) == rates, "kept"
    monkeypatch.undo()
    told = totals_of(job, [(job.entries[0], GEOMETRY, [1])], rates)
    assert told["merge"].core_seconds == pytest.approx(rates.stages["merge"].seconds * 48 * 72 * 80 / 1e6)


def test_what_is_compiled_in_a_trial_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the small trial does not come by every function, the large one would tell of compiling for ever after."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write_spheres(tmp_path / "spheres.mrc")
    job = Collection(entries([str(source)], "{path}"), tmp_path / "out", RunSpec(ingest=SMALL), until="merge")
    run, late, shapes = rates_module._run, numba.njit(lambda x: x + 1), []

    def compiling(collection: Collection, root: Path, shape: tuple[int, int, int], *rest: Any, **options: Any) -> Any:
        shapes.append(shape)
        if root.name == "measured":
            late(1)
        return run(collection, root, shape, *rest, **options)

    monkeypatch.setattr(rates_module, "_run", compiling)
    rates_module._measure(job, 10.0, masked=True)
    assert [len(shapes), shapes[1]] == [3, shapes[2]]
    rates_module._measure(job, 10.0, masked=True)
    assert len(shapes) == 5


def test_what_follows_membranes_is_told_by_how_much_of_them_there_is() -> None:
    """One tomogram has three times as much membrane as another of its size: time per voxel would tell the same."""
    rates = Rates({"fit": StageRate(20.0, 50.0, 0.5), "merge": StageRate(2.0, 0.5)}, "here")
    geometry = Geometry((200, 400, 400), (10.0, 10.0, 10.0))
    full, sparse = (
        estimate_tomogram(geometry, (4,), RunSpec(), ("fit", "merge"), rates=rates, share=share)
        for share in (0.03, 0.01)
    )
    # 960,000 voxels of membrane: 15.9 vesicles of 60,319, and as many as 1.4 * 1.2 * 1.2 times are cut by the faces.
    assert full[0].core_seconds == pytest.approx(20.0 * 0.96 + 0.5 * 32)
    assert full[0].disk_bytes == 48_000_000
    assert sparse[0].core_seconds == pytest.approx(20.0 * 0.32 + 0.5 * 11)
    assert sparse[1] == full[1]
    assert (full[1].core_seconds, full[1].disk_bytes) == (64.0, 16_000_000)


@pytest.mark.parametrize(("count", "surroundings"), [(1, 1), (15, 4), (40, 8), (100, 8), (200, 13)])
def test_measuring_takes_the_units_of_its_groups(count: int, surroundings: int) -> None:
    others = -(-count // 16) + 1
    assert expected_units(count, proteins=False) == others + surroundings
    assert expected_units(count, proteins=True) == others + surroundings + -(-count // 4)


def test_a_finer_voxel_makes_larger_and_fewer_membranes() -> None:
    coarse, fine = (Contents.expected(Geometry((100, 400, 400), (apix,) * 3), 0.02) for apix in (15.0, 7.5))
    assert coarse.typical.diameter_voxels * 2 == fine.typical.diameter_voxels == pytest.approx(80 / 0.75)
    # Twice as thick, four times the surface.
    assert fine.typical.voxels == pytest.approx(8 * coarse.typical.voxels, rel=1e-3)
    assert coarse.membranes > 2 * fine.membranes
    assert Contents.expected(Geometry((4, 4, 4), (10.0,) * 3), 0.0).membranes == 1


def test_pictures_cost_the_same_for_any_size() -> None:
    large = Geometry((480, 720, 800), (10.0, 10.0, 10.0))
    for stage, grows in (("report", False), ("measure", True), ("fit", True), ("segment", True)):
        small_one, large_one = (estimate_tomogram(g, (4,), RunSpec(), (stage,))[0] for g in (GEOMETRY, large))
        assert (large_one.core_seconds > small_one.core_seconds) == grows


def test_a_dry_run_leaves_alone_what_the_run_leaves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_spheres(tmp_path / "spheres.mrc")
    (tmp_path / "empty.mrc").write_bytes(b"")
    found = entries([str(source), str(tmp_path / "empty.mrc")], "{path}")
    collection = Collection(found, tmp_path / "out", RunSpec(ingest=SMALL), until="merge")
    assert run_collection(collection, LoopExecutor()).exit_code == 3

    def told(**changes: Any) -> str:
        print_estimate(dataclasses.replace(collection, **changes), 1, calibrate=False)
        return capsys.readouterr().out

    assert "spheres: complete, would be kept\nempty: FAILED before" in told()
    assert "empty: would FAIL" in told(retry_failed=True)
    with pytest.raises(UsageError, match="distance_nm"):
        told(spec=RunSpec(ingest=SMALL, merge=MergeSpec(distance_nm=9.0)))
    # Another file by the same name: the run makes it again.
    os.utime(source, (0, 0))
    assert "complete" not in told()
