"""The verbs that draw one slice: ``cryoscale connect`` and ``fit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cryoscale.arguments import add_reading_options, add_separate_labels, reading_options, spec_of
from cryoscale.errors import UsageError
from cryoscale.io.inputs import printable
from cryoscale.spec import RunSpec

__all__ = ["add_slice_verbs"]


def add_slice_verbs(verbs: Any) -> None:
    """Add the verbs to the command line's."""
    connect = verbs.add_parser("connect", help="draw how learning joins the pieces of one slice")
    fit = verbs.add_parser("fit", help="draw the ellipses and curves that fit the membranes of one slice")
    for parser in (connect, fit):
        parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of a run or of one tomogram, or a mask")
        parser.add_argument("--show", type=int, required=True, metavar="SLICE", help="the slice, from 0")
        parser.add_argument("--output", type=Path, metavar="PNG", help="default: VERB_SLICE.png")
        parser.add_argument("--config", type=Path, metavar="TOML", help="options; default: those of the run")
        add_reading_options(parser)
        parser.set_defaults(run=_show)
    add_separate_labels(fit)


def _show(options: argparse.Namespace) -> int:
    from cryoscale.showing import show_connection, show_fit

    draw = {"connect": show_connection, "fit": show_fit}[options.verb]
    picture = options.output or f"{options.verb}_{options.show}.png"
    print(draw(options.source, options.show, picture, spec=_spec_of(options), tell=_tell))
    return 0


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _spec_of(options: argparse.Namespace) -> RunSpec | None:
    """Return what was asked for; None leaves it to the run, which knows how its volumes are to be read."""
    from cryoscale.showing import tomogram_folder

    given = reading_options(options)
    if given and tomogram_folder(options.source):
        raise UsageError(
            f"{', '.join(given)}: a run has its own", where=str(options.source), todo="leave out, or name a mask"
        )
    return spec_of(options) if given or options.config else None
