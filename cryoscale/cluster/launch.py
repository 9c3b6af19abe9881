"""``--cluster``: where a run's workers are.

=========================== ===========================================================================================
``local``                   this machine's own processes, the default
``local-cuda``              one worker per GPU of this machine, started by dask-cuda
``slurm`` ``pbs``           jobs that dask-jobqueue submits, one worker each, as many as ``--workers``; the run and its
``lsf`` ``sge``             scheduler stay here, on the login node. A job that is lost is submitted again after the
                            five minutes that a worker has to come back.
``tls://host:port``         a scheduler that is there, with the certificates in ``--tls DIR``
``FILE.json``               the same, by the file that it wrote
=========================== ===========================================================================================

Whatever leaves this machine is mutual TLS with an authority of this run (credentials.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed.core import Status

from cryoscale.cluster import dashboard as pages
from cryoscale.cluster.addresses import WORKERS_SECONDS
from cryoscale.cluster.credentials import credentials_for_run, security_of
from cryoscale.cluster.executor import DaskExecutor
from cryoscale.cluster.local import be_patient, free_dashboard_port
from cryoscale.errors import PauseError, UsageError
from cryoscale.interrupt import shielded, without_keyboard

__all__ = ["QUEUES", "executor_on"]

QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
_LOGIN_HOURS = 24 * 30.0
_CLOSE_SECONDS = 30
_AGAIN_SECONDS = 10
_ONE_OF_EACH = tuple(
    f"export {name}=1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "MALLOC_ARENA_MAX")
)


@contextlib.contextmanager
def executor_on(
    place: str,
    workers: int,
    *,
    folder: Path,
    credentials: Path | None = None,
    options: Sequence[str] = (),
    dashboard: bool = False,
    gpus: int = 0,
) -> Iterator[DaskExecutor]:
    """Give an executor whose workers are at `place`, and end what it started.

    Parameters
    ----------
    place
        A word of the table above, an address or a scheduler file.
    workers
        How many; of an address, those that are there.
    folder
        The run's output: certificates and job logs go below it, where all nodes see them.
    credentials
        Folder of the certificates for an address.
    options
        ``name=value`` for the cluster that dask-jobqueue or dask-cuda makes, as their manuals call them.
    gpus
        GPUs of this machine.

    Raises
    ------
    UsageError
        A package is missing, an option is unknown, or an address has no TLS.
    PauseError
        The queue or scheduler does not answer.
    """
    if options and place not in (*QUEUES, "local-cuda"):
        raise UsageError("--cluster-option is for what dask-jobqueue or dask-cuda start", where=f"--cluster {place}")
    if place in QUEUES:
        with _queue(place, workers, folder, _values(options), dashboard=dashboard) as executor:
            yield executor
    elif place == "local-cuda":
        with _cuda(_values(options), dashboard=dashboard) as executor:
            yield executor
    else:
        address = "" if place in ("", "local") else place
        with DaskExecutor(
            workers, address=address, credentials=credentials, dashboard=dashboard, gpus=gpus
        ) as executor:
            yield executor


@contextlib.contextmanager
def _queue(
    place: str, workers: int, folder: Path, options: dict[str, Any], *, dashboard: bool
) -> Iterator[DaskExecutor]:
    kind = getattr(_package("dask_jobqueue", "cluster"), QUEUES[place])
    takes = {name for one in (*kind.mro(), *kind.job_cls.mro()) for name in inspect.signature(one.__init__).parameters}
    if options.keys() - takes:
        raise UsageError(
            f"no option of {kind.__name__}", where="--cluster-option", found=", ".join(sorted(options.keys() - takes)),
            allowed=", ".join(sorted(takes - {"self", "args", "kwargs"})),
        )  # fmt: skip
    with credentials_for_run(folder.absolute() / ".cluster", _LOGIN_HOURS) as made:
        given = {
            "cores": 1,
            "processes": 1,
            "memory": "4GiB",
            "python": sys.executable,
            "log_directory": str(folder.absolute() / ".cluster" / "jobs"),
            "local_directory": "${TMPDIR:-/tmp}",
            "death_timeout": 120,
            **options,
            "security": security_of(made),
            "shared_temp_directory": str(made),
        }
        given["job_script_prologue"] = [*_ONE_OF_EACH, *options.get("job_script_prologue", ())]
        given["worker_extra_args"] = [
            "--no-dashboard", "--dashboard-address", "127.0.0.1:0", *options.get("worker_extra_args", ()),
        ]  # fmt: skip
        given["scheduler_options"] = {
            "dashboard": dashboard,
            "dashboard_address": free_dashboard_port() if dashboard else "127.0.0.1:0",
            "preload": [pages.__name__],
            **options.get("scheduler_options", {}),
        }
        submissions = _Submissions()
        with _started(_persistent(kind, submissions), given, place) as cluster, submissions:
            _submit(cluster, workers, place)
            submissions.scheduler = cluster.scheduler
            # `scale` alone would never replace a job that was cancelled or ran out of time.
            cluster.adapt(minimum=workers, maximum=workers)
            print(f"{workers} jobs submitted to {place}; waiting for the first to start", file=sys.stderr)
            with DaskExecutor(cluster=cluster) as executor:
                yield executor


@contextlib.contextmanager
def _cuda(options: dict[str, Any], *, dashboard: bool) -> Iterator[DaskExecutor]:
    kind = _package("dask_cuda", "local-cuda").LocalCUDACluster
    given = {
        "threads_per_worker": 1,
        **options,
        "host": "127.0.0.1",
        "protocol": "tcp",
        "dashboard_address": free_dashboard_port() if dashboard else "127.0.0.1:0",
        "resources": {"GPU": 1},
        "scheduler_kwargs": {"dashboard": dashboard, "preload": [pages.__name__]},
    }
    with _started(kind, given, "local-cuda") as cluster, DaskExecutor(cluster=cluster) as executor:
        yield executor


def _package(name: str, extra: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise UsageError(
            "this way of running needs a package that is not installed",
            where="--cluster",
            found=error,
            todo=f"pip install 'cryoscale[{extra}]'",
        ) from error


@contextlib.contextmanager
def _started(kind: Any, given: dict[str, Any], place: str) -> Iterator[Any]:
    """Give a cluster, with Dask's complaints as ours, and end it however its use ends: jobs must not stay behind."""
    be_patient()
    try:
        with shielded(), without_keyboard(), dask.config.set({"distributed.scheduler.no-workers-timeout": None}):
            cluster = kind(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "this cluster cannot be made so", where=f"--cluster {place}", found=error,
            todo=f"see what {kind.__module__.split('.')[0]} says about {kind.__name__}",
        ) from error  # fmt: skip
    except (OSError, RuntimeError) as error:
        raise PauseError("this cluster does not start", where=f"--cluster {place}", found=error) from error
    except Exception as error:
        # dask-cuda asks NVIDIA's driver, whose errors are of a kind of their own.
        if type(error).__module__ != "pynvml":
            raise
        raise UsageError(
            "no NVIDIA GPU answers on this machine", where=f"--cluster {place}", found=error,
            todo="run where nvidia-smi lists a GPU, or leave --cluster out",
        ) from error  # fmt: skip
    try:
        yield cluster
    finally:
        with shielded(), contextlib.suppress(TimeoutError, OSError):
            cluster.close(timeout=_CLOSE_SECONDS)


