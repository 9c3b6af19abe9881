"""Runs one unit of work, with its done-record and retries, and says what an executor is.

A unit runs inside `run_unit`, wherever that is: it is skipped where a valid done-record exists, tried again after a
transient fault, and recorded once its files are on disk. The plain loop is here, the executor that knows Dask in
cluster/executor.py, what feeds them in driver.py.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryoscale.errors import CryoscaleError, PauseError, TomogramError, TransientError
from cryoscale.heap import freed_memory, has_room
from cryoscale.io.files import crc32c, fsync_file, fsync_folder, write_text
from cryoscale.memory import machine_bytes
from cryoscale.records import DoneRecord, Receipt, Unit, numbered
from cryoscale.threads import on_one_thread

__all__ = [
    "Executor",
    "Job",
    "JobPlan",
    "LoopExecutor",
    "Observer",
    "Outcome",
    "Phase",
    "StageTime",
    "UnitResult",
    "as_failure",
    "read_record",
    "record_path",
    "run_unit",
]

_TRIES = 4
_BACK_OFF_SECONDS = 0.5
# What a unit reads, a record promises: on a network's file system it may be late, or gone for a moment.
_TRANSIENT = {errno.ENOENT, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}
_ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
_DENIED = {errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Phase:
    """Units that may run in any order, between two points where all must be done."""

    stage: str
    folder: str
    """Folder of the tomogram; records go to ``<folder>/records``."""
    fingerprint: str
    """Hash of what determines the results of these units; empty: they leave no record, and run whenever they come."""
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
    units: dict[str, list[int]] = field(default_factory=dict)
    """Indices of the units that are complete, by the first part of their keys."""
    files: set[str] = field(default_factory=set)
    """What those units wrote, relative to the tomogram's folder."""
    packs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files of units without a record, with length and checksum."""


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

    @property
    def memory_bytes(self) -> int | None:
        """What a worker may take, at least; None where nobody knows, or nothing bounds it."""

    def slots(self, *, gpu: bool) -> int:
        """Return how many units can be worked on at once now: on GPU workers, or on any."""

    def more_memory(self, needed_bytes: int) -> str:
        """Say how workers get so much memory each."""

    def submit(self, unit: Unit, folder: str, fingerprint: str, *, order: int = 0) -> None:
        """Take a unit; of those that wait, the one of the lowest `order` goes first."""

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        """Wait for any unit to end and return its key and result."""

    def drop(self, job: str) -> list[Unit]:
        """Forget the units of a job that failed, and return them."""

    def tell(self, event: dict[str, Any]) -> None:
        """Hand an event of the run (journal.py) to whoever watches where the units run."""


# ---------------------------------------------------------------------------------------------- one unit, anywhere


def record_path(folder: str, key: tuple[str, str, int]) -> Path:
    """Return where a unit's done-record is."""
    return Path(folder) / numbered(f"records/{key[0]}", key[2], f"{key[2]:06d}.json")


def read_record(folder: str, key: tuple[str, str, int], fingerprint: str) -> DoneRecord | None:
    """Return a unit's record if it proves the unit complete: it parses, fits, and every file is whole."""
    try:
        record = DoneRecord.from_json(record_path(folder, key).read_text(encoding="utf-8"))
        if record.key != key or record.fingerprint != fingerprint:
            return None
        whole = all(crc32c(Path(folder) / name) == (length, crc) for name, length, crc in record.files)
    except (OSError, ValueError):
        return None
    return record if whole else None


def run_unit(unit: Unit, folder: str, fingerprint: str, *, held_bytes: int | None = None) -> UnitResult:
    """Run one unit unless its record is valid; record it, where it has a fingerprint, when its files are on disk.

    ``held_bytes`` is what this process may take: where that is plenty, what the unit frees is kept for what follows.

    Raises
    ------
    PauseError
        The disk is full, or another fault of the machine that no second try mends.
    CryoscaleError
        What the unit raised.
    """
    path = record_path(folder, unit.key)
    if fingerprint:
        found = read_record(folder, unit.key, fingerprint)
        if found is not None:
            return UnitResult(found, skipped=True)
        path.unlink(missing_ok=True)
    started, busy = time.monotonic(), time.process_time()
    try:
        # One thread of linear algebra: sums are grouped by threads, and a result must not tell how many there were.
        with on_one_thread(), freed_memory(kept=has_room(unit.bytes, held_bytes)):
            receipt = _with_retries(unit)
        files = tuple(_settled(folder, name) for name in sorted(receipt.files))
        spent = time.monotonic() - started, _peak_bytes(), time.process_time() - busy
        record = DoneRecord(unit.key, fingerprint, files, receipt.numbers, *spent)
        if fingerprint:
            write_text(path, record.to_json())
    except OSError as error:
        raise as_failure(error, f"{unit.key[1]}, {unit.key[0]} unit {unit.key[2]}", folder) from error
    except MemoryError as error:
        raise TomogramError(
            "not enough memory",
            where=f"{unit.key[1]}, {unit.key[0]} unit {unit.key[2]}",
            found=str(error) or None,
            todo=f"it needs about {unit.bytes / 2**20:.0f} MiB: give workers more memory, or use smaller chunks",
        ) from error
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


def as_failure(error: OSError, where: str, folder: str = "") -> CryoscaleError:
    """Return a fault of files or network as the failure of those who have to act on it.

    What may not be written in the tomogram's own ``folder`` is no fault of the tomogram.
    """
    name = str(error.filename or "")
    text = error.strerror or str(error)
    where = f"{where}: {name or folder}"
    ours = bool(folder) and Path(name).is_relative_to(folder)
    if error.errno in _ENVIRONMENT or (error.errno in _DENIED and ours):
        todo = "free space or mend the file system, then run the same command again"
        return PauseError(text, where=where, found=_free_space(name or folder), todo=todo)
    kind = TransientError if error.errno in _TRANSIENT else TomogramError
    return kind(text, where=where, found=f"errno {error.errno}")


def _free_space(name: str) -> str | None:
    """Tell what is left where a file could not be written, if that can be known."""
    try:
        return f"{shutil.disk_usage(Path(name).parent).free / 2**20:.0f} MiB free" if name else None
    except OSError:
        return None


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
        self.memory_bytes: int | None = machine_bytes()
        self._queue: list[tuple[Unit, str, str]] = []

    def slots(self, *, gpu: bool) -> int:
        """Return 1: one unit at a time, whatever it needs."""
        return 0 if gpu else 1

    def more_memory(self, needed_bytes: int) -> str:  # noqa: ARG002
        """Say what a single process leaves to be done."""
        return "a machine with more memory, or a larger limit for this job"

    def submit(self, unit: Unit, folder: str, fingerprint: str, *, order: int = 0) -> None:  # noqa: ARG002
        """Take a unit."""
        self._queue.append((unit, folder, fingerprint))

    def completed(self) -> tuple[tuple[str, str, int], UnitResult | BaseException]:
        """Run the next unit and return its key and result."""
        unit, folder, fingerprint = self._queue.pop(0)
        try:
            return unit.key, run_unit(unit, folder, fingerprint, held_bytes=self.memory_bytes)
        except Exception as error:
            return unit.key, error

    def drop(self, job: str) -> list[Unit]:
        """Forget the units of a job that failed, and return them."""
        dropped = [entry[0] for entry in self._queue if entry[0].key[1] == job]
        self._queue = [entry for entry in self._queue if entry[0].key[1] != job]
        return dropped

    def tell(self, event: dict[str, Any]) -> None:
        """Do nothing: nobody watches a plain loop."""
