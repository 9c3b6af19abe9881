"""The command line as a user meets it: a real process, its words and exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.io.mrc import write_mrc
from cryoscale.spec import RunSpec, from_toml
from tests.phantoms import write_spheres
from tests.test_collection import products

SMALL_CHUNKS = "[ingest]\nchunk_voxels = [16, 32, 32]\n"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(SMALL_CHUNKS)
    return write_spheres(tmp_path / "spheres.mrc")


def arguments(mask: Path, output: Path, *more: str) -> list[str]:
    return [
        "run",
        str(mask),
        "--masks",
        "--output",
        str(output),
        "--config",
        str(mask.parent / "run.toml"),
        "--wait-stable",
        "0",
        *more,
    ]


def test_run_then_status_then_evaluate(mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(mask, tmp_path / "out", "--workers", "1")) == 0
    assert "2 membranes, 2 closed" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "out")]) == 0
    assert "spheres: complete" in capsys.readouterr().out
    labels = str(tmp_path / "out" / "spheres" / "spheres__membranes.mrc")
    assert main(["evaluate", labels, labels, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instance_f1"] == 1.0
    assert main(["evaluate", labels, str(mask)]) == 0
    assert "instance recall" in capsys.readouterr().out


def test_dry_run_starts_nothing(mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(mask, tmp_path / "out", "--dry-run", "--typical-rates")) == 0
    shown = capsys.readouterr().out
    assert "48 x 72 x 80 voxels of 10 Å" in shown
    assert "in all:" in shown
    assert "0.00 GPU-hours" in shown
    assert not (tmp_path / "out").exists()


def test_config_is_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    (tmp_path / "all.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert from_toml(tmp_path / "all.toml") == RunSpec()


def test_doctor_knows_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "MISSING" not in shown
    assert "weights  unet25d.safetensors" in shown


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--masks", "none_{stem}.mrc"], "one mask per tomogram"),
        (["--config", "none.toml"], "none.toml"),
        (["--apix", "-3"], "ingest.apix"),
    ],
)
def test_contradictions_end_with_2(
    mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], says: str
) -> None:
    assert main(["run", str(mask), "--masks", "--output", str(tmp_path / "out"), *extra]) == 2
    assert says in capsys.readouterr().err


def test_a_source_that_is_not_there_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none.mrc"), "--output", str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_path_that_the_system_refuses_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["simulate", "--output", str(tmp_path / "file/in"), "--shape", "32,32,32"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"cryoscale: {tmp_path}/file/in: Not a directory; to do: name another file or folder")
    assert len(told.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_error_of_the_system_that_no_path_explains_is_a_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, expected in ((errno.ENOTCONN, 70), (errno.ENOSPC, 4)):
        monkeypatch.setattr("cryoscale.demo.write_mrc", _failing(code))
        assert main(["simulate", "--output", str(tmp_path), "--shape", "32,32,32"]) == expected
        assert ("fault of ours" in capsys.readouterr().err) == (expected == 70)


def _failing(code: int) -> Callable[..., None]:
    def fails(*_: object) -> None:
        raise OSError(code, "no luck")

    return fails


def test_a_voxel_size_of_0_is_asked_for_and_then_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = np.zeros((16, 32, 32), np.int8)
    volume[8, 4:28, 4:28] = 1
    write_mrc(tmp_path / "no_apix.mrc", volume, 0.0)
    command = ["run", str(tmp_path / "no_apix.mrc"), "--masks", "--output", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--until", "merge"]) == 3
    assert "--apix" in capsys.readouterr().out
    assert main([*command, "--until", "merge", "--apix", "12", "--overwrite"]) == 0


def _as_in_a_terminal() -> None:
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_cleanly_and_the_same_command_goes_on(
    mask: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "cryoscale", *arguments(mask, tmp_path / "out", "--workers", "2")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_as_in_a_terminal)
    records = tmp_path / "out" / "spheres" / "records"
    deadline = time.monotonic() + 60
    while not list(records.glob("merge-*/*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    try:
        _, words = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        # The test that fails is this one, not the next that finds it running.
        process.kill()
        process.communicate()
        raise
    assert process.returncode == code
    # Nothing but the stages that were done and one line of ours: no traceback, no word of Dask's.
    shown = [line for line in words.decode().splitlines() if line and not line.startswith("spheres  ")]
    assert shown == [f"cryoscale: stopped by {number.name}; run the same command again to go on"]
    with pytest.raises(ProcessLookupError):
        # Nothing of the process group is left.
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert not (tmp_path / "out" / "run.lock").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert " 0 kept" not in done.stdout
    assert main(arguments(mask, tmp_path / "undisturbed", "--workers", "1")) == 0
    assert products(tmp_path / "out") == products(tmp_path / "undisturbed")


@pytest.mark.true_wait
def test_a_file_is_watched_for_half_a_minute_unless_told(
    mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is no option that a result follows: with another a run goes on where it was."""
    slept: list[float] = []
    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", slept.append)
    words = ["run", str(mask), "--masks", "--output", str(tmp_path / "out"), "--workers", "1", "--until"]
    assert main([*words, "ingest"]) == 0
    assert len(slept) == 1
    assert 0 < slept[0] <= 30
    record = tmp_path / "out" / "spheres" / "summary.json"
    before = record.stat().st_mtime_ns
    assert main([*words, "ingest", "--wait-stable", "0"]) == 0
    assert record.stat().st_mtime_ns == before, "complete, left alone"
    assert main([*words, "merge", "--wait-stable", "7"]) == 0
    assert len(slept) == 1
    assert main([*words, "ingest", "--overwrite", "--wait-stable", "0"]) == 0
    assert len(slept) == 1
