"""How much memory a process may take here, and what it takes before its first unit.

A job of a queue, or a container, is a control group: its limit counts, and that of every group around it, where it is
less than what the machine has. Version 1 keeps it in ``memory.limit_in_bytes`` below ``memory``, version 2 in
``memory.max``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PROCESS_BYTES", "group_limits", "machine_bytes", "size"]

PROCESS_BYTES = 400 << 20
"""Of a worker with all libraries loaded, before its first unit."""
_GROUPS = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """Return the memory that the processes of a run may take together on this machine."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *group_limits()])


def group_limits(member: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> Iterator[int]:
    """Yield the limits of the control groups that a process is in; none where there are no such groups.

    Parameters
    ----------
    member
        What the kernel says of the process: a line ``number:controllers:path`` for each tree of groups.
    groups
        Where the trees are mounted; in a container often its own group alone, under the path of none.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = member.read_text(encoding="utf-8").splitlines()
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            # Without a limit version 2 says "max", and version 1 a number larger than any machine.
            with contextlib.suppress(OSError, ValueError):
                yield int(root.joinpath(*parts[:depth], name).read_text(encoding="utf-8"))


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.0f} MiB"
