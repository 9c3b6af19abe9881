"""The whole way from masks to report: loop equals Dask, any chunks; resume, refusal, one bad tomogram."""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import json
import os
import socket
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.cli import main
from cryoscale.cluster import DaskExecutor
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.errors import LockedError, PauseError, UsageError
from cryoscale.exporting import export
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import image_geometry, read_region
from cryoscale.lock import run_lock
from cryoscale.manifest import entries
from cryoscale.spec import FitSpec, IngestSpec, MergeSpec, RunSpec, SegmentSpec, SeparateSpec, SurfaceSpec
from cryoscale.summary import warnings_of
from tests.phantoms import spheres_shell, write_spheres

SPEC = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 32, 32)))
TABLES = ("membranes.csv",)


def collection(source: Path | list[Path], output: Path, spec: RunSpec = SPEC, **options: object) -> Collection:
    sources = [str(path) for path in (source if isinstance(source, list) else [source])]
    return Collection(entries(sources, "{path}"), output, spec, **options)


def run(source: Path | list[Path], output: Path, spec: RunSpec = SPEC, **options: object) -> Result:
    return run_collection(collection(source, output, spec, **options), LoopExecutor())


def products(output: Path) -> dict[str, str]:
    """Hash of every product, but for records, timings and what tells when it was made."""
    skip = {"run.json", "summary.json", "report.html", "run.lock", "journal.jsonl", "seal.json"}
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in skip and not {"records", "reports"} & set(path.parts)
    }


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spheres(tmp_path_factory.mktemp("input") / "spheres.mrc")


