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
        A number is none that the option can take, options do not go together, or the output is no folder.
    """
    _check_numbers(options)
    _check_start(options)
    _check_sources(options)
    _check_labels(options)
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
    if options.minutes is not None and options.steps is not None:
        raise UsageError("the length is given twice", where="--minutes", found="--steps too", todo="leave one out")
    if options.minutes is not None and not 0 < options.minutes < math.inf:
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


def _check_sources(options: argparse.Namespace) -> None:
    """Refuse what to train on if its parts do not go together, or if one would do nothing."""
    if options.data:
        for name in ("preset", "match", "volumes", "voxel_size", "shapes", "shapes_apix"):
            if given := getattr(options, name):
                raise UsageError(
                    "about what is simulated, and --data names tomograms",
                    where=_option(name),
                    found=" ".join(map(str, given)) if isinstance(given, list) else given,
                    todo="leave it or --data out",
                )
    paper = "zhou2023" in options.preset
    if paper and len(options.preset) > 1:
        found, todo = " ".join(options.preset), "train on zhou2023 alone, or on the others"
        raise UsageError("these images are slices, the others are volumes", where="--preset", found=found, todo=todo)
    if paper != bool(options.match):
        what = "no tomogram to take the intensities of" if paper else "only zhou2023's images take the intensities"
        todo = "name one with --match" if paper else "add --preset zhou2023, or leave it out"
        where = "--preset zhou2023" if paper else "--match"
        raise UsageError(f"{what}: the two come together", where=where, todo=todo)
    if ("real" in options.preset) != bool(options.shapes):
        where, what = ("--shapes", "only real takes them") if options.shapes else ("--preset real", "no shapes to take")
        todo = "add --preset real, or leave it out" if options.shapes else "name label volumes with --shapes"
        raise UsageError(f"{what}: the two come together", where=where, todo=todo)
    if options.shapes_apix is not None and not options.shapes:
        raise UsageError("it does nothing without --shapes", where="--shapes-apix", todo="leave it out")
    if paper and options.voxel_size:
        raise UsageError("only for what is simulated in voxels", where="--voxel-size", todo="leave it out")


def _check_labels(options: argparse.Namespace) -> None:
    """Refuse labels without tomograms, and what is said of labels or tomograms that are not there."""
    if options.data and not options.labels:
        raise UsageError("it and --labels come together", where="--data", todo="name the labels with --labels")
    if options.labels and not (options.data or options.match):
        raise UsageError("it and --data come together", where="--labels", todo="name the tomograms with --data")
    if options.match and len(options.labels) > 1:
        found = " ".join(options.labels)
        raise UsageError("more than the labels of --match", where="--labels", found=found, allowed="one file")
    if options.unlabelled and not options.data:
        raise UsageError("without --data and --labels", where="--unlabelled", todo="name labelled tomograms too")
    given = {
        "mask_labels": options.labels or options.shapes,
        "protein_labels": options.labels,
        "all_slices": options.labels,
    }
    for name, needed in {**given, "unlabelled_slices": options.unlabelled}.items():
        if getattr(options, name) and not needed:
            other = "--unlabelled" if name == "unlabelled_slices" else "--labels"
            raise UsageError(
                f"it does nothing without {other}", where=_option(name), todo=f"leave it out, or add {other}"
            )
    if both := set(options.mask_labels) & set(options.protein_labels):
        found = ", ".join(map(str, sorted(both)))
        raise UsageError("values that are membrane too", where="--protein-labels", found=found, todo="name them once")


def _check_output(output: Path) -> None:
    """Refuse an output that is a file, or would lie in one."""
    there = next((path for path in (output, *output.parents) if path.exists()), output)
    if there.exists() and not there.is_dir():
        raise UsageError(
            "not a folder", where="--output", found=str(there), allowed="a folder, new or old", todo="name another one"
        )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
