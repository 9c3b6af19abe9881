"""How much of tomograms is membrane, from windows of them, against all of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import cryoscale.sampling as sampling
from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.io.mrc import write_mrc
from cryoscale.manifest import Entry, entries
from cryoscale.sampling import marked_share, membrane_share
from cryoscale.spec import IngestSpec, MergeSpec, RunSpec
from tests.phantoms import write_spheres

SPEC = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 32, 32)))


def write_mask(path: Path, shape: tuple[int, int, int] = (30, 260, 300)) -> tuple[Entry, float]:
    """Blobs of labels 1 and 2, most of them at one side."""
    rng = np.random.default_rng(1)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    mask = np.zeros(shape, np.int8)
    for number in range(30):
        place = rng.random(3) ** (1, 1, 2) * shape
        near = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2 < rng.uniform(5, 20) ** 2
        mask[near] = 1 + number % 2
    write_mrc(path, mask, 10.0)
    return entries([str(path)], "{path}")[0], float(np.mean(mask == 1))


def share_told(tmp_path: Path, entry: Entry) -> float | None:
    spec = dataclasses.replace(SPEC, merge=MergeSpec(mask_labels=(1,)))
    return membrane_share(Collection([entry], tmp_path / "out", spec), [entry])


def test_windows_tell_the_share_of_a_mask(tmp_path: Path) -> None:
    entry, true = write_mask(tmp_path / "mask.mrc")
    assert share_told(tmp_path, entry) == pytest.approx(true, rel=0.25)


def test_windows_all_at_one_place_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant of the test above: windows that do not spread."""
    monkeypatch.setattr(sampling, "_STEPS", np.zeros(3))
    entry, true = write_mask(tmp_path / "mask.mrc")
    assert share_told(tmp_path, entry) != pytest.approx(true, rel=0.25)


def test_the_network_looks_as_it_does_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_spheres(tmp_path / "tomogram.mrc")
    job = Collection(entries([str(source)]), tmp_path / "out", SPEC, until="segment")
    assert run_collection(job, LoopExecutor()).exit_code == 0
    whole = marked_share(tmp_path / "out" / "tomogram", SPEC)
    # Windows as large as the tomogram: each is all of it, and what is counted its middle slices.
    monkeypatch.setattr(sampling, "_WINDOW", (48, 72, 80))
    monkeypatch.setattr(sampling, "_WINDOWS", 1)
    monkeypatch.setattr(sampling, "_COUNTED", slice(None))
    assert membrane_share(job, job.entries) == pytest.approx(whole)


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    entry, true = write_mask(tmp_path / "mask.mrc", (20, 40, 40))
    gone = dataclasses.replace(entry, id="gone", source=str(tmp_path / "gone.mrc"), mask=str(tmp_path / "gone.mrc"))
    job = Collection([entry], tmp_path / "out", dataclasses.replace(SPEC, merge=MergeSpec(mask_labels=(1,))))
    with pytest.raises(OSError, match="gone"):
        gone.identity()
    bad = tmp_path / "bad.mrc"
    bad.write_bytes(b"nothing of a header")
    unreadable = dataclasses.replace(entry, id="bad", source=str(bad), mask=str(bad))
    assert membrane_share(job, [unreadable]) is None
    assert membrane_share(job, [unreadable, entry]) == pytest.approx(true, rel=0.25)
    assert membrane_share(job, []) is None
