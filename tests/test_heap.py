"""Freed memory is kept while there is room, and always given back: counted by the pages that the system hands out."""

from __future__ import annotations

import ctypes
import platform
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoscale import engine
from cryoscale.engine import LoopExecutor, run_unit
from cryoscale.heap import freed_memory, has_room
from cryoscale.memory import PROCESS_BYTES
from cryoscale.records import Receipt, Unit

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be told")
ARRAY = 48 << 20
"""Bytes: more than glibc keeps of its own accord. With huge pages 24 of them hold it."""
REPEATS = 10


def pages_of_arrays() -> int:
    """Return how many pages arrays had that were made and freed one after the other."""
    np.ones(ARRAY // 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(REPEATS):
        np.ones(ARRAY // 8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def pages(kept: bool) -> int:
    with freed_memory(kept=kept):
        return pages_of_arrays()


def noted_pages() -> Receipt:
    return Receipt((), {"pages": pages_of_arrays()})


def pages_of_a_unit(folder: str, held_bytes: int | None) -> int:
    result = run_unit(Unit(("stage", "t", 0), noted_pages, (), 200), folder, "", held_bytes=held_bytes)
    return int(result.record.numbers["pages"])


def pages_of_a_unit_untold(folder: str) -> int:
    """Mutant: the heap as it is."""
    engine.freed_memory = lambda **_: nullcontext()  # type: ignore[attr-defined]
    return pages_of_a_unit(folder, None)


def pages_in_the_loop(folder: str, held_bytes: int) -> int:
    executor = LoopExecutor()
    executor.memory_bytes = held_bytes
    executor.submit(Unit(("stage", "t", 0), noted_pages, (), 200), folder, "")
    result = executor.completed()[1]
    assert not isinstance(result, BaseException)
    return int(result.record.numbers["pages"])


def growth(kept: bool) -> tuple[int, int]:
    """Return by how many bytes a process has grown once 200 arrays of 1 MiB are freed, and in the end."""
    before = resident_bytes()
    with freed_memory(kept=kept):
        arrays = [np.ones(1 << 17) for _ in range(200)]
        last = np.ones(1 << 17)  # so that the heap's end is in use
        del arrays
        inside = resident_bytes() - before
    assert last.all()
    return inside, resident_bytes() - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.fixture
def fresh() -> Iterator[Callable[..., Any]]:
    """Call a function in a process of its own: what a heap has free already is used first, whatever it is told."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@glibc_only
def test_the_next_array_has_the_pages_of_the_last(fresh: Callable[..., Any]) -> None:
    assert fresh(pages, True) < 10 * REPEATS
    assert fresh(pages, False) >= 20 * REPEATS


@glibc_only
@pytest.mark.parametrize("kept", [True, False])
def test_all_is_given_back_at_the_end(fresh: Callable[..., Any], kept: bool) -> None:
    inside, after = fresh(growth, kept)
    assert (inside > 150 << 20) == kept
    assert after < 50 << 20


@glibc_only
@pytest.mark.parametrize(("held_bytes", "kept"), [(None, True), (PROCESS_BYTES + 300, True), (PROCESS_BYTES, False)])
def test_units_keep_it_where_there_is_room(
    fresh: Callable[..., Any], tmp_path: Path, held_bytes: int | None, kept: bool
) -> None:
    assert (fresh(pages_of_a_unit, str(tmp_path), held_bytes) < 10 * REPEATS) == kept


@glibc_only
def test_units_that_are_told_nothing_keep_nothing(fresh: Callable[..., Any], tmp_path: Path) -> None:
    assert fresh(pages_of_a_unit_untold, str(tmp_path)) >= 20 * REPEATS


@glibc_only
@pytest.mark.parametrize(("held_bytes", "kept"), [(1 << 40, True), (PROCESS_BYTES, False)])
def test_the_loop_knows_what_it_holds(fresh: Callable[..., Any], tmp_path: Path, held_bytes: int, kept: bool) -> None:
    assert (fresh(pages_in_the_loop, str(tmp_path), held_bytes) < 10 * REPEATS) == kept


def test_room_is_half_as_much_again() -> None:
    assert has_room(1 << 30, None)
    assert has_room(1 << 30, PROCESS_BYTES + (3 << 29))
    assert not has_room(1 << 30, PROCESS_BYTES + (3 << 29) - 1)


class OldLibrary:
    """A C library that refuses to keep arrays above 32 MiB, as glibc did once."""

    def __init__(self) -> None:
        self.set: dict[int, int] = {}

    def mallopt(self, number: int, value: int) -> int:
        if number == -3 and value > 32 << 20:
            return 0
        self.set[number] = value
        return 1

    def malloc_trim(self, _: int) -> int:
        return 1


def test_an_old_library_keeps_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    library = OldLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    with freed_memory(kept=True):
        assert library.set == {-1: 2**31 - 1, -3: 32 << 20}
    with freed_memory(kept=False):
        assert library.set == {-1: 128 << 10, -3: 128 << 10}


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    with freed_memory(kept=True):
        assert np.ones(9).sum() == 9
