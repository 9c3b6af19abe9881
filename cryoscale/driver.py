"""Feeds the units of many jobs to an executor: few at a time, those of earlier jobs first.

A job is a generator that yields phases and receives their receipts (records.py)::

    jobs ──phase──> driver ──unit──> executor (loop or Dask) ──receipt──> driver ──receipts──> job

A job starts only where the jobs before it leave workers without work, so that the first results are there as early as
they can be; and the executor holds a few units per worker, so that neither it nor a scheduler grows with the
collection. A unit that fails ends its own job, and so does one that no worker has the memory for, before it runs; a
fault of the machine (`PauseError`) ends the run.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator

from cryoscale.engine import Executor, Job, Observer, Outcome, Phase, StageTime, UnitResult, as_failure, read_record
from cryoscale.errors import PauseError, TomogramError
from cryoscale.interrupt import check
from cryoscale.memory import PROCESS_BYTES, size
from cryoscale.records import Receipt, Unit

__all__ = ["run_jobs"]

_STARVING = 2
"""Units per worker, running or ready, that are enough: with fewer one more job starts."""
_FLYING = 4
"""Units per worker that the executor holds at most."""
_LEAST_FLYING = 32
_SMALLER = dict.fromkeys(("ingest", "enhance", "segment"), "; or chunks of fewer slices (ingest.chunk_voxels)")
"""What else helps, by stage: a unit of these takes slabs one chunk deep."""
_TOGETHER = 8
"""An executor is handed units when it has room for this fraction of what it holds: half a unit per worker."""


class _Running:
    """A job in flight: its current phase and the receipts that came back."""

    def __init__(self, job: Job, order: int) -> None:
        self.job, self.order = job, order
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

    def note(self, key: tuple[str, str, int], result: UnitResult) -> bool:
        """Count a finished unit; return whether the phase is done with it."""
        assert self.phase is not None
        self.receipts[key] = Receipt(tuple(name for name, _, _ in result.record.files), result.record.numbers)
        if not self.phase.fingerprint:
            self.outcome.packs |= {name: (length, crc) for name, length, crc in result.record.files}
            return len(self.receipts) == len(self.phase.units)
        self.outcome.units.setdefault(key[0], []).append(key[2])
        self.outcome.files.update(name for name, _, _ in result.record.files)
        cost = self.outcome.times.setdefault(self.phase.stage, StageTime())
        cost.units += 1
        cost.skipped += result.skipped
        cost.unit_seconds += result.record.seconds
        cost.peak_bytes = max(cost.peak_bytes, result.record.peak_bytes)
        if len(self.receipts) < len(self.phase.units):
            return False
        cost.wall_seconds += time.monotonic() - self.started
        return True

    def fail(self, error: BaseException, stage: str) -> None:
        check()
        self.job.plan.close()
        self.outcome.error, self.outcome.stage = error, stage


class _Lane:
    """Units that wait for one kind of worker, and how many of them the executor holds."""

    def __init__(self, executor: Executor, *, gpu: bool) -> None:
        self._executor, self._gpu = executor, gpu
        self._ready: list[tuple[int, int, Unit, Phase]] = []
        self._flying: dict[tuple[str, str, int], int] = {}

    def add(self, order: int, phase: Phase, index: int) -> None:
        """Take a unit of a phase."""
        heapq.heappush(self._ready, (order, index, phase.units[index], phase))

    def starving(self) -> bool:
        """Whether workers of this kind will soon have nothing to do."""
        # A single worker needs nothing to be ready: the job under way always comes first.
        return len(self._ready) + len(self._flying) < _STARVING * self._executor.slots(gpu=self._gpu) - 1

    def fill(self) -> None:
        """Hand units to the executor until it holds enough, some together: each message to a scheduler costs."""
        most = max(_FLYING * self._executor.slots(gpu=self._gpu), _LEAST_FLYING)
        if most - len(self._flying) < most // _TOGETHER:
            return
        while self._ready and len(self._flying) < most:
            order, _, unit, phase = heapq.heappop(self._ready)
            self._flying[unit.key] = order
            self._executor.submit(unit, phase.folder, phase.fingerprint, order=order)

    def landed(self, key: tuple[str, str, int]) -> None:
        """Note that the executor gave a unit back."""
        self._flying.pop(key, None)

    def drop(self, order: int) -> None:
        """Forget the units of a job that failed."""
        self._ready = [entry for entry in self._ready if entry[0] != order]
        heapq.heapify(self._ready)


class _Driver:
    def __init__(self, executor: Executor, observer: Observer) -> None:
        self.executor, self.observer = executor, observer
        self.running: dict[str, _Running] = {}
        self._started = 0
        self._lanes = {False: _Lane(executor, gpu=False)}
        if executor.slots(gpu=True):
            self._lanes[True] = _Lane(executor, gpu=True)

    def _lane(self, unit: Unit) -> _Lane:
        return self._lanes.get(unit.gpu, self._lanes[False])

    def has_room(self, window: int) -> bool:
        """Whether one more job should start."""
        most = window or max(4, _STARVING * sum(self.executor.slots(gpu=gpu) for gpu in self._lanes))
        return len(self.running) < most and any(lane.starving() for lane in self._lanes.values())

    def start(self, job: Job) -> Outcome | None:
        """Take up a job; return its outcome where it ended at once."""
        state = self.running[job.id] = _Running(job, self._started)
        self._started += 1
        return self._ended(state) if self._step(state) else None

    def turn(self) -> Outcome | None:
        """Wait for a unit and go on with its job; return the job's outcome where it ended."""
        for lane in self._lanes.values():
            lane.fill()
        key, result = self.executor.completed()
        for lane in self._lanes.values():
            lane.landed(key)
        state = self.running[key[1]]
        if isinstance(result, PauseError):
            raise result
        if isinstance(result, UnitResult):
            done = state.note(key, result)
            assert state.phase is not None
            if state.phase.fingerprint:
                self.observer.unit_done(state.job.id, state.phase.stage, result)
            return self._ended(state) if done and self._step(state) else None
        for unit in self.executor.drop(state.job.id):
            self._lane(unit).landed(unit.key)
        for lane in self._lanes.values():
            lane.drop(state.order)
        state.fail(result, key[0])
        return self._ended(state)

    def _step(self, state: _Running) -> bool:
        """Move a job to its next phase that has units; return whether it ended."""
        try:
            while (phase := state.advance()) is not None:
                _refuse_too_large(phase, self.executor)
                if phase.fingerprint:
                    self.observer.phase_started(state.job.id, phase.stage, len(phase.units))
                for index, unit in enumerate(phase.units):
                    self._lane(unit).add(state.order, phase, index)
                if phase.units:
                    return False
        except PauseError:
            raise
        except OSError as error:
            stage, folder = (state.phase.stage, state.phase.folder) if state.phase else ("plan", "")
            failure = as_failure(error, f"{state.job.id}, {stage}", folder)
            if isinstance(failure, PauseError):
                raise failure from error
            state.fail(failure, stage)
        except Exception as error:
            state.fail(error, state.phase.stage if state.phase else "plan")
        return True

    def _ended(self, state: _Running) -> Outcome:
        del self.running[state.job.id]
        self.observer.job_done(state.outcome)
        return state.outcome


