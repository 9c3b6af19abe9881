"""Job scripts on a real SLURM of two nodes: equal products, lost parts, wall time, nothing open to others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import mrcfile
import numpy as np
import psutil
import pytest

from cryoscale.packing import stored_units
from tests.cluster.listening import beyond_loopback, listening, turned_away
from tests.report.browser import CHROMIUM, Browser
from tests.slurmsandbox import private_slurm, wait_for

pytestmark = pytest.mark.fault

ROOT = Path(__file__).resolve().parents[2]
RUN = ["masks", "--masks", "--mask-labels", "1", "--until", "merge", "--wait-stable", "0"]
PRODUCTS = ("*/instances.ome.zarr/**/c/**/*", "*/groups.ome.zarr/**/c/**/*")
SECONDS = 240
TOMOGRAMS = 6


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    with private_slurm(watches_memory=True) as environment:
        yield environment | {"PYTHONPATH": str(ROOT)}


def write_masks(folder: Path) -> None:
    (folder / "masks").mkdir()
    z, y, x = np.mgrid[:40, :48, :48]
    for n in range(TOMOGRAMS):
        shell = abs(np.hypot(np.hypot(z - 20, y - 24), x - 24) - (10 + n % 4)) < 1.2
        with mrcfile.new(folder / "masks" / f"t{n}.mrc") as file:
            file.set_data(shell.astype(np.int8))
            file.voxel_size = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_masks(tmp_path)
    (tmp_path / "scratch").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, slurm: dict[str, str]) -> dict[str, bytes]:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    write_masks(folder)
    cryoscale(folder, slurm, "run", *RUN, "--output", "out", "--workers", "1")
    return products(folder / "out")


def products(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in PRODUCTS
        for path in folder.glob(pattern)
        if path.is_file()
    }


def cryoscale(folder: Path, slurm: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "cryoscale", *words]
    done = subprocess.run(command, cwd=folder, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(
    folder: Path,
    slurm: dict[str, str],
    *words: str,
    dashboard: bool = False,
    change: Callable[[str], str] = lambda text: text,
) -> str:
    """Write a job script, submit it, return its number."""
    asked = [
        # Each process takes seconds to start: one worker of a node is enough where there are two nodes.
        "--cpus-per-node",
        "1",
        "--memory",
        "9",
        "--time",
        "0:20:00",
        "--scratch",
        str(folder / "scratch"),
        *words,
        "--",
        *RUN,
        "--output",
        "out",
    ]
    text = cryoscale(folder, slurm, "jobscript", "slurm", *asked, *(["--dashboard"] if dashboard else []))
    (folder / "job").write_text(change(text.replace("sleep 60 ", "sleep 1 ")))
    return command(folder, slurm, "sbatch", "--parsable", "job").strip()


def command(folder: Path, slurm: dict[str, str], *words: str) -> str:
    return subprocess.run(words, cwd=folder, env=slurm, capture_output=True, text=True, check=True).stdout


def state(folder: Path, slurm: dict[str, str], job: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", command(folder, slurm, "scontrol", "show", "job", job)))


def finish(
    folder: Path, slurm: dict[str, str], job: str, alone: dict[str, bytes], *, leaves_scratch: bool = False
) -> None:
    """Wait for the end of a job; require that all is as one process makes it, and that nothing else is left."""
    running = ("RUNNING", "PENDING", "COMPLETING")
    wait_for(lambda: state(folder, slurm, job)["JobState"] not in running, SECONDS, "an end of the job")
    assert state(folder, slurm, job)["ExitCode"] == "0:0", output_of(folder)
    assert f"{TOMOGRAMS} of {TOMOGRAMS} tomograms complete" in output_of(folder)
    assert not (folder / "out" / ".cluster").exists()
    assert products(folder / "out") == alone != {}
    wait_for(lambda: not processes("distributed.cli", folder), 60, "an end of workers and scheduler")
    assert list((folder / "scratch").iterdir()) == [] or leaves_scratch


def processes(word: str, folder: Path) -> list[psutil.Process]:
    """Processes of a job in `folder` with a word in their command."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and any(word in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def output_of(folder: Path) -> str:
    """Return what jobs have printed so far."""
    return "".join(path.read_text() for path in folder.glob("*.out"))


def units_done(folder: Path) -> int:
    return sum(len(stored_units(path)) for path in folder.glob("out/t*"))


def test_one_job_on_two_nodes(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    job = submit(folder, slurm, "--nodes", "2", "--cpus-per-node", "2")
    wait_for(lambda: len(processes("spawn_main", folder)) >= 4 and units_done(folder), SECONDS, "workers")
    assert len(command(folder, slurm, "squeue", "-h", "-o", "%N", "-j", job).strip()) > 2
    keys = list(folder.glob("out/.cluster/*/*-key.pem"))
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600] * 3
    found = set().union(*(listening(process) for process in processes("distributed.cli", folder)))
    outside = beyond_loopback(found)
    assert len(outside) >= 9, "a scheduler, and four workers with a nanny each"
    assert [entry for entry in outside if not turned_away(*entry[1:], folder)] == []
    finish(folder, slurm, job, alone)


