"""How well surfaces are fitted where the data end, and what a fit costs, beside what others would do.

    python -m benchmarks fit [--size small|full] [--part NAME ..] [--seeds N] [--processes N] [--json FILE]
                             [--pictures FOLDER]

- accuracy    : closed shapes with caps missing: Dice, against the paper's convention and SciPy (`_fit_accuracy`)
- kernels     : five covariance functions on the same constraints: evidence, held-out sides, Dice (`_fit_kernels`)
- open        : open sheets: errors inside the rim, overshoot beyond it; thickness of voxelised membranes (`_fit_open`)
- real        : real membranes without their top and bottom fifth, against screened Poisson as well (`_fit_real`)
- speed       : mean and variance over 120^3 against four libraries (`_fit_speed`); the factorisation and batches
                (`_fit_linear`); other ways of summing (`_fit_summation`)
- collection  : a tomogram's membranes fitted, voxelised and meshed: time, memory, projection (`_fit_collection`)
- calibration : how often the true surface lies within one and two standard deviations (`_fit_calibration`)

Peers that are not installed are left out and said so. With --json a part that is run replaces that part in the file;
--pictures writes montages of the fitted shapes and real membranes (`_fit_pictures`).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    _fit_accuracy,
    _fit_calibration,
    _fit_collection,
    _fit_kernels,
    _fit_linear,
    _fit_open,
    _fit_pictures,
    _fit_real,
    _fit_speed,
    _fit_summation,
)
from benchmarks._fit_peers import peer_versions
from benchmarks._machine import machine

Result = dict[str, Any]


def accuracy(size: str, seeds: int, processes: int = 1) -> Result:
    rows = _fit_accuracy.accuracy(seeds or {"small": 2, "full": 20}[size], processes=processes)
    print(_fit_accuracy.accuracy_table(rows))
    return {"closed": rows}


def kernels(size: str, seeds: int) -> Result:
    rows = _fit_kernels.kernels(seeds or {"small": 1, "full": 4}[size])
    print(_fit_kernels.kernels_table(rows))
    return {"compared": rows}


def open_sheets(size: str, seeds: int) -> Result:
    rows = _fit_open.open_sheets(seeds or {"small": 2, "full": 20}[size])
    print(_fit_open.open_table(rows))
    thick = _fit_open.thickness(seeds or {"small": 1, "full": 4}[size])
    print(_fit_open.thickness_table(thick))
    return {"open": rows, "thickness": thick}


def real(size: str, _: int) -> Result:
    rows = _fit_real.real(size)
    print(_fit_real.real_table(rows))
    return {"membranes": rows}


def speed(size: str, _: int) -> Result:
    rows = _fit_speed.evaluation(size)
    print(_fit_speed.evaluation_table(rows))
    shapes = _fit_speed.ellipsoids()
    print(_fit_speed.ellipsoids_table(shapes))
    algebra = _fit_linear.linear(size)
    print(_fit_linear.linear_table(algebra))
    sums = _fit_summation.summation()
    print(_fit_summation.summation_table(sums))
    return {"evaluation": rows, "ellipsoids": shapes, **algebra, "summation": sums}


def collection(size: str, _: int) -> Result:
    rows = _fit_collection.collection(size)
    print(_fit_collection.collection_table(rows))
    return {"ways": rows}


def calibration(size: str, seeds: int) -> Result:
    rows = _fit_calibration.clean(seeds or {"small": 6, "full": 40}[size])
    rows += _fit_calibration.clean(seeds or {"small": 3, "full": 40}[size], along_z=True)
    rows += _fit_calibration.segmented(size)
    print(_fit_calibration.calibration_table(rows))
    return {"coverage": rows}


PARTS: dict[str, Callable[[str, int], Result]] = {
    "accuracy": accuracy,
    "kernels": kernels,
    "open": open_sheets,
    "real": real,
    "speed": speed,
    "collection": collection,
    "calibration": calibration,
}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fit", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--part", choices=tuple(PARTS), nargs="*", default=tuple(PARTS))
    parser.add_argument("--json", type=Path, help="file of results; parts that are not run are kept")
    parser.add_argument("--seeds", type=int, default=0, help="clouds per case, instead of the size's own number")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the accuracy part's clouds")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the fitted surfaces")
    options = parser.parse_args(argv)
    for part in options.part:
        print(f"== {part}, {options.size}")
        start = _processor_s()
        run = partial(accuracy, processes=options.processes) if part == "accuracy" else PARTS[part]
        found = run(options.size, options.seeds)
        seconds = _processor_s() - start
        print(f"({seconds:.0f} processor seconds)\n", flush=True)
        if options.json:
            where = {"machine": machine(), "peers": peer_versions()}
            _keep(options.json, part, {"size": options.size, "processor_s": seconds, **where, **found})
    for path in _fit_pictures.draw(options.pictures) if options.pictures else []:
        print(path)
    return 0


def _processor_s() -> float:
    """Return the processor seconds of this process and of those it waited for."""
    return sum(os.times()[:4])


def _keep(path: Path, part: str, found: Result) -> None:
    """Put one part's result into the file, beside those of other parts."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts = {name: before[name] for name in PARTS if name in before} | {part: found}
    path.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
