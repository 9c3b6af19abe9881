"""What fault tests share: the undisturbed products, and workers under a file system that can be made to fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryoscale.cluster import DaskExecutor
from tests.faults.harness import UNITS, Scene


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hash of every product of a run that nothing happens to."""
    scene = Scene(tmp_path_factory.mktemp("undisturbed"))
    assert scene.run().exit_code == 0
    assert scene.executions() == UNITS
    return scene.products()


@pytest.fixture(scope="session")
def faultfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail, built."""
    library = tmp_path_factory.mktemp("faultfs") / "faultfs.so"
    source = Path(__file__).with_name("faultfs.c")
    built = subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=False)
    if built.returncode:
        pytest.skip("gcc builds no library here")
    return library


class Faults:
    """What is armed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arm(self, op: str, code: int, times: int = 0) -> None:
        """Make so many of the next calls fail; 0: all, until `disarm`."""
        for name in range(times) if times else ("always",):
            (self.folder / f"{op}.{name}").write_text(str(code))

    def disarm(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def left(self) -> int:
        return len(list(self.folder.iterdir()))


@pytest.fixture(scope="module")
def faulty(faultfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaskExecutor, Faults]]:
    """Two workers whose calls on paths with ``meant`` in them can be made to fail."""
    folder = tmp_path_factory.mktemp("armed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(faultfs))
        patch.setenv("FAULTFS_DIR", str(folder))
        patch.setenv("FAULTFS_PATH", "/meant/")
        executor = DaskExecutor(2)
        assert "LD_PRELOAD" in os.environ
    with executor:
        yield executor, Faults(folder)