@pytest.mark.parametrize(
    ("victim", "most"), [("dask_scheduler", 1), ("spawn_main", 1), ("spawn_main", 2)],
    ids=["the-scheduler", "a-worker", "every-worker"],
)  # fmt: skip
def test_what_is_killed_comes_back(
    folder: Path, slurm: dict[str, str], alone: dict[str, bytes], victim: str, most: int
) -> None:
    job = submit(folder, slurm, "--nodes", "2")
    wait_for(lambda: units_done(folder) > 1 and len(processes(victim, folder)) >= most, SECONDS, "a unit")
    for process in processes(victim, folder)[:most]:
        process.kill()
    finish(folder, slurm, job, alone)


@pytest.mark.parametrize("how", ["scancel", "the-client-killed"])
def test_what_ends_the_job_costs_nothing_that_was_done(
    folder: Path, slurm: dict[str, str], alone: dict[str, bytes], how: str
) -> None:
    job = submit(folder, slurm, "--nodes", "2")
    wait_for(lambda: units_done(folder) > 1, SECONDS, "a unit")
    if how == "scancel":
        command(folder, slurm, "scancel", job)
    else:
        # What the job's script started; a worker's command has the scheduler's file in it too.
        client, *others = [one for one in processes("cryoscale", folder) if "run" in one.cmdline()]
        assert others == []
        client.kill()
    wait_for(lambda: state(folder, slurm, job)["JobState"] in ("FAILED", "CANCELLED"), SECONDS, "an end of the job")
    wait_for(lambda: not processes("distributed.cli", folder), 60, "an end of workers and scheduler")
    done = units_done(folder)
    assert done > 1
    again = command(folder, slurm, "sbatch", "--parsable", "job").strip()
    finish(folder, slurm, again, alone, leaves_scratch=True)
    events = (folder / "out" / "journal.jsonl").read_text()
    assert events.count('"event":"run"') == 2