@pytest.fixture(scope="module")
def reference(mask: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("reference")
    return output, run(mask, output)


def test_two_closed_membranes_come_out(reference: tuple[Path, Result]) -> None:
    output, result = reference
    assert result.exit_code == 0
    labels = read_region(output / "spheres" / "membranes.ome.zarr")
    truth = spheres_shell()
    dice = 2 * ((labels > 0) & truth).sum() / ((labels > 0).sum() + truth.sum())
    assert dice > 0.93
    with (output / "membranes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["closed"] for row in rows] == ["closed", "closed"]
    for row, radius in zip(sorted(rows, key=lambda row: float(row["area_nm2"])), (14.0, 16.0), strict=True):
        assert float(row["area_nm2"]) == pytest.approx(4 * np.pi * radius**2, rel=0.06)
        assert float(row["enclosed_volume_nm3"]) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)
        assert 0.03 < float(row["fraction_inferred"]) < 0.3


def test_geometry_out_is_geometry_in(reference: tuple[Path, Result]) -> None:
    output, _ = reference
    for name in ("membranes", "instances", "position_sd_nm", "support_nm", "mask"):
        geometry = image_geometry(output / "spheres" / f"{name}.ome.zarr")
        assert geometry.shape == (48, 72, 80)
        assert np.allclose(geometry.voxel_size_angstrom, 10)
        assert np.allclose(geometry.origin_angstrom, (-50, 100, 200))


def test_every_voxel_says_how_far_its_surface_is_from_what_was_segmented(
    reference: tuple[Path, Result], tmp_path: Path
) -> None:
    folder = reference[0] / "spheres"
    labels, instances, support = (
        read_region(folder / f"{name}.ome.zarr") for name in ("membranes", "instances", "support_nm")
    )
    # A voxel lies within half the thickness of its surface: no farther can the two be from their distances, in nm.
    half = SPEC.surface.thickness_nm / 2
    for number, other in ((1, 2), (2, 1)):
        told, places = support[labels == number], np.argwhere(labels == number)
        distances = cKDTree(np.argwhere(instances == number)).query(places)[0]
        assert np.abs(told - distances).max() <= half + 1e-3
        assert (distances > 4).sum() > 100, "caps that no voxel supports"
        # Mutant: to the voxels of the other membrane.
        wrong = cKDTree(np.argwhere(instances == other)).query(places)[0]
        assert np.abs(told - wrong).max() > 10 * half
    assert not support[labels == 0].any()
    (path,) = export(reference[0], "mrc", tmp_path, volumes=["support_nm"])
    with mrcfile.open(path) as mrc:
        assert np.array_equal(mrc.data, support)


def test_the_labels_open_as_mrc_on_top_of_the_tomogram(reference: tuple[Path, Result]) -> None:
    output, _ = reference
    with mrcfile.open(output / "spheres" / "spheres__membranes.mrc") as mrc:
        assert np.array_equal(mrc.data, read_region(output / "spheres" / "membranes.ome.zarr"))
        assert np.allclose([mrc.voxel_size.x, mrc.voxel_size.y, mrc.voxel_size.z], 10)
        assert [float(mrc.header.origin[axis]) for axis in "zyx"] == [-50, 100, 200]


def test_fewer_membranes_leave_no_mesh_behind(mask: Path, tmp_path: Path) -> None:
    run(mask, tmp_path, until="surface")
    small = dataclasses.replace(SPEC, fit=FitSpec(minimum_area_nm2=2800.0))
    run(mask, tmp_path, small, first="fit", until="surface")
    assert [path.name for path in (tmp_path / "spheres" / "meshes").iterdir()] == ["membrane_0001.ply"]
    summary = json.loads((tmp_path / "spheres" / "summary.json").read_text())
    (dropped,) = (entry for entry in summary["fit"]["membranes"] if "reason" in entry)
    assert "too small" in dropped["reason"]


def test_a_run_holds_little_of_each_tomogram(mask: Path, reference: tuple[Path, Result]) -> None:
    """Ten thousand outcomes are in memory at the end: none may grow with the tomogram's membranes or files."""
    output, first = reference
    whole = json.loads((output / "spheres" / "summary.json").read_text())
    for result in (first, run(mask, output)):
        (outcome,) = result.outcomes
        assert outcome.files == set()
        assert outcome.units == {}
        assert whole["fit"]["membranes"]
        assert outcome.summary["measure"]["membranes"] == 2
        kept = [value for stage in outcome.summary.values() for key, value in stage.items() if key != "warnings"]
        assert not [value for value in kept if isinstance(value, list | dict)]


def test_membranes_that_touch_come_apart(tmp_path: Path) -> None:
    z, y, x = np.indices((40, 40, 64))
    volume = np.zeros(z.shape, np.int8)
    for centre, radius in ((18, 13.0), (43, 11.0)):
        # The shells, 3 voxels thick, share a disc of voxels.
        r = np.sqrt((z - 20) ** 2 + (y - 20) ** 2 + (x - centre) ** 2)
        volume[np.abs(r - radius) <= 1.5] = 1
    write_mrc(tmp_path / "pair.mrc", volume, 10.0)
    whole = dataclasses.replace(SPEC, separate=SeparateSpec(enabled=False))
    for spec, folder, count in ((SPEC, "apart", 2), (whole, "fused", 1)):
        result = run(tmp_path / "pair.mrc", tmp_path / folder, spec, until="separate")
        assert result.exit_code == 0
        assert read_region(tmp_path / folder / "pair" / "instances.ome.zarr").max() == count


def test_learning_takes_the_place_of_merging(mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = dataclasses.replace(SPEC, merge=MergeSpec(connect="qlearning"))
    result = run(mask, tmp_path, spec)
    assert result.exit_code == 0
    assert list(result.outcomes[0].times)[:3] == ["ingest-mask", "connect", "fit"]
    labels = read_region(tmp_path / "spheres" / "membranes.ome.zarr")
    truth = spheres_shell()
    assert labels.max() == 2
    assert 2 * ((labels > 0) & truth).sum() / ((labels > 0).sum() + truth.sum()) > 0.93
    picture = tmp_path / "slice.png"
    assert main(["connect", str(tmp_path), "--show", "24", "--output", str(picture)]) == 0
    assert capsys.readouterr().out.strip() == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["connect", str(tmp_path), "--show", "48", "--output", str(picture)]) == 2
    assert "slice" in capsys.readouterr().err


def test_the_report_is_one_page(reference: tuple[Path, Result]) -> None:
    output, result = reference
    page = (output / "report.html").read_text(encoding="utf-8")
    assert result.report == output / "report.html"
    assert "spheres" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_dask_equals_the_loop(mask: Path, reference: tuple[Path, Result], tmp_path: Path) -> None:
    with DaskExecutor(2) as executor:
        result = run_collection(collection(mask, tmp_path), executor)
    assert result.exit_code == 0
    assert products(tmp_path) == products(reference[0])


@pytest.mark.parametrize("chunk", [(64, 128, 128), (8, 24, 80)])
def test_chunks_do_not_show(
    mask: Path, reference: tuple[Path, Result], tmp_path: Path, chunk: tuple[int, int, int]
) -> None:
    spec = dataclasses.replace(SPEC, ingest=IngestSpec(chunk_voxels=chunk))
    assert run(mask, tmp_path, spec).exit_code == 0
    for name in ("instances", "membranes", "position_sd_nm", "support_nm"):
        ours, theirs = (read_region(folder / "spheres" / f"{name}.ome.zarr") for folder in (tmp_path, reference[0]))
        assert np.array_equal(ours, theirs), name
    assert (tmp_path / "membranes.csv").read_text() == (reference[0] / "membranes.csv").read_text()


def test_a_finished_run_does_nothing_again(mask: Path, reference: tuple[Path, Result]) -> None:
    before = products(reference[0])
    result = run(mask, reference[0])
    assert all(cost.units == cost.skipped for cost in result.outcomes[0].times.values())
    assert products(reference[0]) == before


def test_other_options_are_refused_until_said(mask: Path, tmp_path: Path) -> None:
    run(mask, tmp_path, until="fit")
    other = dataclasses.replace(SPEC, fit=FitSpec(reach_nm=3.0))
    with pytest.raises(UsageError, match=r"fit.reach_nm 4.0 -> 3.0"):
        run(mask, tmp_path, other, until="fit")
    result = run(mask, tmp_path, other, first="fit", until="fit")
    assert result.outcomes[0].times["merge"].skipped == result.outcomes[0].times["merge"].units
    # What was not used yet may change; what was may not, but for --overwrite.
    thicker = dataclasses.replace(other, surface=SurfaceSpec(thickness_nm=5.0))
    assert run(mask, tmp_path, thicker, until="fit").exit_code == 0
    fewer = dataclasses.replace(thicker, merge=MergeSpec(minimum_volume_nm3=9e9))
    with pytest.raises(UsageError, match=r"merge.minimum_volume_nm3"):
        run(mask, tmp_path, fewer, until="fit")
    assert run(mask, tmp_path, fewer, overwrite=True, until="merge").exit_code == 0


def test_the_advice_of_an_error_can_be_followed(tmp_path: Path) -> None:
    volume = np.zeros((16, 32, 32), np.int8)
    volume[8, 4:28, 4:28] = 1
    write_mrc(tmp_path / "no_apix.mrc", volume, 0.0)
    assert run(tmp_path / "no_apix.mrc", tmp_path / "out", until="merge").exit_code == 3
    stated = dataclasses.replace(SPEC, ingest=dataclasses.replace(SPEC.ingest, apix=12.0))
    assert run(tmp_path / "no_apix.mrc", tmp_path / "out", stated, until="merge").exit_code == 0


def test_a_failure_is_told_under_its_own_stage(mask: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, merge=MergeSpec(mask_labels=(0,)))
    (failure,) = run(mask, tmp_path, spec).failures
    assert failure.stage == "merge"


def test_nothing_found_is_said(mask: Path, tmp_path: Path) -> None:
    result = run(mask, tmp_path, dataclasses.replace(SPEC, merge=MergeSpec(mask_labels=(7,))))
    assert result.exit_code == 0
    assert warnings_of(result.outcomes[0].summary) == ["merge: no voxel is membrane; looked for values [7]"]


def test_a_second_tomogram_joins_the_first(mask: Path, reference: tuple[Path, Result], tmp_path: Path) -> None:
    run(mask, tmp_path / "out")
    other = write_spheres(tmp_path / "others.mrc")
    run(other, tmp_path / "out")
    names = [entry["id"] for entry in json.loads((tmp_path / "out" / "run.json").read_text())["tomograms"]]
    assert names == ["spheres", "others"]
    with (tmp_path / "out" / "membranes.csv").open() as stream:
        assert [row["tomogram"] for row in csv.DictReader(stream)] == ["spheres"] * 2 + ["others"] * 2
    # The same id from another file is refused, not mixed.
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match="inputs of spheres"):
        run(write_spheres(tmp_path / "elsewhere" / "spheres.mrc"), tmp_path / "out")


