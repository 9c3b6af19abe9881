"""Shared fixtures: where the real data is, if it is there."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before any of their libraries is loaded: one thread each, for there are as many processes as cores.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def written_before(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command take files that a test has just written; ``true_wait`` marks those about the wait."""
    if "true_wait" not in request.keywords:
        monkeypatch.setattr("cryoscale.running.WAIT_STABLE_SECONDS", 0.0)


@pytest.fixture(scope="session")
def cupy() -> ModuleType:
    """CuPy with a GPU to run on; it is installed on login nodes, too, that have none."""
    module: ModuleType = pytest.importorskip("cupy")
    try:
        there = module.cuda.runtime.getDeviceCount()
    except module.cuda.runtime.CUDARuntimeError:
        there = 0
    if not there:
        pytest.skip("needs a CUDA GPU")
    return module


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real membranes and odd headers beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data folder is absent: {SHARED_DATA}")
    return SHARED_DATA
