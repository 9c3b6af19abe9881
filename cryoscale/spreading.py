"""One function over many things, on processes of this machine: what belongs to no run and leaves no files."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from cryoscale.errors import PauseError
from cryoscale.interrupt import shielded, without_keyboard
from cryoscale.memory import machine_bytes

__all__ = ["processes_beside", "spread"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int, bytes_each: int, what: str
) -> list[Result]:
    """Return what a function makes of each item, in their order; the same for any number of processes.

    Parameters
    ----------
    function
        Named at the top of its module; only where `processes` is 1 may it be any other.
    items
        Arguments.
    processes
        At most so many at a time; fewer where memory is short. With 1, this process itself.
    bytes_each
        Memory that a process takes.
    what
        The items in words, for the bar on the terminal or the line in a log.

    Raises
    ------
    PauseError
        A process was ended from outside.
    """
    count = max(1, min(processes, len(items), machine_bytes() // (bytes_each * processes_beside())))
    bar = tqdm(total=len(items), desc=what, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)
    if bar.disable:
        print(f"{what}: {len(items)}, {count} at a time", file=sys.stderr, flush=True)  # noqa: T201
    made = []
    with bar:
        for result in (
            map(partial(_on_one_thread, function), items) if count == 1 else _beside(function, items, count, what)
        ):
            made.append(result)
            bar.update()
    return made


def processes_beside() -> int:
    """Return how many processes of one ``torchrun`` share this machine, this one counted; 1 where none does."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _beside(function: Callable[[Item], Result], items: Sequence[Item], count: int, what: str) -> Iterator[Result]:
    others = set(active_children())
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_watch_parent)
    try:
        with shielded(), without_keyboard():
            futures: list[Future[Result]] = [pool.submit(_on_one_thread, function, item) for item in items]
        for place, future in enumerate(futures):
            # What has been handed over is not held twice.
            futures[place] = Future()
            yield future.result()
    except BrokenProcessPool:
        raise PauseError(
            "a process was ended from outside, most often because memory was short",
            where=what,
            todo="run again with fewer --threads",
        ) from None
    finally:
        # What they still do when a signal stopped this would be waited for.
        for process in set(active_children()) - others:
            process.kill()
        pool.shutdown(cancel_futures=True)


def _on_one_thread(function: Callable[[Item], Result], item: Item) -> Result:
    """Share no core with the other processes, and give the bits that any number of threads would not."""
    # Here and not when the process begins: libraries that come with the function are not there by then.
    with threadpool_limits(1):
        return function(item)


def _watch_parent() -> None:
    """Do not outlive the process that asked."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
