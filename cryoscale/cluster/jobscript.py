"""Job scripts: one batch job that holds everything, or a driver with an array of workers.

::

    batch step     credentials ──> dask scheduler ──> cryoscale run --cluster scheduler.json
    every node     node.sh: one worker of one thread per GPU, one per other processor      (srun, pbsdsh, blaunch)
    wall time - N  the run is told to stop, everything ends, the job queues again; the same command goes on

A worker, a node or the scheduler may die: workers come back under their nannies, a dead node's units go to the others,
and a run that lost its scheduler begins again in the same job. All connections are mutual TLS with an authority of
this attempt; nothing but those listens beyond loopback. A test runs the scripts on a real SLURM; those for PBS and LSF
differ in their dialect alone and are checked as text.
"""

from __future__ import annotations

import re
import shlex

from cryoscale.cluster.dialects import DIALECTS, Request, clock
from cryoscale.errors import UsageError

__all__ = ["job_script"]

_LEAST_WORKER_MIB = 1024
_LEAST_SECONDS = 60
_WORD = re.compile(r"[\w.+:@,-]+")

_PREPARE = """\
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MALLOC_ARENA_MAX=1
export DASK_LOGGING__DISTRIBUTED=warning
export DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT={no_workers}s   # ends with a word instead of waiting for ever
export DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH=20   # past messages kept of every connection, units and all
export CRYOSCALE_JOB="{job}"
"""

_NODE = """\
    cat > "$WORK/node.sh" <<END
#!/bin/bash
# Workers of one node.
$(export -p | grep -E '^declare -x (DASK_|CRYOSCALE_|OMP_|OPENBLAS_|MKL_|NUMBA_|MALLOC_|(LD_LIBRARY_|PYTHON)?PATH=)')
WORK=$(printf %q "$WORK")
cd $(printf %q "$PWD") || exit
END
    cat >> "$WORK/node.sh" <<'END'
SCRATCH=$(mktemp -d "{scratch}/cryoscale.XXXXXX") || exit
stop() {{ trap - TERM; kill $(jobs -p) 2>/dev/null; wait; rm -rf "$SCRATCH"; }}
trap stop EXIT
trap 'exit 143' TERM
until [ -s "$WORK/scheduler.json" ]; do [ -d "$WORK" ] || exit 0; sleep 1; done
WORKER=({python} -m distributed.cli.dask_worker --scheduler-file "$WORK/scheduler.json"
        {address}--nthreads 1 --memory-limit {memory}MiB --death-timeout 120 --local-directory "$SCRATCH"
        --no-dashboard --dashboard-address 127.0.0.1:0{lifetime})
{start}
wait
{after}END
"""

_ONCE = """\
once() {{   # credentials, scheduler, workers, run: until the run ends
    export CRYOSCALE_ATTEMPT
    CRYOSCALE_ATTEMPT=$(date +%s)
    WORK={work}/$CRYOSCALE_JOB-$CRYOSCALE_ATTEMPT
    {python} -m cryoscale credentials "$WORK" --hours {hours} || {{ CODE=$?; return; }}
    export DASK_CONFIG=$WORK/dask.yaml
{node}
    {python} -m distributed.cli.dask_scheduler --scheduler-file "$WORK/scheduler.json" \\
        --protocol tls --port 0 {address}{dashboard} --dashboard-address 127.0.0.1:0 \\
        --preload cryoscale.cluster.dashboard &
    SCHEDULER=$!
    {workers}
    {python} -m cryoscale {run} --cluster "$WORK/scheduler.json" &
    RUN=$!
    [ -z "$STOP" ] || stop_run
    WAIT=1
    while [ $WAIT = 1 ]; do
        WAIT=0
        wait $RUN
        STATUS=$?
        [ $STATUS = 127 ] || CODE=$STATUS
    done
    RUN=''
    kill $SCHEDULER 2>/dev/null
{end_workers}
    rm -rf "$WORK"
}}
"""

_WATCHED_NODES = """\
{nodes} &
    NODES=$!
    # Where all workers are gone for good, killed for their memory say, the run need not wait for others.
    ( while kill -0 $NODES; do sleep 1; done; kill $SCHEDULER ) 2>/dev/null &
    WATCH=$!"""

_END_NODES = """\
    kill $WATCH 2>/dev/null
    ( sleep 20; kill $NODES ) 2>/dev/null &   # workers end with their scheduler; they have so long
    wait $SCHEDULER $NODES
    kill $! 2>/dev/null"""

_END_ARRAY = """\
    rm -rf "$WORK"   # which tells its workers not to queue again
    wait $SCHEDULER
    sleep 20 & wait $!
    scancel "$NODES\""""

_MAIN = """\
RUN='' STOP='' WAIT=0 CODE=1 TRIES=0
stop_run() {{ WAIT=1; [ -z "$RUN" ] || kill -TERM $RUN 2>/dev/null; }}
trap 'STOP=wall; stop_run' USR1     # the wall time is near
trap 'STOP=end; stop_run' TERM INT
{timer}
while once; [ $CODE = 4 ] && [ -z "$STOP" ] && [ $((TRIES += 1)) -lt 4 ]; do
    echo "paused: again in a minute ($TRIES of 3)"
    sleep 60 & wait $!
done
{end_timer}
if [ "$STOP" = wall ] && [ $CODE -ge 128 ]; then
    echo "wall time: queued again to go on"
    {again}
fi
rmdir {work} 2>/dev/null
exit $CODE
"""


