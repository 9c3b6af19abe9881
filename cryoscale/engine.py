"""Runs units of work, with done-records and retries, through one driver for the plain loop and for Dask.

A job is a generator that yields phases and receives their receipts (records.py). The driver keeps a window of jobs
in flight, submits the units of their current phases to an executor, and feeds the receipts back::

    jobs ──phase──> driver ──unit──> executor (loop or Dask) ──receipt──> driver ──receipts──> job

Each unit runs inside `run_unit`, wherever that is: it is skipped where a valid done-record exists, tried again after
a transient fault, and recorded once its files are on disk. A unit that fails ends its own job; a fault of the
machine (`PauseError`) ends the run. The executor that knows Dask is cluster/executor.py.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from cryoscale.errors import CryoscaleError, PauseError, TomogramError, TransientError
from cryoscale.interrupt import check
from cryoscale.io.files import crc32c, fsync_file, fsync_folder, write_text
from cryoscale.records import DoneRecord, Receipt, Unit

__all__ = [
    "Executor",
    "Job",
    "LoopExecutor",
    "Observer",
    "Outcome",
    "Phase",
    "StageTime",
    "run_jobs",
    "run_unit",
]

_TRIES = 4
_BACK_OFF_SECONDS = 0.5
_TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}
_ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True)
class Phase:
    """Units that may run in any order, between two points where all must be done."""

    stage: str
    folder: str
    """Folder of the tomogram; records go to ``<folder>/records``."""
    fingerprint: str
    """Hash of what determines the results of these units."""
    units: tuple[Unit, ...]


JobPlan = Generator[Phase, list[Receipt], dict[str, Any]]


@dataclass
class Job:
    """One tomogram's way through the stages."""

    id: str
    plan: JobPlan


@dataclass
class StageTime:
    """What a stage cost."""

    wall_seconds: float = 0.0
    unit_seconds: float = 0.0
    units: int = 0
    skipped: int = 0
    peak_bytes: int = 0


@dataclass
class Outcome:
    """How a job ended."""

    id: str
    summary: dict[str, Any] | None = None
    """What the job's generator returned; None where it failed."""
    error: BaseException | None = None
    stage: str = ""
    """The stage that failed."""
    times: dict[str, StageTime] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitResult:
    """What comes back from a unit: its record, and whether it was there already."""

    record: DoneRecord
    skipped: bool


class Observer:
    """Told what happens; the progress bars override what they show."""

    def phase_started(self, job: str, stage: str, units: int) -> None:
        """Note that `units` more units of a stage are under way."""

    def unit_done(self, job: str, stage: str, result: UnitResult) -> None:
        """Note that a unit is complete."""

    def job_done(self, outcome: Outcome) -> None:
        """Note that a job ended, well or not."""


class Executor(Protocol):
    """Where units run."""

    gpu: bool | None
    """Whether there are GPU workers; None where units run on this machine, which then knows."""

    def submit(self, unit: Unit, folder: str, fingerprint: str) -> None:
        """Take a unit."""

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        """Wait for any unit to end and return its key and result."""

    def drop(self, job: str) -> None:
        """Forget the units of a job that failed."""


# ---------------------------------------------------------------------------------------------- one unit, anywhere


def record_path(folder: str, key: tuple[str, str, int]) -> Path:
    """Return where a unit's done-record is."""
    return Path(folder) / "records" / key[0] / f"{key[2]:06d}.json"


def read_record(folder: str, key: tuple[str, str, int], fingerprint: str) -> DoneRecord | None:
    """Return a unit's record if it proves the unit complete: it parses, fits, and every file is whole."""
    try:
        record = DoneRecord.from_json(record_path(folder, key).read_text(encoding="utf-8"))
        if record.key != key or record.fingerprint != fingerprint:
            return None
        whole = all(crc32c(Path(folder) / name) == (length, crc) for name, length, crc in record.files)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def run_unit(unit: Unit, folder: str, fingerprint: str) -> UnitResult:
    """Run one unit unless its record is valid; record it when its files are on disk.

    Raises
    ------
    PauseError
        The disk is full, or another fault of the machine that no second try mends.
    CryoscaleError
        What the unit raised.
    """
    found = read_record(folder, unit.key, fingerprint)
    if found is not None:
        return UnitResult(found, skipped=True)
    path = record_path(folder, unit.key)
    path.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        # One thread of linear algebra: sums are grouped by threads, and a result must not tell how many there were.
        with threadpool_limits(1, user_api="blas"):
            receipt = _with_retries(unit)
        files = tuple(_settled(folder, name) for name in sorted(receipt.files))
        seconds = time.monotonic() - started
        record = DoneRecord(unit.key, fingerprint, files, receipt.numbers, seconds, _peak_bytes())
        write_text(path, record.to_json())
    except OSError as error:
        raise _classified(unit, error) from error
    return UnitResult(record, skipped=False)


def _with_retries(unit: Unit) -> Receipt:
    for attempt in range(1, _TRIES + 1):
        try:
            return unit.call(*unit.args)
        except (TransientError, OSError) as error:
            transient = isinstance(error, TransientError) or error.errno in _TRANSIENT
            if not transient or attempt == _TRIES:
                raise
            time.sleep(_BACK_OFF_SECONDS * 2 ** (attempt - 1))
    raise AssertionError


