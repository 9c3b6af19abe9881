"""The command ``cryoscale``, also as ``python -m cryoscale``: signals first, then the command line."""

from __future__ import annotations

import contextlib
import os
import sys

from cryoscale.interrupt import Stopped, check, end_within, install

__all__ = ["main"]

_ENDING_SECONDS = 10.0


def main() -> int:
    """Run one command and return its exit code, 128 + n where signal n stopped it."""
    try:
        install()
        return _command()
    except Stopped as stop:
        end_within(_ENDING_SECONDS, stop.exit_code)
        with contextlib.suppress(OSError):
            os.write(2, f"\ncryoscale: stopped by {stop}; run the same command again to go on\n".encode())
        return stop.exit_code


def _command() -> int:
    try:
        # Imported only now: this takes a second, and Ctrl-C within it should not show a traceback.
        from cryoscale.cli import main as command
    except Exception:
        check()
        raise
    return command()


if __name__ == "__main__":
    sys.exit(main())
