"""A tomogram at rest: few files, found whole or mended, whatever was killed while it was packed or unpacked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from cryoscale import packing
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import JobPlan, LoopExecutor, Phase
from cryoscale.io.files import save_npz, write_text
from cryoscale.manifest import Entry
from cryoscale.packing import PACKS, stored_records, stored_units, stored_workings, unpack
from cryoscale.records import Receipt, Unit, fingerprint
from cryoscale.spec import RunSpec
from cryoscale.verify import collection_of, find_damage, repair
from tests.toyunits import executions, note_execution

PARTS = 5
AT_REST = {"table.csv", "summary.json", "records/seal.json", *PACKS}


def part(folder: str, number: int) -> Receipt:
    """Leave what the next phase reads."""
    note_execution(str(Path(folder).parents[1]), f"part{number}")
    name = f"merge/parts/{number:06d}.npz"
    save_npz(Path(folder) / name, values=np.full(400, number))
    return Receipt((name,), {"number": number})


def table(folder: str) -> Receipt:
    note_execution(str(Path(folder).parents[1]), "table")
    sums = [int(np.load(path)["values"].sum()) for path in sorted(Path(folder).glob("merge/parts/*.npz"))]
    write_text(Path(folder) / "table.csv", str(sums))
    return Receipt(("table.csv",))


def small_job(tomogram, entry, spec, *, until, gpu) -> JobPlan:
    mark = fingerprint(entry.identity())
    parts = tuple(Unit(("merge-label", entry.id, n), part, (tomogram.folder, n), 0) for n in range(PARTS))
    yield Phase("merge", tomogram.folder, mark, parts)
    yield Phase("fit", tomogram.folder, mark, (Unit(("fit", entry.id, 0), table, (tomogram.folder,), 0),))
    return {"merge": {"warnings": []}}


def run(root: Path, *, first: str = "", overwrite: bool = False) -> Result:
    # Any file will do: no unit reads it.
    entry = Entry("a", __file__, __file__)
    asked = Collection([entry], root / "out", RunSpec(), until="fit", first=first, overwrite=overwrite)
    with mock.patch("cryoscale.collection.tomogram_job", small_job):
        return run_collection(asked, LoopExecutor())


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_complete_tomogram_is_a_few_files_and_is_found_complete(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert files(tmp_path / "out" / "a") == AT_REST
    assert not [path for path in (tmp_path / "out" / "a").iterdir() if path.is_dir() and path.name != "records"]
    assert stored_units(tmp_path / "out" / "a") == {("merge-label", n) for n in range(PARTS)} | {("fit", 0)}
    assert find_damage(collection_of(tmp_path / "out")) == []
    before = executions(tmp_path)
    assert run(tmp_path).exit_code == 0
    assert executions(tmp_path) == before == PARTS + 1


def test_a_stage_is_done_again_from_what_is_packed(tmp_path: Path) -> None:
    run(tmp_path)
    product = (tmp_path / "out" / "a" / "table.csv").read_bytes()
    assert run(tmp_path, first="fit").exit_code == 0
    assert executions(tmp_path) == PARTS + 2
    assert (tmp_path / "out" / "a" / "table.csv").read_bytes() == product
    assert run(tmp_path, overwrite=True).exit_code == 0
    assert executions(tmp_path) == 2 * PARTS + 3
    assert files(tmp_path / "out" / "a") == AT_REST


def test_the_same_run_packs_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(tmp_path / name)
    one, two = (tmp_path / name / "out" / "a" / "workings.tar" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_before(number: int) -> Iterator[list[int]]:
    """End everything before the n-th change of a folder: a rename, a removal of a file or of a folder."""
    count = [0]

    def guarded(real):
        def call(*args, **options):
            count[0] += 1
            if count[0] > number:
                raise Killed
            return real(*args, **options)

        return call

    with contextlib.ExitStack() as stack:
        for name in ("replace", "rename", "unlink", "rmdir"):
            stack.enter_context(mock.patch.object(os, name, guarded(getattr(os, name))))
        yield count


def dies_anywhere(root: Path, start: Path | None, first: str) -> Iterator[tuple[int, int, int]]:
    """Kill a run at every change of a folder; yield where, and how many units it and the next one ran."""
    for number in range(1000):
        place = root / f"{number}"
        if start is not None:
            shutil.copytree(start, place, copy_function=shutil.copy2)
        else:
            place.mkdir()
        before = executions(place)
        try:
            with killed_before(number) as count, mock.patch("cryoscale.collection._LOOKERS", 1):
                run(place, first=first)
        except Killed:
            pass
        if count[0] <= number:
            return
        (place / "out" / "run.lock").unlink(missing_ok=True)
        run(place)
        yield number, executions(place) - before, len(find_damage(collection_of(place / "out")))
        assert files(place / "out" / "a") == AT_REST
        assert (place / "out" / "a" / "table.csv").read_text() == str([400 * n for n in range(PARTS)])


@pytest.mark.parametrize("first", ["", "fit"])
def test_whenever_a_run_is_killed_no_finished_unit_is_lost(tmp_path: Path, first: str) -> None:
    start = tmp_path / "start" if first else None
    if start is not None:
        start.mkdir()
        run(start)
        (start / "executions").mkdir(exist_ok=True)
    found = list(dies_anywhere(tmp_path, start, first))
    assert len(found) > 40
    # What was running when it was killed runs again; so may what was to be done again and had not been forgotten yet.
    most = PARTS + 2 if not first else 2
    assert [entry for entry in found if entry[1] > most or entry[2]] == []


def test_the_kills_would_show_what_is_removed_too_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kills, where what is to be packed is removed while it is being packed."""
    real = packing._pack_unit

    def hasty(folder: str, keys, files) -> Receipt:
        kept = {name: (Path(folder) / name).read_bytes() for name in files}
        for name in files:
            (Path(folder) / name).unlink()
        for name, content in kept.items():
            (Path(folder) / name).write_bytes(content)
        return real(folder, keys, files)

    monkeypatch.setattr(packing, "_pack_unit", hasty)
    assert any(units > PARTS + 2 for _, units, _ in dies_anywhere(tmp_path, None, ""))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    run(root)
    return root


