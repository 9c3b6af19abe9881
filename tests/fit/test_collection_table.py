"""What the benchmark of a tomogram's membranes prints of its seconds."""

from typing import Any

import pytest

from benchmarks._fit_collection import collection_table

ROW: dict[str, Any] = {
    "membranes": 100, "most_control_points": 500, "control_points": [150, 400.0, 500], "fit_s": 40.2, "surface_s": 15.4,
    "wall_s": 71.0, "peak_bytes": 2**30, "grown_bytes": 2**20, "projected_bytes": 2**21, "closed": 99,
}  # fmt: skip


@pytest.mark.parametrize(("fit_s", "total", "verdict"), [(40.2, 56, "reached"), (70.0, 85, "not reached")])
def test_the_verdict_says_which_seconds_it_is_about(fit_s: float, total: int, verdict: str) -> None:
    line = collection_table([ROW | {"fit_s": fit_s}]).splitlines()[1]
    assert f"= {total} s, processor seconds of all processes over 2 ({verdict}: asked 60)" in line
    assert line.endswith("wall clock 71 s, making the clouds included")
