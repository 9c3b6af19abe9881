"""Freed memory is kept while there is room, and always given back: counted by the pages that the system hands out."""

from __future__ import annotations

import ctypes
import platform
import resource
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def noted_pages() -> Receipt:
    return Receipt((), {"pages": pages_of_arrays()})


@glibc_only
def test_the_next_array_has_the_pages_of_the_last() -> None:
    with freed_memory(kept=True):
        kept = pages_of_arrays()
    with freed_memory(kept=False):
        returned = pages_of_arrays()
    assert kept < 10 * REPEATS < 20 * REPEATS <= returned


@glibc_only
@pytest.mark.parametrize("kept", [True, False])
def test_all_is_given_back_at_the_end(kept: bool) -> None:
    before = resident_bytes()
    with freed_memory(kept=kept):
        arrays = [np.ones(1 << 17) for _ in range(200)]
        last = np.ones(1 << 17)  # so that the heap's end is in use
        del arrays
        inside = resident_bytes() - before
    assert (inside > 150 << 20) == kept
    assert resident_bytes() - before < 50 << 20
    assert last.all()


@glibc_only
@pytest.mark.parametrize(("held_bytes", "kept"), [(None, True), (PROCESS_BYTES + 300, True), (PROCESS_BYTES, False)])
def test_units_keep_it_where_there_is_room(tmp_path: Path, held_bytes: int | None, kept: bool) -> None:
    unit = Unit(("stage", "t", 0), noted_pages, (), 200)
    result = run_unit(unit, str(tmp_path), "", held_bytes=held_bytes)
    assert (result.record.numbers["pages"] < 10 * REPEATS) == kept


@glibc_only
def test_units_that_are_told_nothing_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant of the test before: the heap as it is."""
    monkeypatch.setattr("cryoscale.engine.freed_memory", lambda **_: nullcontext())
    result = run_unit(Unit(("stage", "t", 0), noted_pages, (), 200), str(tmp_path), "")
    assert result.record.numbers["pages"] >= 20 * REPEATS


@glibc_only
@pytest.mark.parametrize(("held_bytes", "kept"), [(1 << 40, True), (PROCESS_BYTES, False)])
def test_the_loop_knows_what_it_holds(tmp_path: Path, held_bytes: int, kept: bool) -> None:
    executor = LoopExecutor()
    executor.memory_bytes = held_bytes
    executor.submit(Unit(("stage", "t", 0), noted_pages, (), 200), str(tmp_path), "")
    result = executor.completed()[1]
    assert not isinstance(result, BaseException)
    assert (result.record.numbers["pages"] < 10 * REPEATS) == kept


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
