"""What each stage costs on this machine, from a small run of its own: time and disk per voxel.

A simulated tomogram of four chunks goes through the stages that a run will use, with its options, in one process::

    time of a stage   =  processor seconds per voxel x voxels, or per voxel of membrane, half of fit's per membrane, or
                         the same for any tomogram; of the network on a GPU, the clock's
    disk              =  what the stage's records name, per the same

A still smaller one goes first, and where something was compiled nevertheless it all goes once more: loading and
compiling are not counted. The rates are kept in the user's cache folder, ``$XDG_CACHE_HOME/cryoscale``, for this
machine, these options, code and weights.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

from numba.core.event import install_recorder

from cryoscale.collection import Collection, weights_of
from cryoscale.demo import write_simulation
from cryoscale.io.files import write_text
from cryoscale.manifest import Entry
from cryoscale.packing import stored_records
from cryoscale.records import DoneRecord, Geometry, fingerprint, sealed, unsealed
from cryoscale.runrecord import code_of_stages
from cryoscale.sampling import marked_share, own_inputs, run_or_raise
from cryoscale.segment.plan import gpu_count
from cryoscale.spec import RunSpec

__all__ = ["FIXED_STAGES", "MEMBRANE_STAGES", "TYPICAL", "Contents", "Rates", "StageRate", "measured_rates", "shares"]

FIXED_STAGES = {"report"}
"""Stages that cost much the same for any tomogram."""
MEMBRANE_STAGES = {"separate", "fit", "measure"}
"""Stages whose cost follows the membranes."""
_BY_NUMBER = {"fit": 0.5}
"""Share of a stage's time that follows the membranes' number rather than their voxels. A fit first chooses its options
on a bounded number of points, then goes along the surface; which takes longer depends on the shape."""
_RADIUS_NM, _THICKNESS_NM = 40.0, 3.0
"""Of a typical vesicle."""
_SEED = 3
_WARM_UP = (32, 96, 96)


@dataclass(frozen=True)
class StageRate:
    """What a stage costs."""

    seconds: float
    """Core seconds per megavoxel; of membrane for `MEMBRANE_STAGES`, of any tomogram for `FIXED_STAGES`."""
    disk_bytes: float
    """Bytes per voxel, per voxel of membrane, of any tomogram; for ingest, per byte of the file that is read."""
    membrane_seconds: float = 0.0
    """Core seconds per membrane, besides."""


@dataclass(frozen=True)
class Vesicle:
    """A typical membrane in a tomogram's voxels."""

    diameter_voxels: float
    surface_voxels: int
    voxels: int

    @classmethod
    def of(cls, voxel_size_nm: float) -> Vesicle:
        """Return that of a voxel size."""
        surface = 4 * math.pi * (_RADIUS_NM / voxel_size_nm) ** 2
        thickness = max(1.0, _THICKNESS_NM / voxel_size_nm)
        return cls(2 * _RADIUS_NM / voxel_size_nm, round(surface), round(surface * thickness))


@dataclass(frozen=True)
class Contents:
    """How much there is in a tomogram."""

    voxels: int
    membrane_voxels: float
    membranes: int
    """Those that its faces cut are counted too; at least one."""
    typical: Vesicle

    @classmethod
    def expected(cls, geometry: Geometry, share: float) -> Contents:
        """Return what to expect where this share of the voxels is membrane."""
        typical = Vesicle.of(geometry.voxel_size_nm)
        marked = share * math.prod(geometry.shape)
        cut = math.prod(1 + typical.diameter_voxels / edge for edge in geometry.shape)
        return cls(math.prod(geometry.shape), marked, max(1, round(marked / typical.voxels * cut)), typical)


@dataclass(frozen=True)
class Rates:
    """What every stage costs, and where that was measured."""

    stages: dict[str, StageRate]
    origin: str


TYPICAL = Rates(
    {
        "ingest": StageRate(0.07, 1.1), "enhance": StageRate(3.0, 3.6), "segment": StageRate(1.1, 0.2),
        "merge": StageRate(0.06, 0.03), "connect": StageRate(2.0, 0.1), "separate": StageRate(23.0, 10.0),
        "locate": StageRate(0.03, 0.02), "fit": StageRate(37.0, 60.0, 0.5), "surface": StageRate(0.1, 3.5),
        "measure": StageRate(30.0, 40.0), "report": StageRate(7.0, 1.5e6),
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
        platform.node(), os.cpu_count(), sorted(MEMBRANE_STAGES), [part.name for part in dataclasses.fields(StageRate)],
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
        _run(collection, Path(scratch) / "warm-up", _WARM_UP, apix, masked=masked)
        with install_recorder("numba:compile") as compiled:
            source, spec = _run(collection, Path(scratch) / "measured", shape, apix, masked=masked)
        if compiled.buffer:
            _run(collection, Path(scratch) / "measured", shape, apix, masked=masked)
        folder = Path(scratch) / "measured" / "out" / f"simulated_{_SEED}"
        contents = Contents.expected(Geometry(shape, (apix,) * 3), marked_share(folder, spec))
        stages = _rates_of(folder, contents, source.stat().st_size / math.prod(shape))
    return Rates(stages, f"measured on {platform.node()} with a tomogram of {' x '.join(map(str, shape))} voxels")


def _run(
    collection: Collection, root: Path, shape: tuple[int, int, int], apix: float, *, masked: bool
) -> tuple[Path, RunSpec]:
    source = write_simulation(root / "input", seed=_SEED, snr=0.3, shape=shape, apix=apix)
    if masked:
        source = root / "input" / "truth" / f"simulated_{_SEED}__instances.mrc"
    entry = Entry(f"simulated_{_SEED}", str(source), str(source) if masked else "")
    merge = dataclasses.replace(collection.spec.merge, mask_labels=())
    spec = dataclasses.replace(own_inputs(collection.spec), merge=merge)
    run_or_raise(Collection([entry], root / "out", spec, until=collection.until, overwrite=True))
    return source, spec


def _rates_of(folder: Path, contents: Contents, itemsize: float) -> dict[str, StageRate]:
    """Add up what the records of a run say, by stage."""
    on_gpu = gpu_count() > 0
    sums: dict[str, list[float]] = {}
    for text in stored_records(folder).values():
        record = DoneRecord.from_json(text)
        row = sums.setdefault(record.key[0].split("-")[0], [0.0, 0.0])
        row[0] += record.seconds if on_gpu and record.key[0] == "segment" else record.processor_seconds
        row[1] += sum(length for _, length, _ in record.files) / (itemsize if record.key[0][:6] == "ingest" else 1)
    found = {}
    for stage, (seconds, size) in sums.items():
        share, each = shares(stage, contents), _BY_NUMBER.get(stage, 0.0) * seconds
        found[stage] = StageRate((seconds - each) / share[0], size / share[1], each / contents.membranes)
    return found


def shares(stage: str, contents: Contents) -> tuple[float, float]:
    """Return what a stage's seconds and bytes are divided by."""
    if stage in FIXED_STAGES:
        return 1, 1
    voxels = max(1.0, contents.membrane_voxels) if stage in MEMBRANE_STAGES else contents.voxels
    return voxels / 1e6, voxels