def _classified(unit: Unit, error: OSError) -> CryoscaleError:
    where = f"{unit.key[1]}, {unit.key[0]} unit {unit.key[2]}: {error.filename or ''}"
    if error.errno in _ENVIRONMENT:
        return PauseError(
            error.strerror or str(error),
            where=where,
            todo="free space or mend the file system, then run the same command again",
        )
    return TomogramError(error.strerror or str(error), where=where, found=f"errno {error.errno}")


def _settled(folder: str, name: str) -> tuple[str, int, int]:
    """Flush a file and its folder, and return its name, length and checksum."""
    path = Path(folder) / name
    fsync_file(path)
    fsync_folder(path.parent)
    return (name, *crc32c(path))


def _peak_bytes() -> int:
    """Peak resident memory of this process (VmHWM: ru_maxrss is inherited from the parent)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        return 0
    return 0


# -------------------------------------------------------------------------------------------------- the plain loop


class LoopExecutor:
    """Runs each unit in this process, in the order submitted: the reference that all else must equal."""

    def __init__(self) -> None:
        self.gpu: bool | None = None
        self._queue: list[tuple[Unit, str, str]] = []

    def submit(self, unit: Unit, folder: str, fingerprint: str) -> None:
        """Take a unit."""
        self._queue.append((unit, folder, fingerprint))

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        """Run the next unit and return its key and result."""
        unit, folder, fingerprint = self._queue.pop(0)
        try:
            return unit.key, run_unit(unit, folder, fingerprint)
        except Exception as error:
            return unit.key, error

    def drop(self, job: str) -> None:
        """Forget the units of a job that failed."""
        self._queue = [entry for entry in self._queue if entry[0].key[1] != job]


# ------------------------------------------------------------------------------------------------------- the driver


class _Running:
    """A job in flight: its current phase and the receipts that came back."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcome = Outcome(job.id)
        self.phase: Phase | None = None
        self.receipts: dict[tuple[str, str, int], Receipt] = {}
        self.started = 0.0

    def advance(self) -> Phase | None:
        """Feed the receipts of the finished phase to the job; return its next phase, None at its end."""
        try:
            if self.phase is None:
                self.phase = next(self.job.plan)
            else:
                done = [self.receipts[unit.key] for unit in self.phase.units]
                self.phase = self.job.plan.send(done)
        except StopIteration as stop:
            self.outcome.summary = stop.value
            return None
        self.receipts, self.started = {}, time.monotonic()
        return self.phase

    def note(self, key: tuple[str, str, int], result: UnitResult) -> None:
        """Count a finished unit."""
        assert self.phase is not None
        self.receipts[key] = Receipt(tuple(name for name, _, _ in result.record.files), result.record.numbers)
        cost = self.outcome.times.setdefault(self.phase.stage, StageTime())
        cost.units += 1
        cost.skipped += result.skipped
        cost.unit_seconds += result.record.seconds
        cost.peak_bytes = max(cost.peak_bytes, result.record.peak_bytes)
        if len(self.receipts) == len(self.phase.units):
            cost.wall_seconds += time.monotonic() - self.started


def run_jobs(
    jobs: Iterable[Job], executor: Executor, observer: Observer | None = None, *, window: int = 4
) -> Iterator[Outcome]:
    """Run jobs, at most `window` at a time, earlier ones first; yield each one's outcome as it ends.

    Parameters
    ----------
    jobs
        Consumed lazily: a collection of any size holds `window` jobs in memory.
    executor
        `LoopExecutor`, or `cryoscale.cluster.DaskExecutor`.
    observer
        Told of progress.
    window
        Jobs in flight.

    Raises
    ------
    PauseError
        The machine cannot go on; what is complete stays complete.
    """
    observer = observer or Observer()
    waiting, running = iter(jobs), dict[str, _Running]()
    while True:
        while len(running) < window and (job := next(waiting, None)) is not None:
            state = _Running(job)
            running[job.id] = state
            if _step(state, executor, observer):
                observer.job_done(running.pop(job.id).outcome)
                yield state.outcome
        if not running:
            return
        key, result = executor.completed()
        state = running[key[1]]
        if isinstance(result, PauseError):
            raise result
        if isinstance(result, UnitResult):
            state.note(key, result)
            assert state.phase is not None
            observer.unit_done(state.job.id, state.phase.stage, result)
            ended = len(state.receipts) == len(state.phase.units) and _step(state, executor, observer)
        else:
            executor.drop(state.job.id)
            _fail(state, result, key[0])
            ended = True
        if ended:
            observer.job_done(running.pop(state.job.id).outcome)
            yield state.outcome


def _step(state: _Running, executor: Executor, observer: Observer) -> bool:
    """Move a job to its next phase that has units; return whether it ended."""
    try:
        while (phase := state.advance()) is not None:
            observer.phase_started(state.job.id, phase.stage, len(phase.units))
            for unit in phase.units:
                executor.submit(unit, phase.folder, phase.fingerprint)
            if phase.units:
                return False
    except PauseError:
        raise
    except Exception as error:
        _fail(state, error, state.phase.stage if state.phase else "plan")
    return True


def _fail(state: _Running, error: BaseException, stage: str) -> None:
    check()
    state.job.plan.close()
    state.outcome.error, state.outcome.stage = error, stage
