"""The verbs about runs: ``cryoscale manifest``, ``run``, ``verify`` and ``status``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscale.arguments import add_reading_options, add_separate_labels, spec_of, workers
from cryoscale.engine import Executor, LoopExecutor
from cryoscale.errors import UsageError
from cryoscale.memory import machine_bytes
from cryoscale.progress import Bars, printable
from cryoscale.records import STAGES
from cryoscale.spec import RunSpec

if TYPE_CHECKING:
    from cryoscale.collection import Collection
    from cryoscale.crowding import Need

__all__ = ["WAIT_STABLE_SECONDS", "add_run_verbs", "executor_for", "fitting_workers", "read_run"]

WAIT_STABLE_SECONDS = 30.0
"""So long a file is to stay the same before the command takes it."""


def add_run_verbs(verbs: Any) -> None:
    """Add the verbs to the command line's."""
    manifest = verbs.add_parser("manifest", help="list tomograms as CSV, to add ids, voxel sizes and options to")
    _source_arguments(manifest)
    manifest.add_argument("--folder-ids", action="store_true", help="ids from the folders too, not the name alone")
    manifest.set_defaults(run=_manifest)
    _run_parser(verbs.add_parser("run", help="tomograms (or masks) to membranes, meshes, tables and a report"))
    verify = verbs.add_parser("verify", help="check every file of a run, and make damaged ones again")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.add_argument("--check-only", action="store_true", help="say what is damaged and leave it; exit code 3")
    _worker_arguments(verify)
    verify.set_defaults(run=_verify)
    status = verbs.add_parser("status", help="how far a run is, from its records")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.add_argument("--json", action="store_true", help="print JSON, one line")
    status.add_argument("--all", action="store_true", help="list every tomogram, however many there are")
    status.add_argument(
        "--watch", nargs="?", type=_seconds, const=5.0, default=0.0, metavar="SECONDS",
        help="print it again, every 5 seconds or as said, until the run ends",
    )  # fmt: skip
    status.set_defaults(run=_status)


