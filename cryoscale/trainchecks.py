"""What the training verb refuses at once: minutes of reading or simulating later nobody watches any more."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from cryoscale.errors import UsageError

__all__ = ["check_training"]

_LARGEST = 2**63 - 1
"""What generators of random numbers take."""
_RANGES = {
    "steps": (1, _LARGEST),
    "volumes": (1, _LARGEST),
    "validate_every": (1, _LARGEST),
    "patience": (0, _LARGEST),
    "seed": (0, _LARGEST),
    "threads": (0, 1024),
    "unlabelled_slices": (1, _LARGEST),
}
"""Least and largest whole number of each option that takes one; what a network is made of, `build_model` checks."""


def check_training(options: argparse.Namespace) -> None:
    """Refuse a training that cannot be, before anything is read or simulated.

    Raises
    ------
    UsageError
        A number is none that the option can take, or the output is no folder.
    """
    _check_numbers(options)
    _check_start(options)
    _check_output(options.output)


def _check_numbers(options: argparse.Namespace) -> None:
    for name, (least, largest) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= largest:
            allowed = f"{least} or more" if value < least else f"up to {largest}"
            raise UsageError(
                f"too {'small' if value < least else 'large'} a number",
                where=_option(name),
                found=value,
                allowed=allowed,
            )
    if not 0 < options.minutes < math.inf:
        found = f"{options.minutes:g}"
        raise UsageError("not a time to train for", where="--minutes", found=found, allowed="a number above 0")
    if options.learning_rate is not None and not 0 < options.learning_rate < 1:
        raise UsageError("not a learning rate", where="--learning-rate", found=options.learning_rate, allowed="0 to 1")


def _check_start(options: argparse.Namespace) -> None:
    """Refuse weights to start from that are none."""
    if options.start == "":
        raise UsageError("no weights are named", where="--from", todo="name their file, or leave --from out")
    if not 0 <= options.keep < 1 or (options.keep and not options.start):
        allowed = "from 0 to below 1, with --from"
        raise UsageError("not a share of weights to keep", where="--keep", found=options.keep, allowed=allowed)


def _check_output(output: Path) -> None:
    """Refuse an output that is a file, or would lie in one."""
    there = next((path for path in (output, *output.parents) if path.exists()), output)
    if there.exists() and not there.is_dir():
        raise UsageError(
            "not a folder", where="--output", found=str(there), allowed="a folder, new or old", todo="name another one"
        )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
