"""What each stage costs on this machine, from a small run of its own: time, disk and files per voxel.

A simulated tomogram of four chunks goes through the stages that a run will use, with its options, in one process::

    time of a stage   =  core seconds per voxel x voxels, but for stages that cost the same for any size
    disk, files       =  what the stage's records name, per voxel and per unit

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
from cryoscale.spec import RunSpec

__all__ = ["FIXED_STAGES", "TYPICAL", "Rates", "StageRate", "measured_rates"]

FIXED_STAGES = {"measure", "report"}
"""Stages whose time hardly follows the size of the tomogram: tables, pictures."""
_SEED = 3
_WARM_UP = (32, 96, 96)


@dataclass(frozen=True)
class StageRate:
    """What a stage costs."""

    seconds: float
    """Core seconds per megavoxel; of a tomogram of any size for `FIXED_STAGES`."""
    disk_bytes: float
    """Bytes per voxel; for ingest, per byte of the file that is read."""
    files: float = 0.0
    """Files, records left out, per unit."""


@dataclass(frozen=True)
class Rates:
    """What every stage costs, and where that was measured."""

    stages: dict[str, StageRate]
    origin: str


TYPICAL = Rates(
    {
        "ingest": StageRate(0.1, 1.1, 2.6), "enhance": StageRate(3.0, 3.6, 1.0), "segment": StageRate(1.5, 0.25, 2.0),
        "merge": StageRate(0.1, 0.05, 1.0), "connect": StageRate(2.0, 0.1, 1.0), "separate": StageRate(0.7, 0.1, 1.0),
        "locate": StageRate(0.05, 0.02, 1.0), "fit": StageRate(0.5, 0.7, 1.0), "surface": StageRate(0.1, 3.0, 3.0),
        "measure": StageRate(0.5, 0.0, 0.2), "report": StageRate(3.0, 0.02, 0.5),
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
        platform.node(), os.cpu_count(),
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
    voxels = math.prod(shape)
    sums: dict[str, list[float]] = {}
    for path in (folder / "records").glob("*/*.json"):
        record = DoneRecord.from_json(path.read_text(encoding="utf-8"))
        row = sums.setdefault(record.key[0].split("-")[0], [0.0, 0.0, 0.0, 0.0])
        row[0] += record.seconds
        row[1] += sum(length for _, length, _ in record.files) / (itemsize if record.key[0][:6] == "ingest" else 1)
        row[2] += len(record.files)
        row[3] += 1
    return {
        stage: StageRate(seconds if stage in FIXED_STAGES else seconds / voxels * 1e6, size / voxels, files / units)
        for stage, (seconds, size, files, units) in sums.items()
    }