def test_one_bad_tomogram_fails_alone(mask: Path, reference: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / "bad.mrc").write_bytes(b"not a tomogram")
    result = run([tmp_path / "bad.mrc", mask], tmp_path / "out")
    assert result.exit_code == 3
    with (tmp_path / "out" / "failures.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["id"], row["stage"].split("-")[0]) == ("bad", "ingest")
    good = {name: value for name, value in products(tmp_path / "out").items() if name.startswith("spheres/")}
    wanted = {name: value for name, value in products(reference[0]).items() if name.startswith("spheres/")}
    assert good == wanted
    assert "bad" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_folder_is_held_by_one_run(mask: Path, tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(LockedError, match="another run"):
        run(mask, tmp_path)
    # A holder that is gone is no holder.
    lock = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0.0}
    (tmp_path / "run.lock").write_text(json.dumps(lock))
    with run_lock(tmp_path):
        pass


def test_of_two_that_take_over_an_old_lock_one_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other looked at the old lock at the same moment, and took the first one's new lock for it."""
    path, host = tmp_path / "run.lock", socket.gethostname()
    path.write_text(json.dumps({"host": host, "pid": 2**22 + 1, "started": 0.0}))
    other = json.dumps({"host": host, "pid": os.getpid(), "started": 1.0})
    monkeypatch.setattr("cryoscale.lock.time.sleep", lambda seconds: path.write_text(other))
    with pytest.raises(LockedError, match="just now"), run_lock(tmp_path):
        pass
    assert path.read_text() == other


def test_a_full_disk_leaves_no_lock_behind(mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(PauseError, match="No space left"):
        patch.setattr("cryoscale.lock.json.dump", full)
        run(mask, tmp_path)
    # An empty one would hold the folder for ever, whatever is freed.
    with run_lock(tmp_path):
        pass


def test_missing_weights_stop_before_anything_starts(mask: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, segment=SegmentSpec(model=str(tmp_path / "none.safetensors")))
    with pytest.raises(UsageError, match=r"none"):
        run_collection(Collection(entries([str(mask)]), tmp_path / "out", spec), LoopExecutor())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("enhanced", [False, True])
def test_the_network_reads_what_its_card_says(tmp_path: Path, enhanced: bool) -> None:
    import torch

    from cryoscale.segment.unet import UNet
    from cryoscale.segment.weights import save_model

    torch.manual_seed(0)
    card = {"voxel_size_angstrom": [8.0, 16.0], "enhanced": enhanced}
    save_model(tmp_path / "tiny.safetensors", UNet(slices_in=1, width=4, depth=1), card)
    noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", noise, 10.0)
    spec = dataclasses.replace(SPEC, segment=SegmentSpec(model=str(tmp_path / "tiny.safetensors")))
    job = Collection(entries([str(tmp_path / "noise.mrc")]), tmp_path / "out", spec, until="segment")
    result = run_collection(job, LoopExecutor())
    assert result.exit_code == 0, result.outcomes[0].error
    assert (tmp_path / "out" / "noise" / "enhanced.ome.zarr").is_dir() == enhanced
    assert ("enhance" in result.outcomes[0].times) == enhanced