def test_the_wall_time_queues_it_again(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    job = submit(folder, slurm, "--nodes", "2")
    wait_for(lambda: units_done(folder) > 1, SECONDS, "a unit")
    command(folder, slurm, "scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: state(folder, slurm, job)["JobState"] == "PENDING", SECONDS, "a place in the queue")
    done = units_done(folder)
    assert done > 1
    assert not (folder / "out" / "run.lock").exists()
    wait_for(lambda: not processes("distributed.cli", folder), 60, "an end of workers and scheduler")
    # A node takes what comes within the second of the job's end to be the job that it has ended.
    time.sleep(2)
    command(folder, slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")
    finish(folder, slurm, job, alone)
    assert state(folder, slurm, job)["Restarts"] == "1"
    assert "wall time: queued again" in next(folder.glob("*.out")).read_text()


def test_a_lost_node_takes_only_its_own_workers(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    job = submit(folder, slurm, "--nodes", "2")
    wait_for(lambda: units_done(folder) > 1, SECONDS, "a unit")
    # All that runs on the second node, at once.
    mine = [one for one in processes("node.sh", folder) if one.environ().get("SLURMD_NODENAME") == "n2"]
    for process in [child for one in mine for child in (one, *one.children(recursive=True))]:
        os.kill(process.pid, signal.SIGKILL)
    assert mine
    finish(folder, slurm, job, alone, leaves_scratch=True)


# What a worker's library might do, on order, on the first of the nodes: take more memory than the job asked for.
HOG = """
[ "$SLURM_NODEID" != 0 ] || ( until [ -e hog ]; do [ ! -e fed ] || exit; sleep 0.2; done; mv hog fed
exec python3 -c "import time; held = b'x' * (5 << 29); time.sleep(60)" ) &
wait
"""


def test_workers_killed_for_their_memory_are_followed_by_others(
    folder: Path, slurm: dict[str, str], alone: dict[str, bytes]
) -> None:
    def change(text: str) -> str:
        return text.replace("--mem=9G", "--mem=2G").replace("\nwait\n", HOG, 1)

    job = submit(folder, slurm, "--nodes", "2", change=change)
    wait_for(lambda: units_done(folder) > 1, SECONDS, "a unit")
    # As where memory runs short, nobody gets on: the run is not through before the end comes.
    for process in processes("spawn_main", folder):
        process.suspend()
    (folder / "hog").touch()
    finish(folder, slurm, job, alone, leaves_scratch=True)
    assert (folder / "fed").is_file()
    output = "".join(path.read_text() for path in folder.glob("*.out"))
    assert "exceeded memory limit" in output
    assert "paused: again in a minute (1 of 3)" in output


def test_each_gpu_has_a_worker_of_its_own(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    job = submit(folder, slurm, "--nodes", "1", "--cpus-per-node", "2", "--gpus-per-node", "2", dashboard=True)
    wait_for(lambda: len(processes("spawn_main", folder)) >= 2, SECONDS, "workers")
    held = [one.environ()["CUDA_VISIBLE_DEVICES"] for one in processes("GPU=1", folder)]
    assert sorted(held) == ["0", "1"]
    ours, theirs = said_pages(folder)
    for page in (ours, theirs):
        with urllib.request.urlopen(page, timeout=20) as answer:
            assert answer.status == 200
    # One node: nothing leaves it.
    found = set().union(*(listening(process) for process in processes("distributed.cli", folder)))
    assert beyond_loopback(found) == set()
    finish(folder, slurm, job, alone)


def said_pages(folder: Path) -> tuple[str, str]:
    """Return where the job's output says that the dashboard is: our page and Dask's, to which a tunnel leads."""
    pages = r"dashboard: (http://127.0.0.1:(\d+)/cryoscale) (http://127.0.0.1:\2/status)\n"
    said = pages + r"  from elsewhere: ssh -N .*-L \2:127.0.0.1:\2 \S+\n"
    found = wait_for(lambda: re.search(said, output_of(folder)), SECONDS, "a dashboard")
    assert isinstance(found, re.Match)
    return found[1], found[3]


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_the_page_in_a_browser(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    (folder / "masks" / "bad.mrc").write_bytes(b"no tomogram")
    (folder / "profile").mkdir()
    browser = Browser(folder / "profile")
    try:
        job = submit(folder, slurm, "--nodes", "1", dashboard=True)
        ours, theirs = said_pages(folder)
        # It stands still while it is looked at: on a fast machine it would be over before the browser is there.
        wait_for(lambda: list(folder.glob("out/t*/summary.json")), SECONDS, "a tomogram")
        workers = processes("spawn_main", folder)
        for process in workers:
            process.suspend()
        browser.visit(ours)
        browser.wait(f"document.querySelectorAll('tr[data-id]').length === {TOMOGRAMS + 1}")
        browser.wait("document.querySelectorAll('tr[data-state=complete]').length > 0")
        assert browser.run("document.querySelector('tr.failed th').textContent") == "bad"
        assert browser.run("[...document.querySelectorAll('.rows thead th')].map(one => one.textContent)") == [
            "", "ingest", "merge"
        ]  # fmt: skip
        with urllib.request.urlopen(theirs.replace("status", "metrics"), timeout=20) as answer:
            assert b'cryoscale_units_failed_total{stage="ingest"} 1.0' in answer.read()
        assert browser.complaints == []
        for process in workers:
            process.resume()
    finally:
        browser.close()
    (folder / "masks" / "bad.mrc").unlink()
    wait_for(
        lambda: state(folder, slurm, job)["JobState"] not in ("RUNNING", "COMPLETING"), SECONDS, "an end of the job"
    )
    assert state(folder, slurm, job)["ExitCode"] == "3:0"
    assert products(folder / "out") == alone


def test_a_driver_and_an_array_of_workers(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    text = cryoscale(
        folder, slurm, "jobscript", "slurm", "--pattern", "array", "--nodes", "2", "--cpus-per-node", "1", "--memory",
        "6", "--time", "0:20:00", "--scratch", str(folder / "scratch"), "--", *RUN, "--output", "out",
    )  # fmt: skip
    # The driver leaves room for one worker on its node.
    (folder / "job").write_text(text.replace("--cpus-per-task=2", "--cpus-per-task=1"))
    job = command(folder, slurm, "sbatch", "--parsable", "job").strip()
    wait_for(lambda: processes("spawn_main", folder), SECONDS, "workers")
    found = set().union(*(listening(process) for process in processes("distributed.cli", folder)))
    outside = beyond_loopback(found)
    assert outside, "a scheduler at least"
    assert [entry for entry in outside if not turned_away(*entry[1:], folder)] == []
    finish(folder, slurm, job, alone)
    wait_for(lambda: command(folder, slurm, "squeue", "-h") == "", 60, "an empty queue")


def test_from_the_login_node(folder: Path, slurm: dict[str, str], alone: dict[str, bytes]) -> None:
    options = ["walltime=0:20:00", "memory=2GiB"]
    words = [word for option in options for word in ("--cluster-option", option)]
    words = [*RUN, "--output", "out", "--cluster", "slurm", "--workers", "2", *words]
    done = subprocess.Popen(
        [sys.executable, "-m", "cryoscale", "run", *words],
        cwd=folder, env=slurm, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: units_done(folder) > 1 or done.poll() is not None, SECONDS, "a unit")
        found = set().union(*(listening(process) for process in processes("--cluster", folder)))
        assert [entry for entry in beyond_loopback(found) if not turned_away(*entry[1:], folder)] == []
        # A job that is cancelled is submitted again.
        jobs = command(folder, slurm, "squeue", "-h", "-o", "%i").split()
        command(folder, slurm, "scancel", jobs[0])
        _, errors = done.communicate(timeout=SECONDS)
    finally:
        done.kill()
    assert done.returncode == 0, errors
    assert not list(folder.glob("out/.cluster/run-*"))
    assert products(folder / "out") == alone != {}
    wait_for(lambda: command(folder, slurm, "squeue", "-h") == "", 60, "an empty queue")