@dataclass
class _Submissions:
    """Whether jobs are replaced; entered and left with the run."""

    scheduler: Any = None
    """Of the run; None before it has begun and when it is over."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.scheduler = None


def _persistent(kind: Any, submissions: _Submissions) -> Any:
    """Return a kind of cluster that goes on asking a queue for the job that is to replace another.

    Dask asks once, and takes a job that was refused for one that is on its way, for ever.
    """

    class Job(kind.job_cls):  # type: ignore[misc]
        async def _submit_job(self, script_filename: str) -> Any:
            first = time.monotonic()
            while True:
                try:
                    said = await super()._submit_job(script_filename)
                except (OSError, RuntimeError):
                    if (scheduler := submissions.scheduler) is None:
                        raise
                    if time.monotonic() - first >= WORKERS_SECONDS:
                        # From now on a run that has no worker ends, with the command to resume.
                        scheduler.no_workers_timeout = float(_AGAIN_SECONDS)
                    await asyncio.sleep(_AGAIN_SECONDS)
                else:
                    if submissions.scheduler is not None:
                        submissions.scheduler.no_workers_timeout = None
                    return said

    return type(kind.__name__, (kind,), {"job_cls": Job, "__module__": kind.__module__})


def _submit(cluster: Any, workers: int, place: str) -> None:
    """Submit the first jobs; a queue that refuses them would else be asked again and again in silence."""

    async def submitted() -> None:
        # Not `scale`, which would have the refusal printed with its traceback.
        while len(cluster.worker_spec) < workers:
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster

    try:
        cluster.sync(submitted)
    except (OSError, RuntimeError) as error:
        for job in cluster.workers.values():
            # Dask does not close a cluster with a job that it takes to be on its way.
            job.status = Status.failed
        said = str(error).rpartition("stderr:")[2].strip()
        raise PauseError(
            "the queue does not take the jobs", where=f"--cluster {place}", found=said,
            todo="mend what it says with --cluster-option, or ask its administrators; run the same command again",
        ) from error  # fmt: skip


def _values(options: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value``; a value as TOML writes it, or else text."""
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (equals and name.isidentifier()):
            raise UsageError("an option of the cluster", where="--cluster-option", found=option, allowed="name=value")
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = text
    return found
