"""A function over many things on processes of this machine: same results, told faults, nothing left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children

import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_info

from cryoscale.errors import PauseError
from cryoscale.simulated import simulated_samples
from cryoscale.spreading import spread

spread_small = partial(spread, bytes_each=1, what="numbers")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert spread_small(math.factorial, range(12), processes=processes) == [math.factorial(n) for n in range(12)]
    assert capsys.readouterr().err == f"numbers: 12, {processes} at a time\n"


def test_no_more_than_memory_has_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert spread(lambda n: -n, [1, 2], processes=4, bytes_each=1 << 60, what="numbers") == [-1, -2]
    assert "2, 1 at a time" in capsys.readouterr().err


@pytest.mark.parametrize(("ranks", "count"), [("1", 4), ("2", 2), ("8", 1)])
def test_ranks_of_torchrun_share_the_machine(
    ranks: str, count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cryoscale.spreading.machine_bytes", lambda: 4 << 30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    spread(math.factorial, range(9), processes=9, bytes_each=1 << 30, what="numbers")
    assert f"9, {count} at a time" in capsys.readouterr().err


def test_faults_of_the_function_are_raised() -> None:
    with pytest.raises(ValueError, match="negative"):
        spread_small(math.factorial, [3, -1, 4], processes=2)
    assert not active_children()


def test_a_process_that_is_ended_is_told_and_not_waited_for() -> None:
    with pytest.raises(PauseError, match=r"^numbers: a process was ended from outside.*fewer --threads"):
        spread_small(os._exit, [9, 9, 9], processes=2)
    assert not active_children()


def test_processes_end_with_the_one_that_asked() -> None:
    code = "import time; from cryoscale.spreading import spread\n"
    code += "if __name__ == '__main__': spread(time.sleep, [99, 99], processes=2, bytes_each=1, what='naps')"
    asking = subprocess.Popen([sys.executable, "-c", code])
    try:
        children = _children(asking.pid)
        asking.send_signal(signal.SIGKILL)
        assert not psutil.wait_procs(children, timeout=20)[1]
    finally:
        asking.kill()
        asking.wait()


def _children(pid: int) -> list[psutil.Process]:
    """Wait for both processes that work, beside the keeper of semaphores."""
    for _ in range(300):
        children = psutil.Process(pid).children(recursive=True)
        if sum("spawn_main" in " ".join(child.cmdline()) for child in children) == 2:
            return children
        time.sleep(0.1)
    pytest.fail("no processes were started")


def threads(_: int) -> int:
    """Most threads of any library, of those that come with the function."""
    import scipy.linalg  # noqa: F401
    import torch

    return max(torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info()))


@pytest.mark.parametrize("processes", [1, 2])
def test_each_item_has_one_thread(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "4")
    assert spread_small(threads, [0, 1, 2], processes=processes) == [1, 1, 1]


def test_simulated_tomograms_are_the_same_in_any_number_of_processes() -> None:
    alone, beside = (simulated_samples(range(3, 5), ["microtubules"], processes=n) for n in (1, 2))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one.tomogram, other.tomogram)
        np.testing.assert_array_equal(one.classes, other.classes)
