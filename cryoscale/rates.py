"""What each stage costs on this machine, from a small run of its own: time, disk and files per voxel.

A simulated tomogram of four chunks goes through the stages that a run will use, with its options, in one process::

    time of a stage   =  processor seconds per voxel x voxels, or per membrane x membranes, or the same for any
                         tomogram; of the network on a GPU, the clock's
    disk              =  what the stage's records name, per the same
    files             =  per unit

A still smaller one goes first, so that loading and compiling are not counted. The rates are kept in the user's cache
folder, ``$XDG_CACHE_HOME/cryoscale``, for this machine, these options, code and weights.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoscale.collection import Collection, run_collection, weights_of
from cryoscale.demo import write_simulation
from cryoscale.engine import LoopExecutor
from cryoscale.io.files import write_text
from cryoscale.manifest import Entry
from cryoscale.records import DoneRecord, fingerprint, sealed, unsealed
from cryoscale.runrecord import code_of_stages
from cryoscale.segment.plan import gpu_count
from cryoscale.spec import RunSpec

__all__ = ["FIXED_STAGES", "MEMBRANE_STAGES", "TYPICAL", "Rates", "StageRate", "measured_rates", "shares"]

FIXED_STAGES = {"report"}
"""Stages that cost much the same for any tomogram."""
MEMBRANE_STAGES = {"separate", "fit", "measure"}
"""Stages whose cost follows the number of membranes; small tomograms have more of them for their size."""
_SEED = 3
_WARM_UP = (32, 96, 96)


@dataclass(frozen=True)
class StageRate:
    """What a stage costs."""

    seconds: float
    """Core seconds per megavoxel; per membrane for `MEMBRANE_STAGES`, of any tomogram for `FIXED_STAGES`."""
    disk_bytes: float
    """Bytes per voxel, per membrane, of any tomogram; for ingest, per byte of the file that is read."""
    files: float = 0.0
    """Files, records left out, per unit."""


@dataclass(frozen=True)
class Rates:
    """What every stage costs, and where that was measured."""

    stages: dict[str, StageRate]
    origin: str


TYPICAL = Rates(
    {
        "ingest": StageRate(0.07, 1.1, 2.6), "enhance": StageRate(3.0, 3.6, 1.0), "segment": StageRate(1.1, 0.2, 2.0),
        "merge": StageRate(0.06, 0.03, 1.0), "connect": StageRate(2.0, 0.1, 1.0),
        "separate": StageRate(0.9, 350e3, 1.4), "locate": StageRate(0.03, 0.02, 1.0), "fit": StageRate(1.0, 2.2e6, 5.0),
        "surface": StageRate(0.09, 3.0, 3.0), "measure": StageRate(1.0, 1.4e6, 4.0),
        "report": StageRate(7.0, 1.5e6, 13.0),
    },
    "typical of one core of a 2.6 GHz server processor",
)  # fmt: skip
"""Where nothing is measured."""


def measured_rates(collection: Collection, voxel_size_angstrom: float) -> Rates:
    """Return the rates of a collection's stages on this machine, measured now or before.

    Parameters
    ----------
    collection
        Its options, last stage and whether it starts from masks are used, not its tomograms.
    voxel_size_angstrom
        Of the simulated tomogram.

    Raises
    ------
    PauseError
        The disk is full.
    """
    masked = all(entry.mask for entry in collection.entries)
    apix = min(max(voxel_size_angstrom, 6.0), 16.0)
    key = fingerprint(
        dataclasses.asdict(collection.spec), collection.until, masked, apix, code_of_stages(), weights_of(collection),
        platform.node(), os.cpu_count(), sorted(MEMBRANE_STAGES),
    )  # fmt: skip
    kept = _cache() / f"rates-{key[:16]}.json"
    try:
        data = unsealed(kept.read_text(encoding="utf-8"))
        return Rates({name: StageRate(**rate) for name, rate in data["stages"].items()}, str(data["origin"]))
    except (OSError, ValueError, KeyError, TypeError):
        rates = _measure(collection, apix, masked=masked)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept, sealed(dataclasses.asdict(rates)))
    return rates


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cryoscale"


def _measure(collection: Collection, apix: float, *, masked: bool) -> Rates:
    z, y, x = collection.spec.ingest.chunk_voxels
    shape = (max(z, 32), max(2 * y, 64), max(2 * x, 64))
    with tempfile.TemporaryDirectory() as scratch:
        for name, size in (("warm-up", _WARM_UP), ("measured", shape)):
            source = _run(collection, Path(scratch) / name, size, apix, masked=masked)
        folder = Path(scratch) / "measured" / "out" / f"simulated_{_SEED}"
        stages = _rates_of(folder, shape, source.stat().st_size / math.prod(shape))
    return Rates(stages, f"measured on {platform.node()} with a tomogram of {' x '.join(map(str, shape))} voxels")


def _run(collection: Collection, root: Path, shape: tuple[int, int, int], apix: float, *, masked: bool) -> Path:
    source = write_simulation(root / "input", seed=_SEED, snr=0.3, shape=shape, apix=apix)
    if masked:
        source = root / "input" / "truth" / f"simulated_{_SEED}__instances.mrc"
    entry = Entry(f"simulated_{_SEED}", str(source), str(source) if masked else "")
    # Options about inputs are about the user's own.
    own = RunSpec().ingest
    ingest = dataclasses.replace(
        own, chunk_voxels=collection.spec.ingest.chunk_voxels, pyramid_levels=collection.spec.ingest.pyramid_levels
    )
    merge = dataclasses.replace(collection.spec.merge, mask_labels=())
    spec = dataclasses.replace(collection.spec, ingest=ingest, merge=merge)
    result = run_collection(Collection([entry], root / "out", spec, until=collection.until), LoopExecutor())
    for outcome in result.failures:
        if outcome.error is not None:
            raise outcome.error
    return source


def _rates_of(folder: Path, shape: Sequence[int], itemsize: float) -> dict[str, StageRate]:
    """Add up what the records of a run say, by stage."""
    on_gpu, membranes = gpu_count() > 0, 1
    sums: dict[str, list[float]] = {}
    for path in (folder / "records").glob("*/*.json"):
        record = DoneRecord.from_json(path.read_text(encoding="utf-8"))
        row = sums.setdefault(record.key[0].split("-")[0], [0.0, 0.0, 0.0, 0.0])
        row[0] += record.seconds if on_gpu and record.key[0] == "segment" else record.processor_seconds
        row[1] += sum(length for _, length, _ in record.files) / (itemsize if record.key[0][:6] == "ingest" else 1)
        row[2] += len(record.files)
        row[3] += 1
        if record.key[0] == "separate-number":
            membranes = max(1, int(record.numbers["count"]))
    found = {}
    for stage, (seconds, size, files, units) in sums.items():
        share = shares(stage, math.prod(shape), membranes)
        found[stage] = StageRate(seconds / share[0], size / share[1], files / units)
    return found


def shares(stage: str, voxels: int, membranes: int) -> tuple[float, float]:
    """Return what a stage's seconds and bytes are divided by."""
    if stage in FIXED_STAGES:
        return 1, 1
    return (membranes, membranes) if stage in MEMBRANE_STAGES else (voxels / 1e6, voxels)
