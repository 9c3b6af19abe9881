"""No folder of a run grows without end: many tomograms, and many membranes, lie in folders of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest import mock

import pytest

from cryoscale.band import band_file
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import LoopExecutor, record_path
from cryoscale.errors import UsageError
from cryoscale.exporting import products_of
from cryoscale.manifest import Entry, entries
from cryoscale.records import numbered
from cryoscale.showing import tomogram_folder
from cryoscale.spec import IngestSpec, RunSpec
from cryoscale.status import status_of
from cryoscale.verify import collection_of, find_damage, repair
from cryoscale.viewing import report_server
from tests.phantoms import write_spheres
from tests.test_packing import small_job

MOST = 10_000


def named(count: int) -> list[Entry]:
    return [Entry(f"TS_{n:05d}", __file__, __file__) for n in range(count)]


def entries_of_folders(paths: list[str]) -> Counter[str]:
    """Count what each folder holds, the folders above all paths too."""
    known = {str(part) for path in paths for part in (Path(path), *Path(path).parents)}
    return Counter(str(Path(path).parent) for path in known)


def test_no_folder_holds_too_many_tomograms(tmp_path: Path) -> None:
    few, many = Collection(named(5000), tmp_path, RunSpec()), Collection(named(12_000), tmp_path, RunSpec())
    assert [few.folder(entry) for entry in few.entries] == [tmp_path / entry.id for entry in few.entries]
    paths = [str(many.folder(entry).relative_to(tmp_path)) for entry in many.entries]
    assert len(set(paths)) == 12_000
    assert max(entries_of_folders(paths).values()) < 300
    assert max(entries_of_folders([entry.id for entry in many.entries]).values()) > MOST, "as it would be without"


def test_no_folder_holds_too_many_files_of_membranes_or_units() -> None:
    numbers = range(1, 12_001)
    for paths in (
        [numbered("meshes", n, f"membrane_{n:04d}.ply") for n in numbers],
        [band_file(n) for n in numbers],
        [str(record_path(".", ("fit", "a", n))) for n in numbers],
    ):
        assert len(set(paths)) == len(numbers)
        assert max(entries_of_folders(paths).values()) < MOST
    assert numbered("meshes", 4999, "m") == "meshes/m"
    assert band_file(7) == "fits/00007.npz"


def run(output: Path, count: int, first: int = 0) -> Result:
    with mock.patch("cryoscale.collection.tomogram_job", small_job):
        return run_collection(Collection(named(count)[first:], output, RunSpec(), until="fit"), LoopExecutor())


def test_where_tomograms_are_is_decided_when_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.collection._MANY", 2)
    assert run(tmp_path / "many", 3).exit_code == 0
    assert len(list((tmp_path / "many").glob("??/TS_*/table.csv"))) == 3
    # One alone is not many, but belongs to a run that was.
    kept = run(tmp_path / "many", 1)
    assert all(cost.skipped == cost.units for outcome in kept.outcomes for cost in outcome.times.values())
    assert [tomogram["state"] for tomogram in status_of(tmp_path / "many")["tomograms"]] == ["complete"] * 3
    assert run(tmp_path / "few", 2).exit_code == 0
    assert run(tmp_path / "few", 3).exit_code == 0
    assert len(list((tmp_path / "few").glob("TS_*/table.csv"))) == 3
    monkeypatch.setattr("cryoscale.runrecord._MOST_IN_ONE_FOLDER", 3)
    with pytest.raises(UsageError, match=r"too many tomograms .* start --new-run"):
        run(tmp_path / "few", 4)
    assert run(tmp_path / "many", 4).exit_code == 0


def test_what_is_damaged_is_found_and_mended_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.collection._MANY", 2)
    run(tmp_path, 3)
    table = next(tmp_path.glob("??/TS_00001/table.csv"))
    table.write_bytes(b"x")
    job = collection_of(tmp_path)
    with mock.patch("cryoscale.collection.tomogram_job", small_job):
        repair(job, find_damage(job), LoopExecutor())
    assert find_damage(job) == []
    assert table.read_bytes() != b"x"


def test_a_run_of_many_is_reported_shown_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoscale.collection._MANY", 0)
    mask = write_spheres(tmp_path / "spheres.mrc")
    asked = Collection(
        entries([str(mask)], "{path}"), tmp_path / "out", RunSpec(ingest=IngestSpec(chunk_voxels=(16, 32, 32)))
    )
    assert run_collection(asked, LoopExecutor()).exit_code == 0
    (folder,) = (tmp_path / "out").glob("??/spheres")
    (page,) = (tmp_path / "out" / "reports").glob("??/spheres.html")
    link = f"{page.parent.name}/spheres/membranes.csv"
    assert f'"../../{link}"' in page.read_text()
    assert f'"{link}"' in (tmp_path / "out" / "report.html").read_text()
    assert [product.folder for product in products_of(tmp_path / "out")] == [folder]
    assert tomogram_folder(tmp_path / "out") == folder
    server, address = report_server(tmp_path / "out", "spheres", 0)
    server.server_close()
    assert address.endswith(f"/reports/{page.parent.name}/spheres.html")
    assert len((tmp_path / "out" / "membranes.csv").read_text().splitlines()) == 3
    assert find_damage(collection_of(tmp_path / "out")) == []
