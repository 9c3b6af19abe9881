"""A real SLURM of two nodes on this machine, for tests that skip where it cannot be."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "shared" / "slurm"


@contextlib.contextmanager
def private_slurm(*, cpus: int = 2, gpus: int = 2, watches_memory: bool = False) -> Iterator[dict[str, str]]:
    """Start it and give the environment that its commands need; stop it, and all its jobs, at the end.

    Where it watches memory, it kills what takes more than was asked for (its accounting does; control groups, which
    do it at most facilities, need a machine of one's own).
    """
    if os.getuid() != 0 or not SCRIPTS.is_dir() or shutil.which("slurmctld") is None:
        pytest.skip("needs root, SLURM's programs and the scripts that start a private one")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)
    settings = {
        "SLURM_SANDBOX_DIR": str(folder),
        "SLURM_PORT0": str(_three_free_ports()),
        "SLURM_CPUS": str(cpus),
        "SLURM_GPUS": str(gpus),
        "SLURM_MEM_MB": "20000",
        "SLURM_OVERMEM": str(int(watches_memory)),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    try:
        subprocess.run([SCRIPTS / "slurm_up.sh"], env=environment | settings, check=True, capture_output=True)
        yield environment | {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([SCRIPTS / "slurm_down.sh", "--purge"], env=environment | settings, check=False)


def _three_free_ports() -> int:
    for port in range(26_817, 36_817, 10):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for offset in range(3):
                stack.enter_context(socket.create_server(("127.0.0.1", port + offset)))
            return port
    pytest.skip("no free ports")


def wait_for(condition: object, seconds: float, what: str) -> object:
    """Ask every half second until the answer is true; return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():  # type: ignore[operator]
            return answer
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds} s")