def _refuse_too_large(phase: Phase, executor: Executor) -> None:
    """Refuse units that take more memory than a worker has: they would kill one after the other.

    Raises
    ------
    TomogramError
        Naming the largest of them.
    """
    held = executor.memory_bytes
    large = [unit for unit in phase.units if held is not None and PROCESS_BYTES + unit.bytes > held]
    for unit in sorted(large, key=lambda unit: -unit.bytes):
        # What is done already, where there was more memory, is not done again.
        if not phase.fingerprint or read_record(phase.folder, unit.key, phase.fingerprint) is None:
            needed, stage = PROCESS_BYTES + unit.bytes, phase.stage.removesuffix("-mask")
            raise TomogramError(
                "a unit takes more memory than a worker has",
                where=f"{unit.key[1]}, {unit.key[0]} unit {unit.key[2]}",
                found=f"about {size(needed)}",
                allowed=f"up to {size(held or 0)}",
                todo=f"--retry-failed with {executor.more_memory(needed)}{_SMALLER.get(stage, '')}",
            )


def run_jobs(
    jobs: Iterable[Job], executor: Executor, observer: Observer | None = None, *, window: int = 0
) -> Iterator[Outcome]:
    """Run jobs, earlier ones first; yield each one's outcome as it ends.

    Parameters
    ----------
    jobs
        Consumed lazily: a collection of any size holds the jobs in flight in memory.
    executor
        `cryoscale.engine.LoopExecutor`, or `cryoscale.cluster.DaskExecutor`.
    observer
        Told of progress.
    window
        Most jobs in flight; 0 is twice the workers, and at least 4.

    Raises
    ------
    PauseError
        The machine cannot go on; what is complete stays complete.
    """
    driver, waiting = _Driver(executor, observer or Observer()), iter(jobs)
    try:
        while True:
            while driver.has_room(window) and (job := next(waiting, None)) is not None:
                if (outcome := driver.start(job)) is not None:
                    yield outcome
            if not driver.running:
                return
            if (outcome := driver.turn()) is not None:
                yield outcome
    except PauseError:
        # The executor may serve another run, which knows nothing of these units.
        for name in driver.running:
            executor.drop(name)
        raise
