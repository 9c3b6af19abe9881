"""What the doctor looks for is what the package needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cryoscale.doctor import examine

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_dependency_is_looked_for(tmp_path: Path) -> None:
    lines, healthy = examine(tmp_path)
    optional = {"cryptography", "cupy", "dask-cuda", "dask-jobqueue"}
    shown = {line.split()[0] for line in lines if line.startswith("  ")} - optional
    assert shown == {re.split("[<>=]", need)[0] for need in PROJECT["dependencies"]}
    assert healthy
