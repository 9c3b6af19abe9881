"""Kernels compiled by a process of their own while a first run on a machine still has a core to spare.

Numba compiles a kernel when it is first called and keeps it for all later processes. Left to themselves the workers of
a first run compile the same kernels at the same moment. ``kernels.txt`` lists those that Python calls in a run, in the
order of the stages, with the types of their arguments: what they need is known before any of their arrays is there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from numba.core.sigutils import normalize_signature

from cryoscale.interrupt import shielded, without_keyboard

__all__ = ["LISTED", "compile_kernels", "compiling_beside"]

LISTED = Path(__file__).parent / "kernels.txt"
"""A line each: module and name within the package, and the types of the arguments as Numba writes them."""


def compile_kernels(listed: Path = LISTED) -> None:
    """Compile the listed kernels in this process, or load those that were compiled before.

    Raises
    ------
    AttributeError, ModuleNotFoundError
        There is no such kernel.
    TypeError, numba.core.errors.NumbaError
        It does not take such arguments.
    """
    for line in listed.read_text(encoding="utf-8").splitlines():
        name, types = line.split("(", maxsplit=1)
        module, kernel = name.rsplit(".", maxsplit=1)
        # As text Numba would keep it under another key than a call's.
        getattr(import_module(f"cryoscale.{module}"), kernel).compile(normalize_signature(f"({types}")[0])


@contextlib.contextmanager
def compiling_beside() -> Iterator[None]:
    """Let a process compile the listed kernels beside the block, at most until its end; on one core there is none."""
    if (os.cpu_count() or 1) == 1:
        yield
        return
    process = get_context("spawn").Process(target=_compile_quietly, daemon=True)
    with shielded(), without_keyboard():
        process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _compile_quietly() -> None:
    # Whatever fails here is met, and told, where the kernel is called.
    with contextlib.suppress(Exception):
        compile_kernels()
