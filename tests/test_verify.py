"""Every class of file that a run writes: any damage is found, and mended by running its own unit alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.completion import FailedBeforeError
from cryoscale.engine import LoopExecutor
from cryoscale.errors import LockedError
from cryoscale.io.mrc import write_mrc
from cryoscale.manifest import entries
from cryoscale.spec import IngestSpec, RunSpec
from cryoscale.verify import Damage, collection_of, find_damage, repair
from tests.phantoms import write_spheres

Mutation = Callable[[Path], None]
LOST_TIMES = {"summary.json", "run.json", "report.html", "seal.json", "journal.jsonl"}
"""They tell when and how long; what else they tell is compared by other tests."""


def flip(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))


def tear(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def lose(path: Path, rng: np.random.Generator) -> None:
    path.unlink()


def hashes(output: Path) -> dict[str, str]:
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in LOST_TIMES and not {"records", "reports"} & set(path.parts)
    }


def kind_of(path: Path, output: Path) -> str:
    """Class of a file: its stage or name, numbers left out."""
    parts = path.relative_to(output).parts
    name = "".join(c for c in parts[-1] if not c.isdigit())
    if "records" in parts and parts[-1] != "seal.json":
        return f"record of {parts[-2]}"
    stores = [part for part in parts if part.endswith(".ome.zarr")]
    return f"{parts[0] if len(parts) == 1 else ''} {stores[0] if stores else name} {'chunk' if 'c' in parts else name}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tomograms, one of which failed."""
    folder = tmp_path_factory.mktemp("verify")
    mask = write_spheres(folder / "spheres.mrc")
    write_mrc(folder / "empty.mrc", np.zeros((16, 16, 16), np.int8), 0.0)
    spec = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 32, 32)))
    job = Collection(entries([str(mask), str(folder / "empty.mrc")], "{path}"), folder / "out", spec)
    assert run_collection(job, LoopExecutor()).exit_code == 3
    return folder / "out"


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def mended(output: Path) -> tuple[list[Damage], Result]:
    job = collection_of(output)
    found = find_damage(job)
    result, changed = repair(job, found, LoopExecutor())
    assert changed == []
    return found, result


def units_run(result: Result) -> int:
    return sum(cost.units - cost.skipped for outcome in result.outcomes for cost in outcome.times.values())


def test_an_undamaged_run_has_no_damage(finished: Path) -> None:
    assert find_damage(collection_of(finished)) == []


@pytest.mark.parametrize(("rounds", "least"), [(1, 180), pytest.param(6, 1000, marks=pytest.mark.slow)])
def test_every_mutation_of_every_class_of_file_is_found(output: Path, rounds: int, least: int) -> None:
    """One after the other, each file put back before the next: up to two files of every class a round, in five ways."""
    rng = np.random.default_rng(5)
    classes: dict[str, list[Path]] = {}
    for path in sorted(output.rglob("*")):
        if path.is_file():
            classes.setdefault(kind_of(path, output), []).append(path)
    assert len(classes) >= 30
    tried, missed = 0, []
    job = collection_of(output)
    for name, paths in [*classes.items()] * rounds:
        for path in [paths[int(n)] for n in rng.choice(len(paths), min(2, len(paths)), replace=False)]:
            before = path.read_bytes()
            others = [other.read_bytes() for other in paths if other != path]
            swapped = next((data for data in others if data != before), None)
            for way in ("flip", "flip", "tear", "lose", "swap"):
                failed_before = "empty" in path.parts and "records" in path.parts
                # What a tomogram did before it failed is nobody's product.
                if (way == "lose" and failed_before) or (way == "swap" and swapped is None):
                    continue
                if way == "swap":
                    path.write_bytes(swapped)
                else:
                    {"flip": flip, "tear": tear, "lose": lose}[way](path, rng)
                tried += 1
                if not find_damage(job):
                    missed.append((name, way))
                path.write_bytes(before)
    assert missed == []
    assert tried > least


