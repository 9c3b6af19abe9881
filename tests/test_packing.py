"""A tomogram at rest: few files, found whole or mended, whatever was killed while it was packed or unpacked."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
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
from cryoscale.packing import PACKS, places_of, stored_files, stored_records, stored_units, unpack
from cryoscale.records import Receipt, Unit, fingerprint
from cryoscale.spec import RunSpec
from cryoscale.verify import Damage, collection_of, find_damage, repair
from tests.toyunits import executions, note_execution

PARTS = 5
MESHES, SINGLES = "meshes.tar", 3
AT_REST = {"table.csv", "summary.json", "records/seal.json", *PACKS} - {"vertices.tar"}


def part(folder: str, number: int) -> Receipt:
    """Leave what the next phase reads."""
    note_execution(str(Path(folder).parents[1]), f"part{number}")
    name = f"merge/parts/{number:06d}.npz"
    save_npz(Path(folder) / name, values=np.full(400, number))
    mesh = f"meshes/membrane_{number:04d}.ply"
    write_text(Path(folder) / mesh, f"mesh {number}" * 99)
    return Receipt((name, mesh), {"number": number})


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
    with mock.patch("cryoscale.collection.tomogram_job", small_job), mock.patch.object(packing, "SINGLES", SINGLES):
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
    for name in ("workings.tar", MESHES):
        one, two = (tmp_path / root / "out" / "a" / name for root in ("one", "two"))
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


@pytest.mark.parametrize("pack", ["workings.tar", MESHES])
def test_the_kills_would_show_what_is_removed_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str
) -> None:
    """The same kills, where what is to be packed is removed while it is being packed."""
    real = packing._pack_unit

    def hasty(folder: str, keys, archives) -> Receipt:
        kept = {name: (Path(folder) / name).read_bytes() for name in archives[pack]}
        for name in kept:
            (Path(folder) / name).unlink()
        for name, content in kept.items():
            (Path(folder) / name).write_bytes(content)
        return real(folder, keys, archives)

    monkeypatch.setattr(packing, "_pack_unit", hasty)
    assert any(units > PARTS + 2 for _, units, _ in dies_anywhere(tmp_path, None, ""))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    run(root)
    return root


@pytest.mark.parametrize("pack", sorted(AT_REST & set(PACKS)))
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
        mend(job, found)
        # A line's end joins two records.
        assert executions(root) - before <= (2 if pack == PACKS[0] else 1)
        assert find_damage(job) == []
        for name in ("workings.tar", MESHES):
            assert (root / "out" / "a" / name).read_bytes() == (finished / "out" / "a" / name).read_bytes()


def mend(job: Collection, found: list[Damage]) -> None:
    with mock.patch("cryoscale.collection.tomogram_job", small_job), mock.patch.object(packing, "SINGLES", SINGLES):
        repair(job, found, LoopExecutor())


def workings(root: Path) -> int:
    """Return how many working files are whole in their archive."""
    return sum(name.startswith("merge/") for name in stored_files(root / "out" / "a"))


def test_a_torn_archive_costs_what_is_behind_the_tear(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "torn"
    shutil.copytree(finished, root, copy_function=shutil.copy2)
    path = root / "out" / "a" / "workings.tar"
    kept = workings(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    left = workings(root)
    assert 0 < left < kept == PARTS
    job, before = collection_of(root / "out"), executions(root)
    mend(job, find_damage(job))
    assert executions(root) - before == PARTS - left
    assert find_damage(job) == []


def test_what_is_unpacked_is_what_was_packed(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished / "out" / "a", tmp_path / "a"))
    records = stored_records(folder)
    unpack(folder)
    assert files(folder) >= {f"merge/parts/{n:06d}.npz" for n in range(PARTS)}
    packing.drop_packs(folder)
    assert stored_records(folder) == records
    assert np.load(folder / "merge" / "parts" / "000003.npz")["values"].tolist() == [3] * 400


def test_what_people_open_is_packed_where_there_is_much_of_it_and_found_either_way(
    finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished / "out" / "a", tmp_path / "a"))
    (folder / "meshes").mkdir()
    (folder / "meshes" / "membrane_0001.ply").write_bytes(b"a file of its own")

    def contents() -> dict[str, bytes]:
        found = {}
        for name, (path, start, length) in places_of(folder, "meshes").items():
            found[name] = path.read_bytes()[start : start + length]
        return found

    there = contents()
    assert there.pop("meshes/membrane_0001.ply") == b"a file of its own"
    assert there == {f"meshes/membrane_{n:04d}.ply": f"mesh {n}".encode() * 99 for n in range(PARTS) if n != 1}
    (tmp_path / "theirs").mkdir()
    # As people do.
    subprocess.run(["tar", "xf", str(folder / MESHES), "-C", str(tmp_path / "theirs")], check=True)
    (folder / MESHES).unlink()
    assert contents() == {"meshes/membrane_0001.ply": b"a file of its own"}
    assert (tmp_path / "theirs" / "meshes" / "membrane_0004.ply").read_bytes() == b"mesh 4" * 99


def test_what_lies_beside_the_meshes_is_left(tmp_path: Path) -> None:
    own = tmp_path / "out" / "a" / "meshes" / "session.cxs"
    own.parent.mkdir(parents=True)
    own.write_text("of the user")
    assert run(tmp_path).exit_code == 0
    assert files(tmp_path / "out" / "a") == {*AT_REST, "meshes/session.cxs"}


@pytest.mark.parametrize(("count", "single"), [(SINGLES, True), (SINGLES + 1, False)])
def test_few_files_of_a_kind_stay_single(monkeypatch: pytest.MonkeyPatch, count: int, single: bool) -> None:
    monkeypatch.setattr(packing, "SINGLES", SINGLES)
    meshes = {f"meshes/membrane_{n:04d}.ply" for n in range(count)}
    found = packing._to_pack({*meshes, "merge/a.npz", "vertices/membrane_0001.parquet", "membranes.csv"})
    assert found == {"workings.tar": ("merge/a.npz",)} | ({} if single else {MESHES: tuple(sorted(meshes))})
