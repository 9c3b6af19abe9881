"""Types of command-line arguments that several verbs take."""

from __future__ import annotations

import argparse

__all__ = ["integers", "shape", "workers"]


def workers(text: str) -> int:
    """Read a number of worker processes."""
    if not text.isdigit():
        msg = f"a whole number, 0 (the cores) or more, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def shape(text: str) -> tuple[int, int, int]:
    """Read the shape of a volume, z, y, x."""
    numbers = integers(text)
    if len(numbers) != 3 or min(numbers) < 32:
        msg = f"three lengths of at least 32 voxels, z,y,x, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return numbers[0], numbers[1], numbers[2]


def integers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"whole numbers with commas between, not {text}"
        raise argparse.ArgumentTypeError(msg) from None
