"""Files of a complete tomogram: as many as are told beforehand, and at most 200 of 512 voxels cubed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.engine import LoopExecutor
from cryoscale.filecount import BESIDE, files_of
from cryoscale.manifest import entries
from cryoscale.records import Geometry
from cryoscale.spec import IngestSpec, RunSpec

CROWDED = 50
"""Membranes of 512 x 512 x 512 voxels of 10 Å of the preset ``cell``, in the fullest of seeds 0 to 4."""
EVERY = ("ingest", "segment", "merge", "separate", "locate", "fit", "surface", "measure", "report")


def told(geometry: Geometry, stages: tuple[str, ...], spec: RunSpec, membranes: int, *, mask: bool = False) -> int:
    return BESIDE + sum(files_of(stage, geometry, [4], spec, membranes, masked=mask) for stage in stages)


def test_a_crowded_tomogram_of_512_cubed_is_at_most_200_files() -> None:
    geometry = Geometry((512, 512, 512), (10.0,) * 3)
    assert told(geometry, EVERY, RunSpec(), CROWDED) <= 200
    assert [told(geometry, EVERY, RunSpec(), n) for n in (53, 54)] == [200, 202], "where the limit is"


def left(source: Path, output: Path, spec: RunSpec, until: str, masks: str = "") -> tuple[int, int]:
    """Run a tomogram; return its files, and how many of its membranes have a mesh."""
    asked = Collection(entries([str(source)], masks), output, spec, until=until)
    assert run_collection(asked, LoopExecutor()).exit_code == 0
    folder = output / source.stem
    return sum(path.is_file() for path in folder.rglob("*")), len(list(folder.glob("meshes/*.ply")))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulation(tmp_path_factory.mktemp("input"), seed=3, snr=0.3, shape=(48, 112, 112), apix=14.0)


def test_a_run_leaves_the_files_that_were_told(simulated: Path, tmp_path: Path) -> None:
    spec = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 24, 24)))
    files, meshes = left(simulated, tmp_path / "out", spec, "report")
    geometry = Geometry((48, 112, 112), (14.0,) * 3)
    assert meshes
    assert files == told(geometry, EVERY, spec, meshes)


def test_a_run_of_masks_leaves_the_files_that_were_told(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, geometry = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 24, 24))), Geometry((48, 112, 112), (14.0,) * 3)
    source, stages = next(simulated.parent.glob("truth/*instances.mrc")), ("ingest", "merge", "separate")
    files, _ = left(source, tmp_path / "out", spec, "separate", "{path}")
    assert files == told(geometry, stages, spec, 0, mask=True)
    # The same count, where what is packed is left beside: what the tests above would not notice.
    monkeypatch.setattr("cryoscale.packing._remove_packed", lambda folder: None)
    more, _ = left(source, tmp_path / "more", spec, "separate", "{path}")
    assert more > files + 15