def job_script(request: Request, command: str) -> str:
    """Return the script of a job, to be handed to ``sbatch``, ``qsub`` or ``bsub``; `command` is how it was asked for.

    Raises
    ------
    UsageError
        The request contradicts itself.
    """
    _check(request)
    dialect = DIALECTS[request.scheduler]
    alone = request.nodes == 1 and request.pattern == "job"
    address = "--host 127.0.0.1 " if alone else f"--interface {request.interface} " if request.interface else ""
    lines = ["#!/bin/bash", *(f"{dialect.mark} {line}" for line in (*dialect.options(request), *request.directives))]
    # Words may hold lines, of --setup say: each would be a command of its own.
    lines += [f"# written by: cryoscale {command.replace(chr(10), ' ')}", "", *dialect.opening, *request.setup]
    waiting = request.seconds if request.pattern == "array" else 120
    lines.append(_PREPARE.format(no_workers=waiting, job=dialect.job))
    lines.append(_once(request, address))
    lines.append(
        _MAIN.format(
            timer=f"( sleep {request.seconds - request.margin_seconds} && kill -USR1 $$ ) &\nTIMER=$!"
            if dialect.timer
            else "",
            end_timer="kill $TIMER 2>/dev/null" if dialect.timer else "",
            again=dialect.again,
            work=_work(request),
        )
    )
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _once(request: Request, address: str) -> str:
    workers, end_workers = _WATCHED_NODES.format(nodes=DIALECTS[request.scheduler].nodes(request)), _END_NODES
    if request.pattern == "array":
        workers, end_workers = _array(request), _END_ARRAY
    return _ONCE.format(
        work=_work(request),
        python=request.python,
        hours=-(-request.seconds // 3600) + 1,
        node=_node(request, address),
        address=address,
        dashboard="--dashboard" if request.dashboard else "--no-dashboard",
        workers=workers,
        run=shlex.join(["run", *request.words]),
        end_workers=end_workers,
    )


def _work(request: Request) -> str:
    """Return the folder, in shell, that credentials of all attempts are in: all nodes must see it."""
    here = "" if request.output.startswith("/") else '"$PWD"/'
    return f"{here}{shlex.quote(request.output)}/.cluster"


def _node(request: Request, address: str) -> str:
    rest = f"CUDA_VISIBLE_DEVICES='' \"${{WORKER[@]}}\" --nworkers {request.cpu_workers} &"
    start = [rest] if request.cpu_workers else []
    if request.gpus_per_node:
        some = ",".join(str(n) for n in range(request.gpus_per_node))
        start.insert(0, f"for gpu in $(echo \"${{CUDA_VISIBLE_DEVICES:-{some}}}\" | tr , ' '); do")
        start.insert(1, '    CUDA_VISIBLE_DEVICES=$gpu "${WORKER[@]}" --resources GPU=1 &')
        start.insert(2, "done")
    array = request.pattern == "array"
    again = '[ ! -d "$WORK" ] || scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"\n'
    lifetime = request.worker_seconds - request.margin_seconds
    return _NODE.format(
        scratch=request.scratch,
        python=request.python,
        address=address,
        memory=request.worker_mib,
        lifetime=f"\n        --lifetime {lifetime}s --lifetime-stagger 30s" if array else "",
        start="\n".join(start),
        after=again if array else "",
    )


def _array(request: Request) -> str:
    """Return the shell that submits the workers' array."""
    options = [
        f"--job-name={request.name}-workers",
        f"--array=1-{request.nodes}",
        "--nodes=1 --ntasks-per-node=1",
        f"--cpus-per-task={request.cpus_per_node} --mem={request.memory}G",
        *([f"--gpus-per-node={request.gpus_per_node}"] if request.gpus_per_node else []),
        *([f"--partition={request.queue}"] if request.queue else []),
        *([f"--account={request.account}"] if request.account else []),
        f"--time={clock(request.worker_seconds, days=True)}",
        "--requeue --open-mode=append",
        f"--output={request.name}-workers-%A.out",
    ]
    return "NODES=$(sbatch --parsable " + " ".join(options) + ' "$WORK/node.sh") || CODE=4'


def _check(request: Request) -> None:
    for option, text in (("--name", request.name), ("--queue", request.queue), ("--account", request.account)):
        if text and not _WORD.fullmatch(text):
            raise UsageError("not a name", where=option, found=repr(text), allowed="letters, digits, . _ - + : @ ,")
    for directive in request.directives:
        if "\n" in directive:
            raise UsageError("more than one line", where="--directive", found=repr(directive), todo="say it again")
    if request.gpus_per_node > request.cpus_per_node:
        raise UsageError(
            "every GPU needs a processor", where="--gpus-per-node", found=request.gpus_per_node,
            allowed=f"at most --cpus-per-node {request.cpus_per_node}",
        )  # fmt: skip
    if request.worker_mib < _LEAST_WORKER_MIB:
        raise UsageError(
            f"{request.worker_mib} MiB are left for each of {request.cpus_per_node} workers", where="--memory",
            found=f"{request.memory} GiB", allowed=f"at least {_LEAST_WORKER_MIB} MiB each, and 4 GiB beside",
        )  # fmt: skip
    if request.pattern == "array" and request.scheduler != "slurm":
        raise UsageError("an array of workers", where="--pattern array", found=request.scheduler, allowed="slurm")
    shortest = min(request.seconds, request.worker_seconds if request.pattern == "array" else request.seconds)
    if shortest < _LEAST_SECONDS:
        # To SLURM none at all is one without end.
        raise UsageError("no wall time", where="--time", found=f"{shortest} s", allowed=f"{_LEAST_SECONDS} s or more")
    if request.margin_seconds * 2 > shortest:
        raise UsageError(
            "the job would stop itself as soon as it runs", where="--stop-before", found=f"{request.margin_seconds} s",
            allowed=f"at most {shortest // 2} s for this --time",
        )  # fmt: skip
