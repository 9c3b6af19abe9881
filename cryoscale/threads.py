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
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from cryoscale.memory import machine_bytes

__all__ = ["in_threads", "on_one_thread"]

Item = TypeVar("Item")
Result = TypeVar("Result")
_TURN = threading.Lock()


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
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(function, items))


@contextlib.contextmanager
def on_one_thread() -> Iterator[int]:
    """Keep linear algebra to one thread; yields how many it had."""
    libraries = _libraries(len(sys.modules))
    with _TURN:
        before = min((library.num_threads or 1 for library in libraries.lib_controllers), default=1)
        # Who finds it at one has nothing to put back: it would outlast him who set it.
        limit = libraries.limit(limits=1) if before > 1 else contextlib.nullcontext()
    with limit:
        yield before


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Return the libraries of linear algebra, looked for again after an import: that takes half a millisecond."""
    return ThreadpoolController().select(user_api="blas")
