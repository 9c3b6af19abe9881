"""Collections of toy tomograms: what is left alone, tried again, refused, started apart; what the classes mean."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoscale import runrecord
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import LoopExecutor, Phase
from cryoscale.errors import PauseError, TomogramError, TransientError, UsageError
from cryoscale.io.inputs import InputError
from cryoscale.manifest import entries
from cryoscale.records import Receipt, Unit, fingerprint
from cryoscale.runrecord import apart
from cryoscale.spec import FitSpec, MergeSpec, RunSpec
from tests.toyunits import executions, note_execution, square

Fault = Callable[[str], None]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fault]:
    """Tomograms of two stages with three units each; what is put in here happens in the first unit of an id."""
    found: dict[str, Fault] = {}

    def unit(folder: str, name: str, index: int) -> Receipt:
        if index == 0 and name in found:
            found[name](folder)
        return square(folder, index)

    def job(tomogram, entry, spec, *, until, gpu):
        mark = fingerprint(entry.identity(), dataclasses.asdict(spec.merge))
        for stage in ("merge", "fit"):
            units = [Unit((stage, entry.id, i), unit, (tomogram.folder, entry.id, i), 0) for i in range(3)]
            yield Phase(stage, tomogram.folder, mark, tuple(units))
            units.clear()
        return {"merge": {"warnings": []}}

    monkeypatch.setattr("cryoscale.collection.tomogram_job", job)
    monkeypatch.setattr("cryoscale.engine._BACK_OFF_SECONDS", 0.0)
    return found


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"t{n}.mrc" for n in range(4)]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def collection(sources: list[Path], spec: RunSpec = RunSpec(), **options: object) -> Collection:  # noqa: B008
    found = entries([str(path) for path in sources], "{path}")
    return Collection(found, sources[0].parent / "out", spec, until="fit", **options)


def run(sources: list[Path], spec: RunSpec = RunSpec(), **options: object) -> Result:  # noqa: B008
    return run_collection(collection(sources, spec, **options), LoopExecutor())


def counts(sources: list[Path]) -> list[int]:
    return [executions(sources[0].parent / "out" / path.stem) for path in sources]


def failures(sources: list[Path]) -> list[tuple[str, str]]:
    path = sources[0].parent / "out" / "failures.csv"
    if not path.is_file():
        return []
    with path.open() as stream:
        return [(row["id"], row["class"]) for row in csv.DictReader(stream)]


def raising(error: BaseException, times: int = 99) -> Fault:
    def fault(folder: str) -> None:
        if note_execution(folder, "fault") <= times:
            raise error

    return fault


def test_a_finished_run_does_nothing_and_writes_nothing(faults: dict[str, Fault], sources: list[Path]) -> None:
    assert run(sources).exit_code == 0
    out = sources[0].parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    result = run(sources)
    assert result.exit_code == 0
    assert [outcome.id for outcome in result.outcomes] == ["t0", "t1", "t2", "t3"]
    assert all(cost.skipped == cost.units == 3 for outcome in result.outcomes for cost in outcome.times.values())
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} <= {out}


def test_a_finished_tomogram_is_recognised_by_few_looks(
    faults: dict[str, Fault], sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a shared file system each look takes milliseconds; a thousand tomograms may take a minute."""
    run(sources)
    looks = 0

    def counted(real):
        def look(*args, **options):
            nonlocal looks
            looks += 1
            return real(*args, **options)

        return look

    for name in ("stat", "lstat", "open", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    job = collection(sources)
    looks = 0
    run_collection(job, LoopExecutor())
    four = looks
    monkeypatch.undo()
    assert 0 < four < 4 * 12 + 60


def test_what_failed_is_not_tried_again_until_said_or_changed(faults: dict[str, Fault], sources: list[Path]) -> None:
    faults["t1"] = raising(TomogramError("no good"))
    assert run(sources).exit_code == 3
    assert failures(sources) == [("t1", "TOMOGRAM")]
    result = run(sources)
    assert result.exit_code == 3
    assert "no good" in str(result.failures[0].error)
    assert counts(sources)[1] == 1
    assert run(sources, retry_failed=True).exit_code == 3
    assert counts(sources)[1] == 2
    sources[1].write_bytes(b"better")
    del faults["t1"]
    assert run(sources).exit_code == 0
    assert failures(sources) == []
    assert counts(sources) == [6, 8, 6, 6]


def test_hiccups_are_tried_again_at_the_end(faults: dict[str, Fault], sources: list[Path]) -> None:
    # Four tries in the unit, four in the second round: the fifth passes.
    faults["t0"] = raising(OSError(errno.ESTALE, "stale"), times=4)
    faults["t2"] = raising(TransientError("network away"))
    result = run(sources)
    assert [outcome.error is None for outcome in result.outcomes] == [True, True, False, True]
    assert failures(sources) == [("t2", "TRANSIENT")]
    del faults["t2"]
    assert run(sources).exit_code == 0, "a hiccup is tried again without being asked to"


def test_a_file_still_being_written_is_tried_again_at_the_end(faults: dict[str, Fault], sources: list[Path]) -> None:
    def grows(folder: str) -> None:
        if note_execution(folder, "fault") == 1:
            sources[0].write_bytes(b"xx")
            raise InputError("truncated", "shorter than its header says")

    faults["t0"] = grows
    faults["t1"] = raising(InputError("truncated", "shorter than its header says"))
    result = run(sources)
    assert [outcome.error is None for outcome in result.outcomes] == [True, False, True, True]
    assert len(list((sources[0].parent / "out" / "t1" / "executions").glob("fault*"))) == 1, "it had not changed"


def test_a_fault_of_ours_is_kept_with_its_traceback(faults: dict[str, Fault], sources: list[Path]) -> None:
    faults["t1"] = raising(ZeroDivisionError("ours"))
    result = run(sources)
    assert result.exit_code == 70
    assert failures(sources) == [("t1", "FATAL")]
    assert "ZeroDivisionError: ours" in (sources[0].parent / "out" / "t1" / "fault.txt").read_text()
    assert run(sources).exit_code == 70


def test_three_faults_of_ours_in_a_row_stop_the_run(faults: dict[str, Fault], sources: list[Path]) -> None:
    for name in ("t0", "t1", "t2"):
        faults[name] = raising(ZeroDivisionError("ours"))
    assert run(sources).exit_code == 70
    assert counts(sources)[3] == 0
    faults.clear()
    assert run(sources, retry_failed=True).exit_code == 0


def test_a_full_disk_keeps_the_failures_before_it(faults: dict[str, Fault], sources: list[Path]) -> None:
    faults["t0"] = raising(TomogramError("no good"))
    faults["t2"] = raising(OSError(errno.ENOSPC, "full"), times=1)
    with pytest.raises(PauseError, match="full"):
        run(sources)
    assert failures(sources) == [("t0", "TOMOGRAM")]
    assert run(sources).exit_code == 3
    # Six units, and the fault's own count at its three chances.
    assert counts(sources)[1:] == [6, 9, 6]


def test_another_option_of_one_tomogram_runs_that_one(faults: dict[str, Fault], sources: list[Path]) -> None:
    def listed(distance: str) -> Collection:
        table = sources[0].parent / "run.csv"
        table.write_text(f"path,merge.distance_nm\nt0.mrc,2.5\nt1.mrc,{distance}\n")
        return Collection(entries([str(table)], "{path}"), table.parent / "out", RunSpec(), until="fit")

    assert run_collection(listed(""), LoopExecutor()).exit_code == 0
    with pytest.raises(UsageError, match=r"t1 merge.distance_nm None -> 9.0"):
        run_collection(listed("9"), LoopExecutor())
    result = run_collection(dataclasses.replace(listed("9"), first="merge"), LoopExecutor())
    assert result.exit_code == 0
    with pytest.raises(UsageError, match=r"surface.thickness_nm"):
        bad = dataclasses.replace(listed("9").entries[0], options=(("surface.thickness_nm", 99.0),))
        run_collection(dataclasses.replace(listed("9"), entries=[bad]), LoopExecutor())


def test_changes_are_refused_by_name(
    faults: dict[str, Fault], sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sources[:2])
    with pytest.raises(UsageError, match=r"merge.distance_nm 2.0 -> 3.0; fit.reach_nm 4.0 -> 5.0"):
        run(sources[:2], RunSpec(merge=MergeSpec(distance_nm=3.0), fit=FitSpec(reach_nm=5.0)))
    code = runrecord.code_of_stages()
    for stage in ("fit", "shared"):
        monkeypatch.setattr(runrecord, "code_of_stages", lambda stage=stage: code | {stage: "0" * 12})
        with pytest.raises(UsageError, match=f"code of {stage} {code[stage]} -> 000000000000"):
            run(sources)
    # Code of a stage that was not run, or is run again, changes nothing that is kept.
    monkeypatch.setattr(runrecord, "code_of_stages", lambda: code | {"segment": "0" * 12})
    assert run(sources[:2]).exit_code == 0
    monkeypatch.setattr(runrecord, "code_of_stages", lambda: code | {"fit": "0" * 12})
    assert run(sources[:2], first="fit").exit_code == 0
    monkeypatch.setattr(runrecord, "__version__", "9.9")
    with pytest.raises(UsageError, match=r"cryoscale .* -> 9.9"):
        run(sources[:2])


def test_other_weights_are_refused(faults: dict[str, Fault], sources: list[Path]) -> None:
    job = collection(sources[:1])
    run_collection(job, LoopExecutor())
    # The toy has no network; its folder looks as if one had run.
    (job.output / "t0" / "records" / "segment").mkdir()
    record = json.loads((job.output / "run.json").read_text()) | {"model": "a" * 64}
    (job.output / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="weights aaaaaaaaaaaa -> bbbbbbbbbbbb"):
        runrecord.refuse_mixture(job, "b" * 64)
    runrecord.refuse_mixture(job, "a" * 64)


def test_a_new_run_starts_apart_and_goes_on_there(faults: dict[str, Fault], sources: list[Path]) -> None:
    run(sources)
    other = collection(sources, RunSpec(merge=MergeSpec(distance_nm=3.0)))
    moved = apart(other, "")
    assert moved.output == sources[0].parent / "out-2"
    assert run_collection(moved, LoopExecutor()).exit_code == 0
    assert apart(other, "").output == moved.output, "the same command goes on"
    third = collection(sources, RunSpec(merge=MergeSpec(distance_nm=4.0)))
    assert apart(third, "").output == sources[0].parent / "out-3"
    assert counts(sources) == [6] * 4


def test_the_code_of_every_stage_is_known() -> None:
    code = runrecord.code_of_stages()
    assert {"ingest", "segment", "merge", "separate", "fit", "surface", "measure", "report", "shared"} <= code.keys()
    assert len(set(code.values())) == len(code)
