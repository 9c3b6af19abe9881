"""How many workers this machine's memory holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.collection import Collection
from cryoscale.crowding import Need, need_of, needs_of, workers_for
from cryoscale.errors import UsageError
from cryoscale.io.mrc import write_mrc
from cryoscale.manifest import entries
from cryoscale.memory import PROCESS_BYTES
from cryoscale.records import Geometry
from cryoscale.spec import IngestSpec, RunSpec
from tests.phantoms import write_spheres
from tests.test_estimate import run_units

GIB = 1 << 30
SMALL = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 32, 32)))


def write_sparse(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write the header of a mask, and no voxel."""
    write_mrc(path, np.zeros((1, 1, 1), np.int8), 10.0)
    header = bytearray(path.read_bytes()[:1024])
    for place in (0, 28):  # columns, rows, sections; intervals of the cell
        header[place : place + 12] = np.array(shape[::-1], "<i4").tobytes()
    header[40:52] = np.multiply(shape[::-1], 10.0).astype("<f4").tobytes()
    path.write_bytes(header)
    os.truncate(path, 1024 + int(np.prod(shape)))
    return path


def test_headers_tell_what_units_take(tmp_path: Path) -> None:
    units = run_units(tmp_path, SMALL, "merge")
    (tmp_path / "empty.mrc").write_bytes(b"")
    write_sparse(tmp_path / "large.mrc", (200, 4000, 4000))
    found = entries([str(tmp_path / f"{name}.mrc") for name in ("large", "empty", "spheres")], "{path}")
    large, spheres = needs_of(Collection(found, tmp_path / "other", SMALL, until="merge"))
    assert (large.name, spheres.name) == ("large", "spheres"), "a bad header is told elsewhere"
    taken = max(unit.bytes for stage in units.values() for unit in stage)
    assert spheres.certain == spheres.likely == PROCESS_BYTES + taken
    # Two times what one unit reads, 16 slices.
    assert large.certain > PROCESS_BYTES + 2 * 16 * 4000 * 4000


def test_what_nobody_has_seen_is_likely_at_most() -> None:
    small, large = (
        need_of("t", Geometry(shape, (10.0,) * 3), 4, RunSpec()) for shape in ((64,) * 3, (512, 1024, 1024))
    )
    assert small.certain <= small.likely < large.likely
    assert large.certain < large.likely


@pytest.mark.parametrize(
    ("gib", "cores", "count"),
    [(16.0, 4, 4), (8.0, 8, 5), (8.0, 2, 2), (3.0, 8, 1), (1.4, 8, 1), (1.0, 8, 1)],
)
def test_as_many_as_there_is_memory_for(gib: float, cores: int, count: int) -> None:
    """Beside the workers is the command; a tomogram that not even one process could make has no say."""
    needs = [Need("small", GIB, GIB), Need("large", 5 * GIB // 4, 3 * GIB // 2), Need("huge", 99 * GIB, 99 * GIB)]
    found, told = workers_for(needs, 0, held_bytes=int(gib * GIB), cores=cores)
    assert found == count
    assert ("large" in told) == (found < cores and gib > 1.25)


def test_nothing_known_is_no_reason_to_take_fewer() -> None:
    assert workers_for([], 0, held_bytes=GIB, cores=8) == (8, "")
    assert workers_for([Need("huge", 9 * GIB, 9 * GIB)], 6, held_bytes=GIB, cores=8) == (6, "")


def test_only_what_is_certain_refuses_a_number() -> None:
    needs = [Need("small", GIB // 2, GIB), Need("large", GIB, 3 * GIB)]
    assert workers_for(needs, 8, held_bytes=8 * GIB, cores=8) == (8, "")
    with pytest.raises(UsageError, match=r"--workers 9.*910 MiB of 8.0 GiB.*1.0 GiB for large.*at most --workers 8"):
        workers_for(needs, 9, held_bytes=8 * GIB, cores=8)


def test_the_command_refuses_or_takes_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_spheres(tmp_path / "spheres.mrc")
    monkeypatch.setattr("cryoscale.running.machine_bytes", lambda: GIB)
    monkeypatch.setattr("cryoscale.running.os.cpu_count", lambda: 4)
    command = ["run", str(source), "--masks", "--output", str(tmp_path / "out"), "--until", "ingest"]
    assert main([*command, "--workers", "3"]) == 2
    assert "too little memory each" in capsys.readouterr().err
    assert main([*command, "--workers", "3", "--dry-run", "--typical-rates"]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main(command) == 0
    assert "1 of 4 cores work: spheres takes about" in capsys.readouterr().err
