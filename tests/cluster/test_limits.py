"""How long a unit may take, and what becomes of the process where it takes longer."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from cryoscale.cluster.limits import Limits, ended_after, watch_workers


def test_the_longest_unit_of_a_stage_sets_its_limit() -> None:
    limits = Limits()
    assert limits.of("fit") == 6 * 3600
    limits.took("fit", 2.0)
    assert limits.of("fit") == 1800
    for seconds in (400.0, 3.0):
        limits.took("fit", seconds)
    assert limits.of("fit") == 4000
    assert limits.of("segment") == 6 * 3600


def test_a_process_ends_when_its_time_is_over_and_not_otherwise() -> None:
    begin = "import time; from cryoscale.cluster.limits import ended_after\n"
    late = subprocess.run([sys.executable, "-c", begin + "with ended_after(0.3): time.sleep(60)"], timeout=50)
    assert late.returncode == -9
    timely = "with ended_after(0.3): pass\ntime.sleep(0.8)"
    assert subprocess.run([sys.executable, "-c", begin + timely], timeout=50).returncode == 0
    failing = "try:\n    with ended_after(0.3): raise OSError\nexcept OSError: time.sleep(0.8)"
    assert subprocess.run([sys.executable, "-c", begin + failing], timeout=50).returncode == 0
    with ended_after(60.0):
        pass


def test_a_scheduler_looks_after_silent_workers_often() -> None:
    looking = SimpleNamespace(callback_time=300_000)
    scheduler = SimpleNamespace(worker_ttl=300.0, periodic_callbacks={"worker-ttl": looking})
    watch_workers(scheduler)
    assert (scheduler.worker_ttl, looking.callback_time) == (40.0, 10_000)
    assert scheduler.worker_ttl + looking.callback_time / 1000 <= 50, (
        "R8: a minute, with the time that killing it takes"
    )
    looking.callback_time, scheduler.worker_ttl = 3000, 3.0
    watch_workers(scheduler)
    assert (scheduler.worker_ttl, looking.callback_time) == (3.0, 3000), "what is set to be sooner stays"
    unwatched = SimpleNamespace(worker_ttl=None, periodic_callbacks={})
    watch_workers(unwatched)
    assert unwatched.worker_ttl is None
