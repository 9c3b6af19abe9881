"""Small units of work for tests of the engine: module-level, so that a worker process can import them."""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoscale.engine import Job, Phase
from cryoscale.errors import TomogramError
from cryoscale.io.files import write_text
from cryoscale.records import Receipt, Unit


def note_execution(folder: str, name: str) -> int:
    """Leave one file per execution, so that runs are counted outside the process."""
    ran = Path(folder) / "executions"
    ran.mkdir(exist_ok=True)
    (ran / f"{name}-{secrets.token_hex(6)}").touch()
    return len(list(ran.glob(f"{name}-*")))


def executions(folder: str | Path) -> int:
    """Count how often any unit ran."""
    return len(list((Path(folder) / "executions").glob("*")))


def square(folder: str, index: int) -> Receipt:
    note_execution(folder, f"square{index}")
    write_text(Path(folder) / f"square{index}.txt", str(index * index))
    return Receipt((f"square{index}.txt",), {"square": index * index})


def nothing(folder: str, index: int) -> Receipt:
    """Leave only a record behind."""
    return Receipt((), {"square": index * index})


def too_large(folder: str, index: int) -> Receipt:
    raise MemoryError


def total(folder: str, numbers: tuple[int, ...]) -> Receipt:
    note_execution(folder, "total")
    write_text(Path(folder) / "total.txt", str(sum(numbers)))
    return Receipt(("total.txt",), {"total": sum(numbers)})


def refuse(folder: str, index: int) -> Receipt:
    raise TomogramError("bad tomogram", where=folder, found=index)


def stumble(folder: str, times: int, code: int = errno.EIO) -> Receipt:
    """Fail with an errno for the first `times` executions."""
    if note_execution(folder, "stumble") <= times:
        raise OSError(code, os.strerror(code))
    return square(folder, 3)


def die_once(folder: str, index: int) -> Receipt:
    """Kill the worker the first time."""
    if note_execution(folder, f"die{index}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(folder, index)


def die_always(folder: str, index: int) -> Receipt:
    os.kill(os.getpid(), signal.SIGKILL)
    return square(folder, index)


def hang_once(folder: str, index: int) -> Receipt:
    """Never come back, the first time."""
    if note_execution(folder, f"hang{index}") == 1:
        time.sleep(3600)
    return square(folder, index)


def hang_always(folder: str, index: int) -> Receipt:
    time.sleep(3600)
    return square(folder, index)


def job(folder: Path, name: str, count: int = 4, call=square, fingerprint: str = "f", size: int = 0) -> Job:
    """Square `count` numbers, the last of them in `size` bytes more than the others, then add them up."""
    folder.mkdir(parents=True, exist_ok=True)

    def plan():
        sizes = [(1 << 20) + size * (i == count - 1) for i in range(count)]
        units = tuple(Unit(("square", name, i), call, (str(folder), i), sizes[i]) for i in range(count))
        receipts = yield Phase("square", str(folder), fingerprint, units)
        numbers = tuple(receipt.numbers["square"] for receipt in receipts)
        unit = Unit(("total", name, 0), total, (str(folder), numbers), 1 << 20)
        (receipt,) = yield Phase("total", str(folder), fingerprint, (unit,))
        return receipt.numbers

    return Job(name, plan())


def four_tomograms(folder: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[str, int], Receipt]) -> None:
    """Write four inputs and let each be four units of merge and two of fit; ``bad`` fails, ``full`` calls `full`."""
    for name in ("a", "bad", "c", "full"):
        (folder / f"{name}.mrc").write_bytes(b"x")

    def plan(tomogram, entry, spec, *, until, gpu):
        own = {("bad", "merge"): refuse, ("full", "fit"): full}
        for stage, count in (("merge", 4), ("fit", 2)):
            call = own.get((entry.id, stage), nothing)
            units = [Unit((f"{stage}-x", entry.id, i), call, (tomogram.folder, i), 0) for i in range(count)]
            yield Phase(stage, tomogram.folder, "f", tuple(units))
        return {}

    monkeypatch.setattr("cryoscale.collection.tomogram_job", plan)


def where(folder: str, index: int, together: int) -> Receipt:
    """Say which process ran this unit, and which GPUs it sees; wait until `together` units have begun."""
    (Path(folder) / f"began{index}").touch()
    end = time.monotonic() + 60.0
    while len(list(Path(folder).glob("began*"))) < together and time.monotonic() < end:
        time.sleep(0.02)
    numbers = {"process": os.getpid(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    write_text(Path(folder) / f"where{index}.json", json.dumps(numbers))
    return Receipt((f"where{index}.json",), {})
