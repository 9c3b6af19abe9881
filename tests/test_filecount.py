"""Files of a complete tomogram: as many as are told beforehand, and at most 200 of 512 voxels cubed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoscale import packing
from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.engine import LoopExecutor
from cryoscale.filecount import BESIDE, files_of
from cryoscale.manifest import entries
from cryoscale.records import Geometry
from cryoscale.spec import IngestSpec, MeasureSpec, RunSpec

EVERY = ("ingest", "segment", "merge", "separate", "locate", "fit", "surface", "measure", "report")


def told(geometry: Geometry, stages: tuple[str, ...], spec: RunSpec, membranes: int, *, mask: bool = False) -> int:
    return BESIDE + sum(files_of(stage, geometry, [4], spec, membranes, masked=mask) for stage in stages)


@pytest.mark.parametrize("csv", [False, True])
def test_a_tomogram_of_512_cubed_is_at_most_200_files_however_many_membranes_are_in_it(csv: bool) -> None:
    geometry, spec = Geometry((512, 512, 512), (10.0,) * 3), RunSpec(measure=MeasureSpec(vertices_csv=csv))
    assert max(told(geometry, EVERY, spec, n) for n in (0, 22, 23, 45, 46, 50, 100, 1000)) <= 200


def test_single_files_of_every_membrane_would_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant of the test above."""
    monkeypatch.setattr(packing, "SINGLES", 10**9)
    geometry = Geometry((512, 512, 512), (10.0,) * 3)
    assert [told(geometry, EVERY, RunSpec(), n) for n in (45, 50, 100, 1000)] == [191, 201, 301, 2101]


def left(source: Path, output: Path, spec: RunSpec, until: str, masks: str = "", first: str = "") -> tuple[int, int]:
    """Run a tomogram; return its files, and how many of its membranes have a mesh."""
    asked = Collection(entries([str(source)], masks), output, spec, until=until, first=first)
    assert run_collection(asked, LoopExecutor()).exit_code == 0
    folder = output / source.stem
    return sum(path.is_file() for path in folder.rglob("*")), len(list(folder.glob("meshes/*.ply")))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulation(tmp_path_factory.mktemp("input"), seed=3, snr=0.3, shape=(48, 112, 112), apix=14.0)


def test_a_run_leaves_the_files_that_were_told(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 24, 24)))
    files, meshes = left(simulated, tmp_path / "out", spec, "report")
    geometry = Geometry((48, 112, 112), (14.0,) * 3)
    assert meshes > 1
    assert files == told(geometry, EVERY, spec, meshes)
    monkeypatch.setattr(packing, "SINGLES", 1)
    fewer, _ = left(simulated, tmp_path / "out", spec, "report", first="report")
    assert fewer == told(geometry, EVERY, spec, meshes) == files - 2 * meshes + 2


def test_a_run_of_masks_leaves_the_files_that_were_told(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, geometry = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 24, 24))), Geometry((48, 112, 112), (14.0,) * 3)
    source, stages = next(simulated.parent.glob("truth/*instances.mrc")), ("ingest", "merge", "separate")
    files, _ = left(source, tmp_path / "out", spec, "separate", "{path}")
    assert files == told(geometry, stages, spec, 0, mask=True)
    # The same count, where what is packed is left beside: what the tests above would not notice.
    monkeypatch.setattr("cryoscale.packing._remove_packed", lambda folder, archives: None)
    more, _ = left(source, tmp_path / "more", spec, "separate", "{path}")
    assert more > files + 15
