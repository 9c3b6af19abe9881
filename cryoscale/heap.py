"""What becomes of the memory that arrays have freed, while a unit runs.

By itself glibc returns to the system each array of more than some MiB as soon as it is freed; in the workers that Dask
starts, whose environment has a ``MALLOC_TRIM_THRESHOLD_``, each of more than 128 KiB. The next array then has new
pages, each of which the system clears when it is first touched: half of a network's time, 12 to 63 % of other units'.
Freed memory that is kept for the next array costs none of that, and up to a fifth more memory than was projected, for
not every array fits where one was before. So it is kept where there is room, and given back after each unit.

What is set here holds for the whole process. It has no effect with another C library than glibc.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from cryoscale.memory import PROCESS_BYTES

__all__ = ["freed_memory", "has_room"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers (malloc.h) of the two sizes below."""
_Sizes = tuple[int, int]
"""Bytes free at the heap's end, and bytes of an array freed, from which on they go back to the system."""
_KEPT: _Sizes = (2**31 - 1, 1 << 30)
_RETURNED: _Sizes = (128 << 10, 128 << 10)
_USUAL: _Sizes = (64 << 20, 32 << 20)
"""What glibc comes to by itself in a process that has freed an array as large; older versions allow no more."""
_ROOM = 1.5
"""Times what is projected of a unit; 1.2 times is the most that was seen of units above 50 MiB."""


def has_room(unit_bytes: int, held_bytes: int | None) -> bool:
    """Return whether a process may keep what a unit frees.

    Parameters
    ----------
    unit_bytes
        Projected for the unit.
    held_bytes
        What the process may take; None where nothing limits it.
    """
    return held_bytes is None or PROCESS_BYTES + _ROOM * unit_bytes <= held_bytes


@contextlib.contextmanager
def freed_memory(*, kept: bool) -> Iterator[None]:
    """Keep what arrays free for those that follow, or return it at once; at the end all of it is returned.

    Gaps that a heap has already are used first, and stay, until the end.
    """
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    _set(libc, _KEPT if kept else _RETURNED)
    try:
        yield
    finally:
        _set(libc, _USUAL)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, sizes: _Sizes) -> None:
    trim, array = sizes
    libc.mallopt(_TRIM_THRESHOLD, trim)
    if not libc.mallopt(_MMAP_THRESHOLD, array):
        libc.mallopt(_MMAP_THRESHOLD, _USUAL[1])
