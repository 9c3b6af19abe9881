"""The walls: a file imports only what is below it (the layers of the package docstring and pipeline)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "cryoscale"
LAYER_0 = {
    "errors", "heap", "interrupt", "memory", "records", "regions", "foreground", "chunks", "backend", "spec", "threads",
}  # fmt: skip
STAGES = {
    "ingest", "simulate", "enhance", "segment", "merge", "connect", "separate", "locate", "fit", "surface", "measure",
    "evaluate", "report",
}  # fmt: skip
ABOVE_THE_STAGES = {
    "engine", "cluster", "pipeline", "collection", "cli", "manifest", "lock", "progress", "summary", "doctor",
    "training", "learning", "labelled", "simulated", "demo", "scoring", "showing", "reporting", "estimate", "running",
    "slicing", "arguments", "picking", "submitting", "comparing", "compiling", "exporting", "viewing", "measuring",
    "matching", "trainchecks", "trainrequest", "simulating", "spreading", "__main__",
}  # fmt: skip
SHARED_KERNELS = {"band", "transfer", "unionfind"}
SCHEDULER = {"dask", "distributed"}
KERNEL_LIBRARIES = {"numpy", "scipy", "skimage", "numba"}
NEVER_IN_KERNELS = {"zarr", "mrcfile", "tifffile", "logging", "time", "datetime", "tqdm", "psutil"} | SCHEDULER
HOW_COLLECTIONS_RUN = {
    "completion", "crowding", "driver", "filecount", "journal", "manifestfile", "packing", "rates", "runrecord",
    "sampling", "status", "tally", "verify",
}  # fmt: skip
ABOVE_THE_STAGES |= HOW_COLLECTIONS_RUN

FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "cryoscale":
                yield from (f"cryoscale.{alias.name}" for alias in node.names if alias.name != "__version__")


def broken_rules(name: str, modules: list[str]) -> list[str]:
    """Rules that a file `name` (relative to the package, posix) breaks by importing `modules`."""
    parts = name.removesuffix(".py").split("/")
    top, ours = parts[0], {tuple(m.split(".")[1:]) for m in modules if m.startswith("cryoscale.")}
    theirs = {m.split(".")[0] for m in modules} - {"cryoscale"}
    own = {module[0] for module in ours if module}
    broken = []
    if theirs & SCHEDULER and top not in ("engine", "cluster"):
        broken.append("only engine and cluster import Dask")
    if "cupy" in theirs | {m.split(".")[0] for m in modules} and name not in ("backend.py",):
        broken.append("only backend imports CuPy")
    if "torch" in theirs and top not in ("segment", "training", "labelled", "simulated", "doctor"):
        broken.append("torch stays in segment")
    if top in LAYER_0 and len(parts) == 1:
        allowed = {"scipy"} if top == "backend" else set()
        if own - LAYER_0 or theirs & (KERNEL_LIBRARIES - {"numpy"} - allowed):
            broken.append("layer 0 stands alone")
    if top == "io" and own - LAYER_0 - {"io"}:
        broken.append("io imports only layer 0")
    if top in SHARED_KERNELS and own - LAYER_0:
        broken.append("shared kernels import only layer 0")
    if top in STAGES:
        if own & (STAGES - {top}):
            broken.append("stages never import each other")
        if own & ABOVE_THE_STAGES:
            broken.append("stages know nothing of what runs them")
        is_plan = parts[-1] == "plan"
        if "io" in own and parts[-1] not in ("plan", "__init__"):
            broken.append("kernels read no files")
        if not is_plan and theirs & NEVER_IN_KERNELS:
            allowed_clock = {"time"} if name == "segment/train.py" else set()
            if theirs & NEVER_IN_KERNELS - allowed_clock:
                broken.append("kernels know no files, clock, logger or scheduler")
    if top == "engine" and own - LAYER_0 - {"io"}:
        broken.append("engine knows no stage")
    return broken


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    assert broken_rules(path.relative_to(ROOT).as_posix(), list(imports(path))) == []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("merge/labels.py", "dask.array"),
        ("fit/solve.py", "cupy"),
        ("fit/plan.py", "cryoscale.merge.labels"),
        ("surface/plan.py", "cryoscale.fit"),
        ("merge/labels.py", "zarr"),
        ("merge/labels.py", "cryoscale.io.files"),
        ("merge/labels.py", "cryoscale.engine"),
        ("fit/solve.py", "time"),
        ("report/figures.py", "torch"),
        ("records.py", "scipy"),
        ("chunks.py", "cryoscale.io.files"),
        ("io/mrc.py", "cryoscale.band"),
        ("engine.py", "cryoscale.fit"),
        ("pipeline.py", "distributed"),
    ],
)
def test_a_broken_wall_is_seen(name: str, module: str) -> None:
    assert broken_rules(name, [module]) != []


def test_every_module_is_somewhere_on_the_map() -> None:
    known = LAYER_0 | STAGES | ABOVE_THE_STAGES | SHARED_KERNELS | {"io", "__init__"}
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert found <= known


def test_modules_end_at_400_lines() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


LATE = {"cupy", "torch", "matplotlib", "scipy.stats", "distributed"}
"""Each takes a second or so of every command's and every worker's start, of which few use it."""
FIRST = {"numpy", "scipy", "zarr", "numba", "skimage"} | LATE


@pytest.mark.parametrize(
    ("module", "without"),
    [("cli", LATE), ("pipeline", LATE), ("fit.plan", LATE), ("segment", LATE), ("status", FIRST - {"numpy"})],
)
def test_what_takes_long_is_imported_where_it_is_used(module: str, without: set[str]) -> None:
    code = f"import sys, cryoscale.{module}; print(sorted({without} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
