"""What job schedulers call things: the lines at a job script's top, and how it reaches its nodes and begins again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["DIALECTS", "Dialect", "Request", "clock"]


@dataclass(frozen=True)
class Request:
    """What a job asks for, and what it runs."""

    words: tuple[str, ...]
    """Arguments of ``cryoscale run``."""
    output: str
    scheduler: str = "slurm"
    pattern: str = "job"
    """``job``: everything in one; ``array``: a driver that submits an array of workers."""
    nodes: int = 1
    cpus_per_node: int = 8
    gpus_per_node: int = 0
    memory_gib: int = 0
    """Per node; 0 is 4 GiB for each worker and 4 beside."""
    seconds: int = 8 * 3600
    margin_seconds: int = 300
    """So long before the wall time the job stops itself and queues again."""
    worker_seconds: int = 3600
    """Wall time of the array's jobs."""
    name: str = "cryoscale"
    queue: str = ""
    account: str = ""
    interface: str = ""
    """Network that workers and scheduler speak over; empty: that of the default route."""
    scratch: str = "${TMPDIR:-/tmp}"
    dashboard: bool = False
    python: str = "python3"
    setup: tuple[str, ...] = ()
    """Lines of shell before anything starts, ``module load cuda``."""
    directives: tuple[str, ...] = ()
    """More options of the scheduler's own."""

    @property
    def memory(self) -> int:
        """GiB per node."""
        return self.memory_gib or 4 * self.cpus_per_node + 4

    @property
    def worker_mib(self) -> int:
        """Where Dask ends a worker: below the job's memory, so that one worker fails and not the job."""
        return int((self.memory - 4) * 1024 * 0.95) // self.cpus_per_node

    @property
    def cpu_workers(self) -> int:
        """Workers of a node without a GPU."""
        return self.cpus_per_node - self.gpus_per_node


@dataclass(frozen=True)
class Dialect:
    """One scheduler's words."""

    mark: str
    options: Callable[[Request], list[str]]
    job: str
    """Shell for a name that all attempts of the job share."""
    nodes: Callable[[Request], str]
    """Shell command that runs ``$WORK/node.sh`` once on every node."""
    again: str
    """Shell that puts the job back into the queue; the last thing that it does."""
    timer: bool = True
    """Whether the script itself must watch the wall time."""
    opening: list[str] = field(default_factory=list)


def clock(seconds: int, *, days: bool = False) -> str:
    """Return a wall time as H:MM:SS, or D-HH:MM:SS from a day on where `days`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    if days and hours >= 24:
        return f"{hours // 24}-{hours % 24:02d}:{minute:02d}:{second:02d}"
    return f"{hours}:{minute:02d}:{second:02d}"


def _slurm_options(request: Request) -> list[str]:
    alone = request.pattern == "array"
    lines = [
        f"--job-name={request.name}",
        f"--nodes={1 if alone else request.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={2 if alone else request.cpus_per_node}",
        f"--mem={8 if alone else request.memory}G",
    ]
    if request.gpus_per_node and not alone:
        lines.append(f"--gpus-per-node={request.gpus_per_node}")
    lines += [f"--partition={request.queue}"] if request.queue else []
    lines += [f"--account={request.account}"] if request.account else []
    return [
        *lines,
        f"--time={clock(request.seconds, days=True)}",
        f"--signal=B:USR1@{request.margin_seconds}",
        "--requeue",
        "--open-mode=append",
        "--no-kill",
        f"--output={request.name}-%j.out",
    ]


def _slurm_nodes(request: Request) -> str:
    gpus = f" --gpus-per-node={request.gpus_per_node}" if request.gpus_per_node else ""
    # With --no-kill on the job alone a dead node would take the healthy workers along.
    return (
        f"srun --no-kill --kill-on-bad-exit=0 --nodes={request.nodes} --ntasks-per-node=1"
        f' --cpus-per-task={request.cpus_per_node}{gpus} bash "$WORK/node.sh"'
    )


def _pbs_options(request: Request) -> list[str]:
    gpus = f":ngpus={request.gpus_per_node}" if request.gpus_per_node else ""
    chunk = f"ncpus={request.cpus_per_node}{gpus}:mem={request.memory}gb:mpiprocs=1"
    return [
        f"-N {request.name}",
        f"-l select={request.nodes}:{chunk}",
        f"-l walltime={clock(request.seconds)}",
        *([f"-q {request.queue}"] if request.queue else []),
        *([f"-A {request.account}"] if request.account else []),
        "-j oe",
        "-r y",
    ]


def _lsf_options(request: Request) -> list[str]:
    hours, minutes = divmod(request.seconds // 60, 60)
    return [
        f"-J {request.name}",
        f"-n {request.nodes * request.cpus_per_node}",
        f'-R "span[ptile={request.cpus_per_node}]"',
        f'-R "rusage[mem={request.memory * 1024 // request.cpus_per_node}MB]"',
        *([f'-gpu "num={request.gpus_per_node}:mode=shared"'] if request.gpus_per_node else []),
        f"-W {hours}:{minutes:02d}",
        *([f"-q {request.queue}"] if request.queue else []),
        *([f"-P {request.account}"] if request.account else []),
        "-r",
        '-Q "99"',
        f"-o {request.name}-%J.out",
    ]


DIALECTS = {
    "slurm": Dialect(
        "#SBATCH",
        _slurm_options,
        "slurm-$SLURM_JOB_ID",
        _slurm_nodes,
        'scontrol requeue "$SLURM_JOB_ID" || echo "this job cannot be queued again: submit it again to go on"',
        timer=False,
    ),
    "pbs": Dialect(
        "#PBS",
        _pbs_options,
        "${CRYOSCALE_JOB:-pbs-$PBS_JOBID}",
        lambda request: 'pbsdsh -- bash "$WORK/node.sh"',  # noqa: ARG005
        'qsub -v CRYOSCALE_JOB -W "depend=afterany:$PBS_JOBID" "$0"',
        opening=['cd "$PBS_O_WORKDIR" || exit'],
    ),
    "lsf": Dialect(
        "#BSUB",
        _lsf_options,
        "lsf-$LSB_JOBID",
        lambda request: 'blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | tr \'\\n\' \' \')" bash "$WORK/node.sh"',  # noqa: ARG005
        "exit 99",
    ),
}
"""``exit 99``: LSF queues a job anew that ends with a code named by ``-Q``."""
