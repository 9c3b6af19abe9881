"""Job scripts as text: what each scheduler is asked for, shell that parses, and the examples that are handed out."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cryoscale.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy"
ONE_JOB = ["--nodes", "2", "--cpus-per-node", "16", "--time", "8:00:00"]
RUN = ["--", "run.csv", "--output", "my results", "--apix", "10"]


def script(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["jobscript", *words]) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


def directives(text: str, mark: str) -> list[str]:
    return [line.removeprefix(mark).strip() for line in text.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.job")), ids=lambda path: path.name)
def test_examples_are_what_the_command_writes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = path.read_text()
    (command,) = re.findall(r"^# written by: cryoscale jobscript (.*)$", text, flags=re.MULTILINE)
    assert script(capsys, *shlex.split(command)) == text


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES.glob("*/*.job")} >= {"slurm-cpu.job", "slurm-gpu.job", "slurm-array.job"}


@pytest.mark.parametrize("gpus", ["0", "4", "16"])
@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "lsf"])
def test_the_shell_parses(scheduler: str, gpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, scheduler, *ONE_JOB, "--gpus-per-node", gpus, *RUN)
    for shell in (text, *re.findall(r"<<'?END'?\n(.*?)\nEND\n", text, flags=re.DOTALL)):
        subprocess.run(["bash", "-n"], input=shell, text=True, check=True, capture_output=True)
    # A name with a space stays one word, wherever it is.
    assert "--output 'my results'" in text
    assert "'my results'/.cluster" in text
    assert text.count("--preload cryoscale.cluster.dashboard") == 1
    assert ("--resources GPU=1" in text) == (gpus != "0")
    assert ("--nworkers" in text) == (gpus != "16"), "no worker without a GPU is left"


def test_slurm_is_asked_for_all_that_survival_takes(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "slurm", *ONE_JOB, "--gpus-per-node", "4", "--queue", "gpu", "--account", "lab", *RUN)
    asked = directives(text, "#SBATCH")
    assert {
        "--nodes=2", "--cpus-per-task=16", "--gpus-per-node=4", "--time=8:00:00", "--signal=B:USR1@300", "--requeue",
        "--open-mode=append", "--no-kill", "--partition=gpu", "--account=lab", "--mem=68G",
    } <= set(asked)  # fmt: skip
    for needed in (
        "srun --no-kill --kill-on-bad-exit=0", "--port 0", "--dashboard-address 127.0.0.1:0", "--nthreads 1",
        "--resources GPU=1", "--death-timeout", "--local-directory", "NO_WORKERS_TIMEOUT=120s", "--protocol tls",
        "scontrol requeue", "--no-dashboard", 'WORK="$PWD"/',
    ):  # fmt: skip
        assert needed in text
    # Below the job's memory, so that a worker that needs too much fails alone.
    (limit,) = map(int, re.findall(r"--memory-limit (\d+)MiB", text))
    assert 16 * limit < 68 * 1024 - 4 * 1024
    assert "--nodes=2" in asked
    # One node needs no network.
    alone = script(capsys, "slurm", "--nodes", "1", *RUN)
    assert alone.count("--host 127.0.0.1") == 2


def test_pbs_and_lsf_are_asked_for_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    pbs = script(capsys, "pbs", *ONE_JOB, "--gpus-per-node", "4", "--queue", "gpu", "--account", "lab", *RUN)
    assert directives(pbs, "#PBS") == [
        "-N cryoscale", "-l select=2:ncpus=16:ngpus=4:mem=68gb:mpiprocs=1", "-l walltime=8:00:00", "-q gpu", "-A lab",
        "-j oe", "-r y",
    ]  # fmt: skip
    lsf = script(capsys, "lsf", *ONE_JOB, "--gpus-per-node", "4", "--queue", "gpu", "--account", "lab", *RUN)
    assert directives(lsf, "#BSUB") == [
        "-J cryoscale", "-n 32", '-R "span[ptile=16]"', '-R "rusage[mem=4352MB]"', '-gpu "num=4:mode=shared"',
        "-W 8:00", "-q gpu", "-P lab", "-r", '-Q "99"', "-o cryoscale-%J.out",
    ]  # fmt: skip
    for text, words in ((pbs, ("pbsdsh", "qsub -v CRYOSCALE_JOB")), (lsf, ("blaunch -z", "exit 99"))):
        assert all(word in text for word in (*words, f"sleep {8 * 3600 - 300} && kill -USR1"))
    # But for the lines about the scheduler, one script.
    body = {line for line in pbs.splitlines() if line.startswith("    ")}
    other = {line for line in lsf.splitlines() if line.startswith("    ")}
    assert len(body - other) == len(other - body) == 2


def test_a_driver_submits_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "slurm", "--pattern", "array", "--nodes", "20", "--worker-time", "1:00:00", *RUN)
    assert "--nodes=1" in directives(text, "#SBATCH")
    for needed in ("sbatch --parsable", "--array=1-20", "--lifetime 3300s", "--time=1:00:00", 'scancel "$NODES"'):
        assert needed in text
    assert "srun" not in text
    assert "NO_WORKERS_TIMEOUT=28800s" in text, "workers may wait in the queue for long"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["slurm", "--cpus-per-node", "4", "--gpus-per-node", "8", *RUN], "every GPU needs a processor"),
        (["slurm", "--memory", "8", *RUN], "--memory: 486 MiB are left for each of 8 workers"),
        (["pbs", "--pattern", "array", *RUN], "allowed: slurm"),
        (["slurm", "--time", "0:10:00", "--stop-before", "301", *RUN], "at most 300 s"),
        (["slurm", *RUN, "--cluster", "slurm"], "leave out --cluster"),
        (["slurm", "--time", "0:00:00", *RUN], "no wall time"),
        (["slurm", "--name", "my job", *RUN], "not a name"),
        (["slurm", "--queue", "a\nb", *RUN], "not a name"),
        (["slurm", "--directive", "--a\nrm b", *RUN], "more than one line"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint in script(capsys, *words, code=2)


def test_lines_of_the_setup_run_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "slurm", "--setup", "module load cuda\nexport SITE='one'", *RUN)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, capture_output=True)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if "module" in line or "SITE" in line] == ["module load cuda", "export SITE='one'"]


@pytest.mark.parametrize(
    "words",
    [
        ["--", "run.csv"],
        ["--", "run.csv", "--output", "x", "--apex", "3"],
        ["--time", "8h", *RUN],
        ["--gpus-per-node", "-1", *RUN],
    ],
)
def test_arguments_of_the_run_are_checked_now(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["jobscript", "slurm", *words])
    assert end.value.code == 2
