"""What the doctor looks for is what the package needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cryoscale.doctor import examine

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_dependency_is_looked_for(tmp_path: Path) -> None:
    lines, healthy = examine(tmp_path)
    optional = {"cryptography", "cupy", "dask-cuda", "dask-jobqueue"}
    shown = {line.split()[0] for line in lines if line.startswith("  ")} - optional
    assert shown == {re.split("[<>=]", need)[0] for need in PROJECT["dependencies"]}
    assert healthy


@pytest.mark.parametrize(
    ("multiplied", "advice"), [(True, "0.6 of the network's time"), (False, "leave segment.precision as it is")]
)
def test_it_tells_what_bfloat16_is_worth(
    multiplied: bool, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoscale.segment.losses.multiplies_bfloat16", lambda _: multiplied)
    (line,) = (line for line in examine(tmp_path)[0] if line.startswith("bfloat16"))
    assert advice in line
