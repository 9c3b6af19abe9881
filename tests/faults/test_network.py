"""A worker whose network falls silent: packets vanish, no connection is closed. What it held goes to others.

The worker lives in a network namespace of its own, its cable a pair of virtual interfaces; cut, each end is told a
wrong permanent address of the other, so that all is sent and nothing arrives. That needs root, or the test skips.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryoscale.cluster import DaskExecutor
from cryoscale.cluster.credentials import make_credentials
from tests.faults.harness import Scene

pytestmark = pytest.mark.fault

# Dask gives up a silent connection after 30 seconds; 11 are the least it takes.
_QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}


@dataclass
class Cable:
    """Between this machine and a namespace."""

    space: str
    here: str
    there: str

    def cut(self) -> None:
        """Let every packet vanish, whichever way it goes."""
        _ip("neigh", "replace", self.there, "lladdr", "02:00:00:00:00:99", "dev", self.space, "nud", "permanent")
        words = ("neigh", "replace", self.here, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
        _ip("-n", self.space, *words)

    def mend(self) -> None:
        """Let them arrive again."""
        _ip("neigh", "del", self.there, "dev", self.space)
        _ip("-n", self.space, "neigh", "del", self.here, "dev", "eth0")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()}")


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.getuid():
        pytest.skip("needs root")
    number = os.getpid() % 250
    cable = Cable(f"cut{os.getpid()}", f"10.213.{number}.1", f"10.213.{number}.2")
    try:
        _ip("netns", "add", cable.space)
        _ip("link", "add", cable.space, "type", "veth", "peer", "name", "eth0", "netns", cable.space)
        _ip("addr", "add", f"{cable.here}/24", "dev", cable.space)
        _ip("link", "set", cable.space, "up")
        for words in (
            ("addr", "add", f"{cable.there}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", cable.space, *words)
        yield cable
    finally:
        # The cable goes with it.
        subprocess.run(["ip", "netns", "del", cable.space], check=False, capture_output=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a part of Dask with the run's certificates; end it with the test."""
    environment = os.environ | _QUICK | {"DASK_CONFIG": str(tmp_path / "keys" / "dask.yaml")}
    with contextlib.ExitStack() as stack:

        def begin(part: str, *words: str, inside: Cable | None = None) -> subprocess.Popen[bytes]:
            enter = ["ip", "netns", "exec", inside.space] if inside else []
            words = (*enter, sys.executable, "-m", f"distributed.cli.{part}", *words)
            process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.mark.parametrize("mended", [False, True], ids=["for-good", "for-a-while"])
def test_a_worker_that_is_cut_off_loses_its_units_to_the_others(
    tmp_path: Path,
    cable: Cable,
    start: Callable[..., subprocess.Popen[bytes]],
    undisturbed: dict[str, str],
    mended: bool,
) -> None:
    make_credentials(tmp_path / "keys", 1.0)
    file = str(tmp_path / "scheduler.json")
    start("dask_scheduler", "--scheduler-file", file, "--host", f"tls://{cable.here}", "--port", "0", "--no-dashboard")
    words = ("--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60")
    while not Path(file).exists():
        time.sleep(0.1)
    start("dask_worker", *words)
    start("dask_worker", *words, "--host", cable.there, inside=cable)
    scene, silent = Scene(tmp_path, 0.3), []

    def cut() -> None:
        cable.cut()
        silent.append(len(executor._client.scheduler_info()["workers"]))
        if mended:
            time.sleep(5)
            cable.mend()

    with DaskExecutor(address=file, credentials=tmp_path / "keys") as executor:
        executor._client.wait_for_workers(2, timeout=120)
        thread = scene.when(8, cut)
        assert scene.run(executor).exit_code == 0
        thread.join()
    assert silent == [2]
    # The cut-off worker goes on with what it held, and a unit more may wait there: the same bytes are written twice.
    scene.require_whole(undisturbed, repeats=2)
