"""What the terminal shows while a run is under way: a bar per stage on a terminal, a line per stage in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from cryoscale.engine import Observer, Outcome, UnitResult

__all__ = ["Bars", "printable"]


def printable(text: str) -> str:
    """Replace control characters, so that no name from a file can drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


class Bars(Observer):
    """A progress bar with an estimate per tomogram and stage."""

    def __init__(self) -> None:
        self._bars: dict[tuple[str, str], Any] = {}
        self._started: dict[tuple[str, str], float] = {}
        self._terminal = sys.stderr.isatty()

    def phase_started(self, job: str, stage: str, units: int) -> None:
        """Open the stage's bar, or make it longer."""
        for key in [key for key in self._bars if key[0] == job and key[1] != stage]:
            self._close(key)
        bar = self._bars.get((job, stage))
        if bar is None:
            self._started[job, stage] = time.monotonic()
            self._bars[job, stage] = tqdm(
                total=units,
                desc=f"{job} {stage}",
                unit="unit",
                leave=False,
                disable=not self._terminal,
                dynamic_ncols=True,
            )
        else:
            bar.total += units
            bar.refresh()

    def unit_done(self, job: str, stage: str, result: UnitResult) -> None:  # noqa: ARG002
        """Move the stage's bar."""
        self._bars[job, stage].update()

    def job_done(self, outcome: Outcome) -> None:
        """Close the tomogram's bars and say how it ended."""
        for key in [key for key in self._bars if key[0] == outcome.id]:
            self._close(key)
        if outcome.error is not None:
            tqdm.write(printable(f"{outcome.id}  FAILED in {outcome.stage}: {outcome.error}"), file=sys.stderr)

    def _close(self, key: tuple[str, str]) -> None:
        bar = self._bars.pop(key)
        bar.close()
        seconds = time.monotonic() - self._started.pop(key)
        tqdm.write(f"{key[0]}  {key[1]:<8} {seconds:7.1f} s", file=sys.stderr)
