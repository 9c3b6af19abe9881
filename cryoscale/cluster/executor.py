"""Units on a Dask cluster: this machine's own processes, jobs of a queue, or a scheduler that is already there.

Everything of ours listens on loopback only, or speaks mutual TLS (credentials.py), and no scheduler elsewhere is spoken
to without. Results stay on disk, so a lost worker costs the unit it held and nothing else.

What a unit returns (names and numbers, 26 kB at most in the demo) goes with the worker's own messages through the
scheduler to the client, ahead of the word that it is done. As a result that Dask keeps it would stay on the worker
until it is fetched: of one that died meanwhile the scheduler would ask for it for a minute, and of a fetch that ends in
an error `as_completed` never says that it ended.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import dask
from distributed import Client, as_completed, get_worker
from distributed.scheduler import KilledWorker

from cryoscale import __version__
from cryoscale.cluster import dashboard as pages
from cryoscale.cluster.addresses import client_at, require_workers
from cryoscale.cluster.board import TOPIC
from cryoscale.cluster.failures import failure_of, lost_scheduler
from cryoscale.cluster.limits import Limits, ended_after
from cryoscale.cluster.local import SILENT, kill, local_cluster
from cryoscale.engine import UnitResult, run_unit
from cryoscale.errors import CryoscaleError, PauseError
from cryoscale.interrupt import shielded, without_keyboard
from cryoscale.memory import machine_bytes
from cryoscale.records import Unit, fingerprint
from cryoscale.runrecord import code_of_stages

__all__ = ["DaskExecutor"]

_CLOSE_SECONDS = 10
_COUNT_SECONDS = 5.0
_TALKERS = {"distributed", "tornado", "asyncio"}
_LOGGED = 20
"""Dask keeps so many past messages of every connection, units and all: memory that grows with the collection."""


@dataclass
class _Sent:
    """A unit on the cluster."""

    unit: Unit
    folder: str
    fingerprint: str
    order: int
    number: int
    """No other has it, not even the same unit, sent again."""
    future: Any = None
    again: bool = False
    """Whether it was there before when workers died; nothing else is then on the cluster."""


class DaskExecutor:
    """Runs units on a Dask cluster: one of this machine's own by default, or the scheduler at an address.

    Parameters
    ----------
    workers
        Worker processes of the local cluster, each with one thread; ignored with `address`.
    address
        Scheduler to use instead: ``tls://host:8786``, ``tcp://`` on this machine, or a scheduler file.
    credentials
        Folder of the certificates for it; None: those of Dask's own configuration, if any.
    cluster
        A Dask cluster to use; who made it closes it (launch.py).
    dashboard
        Serve the Dask dashboard on loopback (port 8787 or the next free one).
    gpus
        GPUs of this machine: so many of the local workers hold one each, and units that need one run only there; a
        scheduler elsewhere has workers that say themselves whether they hold one (``--resources GPU=1``).
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        address: str = "",
        credentials: Path | None = None,
        cluster: Any = None,
        dashboard: bool = False,
        gpus: int = 0,
    ) -> None:
        dask.config.set({"distributed.comm.retry.count": 2, "distributed.admin.low-level-log-length": _LOGGED})
        self._cluster: Any = cluster
        self._own = cluster is None and not address
        self._others = set(active_children())
        self._levels = _hush()
        if address:
            self._client = client_at(address, credentials)
            require_workers(self._client, address)
        elif cluster is not None:
            self._client = Client(cluster)
            self._client.wait_for_workers(1)
        else:
            self._start(workers, dashboard=dashboard, gpus=gpus)
        self._completed = as_completed()
        self._numbers = itertools.count()
        self._awaited: set[int] = set()
        self._results: dict[int, UnitResult] = {}
        self._client.subscribe_topic(self._topic, self._told_by_worker)
        self._units: dict[str, _Sent] = {}
        self._code, self._limits = _code(), Limits()
        self._suspects: list[_Sent] = []
        self._held: list[_Sent] = []
        self._counted = -_COUNT_SECONDS
        self._slots = {False: 1, True: 0}
        self._memory: int | None = None
        self._watched = bool(self._client.get_events(TOPIC))
        self._gpu_workers = self.slots(gpu=True) > 0
        self.gpu: bool | None = self._gpu_workers

    def _start(self, workers: int, *, dashboard: bool, gpus: int) -> None:
        """Start workers of this machine's own."""
        try:
            # A worker begun half and told to stop leaves its supervisor waiting for ever.
            with shielded(), without_keyboard():
                self._cluster = local_cluster(workers, dashboard=dashboard, gpus=gpus)
                self._client = Client(self._cluster)
        except (OSError, RuntimeError) as error:
            kill(set(active_children()) - self._others)
            raise PauseError(
                "this machine's workers do not start",
                where=f"{workers} workers",
                found=error,
                todo="see whether memory or processes run short, take fewer --workers, run the same command again",
            ) from error

    @property
    def dashboard_links(self) -> tuple[str, ...]:
        """Addresses of the dashboard's pages, ours first; none where there is no dashboard."""
        port = self._told()["services"].get("dashboard")
        here = [pages.PAGE, "/status"] if self._watched else ["/status"]
        return tuple(f"http://127.0.0.1:{port}{page}" for page in here) if port else ()

    @property
    def tunnel(self) -> str:
        """What to type elsewhere so that the dashboard's address works there too."""
        told = self._told()
        address, port = told["address"].rpartition("://")[2].rpartition(":")[0], told["services"].get("dashboard")
        login, here = os.environ.get("SLURM_SUBMIT_HOST") or os.environ.get("PBS_O_HOST", ""), socket.gethostname()
        host = here if address.startswith("127.") or self._cluster is not None else address
        jump = f"-J {login} " if login and login != host else ""
        return f"ssh -N {jump}-L {port}:127.0.0.1:{port} {host}"

    @property
    def scheduler(self) -> Any:
        """The scheduler itself, where it is in this process; None where it is elsewhere."""
        return self._cluster.scheduler if self._cluster is not None else None

    def slots(self, *, gpu: bool) -> int:
        """Return the threads of all workers, or their GPUs, as of a few seconds ago."""
        self._count()
        return self._slots[gpu]

    @property
    def memory_bytes(self) -> int | None:
        """The least limit of the workers, as of a few seconds ago: a unit may come to any of them."""
        self._count()
        return self._memory

    def more_memory(self, needed_bytes: int) -> str:
        """Say how workers get so much memory each: of this machine's, how many may share it."""
        if not self._own:
            return "workers with a larger --memory-limit, or jobs with more memory"
        together = machine_bytes() // needed_bytes
        return f"--workers {together}" if together else "a machine with more memory"

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS:
            self._counted = now
            with self._reached():
                workers = self._told()["workers"].values()
            threads = sum(worker["nthreads"] for worker in workers)
            # With all workers lost, what they held is on its way to others or fails.
            self._slots = {False: max(threads, 1), True: int(sum(w["resources"].get("GPU", 0) for w in workers))}
            limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
            # With none that tells, those that are to come are as those that were.
            self._memory = min(limits, default=self._memory)

    def _told(self) -> dict[str, Any]:
        """Return what the scheduler says of itself; Dask gives an empty answer in the moment that it is lost."""
        return {"workers": {}, "services": {}, "address": "", **self._client.scheduler_info(n_workers=-1)}

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Tell what Dask says of a scheduler that is gone, at times by a plain exception, as what it is."""
        try:
            yield
        except Exception as error:
            if isinstance(error, CryoscaleError) or self._client.status == "running":
                raise
            raise lost_scheduler("the connection", str(error)) from error

    def submit(self, unit: Unit, folder: str, fingerprint: str, *, order: int = 0) -> None:
        """Take a unit; it goes to the cluster together with others when results are asked for."""
        self._held.append(sent := _Sent(unit, folder, fingerprint, order, next(self._numbers)))
        self._awaited.add(sent.number)

    def _send(self, together: Sequence[_Sent]) -> None:
        """Send units in as few messages as there are tomograms; tuple keys let the dashboard group them by stage."""
        alike: dict[tuple[int, bool], list[_Sent]] = {}
        for sent in together:
            alike.setdefault((sent.order, sent.unit.gpu and self._gpu_workers), []).append(sent)
        for (order, gpu), batch in alike.items():
            ways = [_Way(self._topic, sent.number, self._code, self._limits.of(sent.unit.key[0])) for sent in batch]
            calls = [(sent.unit, sent.folder, sent.fingerprint) for sent in batch]
            with shielded():
                futures = self._client.map(
                    _run_and_tell,
                    *zip(*calls, strict=True),
                    ways,
                    # Other runs on this scheduler may have tomograms of the same names.
                    key=[(*sent.unit.key, self._client.id, *(["again"] * sent.again)) for sent in batch],
                    pure=False,
                    resources={"GPU": 1} if gpu else None,
                    retries=0,
                    priority=-order,
                )
                for sent, sent.future in zip(batch, futures, strict=True):
                    self._units[sent.future.key] = sent
                self._completed.update(futures)

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        """Wait for any unit to end and return its key and result; the cluster then forgets it.

        Dask blames every unit that was on a dying worker. Only one that kills a worker while nothing else runs is
        believed to have done it.
        """
        while True:
            with self._reached():
                self._go_on()
                future = next(self._completed)
            if future.key not in self._units:
                continue
            with shielded():
                sent = self._units.pop(future.key)
                if (result := self._results.pop(sent.number, None)) is not None:
                    self._awaited.discard(sent.number)
                    if not result.skipped:
                        self._limits.took(sent.unit.key[0], result.record.seconds)
                    return sent.unit.key, result
                if not sent.again and future.status == "error" and isinstance(future.exception(), KilledWorker):
                    sent.again = True
                    self._suspects.append(sent)
                    continue
                self._awaited.discard(sent.number)
                return sent.unit.key, failure_of(sent.unit, future)

    def _go_on(self) -> None:
        """Send what was handed in; while there are suspects, one of them once nothing else is on the cluster."""
        if self._suspects:
            if not self._units:
                self._send([self._suspects.pop(0)])
        elif self._held and not any(sent.again for sent in self._units.values()):
            held, self._held = self._held, []
            self._send(held)

    @property
    def _topic(self) -> str:
        """Under which workers tell this client, and nobody else, what units returned."""
        return f"cryoscale-results-{self._client.id}"

    def _told_by_worker(self, event: tuple[float, bytes]) -> None:
        number, result = pickle.loads(event[1])
        # A unit that was given up may end all the same.
        if number in self._awaited:
            self._results[number] = result

    def drop(self, job: str) -> list[Unit]:
        """Cancel the units of a job that failed, and return them."""
        dropped = [sent for sent in (*self._units.values(), *self._suspects, *self._held) if sent.unit.key[1] == job]
        for sent in dropped:
            if sent.future is not None and sent.future.key in self._units:
                del self._units[sent.future.key]
                with self._reached():
                    sent.future.cancel()
            self._awaited.discard(sent.number)
            self._results.pop(sent.number, None)
        for waiting in (self._suspects, self._held):
            waiting[:] = [sent for sent in waiting if sent.unit.key[1] != job]
        return [sent.unit for sent in dropped]

    def tell(self, event: dict[str, Any]) -> None:
        """Hand an event of the run to the scheduler, for its dashboard and metrics; a scheduler may not listen."""
        if self._watched:
            # Names and messages may hold what no other form of text can.
            with contextlib.suppress(OSError, PauseError), self._reached():
                self._client.log_event(TOPIC, json.dumps([self._client.id, event]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with shielded():
            if kind is not None:
                self._abandon()
            with contextlib.suppress(TimeoutError, OSError):
                self._client.close(timeout=_CLOSE_SECONDS)
            if self._own:
                with contextlib.suppress(TimeoutError, OSError):
                    self._cluster.close(timeout=_CLOSE_SECONDS)
                kill(set(active_children()) - self._others)
            if kind is None:
                for logger, level in self._levels.items():
                    logger.setLevel(level)

    def _abandon(self) -> None:
        """Give up the units in flight: their missing records say that they are not done."""
        _hush()
        if not self._own:
            with contextlib.suppress(TimeoutError, OSError):
                self._client.cancel([sent.future for sent in self._units.values()], force=True)
            return
        for nanny in self._cluster.workers.values():
            nanny.auto_restart = False
        kill(set(active_children()) - self._others)


@functools.cache
def _code() -> str:
    """Return a hash of the code that products are made by here."""
    return fingerprint(__version__, code_of_stages())


class _Way(NamedTuple):
    """How a unit goes to a worker and its result comes back."""

    topic: str
    number: int
    code: str
    limit_seconds: float


def _run_and_tell(unit: Unit, folder: str, mark: str, way: _Way) -> None:
    """Run a unit on a worker; its result goes with the worker's messages, ahead of the word that it is done."""
    if way.code != _code():
        # The run's record says by which code its products were made.
        raise PauseError(
            "a worker has another version of cryoscale than the command",
            where=get_worker().address,
            found=__version__,
            todo="start the workers from the installation that the command is from, then run the same command again",
        )
    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    held = limit // worker.state.nthreads if limit else None
    with ended_after(way.limit_seconds):
        result = run_unit(unit, folder, mark, held_bytes=held)
    worker.log_event(way.topic, pickle.dumps((way.number, result)))


def _hush() -> dict[logging.Logger, int]:
    """Silence Dask, and loggers below its own that have levels of theirs; return those that they had.

    Of lost workers, schedulers and connections it is ours to speak: what becomes of a run is told by the run.
    """
    names = (name for name in _TALKERS.union(logging.root.manager.loggerDict) if name.partition(".")[0] in _TALKERS)
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(SILENT)
    return levels
