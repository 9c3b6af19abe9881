"""The command line: ``cryoscale VERB``.

Exit codes: 0 all done, 2 the command or its inputs contradict themselves, 3 finished but some tomograms failed,
4 paused (run the same command again), 5 another run holds the folder, 70 a fault of ours, 129, 130 or 143 a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryoscale import __version__
from cryoscale.engine import Executor, LoopExecutor
from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.interrupt import check
from cryoscale.pipeline import STAGES
from cryoscale.progress import Bars, printable
from cryoscale.spec import RunSpec, from_toml, to_toml

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
    except CryoscaleError as error:
        print(printable(f"cryoscale: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        check()
        traceback.print_exc()
        print("cryoscale: a fault of ours, please report the lines above", file=sys.stderr)
        return 70
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cryoscale", description="Cryo-electron tomograms in, separate, closed, measured membranes out."
    )
    parser.add_argument("--version", action="version", version=f"cryoscale {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _run_parser(verbs.add_parser("run", help="tomograms (or masks) to membranes, meshes, tables and a report"))
    _demo_parser(verbs.add_parser("demo", help="simulate a tomogram, run everything on it, score it, show the report"))
    _simulate_parser(verbs.add_parser("simulate", help="write a simulated tomogram and its truth"))
    _train_parser(verbs.add_parser("train", help="train the network on simulated tomograms"))
    _connect_parser(verbs.add_parser("connect", help="draw how learning joins the pieces of one slice"))
    _fit_parser(verbs.add_parser("fit", help="draw the ellipses and curves that fit the membranes of one slice"))
    evaluate = verbs.add_parser("evaluate", help="score labels against the truth")
    evaluate.add_argument("prediction", help="labels: MRC, TIFF or OME-Zarr")
    evaluate.add_argument("truth", help="true labels of the same shape")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=_evaluate)
    status = verbs.add_parser("status", help="how far a run is, from its records")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.set_defaults(run=_status)
    config = verbs.add_parser("config", help="print every option with its default, as TOML")
    config.set_defaults(run=_config)
    doctor = verbs.add_parser("doctor", help="versions, cores, memory, GPU, what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _run_parser(run: argparse.ArgumentParser) -> None:
    run.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, glob or .txt list")
    run.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of all products")
    run.add_argument("--apix", type=float, metavar="Å", help="voxel size, where the header does not state it")
    run.add_argument("--force-apix", action="store_true", help="take --apix even where it is 10 times the header's")
    run.add_argument("--mode0-bytes", choices=("signed", "unsigned"), help="how the bytes of MRC mode 0 are meant")
    run.add_argument("--config", type=Path, metavar="TOML", help="options; `cryoscale config` prints them all")
    run.add_argument(
        "--from", dest="first", choices=STAGES, metavar="STAGE", help="do this stage and the later ones again"
    )
    run.add_argument("--until", default="report", choices=STAGES, metavar="STAGE", help="stop after this stage")
    run.add_argument(
        "--masks", nargs="?", const="{path}", default="", metavar="PATTERN",
        help="other tools' masks or scores, e.g. 'masks/{stem}_seg.mrc'; without PATTERN the sources are masks",
    )  # fmt: skip
    run.add_argument(
        "--mask-labels",
        type=_integers,
        metavar="N,N",
        help="values of the masks that are membrane (default: all but 0)",
    )
    run.add_argument("--separate-labels", action="store_true", help="never join voxels of different mask values")
    run.add_argument(
        "--workers",
        type=_workers,
        default=0,
        metavar="N",
        help="processes (default: the cores); 1 runs in a plain loop",
    )
    run.add_argument("--scheduler", default="", metavar="ADDRESS", help="use this Dask scheduler")
    run.add_argument("--dashboard", action="store_true", help="serve the Dask dashboard on this machine's loopback")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and what it would take")
    run.add_argument("--overwrite", action="store_true", help="do again what is complete")
    run.set_defaults(run=_run)


def _demo_parser(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--output", type=Path, default=Path("cryoscale-demo"), metavar="DIR")
    demo.add_argument("--seed", type=int, default=90_000)
    demo.add_argument("--snr", type=float, default=0.3)
    demo.add_argument("--shape", type=_shape, default=(200, 400, 400), metavar="Z,Y,X")
    demo.add_argument("--workers", type=_workers, default=0, metavar="N")
    demo.add_argument("--dashboard", action="store_true")
    demo.set_defaults(run=_demo)


def _simulate_parser(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--output", type=Path, required=True, metavar="DIR")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument("--snr", type=float, default=0.3, help="signal to noise variance in the reconstruction")
    simulate.add_argument("--shape", type=_shape, default=(200, 400, 400), metavar="Z,Y,X")
    simulate.add_argument("--apix", type=float, default=10.0, metavar="Å")
    simulate.set_defaults(run=_simulate)


def _train_parser(train: argparse.ArgumentParser) -> None:
    train.add_argument("--output", type=Path, required=True, metavar="DIR", help="weights, card and log go here")
    train.add_argument("--volumes", type=int, default=48, help="simulated tomograms to train on")
    train.add_argument("--minutes", type=float, default=45.0, help="wall time of the training itself")
    train.add_argument("--steps", type=int, default=None, help="stop after this many steps instead")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=0, help="processor threads (default: all)")
    train.set_defaults(run=_train)


def _connect_parser(connect: argparse.ArgumentParser) -> None:
    connect.add_argument("source", metavar="SOURCE", help="folder of a run or of one tomogram, or a mask")
    connect.add_argument("--show", type=int, required=True, metavar="SLICE", help="the slice, from 0")
    connect.add_argument("--output", type=Path, metavar="PNG", help="default: connect_SLICE.png")
    connect.add_argument("--config", type=Path, metavar="TOML", help="options; default: those of the run")
    connect.set_defaults(run=_connect)


def _fit_parser(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("source", metavar="SOURCE", help="folder of a run or of one tomogram, or a mask")
    fit.add_argument("--show", type=int, required=True, metavar="SLICE", help="the slice, from 0")
    fit.add_argument("--output", type=Path, metavar="PNG", help="default: fit_SLICE.png")
    fit.add_argument("--config", type=Path, metavar="TOML", help="options; default: those of the run")
    fit.set_defaults(run=_fit)


def _workers(text: str) -> int:
    if not text.isdigit():
        msg = f"a whole number, 0 (the cores) or more, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _shape(text: str) -> tuple[int, int, int]:
    numbers = _integers(text)
    if len(numbers) != 3 or min(numbers) < 32:
        msg = f"three lengths of at least 32 voxels, z,y,x, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return numbers[0], numbers[1], numbers[2]


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"whole numbers with commas between, not {text}"
        raise argparse.ArgumentTypeError(msg) from None


@contextlib.contextmanager
def executor_for(workers: int, *, scheduler: str = "", dashboard: bool = False) -> Iterator[Executor]:
    """Give the plain loop for one worker, else a Dask cluster; say where the dashboard is."""
    workers = workers or os.cpu_count() or 1
    if workers == 1 and not scheduler and not dashboard:
        yield LoopExecutor()
        return
    from cryoscale.cluster import DaskExecutor

    with DaskExecutor(workers, address=scheduler, dashboard=dashboard) as executor:
        if dashboard and executor.dashboard_link:
            print(f"dashboard: {executor.dashboard_link}", file=sys.stderr)
        yield executor


def _spec_of(options: argparse.Namespace) -> RunSpec:
    spec = from_toml(options.config) if options.config else RunSpec()
    ingest, merge = spec.ingest, spec.merge
    if options.apix is not None:
        ingest = dataclasses.replace(ingest, apix=options.apix)
    if options.force_apix:
        ingest = dataclasses.replace(ingest, force_apix=True)
    if options.mode0_bytes:
        ingest = dataclasses.replace(ingest, mode0_bytes=options.mode0_bytes)
    if options.mask_labels:
        merge = dataclasses.replace(merge, mask_labels=options.mask_labels)
    if options.separate_labels:
        merge = dataclasses.replace(merge, separate_labels=True)
    return dataclasses.replace(spec, ingest=ingest, merge=merge)


def _run(options: argparse.Namespace) -> int:
    from cryoscale.collection import Collection, run_collection
    from cryoscale.estimate import print_estimate
    from cryoscale.manifest import entries
    from cryoscale.summary import print_summary

    if options.first and STAGES.index(options.first) > STAGES.index(options.until):
        raise UsageError("--from comes after --until", where="run", found=f"{options.first}, {options.until}")
    if (options.mask_labels or options.separate_labels) and not options.masks:
        raise UsageError("--mask-labels and --separate-labels are about masks", where="run", todo="give --masks too")
    collection = Collection(
        entries(options.sources, options.masks),
        options.output,
        _spec_of(options),
        options.first or "",
        options.until,
        options.overwrite,
        "cryoscale " + " ".join(sys.argv[1:]),
    )
    if options.dry_run:
        print_estimate(collection, options.workers or os.cpu_count() or 1)
        return 0
    with executor_for(options.workers, scheduler=options.scheduler, dashboard=options.dashboard) as executor:
        result = run_collection(collection, executor, Bars())
    print_summary(result)
    return result.exit_code


def _demo(options: argparse.Namespace) -> int:
    from cryoscale.demo import run_demo

    with executor_for(options.workers, dashboard=options.dashboard) as executor:
        return run_demo(options.output, executor, Bars(), seed=options.seed, snr=options.snr, shape=options.shape)


def _simulate(options: argparse.Namespace) -> int:
    from cryoscale.demo import write_simulation

    path = write_simulation(options.output, seed=options.seed, snr=options.snr, shape=options.shape, apix=options.apix)
    print(path)
    return 0


def _train(options: argparse.Namespace) -> int:
    from cryoscale.training import train_shipped

    path = train_shipped(
        options.output,
        volumes=options.volumes,
        minutes=options.minutes,
        steps=options.steps,
        seed=options.seed,
        threads=options.threads or os.cpu_count() or 1,
    )
    print(path)
    return 0


def _connect(options: argparse.Namespace) -> int:
    from cryoscale.showing import show_connection

    spec = from_toml(options.config) if options.config else None
    print(show_connection(options.source, options.show, options.output or f"connect_{options.show}.png", spec=spec))
    return 0


def _fit(options: argparse.Namespace) -> int:
    from cryoscale.showing import show_fit

    spec = from_toml(options.config) if options.config else None
    print(show_fit(options.source, options.show, options.output or f"fit_{options.show}.png", spec=spec))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from cryoscale.scoring import print_scores

    print_scores(options.prediction, options.truth, as_json=options.json)
    return 0


def _status(options: argparse.Namespace) -> int:
    from cryoscale.summary import print_status

    print_status(options.folder)
    return 0


def _config(options: argparse.Namespace) -> int:  # noqa: ARG001
    print(to_toml(RunSpec()))
    return 0


def _doctor(options: argparse.Namespace) -> int:  # noqa: ARG001
    from cryoscale.doctor import examine

    lines, healthy = examine()
    print("\n".join(lines))
    return 0 if healthy else 4