@pytest.mark.parametrize("pack", PACKS)
def test_a_flipped_bit_in_what_is_packed_costs_its_own_unit(finished: Path, tmp_path: Path, pack: str) -> None:
    rng = np.random.default_rng(3)
    whole = (finished / "out" / "a" / pack).read_bytes()
    for case in range(12):
        root = tmp_path / str(case)
        shutil.copytree(finished, root, copy_function=shutil.copy2)
        raw = bytearray(whole)
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        (root / "out" / "a" / pack).write_bytes(raw)
        job = collection_of(root / "out")
        found = find_damage(job)
        assert found, "not noticed"
        before = executions(root)
        with mock.patch("cryoscale.collection.tomogram_job", small_job):
            repair(job, found, LoopExecutor())
        # A line's end joins two records.
        assert executions(root) - before <= (2 if pack == PACKS[0] else 1)
        assert find_damage(job) == []
        assert (root / "out" / "a" / "workings.tar").read_bytes() == (
            finished / "out" / "a" / "workings.tar"
        ).read_bytes()


def test_a_torn_archive_costs_what_is_behind_the_tear(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "torn"
    shutil.copytree(finished, root, copy_function=shutil.copy2)
    path = root / "out" / "a" / "workings.tar"
    kept = len(stored_workings(root / "out" / "a"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    left = stored_workings(root / "out" / "a")
    assert 0 < len(left) < kept == PARTS
    job, before = collection_of(root / "out"), executions(root)
    with mock.patch("cryoscale.collection.tomogram_job", small_job):
        repair(job, find_damage(job), LoopExecutor())
    assert executions(root) - before == PARTS - len(left)
    assert find_damage(job) == []


def test_what_is_unpacked_is_what_was_packed(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished / "out" / "a", tmp_path / "a"))
    records = stored_records(folder)
    unpack(folder)
    assert files(folder) >= {f"merge/parts/{n:06d}.npz" for n in range(PARTS)}
    packing.drop_packs(folder)
    assert stored_records(folder) == records
    assert np.load(folder / "merge" / "parts" / "000003.npz")["values"].tolist() == [3] * 400