def test_without_its_checksum_a_flipped_bit_is_not_found(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check, blind to contents: what the test above would not notice."""
    chunk = next(path for path in (output / "spheres").rglob("c/*/*/*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(bytes(data))
    assert len(find_damage(collection_of(output))) == 1
    monkeypatch.setattr("cryoscale.verify._compare", lambda path, length, crc: None if path.is_file() else "missing")
    assert find_damage(collection_of(output)) == []


def test_only_the_units_of_damaged_files_run_again(output: Path) -> None:
    before, rng = hashes(output), np.random.default_rng(7)
    folder = output / "spheres"
    chunks = sorted(path for path in (folder / "membranes.ome.zarr" / "0" / "c").rglob("*") if path.is_file())
    tear(chunks[0], rng)
    flip(chunks[-1], rng)
    lose(folder / "meshes" / "membrane_0001.ply", rng)
    found, result = mended(output)
    assert {damage.what for damage in found} == {"damaged", "missing"}
    assert units_run(result) == len({damage.unit for damage in found}) <= 3
    assert hashes(output) == before
    assert find_damage(collection_of(output)) == []


def test_every_class_of_file_is_mended(output: Path) -> None:
    before, rng = hashes(output), np.random.default_rng(8)
    damaged: dict[str, Path] = {}
    for path in sorted(output.rglob("*")):
        if path.is_file() and "empty" not in path.parts:
            damaged.setdefault(kind_of(path, output), path)
    for number, path in enumerate(damaged.values()):
        if path.name not in ("seal.json", "run.json") or path.parent.name == "records":
            # Without its records a tomogram would be done again whole; a flipped bit costs one of them.
            (flip if path.name == "units.jsonl" else (flip, tear, lose)[number % 3])(path, rng)
    _, result = mended(output)
    assert hashes(output) == before
    assert find_damage(collection_of(output)) == []
    total = sum(cost.units for outcome in result.outcomes for cost in outcome.times.values())
    assert 0 < units_run(result) < total


@pytest.mark.parametrize("name", ["run.json", "seal.json"])
@pytest.mark.parametrize("mutate", [flip, tear, lose])
def test_either_of_the_two_records_of_the_run_mends_the_other(output: Path, name: str, mutate: Mutation) -> None:
    record = json.loads((output / "run.json").read_text())
    mutate(output / name, np.random.default_rng(9))
    found, result = mended(output)
    assert [(damage.tomogram, damage.file) for damage in found] == [("", name)]
    assert units_run(result) == 0
    again = json.loads((output / "run.json").read_text())
    assert again["spec"] == record["spec"]
    assert again["tomograms"] == record["tomograms"]
    assert find_damage(collection_of(output)) == []


def test_store_metadata_is_written_again_without_its_chunks(output: Path) -> None:
    before = hashes(output)
    for path in (output / "spheres").rglob("zarr.json"):
        path.write_bytes(b"{")
    _, result = mended(output)
    assert units_run(result) == 0
    assert hashes(output) == before


def test_a_stray_chunk_is_removed(output: Path) -> None:
    chunk = next(path for path in (output / "spheres").rglob("c/*/*/*") if path.is_file())
    stray = chunk.with_name("99")
    stray.write_bytes(chunk.read_bytes())
    found, result = mended(output)
    assert [damage.what for damage in found] == ["not ours"]
    assert units_run(result) == 0
    assert not stray.exists()


def test_a_whole_tomogram_that_is_gone_is_noticed(output: Path) -> None:
    shutil.rmtree(output / "spheres")
    assert [(d.tomogram, d.what) for d in find_damage(collection_of(output))] == [("spheres", "missing")]


def test_what_has_another_input_now_is_not_mended(finished: Path, output: Path) -> None:
    run = json.loads((output / "run.json").read_text())
    source = Path(run["tomograms"][0]["source"])
    kept = source.read_bytes(), source.stat()
    next(path for path in (output / "spheres").rglob("c/*/*/*") if path.is_file()).unlink()
    source.write_bytes(kept[0] + b"x")
    job = collection_of(output)
    _, changed = repair(job, find_damage(job), LoopExecutor())
    source.write_bytes(kept[0])
    __import__("os").utime(source, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))
    assert changed == ["spheres"]
    assert find_damage(collection_of(output)) != []


def test_the_verb(output: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", str(output)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    (output / "spheres" / "membranes.csv").unlink()
    assert main(["verify", str(output), "--check-only"]) == 3
    assert "spheres: membranes.csv missing" in capsys.readouterr().out
    assert main(["verify", str(output), "--workers", "1"]) == 0
    assert "1 files were not as they were written; 1 units run again" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none")]) == 2


def test_of_a_run_at_work_nothing_is_looked_at_or_removed(output: Path) -> None:
    (output / "spheres" / "membranes.csv").unlink()
    job = collection_of(output)
    found, before = find_damage(job), {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    (output / "run.lock").write_text(json.dumps({"host": "another", "pid": 1, "started": 0.0}))
    with pytest.raises(LockedError):
        find_damage(job)
    with pytest.raises(LockedError):
        repair(job, found, LoopExecutor())
    (output / "run.lock").unlink()
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_failures_are_put_back_without_trying_again(output: Path) -> None:
    before = (output / "failures.csv").read_bytes()
    (output / "failures.csv").write_bytes(b"")
    _, result = mended(output)
    assert (output / "failures.csv").read_bytes() == before
    assert [type(outcome.error) for outcome in result.failures] == [FailedBeforeError]
