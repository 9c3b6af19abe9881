"""What is compiled ahead of a first run: the list's kernels, kept for other processes, and all that a run calls."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher
from numba.core.sigutils import normalize_signature

from cryoscale.compiling import LISTED, compile_kernels, compiling_beside
from cryoscale.demo import run_demo
from cryoscale.engine import LoopExecutor

LINES = LISTED.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", LINES)
def test_a_line_names_a_kernel_and_as_many_types_as_it_has_arguments(line: str) -> None:
    module, name = line[: line.index("(")].rsplit(".", maxsplit=1)
    kernel = getattr(import_module(f"cryoscale.{module}"), name)
    types, _ = normalize_signature(line[line.index("(") :])
    assert isinstance(kernel, Dispatcher)
    assert len(types) == kernel.py_func.__code__.co_argcount


def test_no_line_is_there_twice() -> None:
    assert len(set(LINES)) == len(LINES)


def test_what_one_process_compiled_another_loads(tmp_path: Path) -> None:
    (tmp_path / "listed").write_text("unionfind.separate(int32[::1],)\nunionfind.number_trees(int32[::1],)\n")
    compiling = f"compile_kernels(Path({str(tmp_path / 'listed')!r}))"
    calling = "separate(np.zeros(3, np.int32)), number_trees(np.arange(3, dtype=np.int32))"
    seen = []
    for work in (compiling, calling):
        code = (
            "from pathlib import Path; import numpy as np; from numba.core.event import install_recorder\n"
            "from cryoscale.compiling import compile_kernels; from cryoscale.unionfind import number_trees, separate\n"
            f"with install_recorder('numba:compile') as compiled: {work}\n"
            "print(len(compiled.buffer))"
        )
        cache = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        out = subprocess.run([sys.executable, "-c", code], env=cache, capture_output=True, text=True, check=True)
        seen.append(int(out.stdout))
    assert seen[0] >= 4
    assert seen[1] == 0


def test_what_is_listed_and_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "listed").write_text("unionfind.gone(int32[::1],)\n")
    with pytest.raises(AttributeError, match="gone"):
        compile_kernels(tmp_path / "listed")


def test_the_process_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(active_children())
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with compiling_beside():
        assert len(set(active_children()) - before) == 1
    assert set(active_children()) == before
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with compiling_beside():
        assert set(active_children()) == before


def signatures() -> set[tuple[str, object]]:
    """Kernels that this process has compiled or loaded, but for the simulation's: they are needed at once."""
    return {
        (f"{kernel.__module__}.{kernel.py_func.__name__}", types)
        for name, module in list(sys.modules.items())
        if name.startswith("cryoscale.") and ".simulate" not in name
        for kernel in vars(module).values()
        if isinstance(kernel, Dispatcher)
        for types in kernel.signatures
    }


def test_all_that_a_run_calls_is_listed(tmp_path: Path) -> None:
    compile_kernels()
    listed = signatures()
    assert len(listed) >= len(LINES)
    assert run_demo(tmp_path, LoopExecutor(), seed=90_000, snr=0.3, shape=(96, 200, 200)) == 0
    assert signatures() - listed == set()
