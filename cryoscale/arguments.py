"""Command-line arguments that several verbs take: their types, and how volumes are to be read."""

from __future__ import annotations

import argparse
import dataclasses

from cryoscale.spec import RunSpec, from_toml

__all__ = ["add_reading_options", "add_separate_labels", "integers", "reading_options", "shape", "spec_of", "workers"]


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


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the voxels of a file are meant."""
    parser.add_argument("--apix", type=float, metavar="Å", help="voxel size, where the header does not state it")
    parser.add_argument("--force-apix", action="store_true", help="take --apix even where it is 10 times the header's")
    parser.add_argument("--mode0-bytes", choices=("signed", "unsigned"), help="how the bytes of MRC mode 0 are meant")
    parser.add_argument(
        "--ignore-extended-header", action="store_true", help="for files that declare one they do not have"
    )
    parser.add_argument(
        "--mask-labels",
        type=integers,
        metavar="N,N",
        help="values of the masks that are membrane (default: all but 0)",
    )


def add_separate_labels(parser: argparse.ArgumentParser) -> None:
    """Add the option for masks whose values are membranes of their own."""
    parser.add_argument("--separate-labels", action="store_true", help="never join voxels of different mask values")


def reading_options(options: argparse.Namespace) -> list[str]:
    """Return which of these options were given, as they are written."""
    names = ("apix", "force_apix", "mode0_bytes", "ignore_extended_header", "mask_labels", "separate_labels")
    given = [name for name in names if getattr(options, name, None) not in (None, False)]
    return ["--" + name.replace("_", "-") for name in given]


def spec_of(options: argparse.Namespace) -> RunSpec:
    """Return the options of the configuration file, or the defaults, with what was given on the command line."""
    spec = from_toml(options.config) if options.config else RunSpec()
    ingest, merge = spec.ingest, spec.merge
    if options.apix is not None:
        ingest = dataclasses.replace(ingest, apix=options.apix)
    if options.force_apix:
        ingest = dataclasses.replace(ingest, force_apix=True)
    if options.mode0_bytes:
        ingest = dataclasses.replace(ingest, mode0_bytes=options.mode0_bytes)
    if options.ignore_extended_header:
        ingest = dataclasses.replace(ingest, ignore_extended_header=True)
    if options.mask_labels:
        merge = dataclasses.replace(merge, mask_labels=options.mask_labels)
    if "--separate-labels" in reading_options(options):
        merge = dataclasses.replace(merge, separate_labels=True)
    return dataclasses.replace(spec, ingest=ingest, merge=merge)
