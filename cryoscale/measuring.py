"""The verb ``cryoscale measure``: labels or meshes from anywhere in, tables of measurements out.

Labels go through merge, fit and surface, each value a membrane of its own, so that what is measured has errors, and
says what was seen and what inferred. Meshes are measured as they are: their curvature comes from the vertices around
each one, and what only a fit knows (standard errors, seen or inferred) stays empty. The density of the same tomogram,
where it is given, adds the thickness.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cryoscale.ingest.plan as ingest
import cryoscale.measure.plan as measure
from cryoscale import __version__
from cryoscale.arguments import add_reading_options, spec_of, workers
from cryoscale.driver import run_jobs
from cryoscale.engine import Executor, Job, Observer, Phase
from cryoscale.errors import UsageError
from cryoscale.io.files import crc32c, write_text
from cryoscale.io.meshes import PlyMesh, write_ply
from cryoscale.io.meshfiles import MESH_SUFFIXES, UNITS, read_mesh
from cryoscale.lock import run_lock
from cryoscale.measure.bend import vertex_normals
from cryoscale.pipeline import Summary, stage_phases
from cryoscale.progress import Bars, printable
from cryoscale.records import Geometry, Receipt, Tomogram, fingerprint
from cryoscale.spec import RunSpec

__all__ = ["add_measure_verb", "measure_meshes"]

_MADE = "surface/membranes.json"
_MARGIN_VOXELS = 2


def add_measure_verb(verbs: Any) -> None:
    """Add the verb to the command line's."""
    parser = verbs.add_parser("measure", help="tables of area, curvature, thickness, distances of any labels or meshes")
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help=f"labels (MRC, TIFF, OME-Zarr), or meshes ({' '.join(MESH_SUFFIXES)})",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the tables")
    parser.add_argument(
        "--density", default="", metavar="TOMOGRAM", help="raw density of the same volume: thickness too"
    )
    parser.add_argument("--unit", choices=sorted(UNITS), default="angstrom", help="of the positions in meshes")
    add_reading_options(parser)
    parser.add_argument("--config", type=Path, metavar="TOML", help="options; `cryoscale config` prints them all")
    parser.add_argument("--workers", type=workers, default=0, metavar="N", help="processes (default: the cores)")
    parser.set_defaults(run=_measure)


def _measure(options: argparse.Namespace) -> int:
    from cryoscale.running import executor_for

    meshes = [Path(source).suffix.lower() in MESH_SUFFIXES for source in options.sources]
    if any(meshes) and not all(meshes):
        raise UsageError("labels and meshes in one command", where="measure", todo="measure them one after the other")
    spec = spec_of(options)
    if not any(meshes):
        return _measure_labels(options, spec)
    if options.mask_labels:
        raise UsageError("--mask-labels is about labels", where="measure", found="meshes")
    with executor_for(options.workers) as executor, run_lock(options.output):
        summary = measure_meshes(
            options.sources, options.output, executor, Bars(), spec=spec, unit=options.unit, density=options.density
        )
    sys.stdout.write(printable(f"{summary['membranes']} membranes, {summary['closed']} closed: {options.output}\n"))
    return 0


def _measure_labels(options: argparse.Namespace, spec: RunSpec) -> int:
    from cryoscale.collection import Collection, run_collection
    from cryoscale.manifest import entries
    from cryoscale.running import executor_for
    from cryoscale.summary import print_summary

    if options.density and len(options.sources) > 1:
        raise UsageError("one density, several label volumes", where="--density", todo="measure them one by one")
    listed = entries([options.density], options.sources[0]) if options.density else entries(options.sources, "{path}")
    spec = dataclasses.replace(spec, merge=dataclasses.replace(spec.merge, separate_labels=True))
    command = "cryoscale " + " ".join(sys.argv[1:])
    collection = Collection(listed, options.output, spec, until="measure", command=command)
    with executor_for(options.workers) as executor:
        result = run_collection(collection, executor, Bars())
    print_summary(result)
    return result.exit_code


def measure_meshes(
    sources: Sequence[str | Path],
    output: str | Path,
    executor: Executor,
    observer: Observer | None = None,
    *,
    spec: RunSpec | None = None,
    unit: str = "angstrom",
    density: str | Path = "",
) -> Summary:
    """Measure meshes, each one membrane, all in one space; raises what stops it.

    Parameters
    ----------
    sources
        Files; the first is membrane 1.
    output
        Folder of the tables and of the meshes as cryoscale writes them.
    executor, observer
        Where it runs, and who is told.
    spec
        Options.
    unit
        Of the positions, a key of `cryoscale.io.meshfiles.UNITS`.
    density
        Tomogram in whose space the meshes lie; empty where there is none.

    Returns
    -------
    dict
        As the measure stage's plan returns it.
    """
    folder, spec = Path(output).absolute(), spec or RunSpec()
    made, low, high = {}, np.full(3, math.inf), np.full(3, -math.inf)
    for number, source in enumerate(sources, 1):
        mesh = read_mesh(source, unit)
        low, high = np.minimum(low, mesh.vertices.min(axis=0)), np.maximum(high, mesh.vertices.max(axis=0))
        name = f"meshes/membrane_{number:04d}.ply"
        normals = vertex_normals(mesh.vertices, mesh.faces) if mesh.normals is None else mesh.normals
        comments = ("unit angstrom", f"membrane {number}")
        write_ply(folder / name, PlyMesh(mesh.vertices, mesh.faces, normals, mesh.properties, comments))
        made[str(number)] = {"mesh": name, "band_closed": False, "source": str(source)}
    write_text(folder / _MADE, json.dumps(made, indent=1))
    tomogram = Tomogram("meshes", str(density), str(folder), _box(low, high))
    mark = fingerprint(__version__, [crc32c(folder / str(entry["mesh"])) for entry in made.values()], str(density))
    for outcome in run_jobs([Job(tomogram.id, _job(tomogram, spec, mark))], executor, observer):
        if outcome.error is not None:
            raise outcome.error
        return dict(outcome.summary or {})
    return {}


def _box(low: Any, high: Any) -> Geometry:
    """Return a volume of 1 nm voxels around everything, for meshes that come without one."""
    start = np.floor(low / 10 - _MARGIN_VOXELS) * 10
    z, y, x = (int(n) for n in np.ceil((high - start) / 10) + 1 + _MARGIN_VOXELS)
    first, second, third = (float(v) for v in start)
    return Geometry((z, y, x), (10.0, 10.0, 10.0), (first, second, third))


def _job(tomogram: Tomogram, spec: RunSpec, mark: str) -> Generator[Phase, list[Receipt], Summary]:
    density = ""
    if tomogram.source:
        stage = ingest.plan(tomogram, spec.ingest, mode0_bytes=spec.ingest.mode0_bytes)
        mark = fingerprint("ingest", mark, dataclasses.asdict(spec.ingest), crc32c(tomogram.source))
        found = yield from stage_phases("ingest", tomogram, stage, mark)
        tomogram = dataclasses.replace(tomogram, geometry=Geometry.from_json(found["geometry"]))
        density = str(found["volume"])
    stage = measure.plan(tomogram, spec.measure, spec.surface, merged={}, proteins={}, fitted=[], density=density)
    mark = fingerprint("measure", mark, dataclasses.asdict(spec.measure), dataclasses.asdict(spec.surface))
    return (yield from stage_phases("measure", tomogram, stage, mark))
