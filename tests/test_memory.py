"""Limits of control groups, as kernels write them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from cryoscale.memory import group_limits, machine_bytes, size


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("member", "files", "limits"),
    [
        # Version 2: a job of SLURM's inside a limited system.
        ("0::/slurm/job_7\n", {"memory.max": "max\n", "slurm/memory.max": "9000\n", "slurm/job_7/memory.max": "4000\n"},
         [9000, 4000]),
        # Version 1, where each controller has a tree of its own.
        ("5:cpu,cpuacct:/\n4:memory:/slurm/job_7\n0::/\n",
         {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/slurm/job_7/memory.limit_in_bytes": "4000"},
         [9223372036854771712, 4000]),
        # A container sees its own group at the top, under a path that is not there.
        ("4:memory:/docker/ab12\n", {"memory/memory.limit_in_bytes": "4000\n"}, [4000]),
        ("0::/../..\n", {"memory.max": "4000\n"}, [4000]),
        ("0::/\n", {}, []),
        ("3:cpu:/\n", {"memory.max": "4000\n", "memory/memory.limit_in_bytes": "4000\n"}, []),
    ],
)  # fmt: skip
def test_every_group_around_a_process_counts(
    tmp_path: Path, member: str, files: dict[str, str], limits: list[int]
) -> None:
    folder = written(tmp_path, {"member": member, **{f"groups/{name}": text for name, text in files.items()}})
    assert list(group_limits(folder / "member", folder / "groups")) == limits


def test_where_there_are_no_groups(tmp_path: Path) -> None:
    assert list(group_limits(tmp_path / "member", tmp_path)) == []


def test_no_more_than_the_machine_has() -> None:
    limits = [limit for limit in group_limits() if limit < psutil.virtual_memory().total]
    assert machine_bytes() == pytest.approx(min(limits, default=psutil.virtual_memory().total))


def test_sizes_are_told_as_people_say_them() -> None:
    assert [size(700 << 20), size(1 << 30), size(5 << 29)] == ["700 MiB", "1.0 GiB", "2.5 GiB"]
