"""Work shared among as many threads as linear algebra may have, which itself keeps to one meanwhile.

Sums of a matrix product are grouped by threads, so a result would tell how many there were; and two of them gain little
on matrices of a few hundred rows. One whole item for each thread gives the same bits with any number. How many there
may be is what the libraries were told (``OMP_NUM_THREADS``, ``threadpoolctl``), else all cores; in a unit that is one.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from cryoscale.memory import machine_bytes

__all__ = ["in_threads", "on_one_thread"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], *, each_bytes: int = 0) -> list[Result]:
    """Return what a function makes of each item, in their order; what it raises for one is raised.

    What the function compiles or calls has to leave the interpreter to the other threads, or nothing is gained. Of
    items that take ``each_bytes`` at most there are no more at once than half of the machine's memory has room for.
    """
    with on_one_thread() as before:
        count = min(before, len(items))
        if each_bytes:
            count = min(count, machine_bytes() // 2 // each_bytes)
        if count < 2:
            return [function(item) for item in items]
        return _shared(function, items, count)


def _shared(function: Callable[[Item], Result], items: Sequence[Item], count: int) -> list[Result]:
    """Share items among this thread and others, which begin sooner than where this one waits and all are new."""
    numbers, results, failed = iter(range(len(items))), dict[int, Result](), dict[int, BaseException]()

    def work() -> None:
        number = -1
        try:
            for number in numbers:
                results[number] = function(items[number])
                if failed:
                    return
        except BaseException as error:
            failed[number] = error

    with ThreadPoolExecutor(count - 1) as pool:
        for _ in range(count - 1):
            pool.submit(work)
        work()
    if failed:
        # All before it were taken before it: the one that a loop would have raised.
        raise failed[min(failed)]
    return [results[number] for number in range(len(items))]


@contextlib.contextmanager
def on_one_thread() -> Iterator[int]:
    """Keep linear algebra to one thread until the last who asked for it leaves; yields how many it had."""
    before = _HOLD.enter()
    try:
        yield before
    finally:
        _HOLD.leave()


class _Hold:
    """Who keeps linear algebra to one thread, counted over all threads of the process, for its libraries are theirs."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._within = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self) -> int:
        with self._turn:
            found = [(library, library.num_threads or 1) for library in _libraries(len(sys.modules)).lib_controllers]
            # NumPy has a library and SciPy another, and either may have been told, or loaded, after the other.
            several = [(library, count) for library, count in found if count > 1]
            for library, _ in several:
                _tell(library, 1)
            self._before += several
            self._within += 1
        return min((count for _, count in found), default=1)

    def leave(self) -> None:
        with self._turn:
            self._within -= 1
            while self._before and not self._within:
                _tell(*self._before.pop())


def _tell(library: Any, count: int) -> None:
    """Set a library's threads; threadpoolctl 3.8 listens in silence to none but the thread that it heard first."""
    heard = getattr(library, "clear_controlling_thread", lambda *, force: force)
    heard(force=True)
    library.set_num_threads(count)
    heard(force=True)


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Return the libraries of linear algebra, looked for again after an import: that takes half a millisecond."""
    return ThreadpoolController().select(user_api="blas")


_HOLD = _Hold()
