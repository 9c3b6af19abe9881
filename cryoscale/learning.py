"""The verb that trains a network: what it is asked."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscale.arguments import integers
from cryoscale.lock import run_lock
from cryoscale.trainchecks import check_training

if TYPE_CHECKING:
    from cryoscale.trainrequest import Training

__all__ = ["add_train_verb"]

_MINUTES = 45.0


def add_train_verb(verbs: Any) -> None:
    """Add the verb to the command line's."""
    train = verbs.add_parser("train", help="train a network on simulated tomograms, or on your own labels")
    train.add_argument("--output", type=Path, required=True, metavar="DIR", help="weights, card, log, curves go here")
    _add_own_data(train)
    train.add_argument(
        "--preset",
        nargs="+",
        choices=("training", "microtubules", "cell", "real", "zhou2023"),
        default=[],
        help="what to simulate (training); of several, each in its turn",
    )
    train.add_argument(
        "--shapes", nargs="+", default=[], metavar="SOURCE", help="label volumes whose membranes real simulates"
    )
    train.add_argument("--shapes-apix", type=float, metavar="Å", help="their voxel size, if the headers are silent")
    train.add_argument(
        "--voxel-size",
        nargs=2,
        type=float,
        metavar="Å",
        help="least and largest that the network is to know; tomograms are brought there (all that are simulated)",
    )
    train.add_argument("--match", default="", metavar="FILE", help="tomogram whose intensities zhou2023 takes")
    train.add_argument("--volumes", type=int, help="simulated tomograms to train on (48), or images (2000)")
    train.add_argument("--model", default="", metavar="NAME", help="unet2d, unet25d, unet3d, twohead")
    train.add_argument("--from", dest="start", metavar="FILE", help="weights to start from, or `shipped`")
    train.add_argument(
        "--keep",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the weights of --from in the result",
    )
    train.add_argument("--width", type=int, metavar="N", help="channels of its finest level")
    train.add_argument("--slices-in", type=int, metavar="N", help="neighbouring slices seen as one, odd (unet25d: 5)")
    train.add_argument("--learning-rate", type=float, metavar="RATE", help="Adam's, at its highest (network's own)")
    train.add_argument("--patience", type=int, metavar="N", help="validations without progress after which to stop")
    train.add_argument("--validate-every", type=int, metavar="STEPS", help="validate and save so often")
    train.add_argument("--minutes", type=float, help="wall time of the training itself, at most (45)")
    train.add_argument("--steps", type=int, help="stop after this many steps instead")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=0, help="processor threads (default: all)")
    train.set_defaults(run=_train)


def _add_own_data(train: argparse.ArgumentParser) -> None:
    own = train.add_argument_group("your own data (without it: simulated tomograms)")
    own.add_argument("--data", nargs="+", default=[], metavar="SOURCE", help="tomograms: files, folders, globs, lists")
    own.add_argument("--labels", nargs="+", default=[], metavar="SOURCE", help="labels, each named after its tomogram")
    own.add_argument(
        "--unlabelled", nargs="+", default=[], metavar="SOURCE", help="tomograms without labels, for --model twohead"
    )
    own.add_argument("--mask-labels", type=integers, default=(), metavar="N,N", help="membrane (default: all but 0)")
    own.add_argument("--protein-labels", type=integers, default=(), metavar="N,N", help="values that are protein")
    own.add_argument("--all-slices", action="store_true", help="a slice without labels is background, not unknown")
    own.add_argument("--unlabelled-slices", type=int, metavar="N", help="of each tomogram without labels (64)")


def _train(options: argparse.Namespace) -> int:
    check_training(options)
    with run_lock(options.output) if _leads() else nullcontext():
        path = _trained(options)
    print(path)
    return 0


def _leads() -> bool:
    """Whether this process is alone or the first of those that ``torchrun`` started: one lock is for all of them."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _trained(options: argparse.Namespace) -> Path:
    """Train, and return the path of the weights."""
    from cryoscale.simulating import LabelVolumes
    from cryoscale.training import UNLABELLED_SLICES, train_as_paper, train_own, train_shipped

    paper = options.preset == ["zhou2023"]
    training = _training_of(options, paper=paper)
    meaning = {
        "membrane": options.mask_labels, "protein": options.protein_labels, "all_slices": options.all_slices,
    }  # fmt: skip
    if options.data:
        return train_own(
            training,
            data=options.data,
            labels=options.labels,
            unlabelled=options.unlabelled,
            **meaning,
            unlabelled_slices=options.unlabelled_slices or UNLABELLED_SLICES,
        )
    if paper:
        return train_as_paper(
            training,
            match=options.match,
            labels=next(iter(options.labels), ""),
            images=2000 if options.volumes is None else options.volumes,
            **meaning,
        )
    return train_shipped(
        training,
        volumes=48 if options.volumes is None else options.volumes,
        presets=options.preset or ["training"],
        known_angstrom=options.voxel_size and tuple(options.voxel_size),
        real=LabelVolumes(options.shapes, options.mask_labels, options.shapes_apix) if options.shapes else None,
    )


def _training_of(options: argparse.Namespace, *, paper: bool) -> Training:
    from cryoscale.segment.settings import settings_for
    from cryoscale.trainrequest import Length, Training

    # Paper 4: cross-entropy alone, batches of 20, Adam at 1e-3 throughout.
    own = {"batch": 20, "dice_weight": 0.0, "warmup_steps": 0, "anneal": False} if paper else {}
    for name in ("learning_rate", "patience", "validate_every", "seed"):
        if (value := getattr(options, name)) is not None:
            own[name] = value
    model, network = _network_of(options, "unet2d" if paper else "unet25d")
    settings = settings_for(model, options=network, **own)
    length = Length(_MINUTES if options.minutes is None else options.minutes, options.steps)
    return Training(options.output, settings, length, options.threads, options.start or "", options.keep)


def _network_of(options: argparse.Namespace, usual: str) -> tuple[str, dict[str, int]]:
    """Name and options of the network to be trained: what is asked for, else as in the weights to start from."""
    asked = {name: value for name in ("width", "slices_in") if (value := getattr(options, name)) is not None}
    if not options.start:
        return options.model or usual, asked
    from cryoscale.segment.card import named_model
    from cryoscale.segment.models import own_options
    from cryoscale.segment.weights import load_model

    first, _ = load_model(named_model(options.start))
    more = first.name == "unet2d" and asked.get("slices_in", 1) > 1
    model = options.model or ("unet25d" if more else first.name)
    own = own_options(first.name)
    if model != first.name:
        # What a network of one slice knows, one of several can go on from.
        own = first.options if model != "unet25d" else {**own, "slices_in": first.slices_in}
    return model, {name: value for name, value in first.options.items() if own[name] != value} | asked
