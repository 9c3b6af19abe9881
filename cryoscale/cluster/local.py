"""Workers that are processes of this machine, each under a keeper (Dask's nanny) that starts it anew when it dies."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Collection
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import dask
from distributed import LocalCluster, Nanny

from cryoscale.cluster import dashboard as pages
from cryoscale.cluster.addresses import WORKERS_SECONDS
from cryoscale.memory import machine_bytes

__all__ = ["SILENT", "be_patient", "free_dashboard_port", "kill", "local_cluster"]

SILENT = logging.CRITICAL + 1
"""Level of loggers that say nothing."""
_RETURN_SECONDS = 300
_JOIN_SECONDS = 10


class _Nanny(Nanny):  # type: ignore[misc]
    """Keeper of one local worker; the first `gpus` of them hold, and see, one GPU each."""

    def __init__(self, *args: Any, name: int, gpus: int, **options: Any) -> None:
        # Heaps of threads other than the first keep no array above 64 MiB.
        options["env"] = {"MALLOC_ARENA_MAX": "1"}
        if name < gpus:
            visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
            options["resources"] = {"GPU": 1}
            options["env"]["CUDA_VISIBLE_DEVICES"] = visible[name] if name < len(visible) else str(name)
        super().__init__(*args, name=name, **options)


def local_cluster(workers: int, *, dashboard: bool, gpus: int) -> LocalCluster:
    """Start workers of one thread each on this machine; the first `gpus` of them hold a GPU."""
    _start_resource_tracker()
    be_patient()
    # A run with no workers left must end, with the command to resume, and not hang.
    options = {
        "no-workers-timeout": f"{WORKERS_SECONDS}s",
        # Suspicion costs little here: a unit that was there when two workers died is tried again, alone.
        "allowed-failures": 1,
    }
    with (
        dask.config.set({f"distributed.scheduler.{name}": value for name, value in options.items()}),
        warnings.catch_warnings(),
    ):
        # Another run may take the port between the look for a free one and its use; what it became is told.
        warnings.filterwarnings("ignore", "Port .* is already in use")
        return _start_local(workers, dashboard=dashboard, gpus=gpus)


def _start_local(workers: int, *, dashboard: bool, gpus: int) -> LocalCluster:
    return LocalCluster(
        worker_class=_Nanny,
        gpus=gpus,
        n_workers=workers,
        threads_per_worker=1,
        # Dask looks at the machine and the outermost control group alone.
        memory_limit=machine_bytes() // workers,
        processes=True,
        host="127.0.0.1",
        # The scheduler always serves some page; without the dashboard any free port will do.
        dashboard_address=free_dashboard_port() if dashboard else "127.0.0.1:0",
        scheduler_kwargs={"dashboard": dashboard, "preload": [pages.__name__]},
        silence_logs=SILENT,
    )


def be_patient() -> None:
    """Let a keeper take its time to start a worker anew; the same wherever the workers are.

    Dask dismisses the keeper of a worker that is not back in 15 seconds, and the worker never comes back: on a busy
    machine, or where Python's packages are on a slow disk, a run would lose one worker after the other for good, and of
    a queue one job after the other, which then wait for their place again.
    """
    # It is looked up when a worker is lost.
    dask.config.set({"distributed.deploy.lost-worker-timeout": f"{_RETURN_SECONDS}s"})


def _start_resource_tracker() -> None:
    """Start Python's keeper of semaphores ahead of the workers.

    Started with the first of them it would let Ctrl-C through to all; and it calls the semaphores of killed workers,
    which it removes, a leak.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker" + (f",{before}" if before else "")
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def kill(processes: Collection[BaseProcess]) -> None:
    """End worker processes on the spot: units survive it, orphans would hold their memory."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join(_JOIN_SECONDS)


def free_dashboard_port() -> str:
    """Return Dask's usual address for a dashboard, on loopback; any port where that one is taken."""
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", 8787)) == 0
    return "127.0.0.1:0" if taken else "127.0.0.1:8787"