def read_run(words: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of ``cryoscale run``, or end with what is wrong with them."""
    parser = argparse.ArgumentParser(prog="cryoscale run")
    _run_parser(parser)
    return parser.parse_args(words)


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
    _worker_arguments(run)
    run.add_argument("--dry-run", action="store_true", help="say what would run, and what it would take")
    run.add_argument(
        "--typical-rates", action="store_true", help="dry run: take typical rates, not those of a trial on this machine"
    )
    run.add_argument("--overwrite", action="store_true", help="do again what is complete")
    run.add_argument("--retry-failed", action="store_true", help="try again what failed, though nothing has changed")
    run.add_argument(
        "--new-run", action="store_true", help="with other options or code: into DIR-2, DIR-3, ... beside the first run"
    )
    run.add_argument(
        "--wait-stable", type=_stable_seconds, metavar="SECONDS",
        help="take a file only after it stayed the same for so long (default: 30): a microscope may be writing it",
    )  # fmt: skip
    run.set_defaults(run=_run)


def _worker_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--workers",
        type=workers,
        default=0,
        metavar="N",
        help="processes (default: the cores that memory is enough for); 1 runs in a plain loop",
    )
    verb.add_argument(
        "--cluster", default="", metavar="WHERE",
        help="local, local-cuda, slurm, pbs, lsf, sge, or a scheduler: tls://host:port or its .json file",
    )  # fmt: skip
    verb.add_argument(
        "--cluster-option", action="append", default=[], metavar="NAME=VALUE",
        help="for slurm, pbs, lsf, sge (dask-jobqueue) and local-cuda (dask-cuda), e.g. walltime=2:00:00",
    )  # fmt: skip
    verb.add_argument("--tls", type=Path, metavar="DIR", help="certificates for a scheduler: cryoscale credentials DIR")
    verb.add_argument("--dashboard", action="store_true", help="serve the Dask dashboard on this machine's loopback")


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
def executor_for(
    count: int,
    *,
    place: str = "",
    folder: Path = Path(),
    credentials: Path | None = None,
    cluster_options: Sequence[str] = (),
    dashboard: bool = False,
) -> Iterator[Executor]:
    """Give the plain loop for one worker, else a Dask cluster; say where the dashboard is."""
    count = count or os.cpu_count() or 1
    if count == 1 and not place and not dashboard:
        yield LoopExecutor()
        return
    from cryoscale.cluster import executor_on
    from cryoscale.segment.plan import gpu_count

    started = executor_on(
        place,
        count,
        folder=folder,
        credentials=credentials,
        options=cluster_options,
        dashboard=dashboard,
        gpus=gpu_count() if place in ("", "local") else 0,
    )
    with started as executor:
        if dashboard and executor.dashboard_links:
            print("dashboard: " + " ".join(executor.dashboard_links), file=sys.stderr)
            print(f"  from elsewhere: {executor.tunnel}", file=sys.stderr)
        yield executor


def _executor_of(options: argparse.Namespace, collection: Collection) -> contextlib.AbstractContextManager[Executor]:
    return executor_for(
        _workers_of(options, collection),
        place=options.cluster,
        folder=collection.output,
        credentials=options.tls,
        cluster_options=options.cluster_option,
        dashboard=options.dashboard,
    )


def _workers_of(options: argparse.Namespace, collection: Collection) -> int:
    """Return how many workers there are to be: of this machine's, no more than it has memory for."""
    from cryoscale.crowding import needs_of

    here = options.cluster in ("", "local")
    return fitting_workers(needs_of(collection), options.workers) if here else options.workers or os.cpu_count() or 1


def fitting_workers(needs: Sequence[Need], asked: int) -> int:
    """Return how many workers of this machine's there are to be, and say where it is fewer than it has cores."""
    from cryoscale.crowding import workers_for

    count, told = workers_for(needs, asked, held_bytes=machine_bytes(), cores=os.cpu_count() or 1)
    if told:
        print(told, file=sys.stderr)
    return count


def _spec_of(options: argparse.Namespace) -> RunSpec:
    spec = spec_of(options)
    asked = options.wait_stable
    seconds = spec.ingest.wait_stable_seconds or WAIT_STABLE_SECONDS if asked is None else asked
    return dataclasses.replace(spec, ingest=dataclasses.replace(spec.ingest, wait_stable_seconds=seconds))


def _manifest(options: argparse.Namespace) -> int:
    from cryoscale.manifest import entries, manifest_lines

    found = entries(options.sources, options.masks, roots=options.roots, folder_ids=options.folder_ids)
    sys.stdout.writelines(manifest_lines(found))
    return 0


def _run(options: argparse.Namespace) -> int:
    from cryoscale.collection import Collection, run_collection, weights_of
    from cryoscale.estimate import print_estimate
    from cryoscale.manifest import entries
    from cryoscale.runrecord import apart
    from cryoscale.summary import print_summary

    if options.first and STAGES.index(options.first) > STAGES.index(options.until):
        raise UsageError("--from comes after --until", where="run", found=f"{options.first}, {options.until}")
    if (options.mask_labels or options.separate_labels) and not options.masks:
        raise UsageError("--mask-labels and --separate-labels are about masks", where="run", todo="give --masks too")
    collection = Collection(
        entries(options.sources, options.masks, roots=options.roots),
        options.output,
        _spec_of(options),
        options.first or "",
        options.until,
        options.overwrite,
        options.retry_failed,
        "cryoscale " + " ".join(sys.argv[1:]),
    )
    if options.new_run:
        collection = apart(collection, weights_of(collection))
        print(f"this run goes into {collection.output}", file=sys.stderr)
    if options.dry_run:
        print_estimate(collection, _workers_of(options, collection), calibrate=not options.typical_rates)
        return 0
    with _executor_of(options, collection) as executor:
        result = run_collection(collection, executor, Bars())
    print_summary(result)
    return result.exit_code


def _status(options: argparse.Namespace) -> int:
    from cryoscale.status import print_status

    print_status(options.folder, as_json=options.json, everything=options.all, watch_seconds=options.watch)
    return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        msg = f"a number of seconds, 0.1 to 86400, not {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _stable_seconds(text: str) -> float:
    """Read how long a file is to stay the same; 0 takes it as it is."""
    return _seconds(text) if text.strip("0.") else 0.0


def _verify(options: argparse.Namespace) -> int:
    from cryoscale.verify import collection_of, find_damage, repair

    collection = collection_of(options.folder)
    found = find_damage(collection)
    for damage in found:
        print(printable(f"{damage.tomogram or 'run'}: {damage.file} {damage.what}"))
    if not found:
        print(f"{options.folder}: every file is as it was written")
        return 0
    if options.check_only:
        print(f"{len(found)} files are not as they were written")
        return 3
    with _executor_of(options, collection) as executor:
        result, changed = repair(collection, found, executor, Bars())
    for name in changed:
        print(f"{name}: cannot be mended, its input has changed since; run it again")
    damaged = {damage.tomogram for damage in found}
    failed = [outcome for outcome in result.failures if outcome.id in damaged]
    for outcome in failed:
        print(printable(f"{outcome.id}: FAILED in {outcome.stage}: {outcome.error}"))
    units = sum(cost.units - cost.skipped for outcome in result.outcomes for cost in outcome.times.values())
    print(f"{len(found)} files were not as they were written; {units} units run again")
    return 3 if failed or changed else 0
