"""How long a unit may take: one that hangs, on a file system that never answers say, must not hold a run for ever.

    limit = 10 x the longest unit of its stage so far, half an hour at least;  6 hours before any is done

The longest and not the middle one: a mitochondrion among vesicles takes a hundred times as long as they do, and to end
it by mistake costs more than to wait. The worker ends itself then, at once: its keeper starts another, and the unit is
tried there. A worker that hangs as a whole, and cannot do that, falls silent, and is started anew within a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Limits", "ended_after", "watch_workers"]

_SILENT_SECONDS = 40.0
_LOOK_SECONDS = 10.0
"""Of Dask's own it is 300 s, and it looks as seldom. With these stopped workers were replaced after 53-54 s."""
_LEAST_SECONDS = 1800.0
_UNKNOWN_SECONDS = 6 * 3600.0
_TIMES_LONGEST = 10.0


class Limits:
    """What the units of each stage have taken so far."""

    def __init__(self) -> None:
        self._longest: dict[str, float] = {}

    def took(self, stage: str, seconds: float) -> None:
        """Note how long a unit took."""
        self._longest[stage] = max(seconds, self._longest.get(stage, 0.0))

    def of(self, stage: str) -> float:
        """Return how many seconds the next unit of a stage may take."""
        if stage not in self._longest:
            return _UNKNOWN_SECONDS
        return max(_LEAST_SECONDS, _TIMES_LONGEST * self._longest[stage])


@contextlib.contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """End this process, as if it were killed, where what follows takes longer than so many seconds."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def watch_workers(scheduler: Any) -> None:
    """Let a scheduler start anew what it has not heard of for 40 s, looking every 10; sooner where it is set so."""
    looking = scheduler.periodic_callbacks.get("worker-ttl")
    if looking is not None:
        scheduler.worker_ttl = min(scheduler.worker_ttl, _SILENT_SECONDS)
        looking.callback_time = min(looking.callback_time, 1000 * _LOOK_SECONDS)
