"""Hours of random faults, unattended: collection after collection comes out whole, whatever is done to it meanwhile.

``pytest -m soak -s`` goes on for an hour, or for so many seconds as ``SOAK_SECONDS`` says; ``SOAK_SEED`` chooses the
faults. At random moments a worker, all workers or the command is killed or told to stop, a worker sleeps, calls on
files fail a few times, the disk is full until the command has paused, or a file is damaged between two commands. The
same command is given until it is through, and verified: what was damaged in a tomogram that was complete by then is
found, that alone, and mended. Then every product is what it would have been, and the command once more runs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from cryoscale.completion import read_seal
from tests.faults.conftest import Faults
from tests.faults.harness import UNITS, Scene

pytestmark = pytest.mark.soak

HUNG_SECONDS = 600
ENDS = {0, 3, 4, -signal.SIGKILL, -signal.SIGTERM}
HICCUPS = [
    ("open", errno.EIO), ("open", errno.ESTALE), ("open", errno.ENOENT), ("read", errno.EIO), ("create", errno.ESTALE),
    ("write", errno.EIO), ("rename", errno.EIO), ("fsync", errno.EIO),
]  # fmt: skip
ACTS = {"worker": 4, "workers": 1, "command": 2, "signal": 1, "sleep": 1, "hiccup": 4, "full": 1}


class Ordeal:
    """One collection, and what is done to it."""

    def __init__(self, root: Path, faultfs: Path, rng: np.random.Generator, tally: Counter[str]) -> None:
        self.scene, self.rng, self.tally = Scene(root, 0.1), rng, tally
        (root / "armed").mkdir()
        self.faults = Faults(root / "armed")
        armed = {"LD_PRELOAD": str(faultfs), "FAULTFS_DIR": str(root / "armed"), "FAULTFS_PATH": "/meant/"}
        self.environment = os.environ | armed
        self.words = root / "words.txt"
        self.at_rest: set[str] = set()
        """Files that were damaged in complete tomograms: these are left alone until they are verified."""

    def go(self) -> None:
        """Give the command until it is through."""
        while (code := self.once()) != 0:
            assert code in ENDS, f"exit code {code}: {self.words.read_text()[-4000:]}"
            self.tally[f"ended with {code}"] += 1
            self.faults.disarm()
            if self.rng.random() < 0.3:
                self.damage()

    def once(self) -> int:
        """Give the command and disturb it until it ends."""
        with self.words.open("w") as words:
            command = [sys.executable, "-m", "tests.faults.client", str(self.scene.root), "0.1"]
            client = psutil.Popen(command, env=self.environment, stderr=words)
        try:
            while self.begun(client, int(self.rng.integers(2, 12))):
                kind = str(self.rng.choice(list(ACTS), p=np.array(list(ACTS.values())) / sum(ACTS.values())))
                # It may end at this very moment.
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.act(client, kind)
        finally:
            if client.poll() is None:
                client.kill()
        return int(client.wait())

    def begun(self, client: psutil.Popen, units: int) -> bool:
        """Wait until so many more units have begun; False at the end of the command."""
        enough, end = self.scene.executions() + units, time.monotonic() + HUNG_SECONDS
        while client.poll() is None and self.scene.executions() < enough:
            assert time.monotonic() < end, f"nothing happens: {self.words.read_text()[-4000:]}"
            time.sleep(0.1)
        return client.poll() is None

    def act(self, client: psutil.Popen, kind: str) -> None:
        """Do one thing to it."""
        workers = [one for one in client.children() if any("spawn_main" in word for word in one.cmdline())]
        some = [workers[int(self.rng.integers(len(workers)))]] if workers else []
        self.tally[kind] += 1
        if kind == "hiccup":
            op, code = HICCUPS[int(self.rng.integers(len(HICCUPS)))]
            self.faults.arm(op, code, int(self.rng.integers(1, 4)))
        elif kind == "full":
            self.faults.arm("write", errno.ENOSPC)
        elif kind == "sleep":
            for action in (signal.SIGSTOP, signal.SIGCONT):
                for process in some:
                    process.send_signal(action)
                time.sleep(2.0)
        elif kind in ("worker", "workers"):
            for process in some if kind == "worker" else workers:
                process.kill()
        else:
            client.send_signal(signal.SIGKILL if kind == "command" else signal.SIGTERM)
            client.wait()
            _, alive = psutil.wait_procs(workers, timeout=60)
            assert alive == []

    def damage(self) -> None:
        """Damage a product between two commands."""
        files = [path for path in sorted(self.scene.output.glob("*/*.ome.zarr/**/*")) if path.is_file()]
        if files:
            path = files[int(self.rng.integers(len(files)))]
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2])
            name = path.relative_to(self.scene.output)
            rests = read_seal(self.scene.output / name.parts[0]) is not None
            self.at_rest |= {name.as_posix()} if rests else set()
            self.tally["damaged file at rest" if rests else "damaged file"] += 1


def test_whatever_happens_every_collection_comes_out_whole(
    tmp_path: Path, faultfs: Path, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SOAK_SEED", secrets.randbits(31)))
    rng, tally = np.random.default_rng(seed), Counter[str]()
    end = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "3600"))
    while time.monotonic() < end:
        root = tmp_path / f"run{tally['collections']}"
        ordeal = Ordeal(root, faultfs, rng, tally)
        ordeal.go()
        assert ordeal.scene.verify() == ordeal.at_rest
        tally["units done twice"] += ordeal.scene.executions() - UNITS
        ordeal.scene.require_whole(undisturbed, repeats=ordeal.scene.executions() - UNITS)
        tally["collections"] += 1
        shutil.rmtree(root)
        with capsys.disabled():
            print(f"seed {seed}: {dict(sorted(tally.items()))}", flush=True)  # noqa: T201 - hours are long
    assert tally["collections"] > 0
