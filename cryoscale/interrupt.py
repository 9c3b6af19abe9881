"""Ctrl-C, SIGTERM and a closed terminal, as one exception that arrives where it does no harm.

A signal becomes `Stopped` in the main thread at once, except inside `shielded()`, where it waits for the end of the
block: half a cluster started, or half a lock taken, is never left behind. A second signal is taken for impatience:
it ends the process, and the processes it started, on the spot. Signals that were ignored when the process began
(``nohup``, a shell's background job) stay ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Stopped", "check", "end_within", "install", "shielded", "without_keyboard"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Long enough for the collection it came in to have ended; nobody notices it when a run stops.
_AGAIN_SECONDS = 0.05


class Stopped(BaseException):
    """A signal asked the process to stop.

    Not an ``Exception``: nothing that handles faults may take it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell calls a process that this signal ended."""
        return 128 + self.number


class _State:
    depth = 0
    pending = 0
    raised = 0


def install() -> None:
    """Turn the signals into `Stopped`, from now on."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable


def _unraisable(fault: sys.UnraisableHookArgs) -> None:
    """Send a signal once more whose `Stopped` came while Python collected an object: there it ends nowhere."""
    if not isinstance(fault.exc_value, Stopped):
        sys.__unraisablehook__(fault)
        return
    _State.raised = 0
    again = threading.Timer(_AGAIN_SECONDS, _send_again, (fault.exc_value.number,))
    again.daemon = True
    again.start()


def _send_again(number: int) -> None:
    # By a signal of its own, for the main thread may wait where nothing else wakes it.
    if not (_State.raised or _State.pending):
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if _State.pending or _State.raised:
        os._exit(128 + number)
    if _State.depth:
        _State.pending = number
        return
    _State.raised = number
    raise Stopped(number)


def check() -> None:
    """Raise `Stopped` once more where other code took it for a fault: importing a compiled module does.

    Raises
    ------
    Stopped
        A signal had come.
    """
    if _State.raised:
        raise Stopped(_State.raised)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold a first signal back until the block has ended; only the main thread can be shielded.

    Raises
    ------
    Stopped
        After the block, where a signal came within it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if _State.pending and not _State.depth:
            _State.raised, _State.pending = _State.pending, 0
            raise Stopped(_State.raised)


@contextlib.contextmanager
def without_keyboard() -> Iterator[None]:
    """Keep Ctrl-C from threads and processes begun in the block.

    A terminal sends it to every process of the command. Those that work for another one stop when they are told to;
    a traceback of each, and a supervisor that starts them anew, is what they would do instead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_within(seconds: float, code: int) -> None:
    """End the process with `code` after some seconds, if threads of others still keep it from ending."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
