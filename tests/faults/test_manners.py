"""Manners on a shared file system: few files, few looks, no lock or scratch but the run's lock."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import cryoscale.ingest.plan as ingest
import cryoscale.merge.plan as merge
import cryoscale.segment.plan as segment
import cryoscale.separate.plan as separate
import cryoscale.surface.plan as surface
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import JobPlan, LoopExecutor, Phase
from cryoscale.filecount import files_of as told_files
from cryoscale.io.files import save_npz
from cryoscale.io.omezarr import open_level
from cryoscale.manifest import Entry
from cryoscale.records import Geometry, Receipt, Tomogram, Unit, fingerprint
from cryoscale.regions import concatenate_regions
from cryoscale.spec import RunSpec
from tests.toyunits import nothing

TOMOGRAMS = 1000
STAGES = ("ingest", "segment", "merge", "separate", "locate", "surface")


def files_of(store: Path) -> int:
    """Count the files of a volume once all of it is written, its description too."""
    count = 1
    for level in (path for path in store.iterdir() if path.is_dir()):
        array = open_level(store, int(level.name))
        owned = array.shards or array.chunks
        count += 1 + math.prod(-(-n // edge) for n, edge in zip(array.shape, owned, strict=True))
    return count


def test_the_volumes_of_a_tomogram_of_512_cubed_are_the_files_that_are_told(tmp_path: Path) -> None:
    spec, shape = RunSpec(), (512, 512, 512)
    chunk, tomogram = spec.ingest.chunk_voxels, Tomogram("a", "/a.mrc", str(tmp_path), Geometry(shape, (10.0,) * 3))
    opened = {"shape": list(shape), "voxel_size_angstrom": ["10.0"] * 3, "dtype": "float32", "warnings": []}
    opened |= {"origin_angstrom": [0.0] * 3, "identity": {}, "kind": "mrc"}
    units = []
    plan = ingest.plan(tomogram, spec.ingest)
    next(plan)
    units.append(plan.send([Receipt(numbers=opened)]))
    for plan in (
        segment.plan(tomogram, spec.segment, chunk, source=ingest.TOMOGRAM, intensity=(0.0, 1.0)),
        merge.plan(tomogram, spec.merge, chunk, source=segment.CLASSES, values=(2,), volume=separate.GROUPS),
        merge.plan(tomogram, spec.merge, chunk, source=segment.CLASSES, values=(1,), stage="locate"),
    ):
        units.append(next(plan))
    save_npz(tmp_path / "regions.npz", **concatenate_regions([]).columns())
    plan = separate.plan(tomogram, chunk, groups=separate.GROUPS, regions="regions.npz", minimum_voxels=9)
    next(plan)
    plan = surface.plan(tomogram, spec.surface, chunk, fitted=[])
    next(plan)
    units.append(plan.send([]))
    stores = sorted(tmp_path.glob("*.ome.zarr"))
    assert len(stores) == 9
    told = (told_files(stage, tomogram.known_geometry, [4], spec, 0, masked=False) for stage in STAGES)
    # The labels are there as MRC too.
    assert sum(map(files_of, stores)) + 1 == sum(told) < 80
    # While it is under way records are a file a unit, in a folder a stage.
    assert max(map(len, units)) < 100


def one_unit_job(tomogram, entry, spec, *, until, gpu) -> JobPlan:
    mark = fingerprint(entry.identity())
    yield Phase("merge", tomogram.folder, mark, (Unit(("merge", entry.id, 0), nothing, (tomogram.folder, 0), 0),))
    return {"merge": {"warnings": []}}


def run_many(root: Path, count: int) -> float:
    """Run, or find finished, a collection of small tomograms; return the seconds it took."""
    began = time.monotonic()
    names = [f"t{n:04d}" for n in range(count)]
    entries = [Entry(name, str(root / f"{name}.mrc"), str(root / f"{name}.mrc")) for name in names]
    with mock.patch("cryoscale.collection.tomogram_job", one_unit_job):
        result = run_collection(Collection(entries, root / "out", RunSpec(), until="fit"), LoopExecutor())
    assert result.exit_code == 0
    return time.monotonic() - began


@pytest.mark.slow
def test_a_finished_run_of_a_thousand_is_found_finished_on_a_slow_file_system(tmp_path: Path, faultfs: Path) -> None:
    for n in range(TOMOGRAMS):
        (tmp_path / f"t{n:04d}.mrc").write_bytes(b"x")
    run_many(tmp_path, TOMOGRAMS)
    # Nothing of a run stays on the file system but products and records.
    left = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert left <= {"run.json", "seal.json", "journal.jsonl", "membranes.csv", "report.html"}
    slow = {"LD_PRELOAD": str(faultfs), "FAULTFS_PATH": str(tmp_path), "FAULTFS_STAT_MS": "5"}
    words = [sys.executable, "-m", "tests.faults.test_manners", str(tmp_path), str(TOMOGRAMS)]
    done = subprocess.run(words, env=os.environ | slow, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
    assert not np.isnan(float(done.stdout))


if __name__ == "__main__":
    print(run_many(Path(sys.argv[1]), int(sys.argv[2])))  # noqa: T201 - to the test above
