"""The verbs about batch systems: ``cryoscale jobscript`` and ``cryoscale credentials``."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryoscale.errors import UsageError

__all__ = ["add_submitting_verbs"]

_MOST_HOURS = 24 * 366
ReadRun = Callable[[Sequence[str]], argparse.Namespace]


def add_submitting_verbs(verbs: Any, read_run: ReadRun) -> None:
    """Add the verbs to the command line's; `read_run` reads the arguments of ``cryoscale run``."""
    script = verbs.add_parser(
        "jobscript", help="print a batch job that runs a collection on a cluster",
        usage="cryoscale jobscript {slurm,pbs,lsf} [options] -- SOURCE ... --output DIR [any option of run]",
    )  # fmt: skip
    script.add_argument("scheduler", choices=("slurm", "pbs", "lsf"))
    script.add_argument("--pattern", choices=("job", "array"), default="job",
        help="all in one, or a driver and an array of workers, for busy queues, preemptible nodes (slurm)")  # fmt: skip
    script.add_argument("--nodes", type=_count, default=1, metavar="N", help="nodes; with array, jobs of workers")
    script.add_argument("--cpus-per-node", type=_count, default=8, metavar="N", help="a worker each")
    script.add_argument("--gpus-per-node", type=_number, default=0, metavar="N", help="a worker each, of those")
    script.add_argument("--memory", type=int, default=0, metavar="GIB", help="per node (default: 4 a worker, and 4)")
    script.add_argument("--time", type=_wall_time, default=8 * 3600, metavar="H:MM:SS", help="wall time")
    script.add_argument("--worker-time", type=_wall_time, default=3600, metavar="H:MM:SS", help="of the array's jobs")
    script.add_argument("--stop-before", type=_count, metavar="SECONDS",
        help="stop and queue again so long before the wall time (default: 300, or a tenth of it)")  # fmt: skip
    script.add_argument("--name", default="cryoscale")
    script.add_argument("--queue", "--partition", default="", metavar="NAME")
    script.add_argument("--account", default="")
    script.add_argument("--interface", default="", metavar="IF", help="network between the nodes, e.g. ib0")
    script.add_argument("--scratch", default="${TMPDIR:-/tmp}", metavar="DIR", help="a folder on each node's own disk")
    script.add_argument("--python", default=shlex.quote(sys.executable), metavar="COMMAND",
        help="e.g. 'apptainer exec --nv cryoscale.sif python3' (default: the one that runs now)")  # fmt: skip
    script.add_argument("--setup", action="append", default=[], metavar="LINE", help="shell, e.g. 'module load cuda'")
    script.add_argument("--directive", action="append", default=[], metavar="OPTION", help="e.g. '--constraint=a100'")
    script.add_argument("words", nargs="+", metavar="SOURCE", help="after --: the arguments of run")
    script.set_defaults(run=lambda options: _job_script(options, read_run))
    credentials = verbs.add_parser("credentials", help="make the certificates of a run's own scheduler and workers")
    credentials.add_argument("folder", type=Path, metavar="DIR", help="made anew, for your eyes only")
    credentials.add_argument("--hours", type=_hours, default=24.0, help="for how long they hold")
    credentials.add_argument("--mounted-at", default="", metavar="DIR", help="where a container will see the folder")
    credentials.set_defaults(run=_credentials)


def _job_script(options: argparse.Namespace, read_run: ReadRun) -> int:
    from cryoscale.cluster.dialects import Request
    from cryoscale.cluster.jobscript import job_script

    words = options.words
    asked = read_run(words)
    if asked.cluster or asked.tls or asked.workers:
        raise UsageError("the job itself says where its workers are", where="jobscript",
            todo="leave out --cluster, --tls and --workers")  # fmt: skip
    shortest = min(options.time, options.worker_time if options.pattern == "array" else options.time)
    request = Request(
        tuple(words),
        str(asked.output),
        options.scheduler,
        options.pattern,
        options.nodes,
        options.cpus_per_node,
        options.gpus_per_node,
        options.memory,
        options.time,
        options.stop_before or min(300, shortest // 10),
        options.worker_time,
        options.name,
        options.queue,
        options.account,
        options.interface,
        options.scratch,
        asked.dashboard,
        options.python,
        tuple(options.setup),
        tuple(options.directive),
    )
    sys.stdout.write(job_script(request, options.typed))
    return 0


def _credentials(options: argparse.Namespace) -> int:
    import os

    from cryoscale.cluster.credentials import make_credentials

    job = {"host": "", "job": os.environ.get("CRYOSCALE_JOB", ""), "attempt": os.environ.get("CRYOSCALE_ATTEMPT", "")}
    make_credentials(options.folder, options.hours, mounted_at=options.mounted_at, owner=job if job["job"] else None)
    return 0


def _count(text: str) -> int:
    return _number(text, least=1)


def _number(text: str, least: int = 0) -> int:
    if not text.isdigit() or int(text) < least:
        msg = f"a whole number, {least} or more, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _MOST_HOURS:
        msg = f"a number of hours, more than 0, up to {_MOST_HOURS}, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _wall_time(text: str) -> int:
    """Read H:MM:SS, H:MM or D-H:MM:SS as seconds."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d)(?::([0-5]?\d))?", text)
    if found is None:
        msg = f"a wall time as 8:00:00, 8:00 or 1-12:00:00, not {text}"
        raise argparse.ArgumentTypeError(msg)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
