"""The verbs about runs: ``cryoscale manifest``, ``run`` and ``status``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryoscale.arguments import add_reading_options, add_separate_labels, spec_of, workers
from cryoscale.engine import Executor, LoopExecutor
from cryoscale.errors import UsageError
from cryoscale.pipeline import STAGES
from cryoscale.progress import Bars

__all__ = ["add_run_verbs", "executor_for"]


def add_run_verbs(verbs: Any) -> None:
    """Add the verbs to the command line's."""
    manifest = verbs.add_parser("manifest", help="list tomograms as CSV, to add ids, voxel sizes and options to")
    _source_arguments(manifest)
    manifest.add_argument("--folder-ids", action="store_true", help="ids from the folders too, not the name alone")
    manifest.set_defaults(run=_manifest)
    _run_parser(verbs.add_parser("run", help="tomograms (or masks) to membranes, meshes, tables and a report"))
    status = verbs.add_parser("status", help="how far a run is, from its records")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.set_defaults(run=_status)


def _run_parser(run: argparse.ArgumentParser) -> None:
    _source_arguments(run)
    run.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of all products")
    add_reading_options(run)
    add_separate_labels(run)
    run.add_argument("--config", type=Path, metavar="TOML", help="options; `cryoscale config` prints them all")
    run.add_argument(
        "--from", dest="first", choices=STAGES, metavar="STAGE", help="do this stage and the later ones again"
    )
    run.add_argument("--until", default="report", choices=STAGES, metavar="STAGE", help="stop after this stage")
    run.add_argument(
        "--workers",
        type=workers,
        default=0,
        metavar="N",
        help="processes (default: the cores); 1 runs in a plain loop",
    )
    run.add_argument("--scheduler", default="", metavar="ADDRESS", help="use this Dask scheduler")
    run.add_argument("--dashboard", action="store_true", help="serve the Dask dashboard on this machine's loopback")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and what it would take")
    run.add_argument("--overwrite", action="store_true", help="do again what is complete")
    run.set_defaults(run=_run)


def _source_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="file, folder, glob, .txt list, or manifest (.csv, .toml)"
    )
    verb.add_argument(
        "--masks", nargs="?", const="{path}", default="", metavar="PATTERN",
        help="other tools' masks or scores, e.g. 'masks/{stem}_seg.mrc'; without PATTERN the sources are masks",
    )  # fmt: skip
    verb.add_argument(
        "--data-root", dest="roots", action="append", default=[], metavar="DIR",
        help="folder that a manifest's inputs may lie in, beside the manifest's own; may be said again",
    )  # fmt: skip


@contextlib.contextmanager
def executor_for(count: int, *, scheduler: str = "", dashboard: bool = False) -> Iterator[Executor]:
    """Give the plain loop for one worker, else a Dask cluster; say where the dashboard is."""
    count = count or os.cpu_count() or 1
    if count == 1 and not scheduler and not dashboard:
        yield LoopExecutor()
        return
    from cryoscale.cluster import DaskExecutor
    from cryoscale.segment.plan import gpu_count

    with DaskExecutor(count, address=scheduler, dashboard=dashboard, gpus=gpu_count()) as executor:
        if dashboard and executor.dashboard_link:
            print(f"dashboard: {executor.dashboard_link}", file=sys.stderr)
        yield executor


def _manifest(options: argparse.Namespace) -> int:
    from cryoscale.manifest import entries, manifest_lines

    found = entries(options.sources, options.masks, roots=options.roots, folder_ids=options.folder_ids)
    sys.stdout.writelines(manifest_lines(found))
    return 0


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
        entries(options.sources, options.masks, roots=options.roots),
        options.output,
        spec_of(options),
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


def _status(options: argparse.Namespace) -> int:
    from cryoscale.summary import print_status

    print_status(options.folder)
    return 0
