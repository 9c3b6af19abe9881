"""What one machine does: real units by so many processes, and the pages of runs of so many tomograms."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import in_a_process, peak_bytes
from cryoscale.cluster import DaskExecutor
from cryoscale.collection import Collection, run_collection
from cryoscale.demo import write_simulation
from cryoscale.io.files import write_text
from cryoscale.io.tables import write_csv
from cryoscale.manifest import Entry
from cryoscale.measure.tables import MEMBRANE_COLUMNS
from cryoscale.packing import stored_records
from cryoscale.records import DoneRecord
from cryoscale.report.png import encode_png
from cryoscale.reporting import PAGES, write_run_report
from cryoscale.spec import IngestSpec, RunSpec

PROCESSES = (1, 2, 4)
_SHAPE = (32, 160, 160)
_TOMOGRAMS = 12
_MEMBRANES = 100
_PICTURES = {"raw": 500, "overlay": 500, "surfaces": 400, "thumbnail": 160}
"""Edges in pixels of pictures that do not compress, as long as real ones."""


def throughput(root: Path) -> dict[str, Any]:
    """Run the same tomograms from file to tables with more and more worker processes."""
    sources = [write_simulation(root / "input", seed=90_100 + n, shape=_SHAPE) for n in range(_TOMOGRAMS)]
    found = [Entry(source.stem, str(source)) for source in sources]
    spec = RunSpec(ingest=IngestSpec(chunk_voxels=(16, 80, 80)))
    return {f"{count} processes": _timed(found, root / str(count), spec, count) for count in PROCESSES}


def _timed(found: list[Entry], root: Path, spec: RunSpec, processes: int) -> dict[str, Any]:
    collection = Collection(found, root / "timed", spec, until="measure")
    with DaskExecutor(processes) as executor:
        # Workers that have done units before: what a process imports and compiles once is no part of a rate.
        run_collection(Collection(found[: 2 * processes], root / "before", spec, until="measure"), executor)
        load, started, own = os.getloadavg()[0], time.perf_counter(), time.process_time()
        result = run_collection(collection, executor)
        seconds, own = time.perf_counter() - started, time.process_time() - own
    if result.failures:
        raise RuntimeError(str(result.failures[0].error))
    texts = [text for entry in collection.entries for text in stored_records(collection.folder(entry)).values()]
    records = [DoneRecord.from_json(text) for text in texts]
    return {
        "units": len(records),
        "seconds": seconds,
        "units_per_second": len(records) / seconds,
        "core_seconds_of_units": sum(record.processor_seconds for record in records),
        "core_seconds_of_client_and_scheduler": own,
        "cores_at_work": sum(record.processor_seconds for record in records) / seconds,
        "load_before": load,
    }


def pages(root: Path, counts: tuple[int, ...]) -> dict[str, Any]:
    """Write the pages of runs of so many tomograms, each in a process of its own."""
    found = {}
    for count in counts:
        _write_run(root / str(count), count)
        found[f"{count} tomograms"] = in_a_process("benchmarks._scale_machine", str(root / str(count)))
        print(f"{count} tomograms: {found[f'{count} tomograms']}", file=sys.stderr)
    return found


def _write_run(output: Path, count: int) -> None:
    """Write a run's folder, as much of it as its pages are made of; the tomograms share their files."""
    rng, first = np.random.default_rng(5), output / "TS_00000"
    pictures = {}
    for name, edge in _PICTURES.items():
        noise = rng.integers(0, 256, (edge, edge, 4), np.uint8)
        pictures[name] = [f"pictures/{name}.png", f"{name}. Of no tomogram."]
        (first / "pictures").mkdir(parents=True, exist_ok=True)
        (first / "pictures" / f"{name}.png").write_bytes(encode_png(noise))
    values = rng.lognormal(5.0, 1.0, (_MEMBRANES, len(MEMBRANE_COLUMNS)))
    rows = [[n, "", "closed", "", *row[4:]] for n, row in enumerate(values.tolist(), 1)]
    write_csv(first / "membranes.csv", MEMBRANE_COLUMNS, rows)
    summary = {
        "geometry": {"shape": [200, 400, 400], "voxel_size_angstrom": [10.0] * 3, "origin_angstrom": [0.0] * 3},
        "report": {"pictures": pictures},
        "times": {"fit": {"unit_seconds": 1.5, "peak_bytes": 1 << 30}},
    }
    write_text(first / "summary.json", json.dumps(summary))
    ids = [f"TS_{number:05d}" for number in range(count)]
    for name in ids[1:]:
        (output / name / "pictures").mkdir(parents=True)
        for path in (first / "membranes.csv", first / "summary.json", *(first / "pictures").iterdir()):
            (output / name / path.relative_to(first)).hardlink_to(path)
    run = {
        "cryoscale": "0", "command": "cryoscale run", "started_utc": "2026-01-02", "machine": {},
        "spec": asdict(RunSpec()), "tomograms": [{"id": name, "source": "a.mrc", "mask": ""} for name in ids],
    }  # fmt: skip
    write_text(output / "run.json", json.dumps(run))


def main(output: Path) -> None:
    """Write the pages of the run in a folder, and print what that took."""
    before, started = peak_bytes(), time.process_time()
    page = write_run_report(output)
    own = sum(path.stat().st_size for path in (output / PAGES).iterdir())
    result = {
        "peak_mib_before": before / 2**20,
        "peak_mib": peak_bytes() / 2**20,
        "core_seconds": time.process_time() - started,
        "page_mb": page.stat().st_size / 1e6,
        "own_pages_mb": own / 1e6,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
