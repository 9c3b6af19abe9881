"""Signals become one exception, where it does no harm: each case in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HEAD = "import os, signal, time\nfrom cryoscale.interrupt import Stopped, check, end_within, install, shielded\n"
SEND = "os.kill(os.getpid(), signal.{})\n"


def run(body: str, number: str = "SIGTERM", ignored: bool = False) -> subprocess.CompletedProcess[str]:
    def before() -> None:
        signal.signal(getattr(signal, number), signal.SIG_IGN if ignored else signal.SIG_DFL)

    code = HEAD + body.replace("SEND", SEND.format(number).strip())
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, preexec_fn=before
    )


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_one_exception(number: str, code: int) -> None:
    body = (
        "install()\ntry:\n    SEND\n    time.sleep(9)\n"
        "except Exception:\n    print('a fault')\nexcept Stopped as stop:\n    print(stop, stop.exit_code)\n"
    )
    done = run(body, number)
    assert done.stdout.split() == [number, str(code)], done.stderr


def test_a_shield_holds_it_back_until_its_end() -> None:
    body = (
        "install()\ntry:\n    with shielded():\n        with shielded():\n            SEND\n"
        "            print('inner')\n"
        "        print('outer')\n    print('after')\nexcept Stopped:\n    print('stopped')\n"
    )
    assert run(body).stdout.split() == ["inner", "outer", "stopped"]


def test_without_a_shield_the_block_is_cut_short() -> None:
    body = "install()\ntry:\n    SEND\n    print('inner')\nexcept Stopped:\n    print('stopped')\n"
    assert run(body).stdout.split() == ["stopped"]


def test_a_second_signal_ends_the_process_at_once() -> None:
    body = "install()\nwith shielded():\n    SEND\n    SEND\n    print('not reached', flush=True)\n"
    done = run(body)
    assert (done.returncode, done.stdout) == (143, "")


def test_what_was_ignored_stays_ignored() -> None:
    done = run("install()\nSEND\nprint('still here')\n", "SIGINT", ignored=True)
    assert (done.returncode, done.stdout.split()) == (0, ["still", "here"])


def test_one_that_other_code_swallowed_comes_back() -> None:
    body = (
        "install()\ntry:\n    try:\n        SEND\n        time.sleep(9)\n    except BaseException:\n        pass\n"
        "    check()\nexcept Stopped as stop:\n    print(stop)\n"
    )
    assert run(body).stdout.split() == ["SIGTERM"]
    assert run("install()\ncheck()\nprint('nothing came')\n").stdout.split() == ["nothing", "came"]


COLLECTED = "class Collected:\n    def __del__(self):\n        SEND\n        time.sleep(9)\n"


@pytest.mark.parametrize("goes_on", ["threading.Event().wait(9)", "time.sleep(9)", "while True: pass"])
def test_one_that_came_while_an_object_was_collected_comes_again(goes_on: str) -> None:
    """There an exception ends nowhere and the program goes on, or waits where nothing wakes it."""
    body = (
        f"import threading\n{COLLECTED}install()\ntry:\n    Collected()\n    print('lost', flush=True)\n    {goes_on}\n"
        "except Stopped as stop:\n    print(stop)\n"
    )
    done = run(body)
    assert (done.stdout.split(), done.stderr) == (["lost", "SIGTERM"], "")


def test_one_that_comes_again_is_held_back_by_a_shield_too() -> None:
    body = (
        f"{COLLECTED}install()\ntry:\n    Collected()\n    with shielded():\n        time.sleep(0.5)\n"
        "        print('whole')\n    print('after')\nexcept Stopped:\n    print('stopped')\n"
    )
    assert run(body).stdout.split() == ["whole", "stopped"]


def test_other_faults_of_collecting_are_told() -> None:
    done = run("install()\nclass Bad:\n    def __del__(self):\n        raise ValueError('mine')\nBad()\n")
    assert "ValueError: mine" in done.stderr


def test_a_stuck_thread_cannot_keep_the_process() -> None:
    body = "import threading\nthreading.Thread(target=time.sleep, args=(50,)).start()\nend_within(0.2, 7)\n"
    assert run(body).returncode == 7
