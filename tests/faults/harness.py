"""A small collection that faults are done to, and what must hold after each.

Three masks of 64 x 48 x 48 voxels go through quick stages that use the project's own reading, writing, engine, driver
and collection: ingest in eight slabs, a second volume made from the first with a halo, a table. Units leave a note of
each execution outside of the run's folder, and do what they are ordered to: wait, or kill their process.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

import cryoscale.ingest.plan as ingest
from cryoscale.chunks import Region, blocks
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import Executor, JobPlan, LoopExecutor, Phase
from cryoscale.io.files import relative_files, write_text
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.manifest import entries
from cryoscale.records import Geometry, Receipt, Unit, fingerprint
from cryoscale.spec import IngestSpec, RunSpec

NAMES = ("a", "b", "c")
SHAPE = (64, 48, 48)
UNITS = len(NAMES) * 18
_SLAB = (8, *SHAPE[1:])
_TELLS_WHEN = {"run.json", "run.lock", "seal.json", "summary.json", "journal.jsonl", "failures.csv"}


@dataclass(frozen=True)
class Watch:
    """How units are watched and paced."""

    folder: str
    """Notes and orders."""
    pace_seconds: float = 0.0


def watched(watch: Watch, key: tuple[str, str, int], call: Callable[..., Receipt], args: tuple) -> Receipt:
    """Run a unit's call after noting it and obeying orders."""
    name = "-".join(map(str, key))
    Path(watch.folder, "notes", f"{name}~{secrets.token_hex(4)}").touch()
    time.sleep(watch.pace_seconds)
    if Path(watch.folder, "orders", f"{name}.die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*args)


def doubled(folder: str, region: Region) -> Receipt:
    """Write a slab of the second volume: the first, summed with the slices beside each."""
    around = region.grow((1, 0, 0), SHAPE)
    values = read_region(f"{folder}/{ingest.MASK}", around).astype(np.uint16)
    total = np.cumsum(values, axis=0, dtype=np.uint16)[region.within(around)]
    files = write_region(f"{folder}/sum.ome.zarr", region, total)
    return Receipt(relative_files(folder, files), {"total": int(total.sum())})


def table(folder: str, totals: tuple[int, ...]) -> Receipt:
    write_text(Path(folder) / "totals.csv", "\n".join(map(str, totals)))
    return Receipt(("totals.csv",))


def quick_job(tomogram, entry, spec, *, until: str, gpu: bool, watch: Watch) -> JobPlan:
    """Stand in for `cryoscale.pipeline.tomogram_job`."""
    mark = fingerprint(entry.identity())

    def phase(units) -> Phase:
        held = [Unit(u.key, watched, (watch, u.key, u.call, u.args), u.bytes) for u in units]
        return Phase(units[0].key[0], tomogram.folder, mark, tuple(held))

    plan = ingest.plan(tomogram, spec.ingest, mask=entry.mask)
    units = next(plan)
    try:
        while True:
            units = plan.send((yield phase(units)))
    except StopIteration as stop:
        geometry = Geometry.from_json(stop.value["geometry"])
    create_image(tomogram.path("sum.ome.zarr"), geometry, np.uint16, (8, 24, 24), shards=_SLAB)
    slabs = enumerate(blocks(SHAPE, _SLAB))
    done = yield phase([Unit(("merge", entry.id, n), doubled, (tomogram.folder, slab), 0) for n, slab in slabs])
    totals = tuple(receipt.numbers["total"] for receipt in done)
    yield phase([Unit(("fit", entry.id, 0), table, (tomogram.folder, totals), 0)])
    return {"merge": {"warnings": []}}


class Scene:
    """One collection in a folder of its own."""

    def __init__(self, root: Path, pace_seconds: float = 0.0) -> None:
        self.root, self.output = root, root / "meant" / "out"
        for name in ("masks", "notes", "orders"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.watch = Watch(str(root), pace_seconds)
        for number, name in enumerate(NAMES):
            path = self.mask(name)
            if not path.exists():
                values = np.random.default_rng(number).integers(0, 3, SHAPE).astype(np.int8)
                # Slabs without a voxel are what is easily taken for missing files.
                values[16:24] = 0
                write_mrc(path, values, 10.0)

    def mask(self, name: str) -> Path:
        return self.root / "masks" / f"{name}.mrc"

    def order(self, stage: str, name: str, index: int, action: str) -> Path:
        path = self.root / "orders" / f"{stage}-{name}-{index}.{action}"
        path.touch()
        return path

    def run(self, executor: Executor | None = None) -> Result:
        """Give the command."""
        found = entries([str(self.mask(name)) for name in NAMES], "{path}")
        spec = RunSpec(ingest=IngestSpec(chunk_voxels=(8, 24, 24), pyramid_levels=1))

        def job(*args, **options):
            return quick_job(*args, **options, watch=self.watch)

        with mock.patch("cryoscale.collection.tomogram_job", job):
            return run_collection(Collection(found, self.output, spec, until="fit"), executor or LoopExecutor())

    def notes(self) -> Counter[str]:
        """Count how often each unit began."""
        return Counter(path.name.split("~")[0] for path in (self.root / "notes").iterdir())

    def executions(self) -> int:
        return sum(self.notes().values())

    def products(self) -> dict[str, str]:
        """Hash of every product."""
        return {
            path.relative_to(self.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.output.rglob("*"))
            if path.is_file() and path.name not in _TELLS_WHEN and "records" not in path.parts
        }

    def when(self, executions: int, action: Callable[[], object]) -> threading.Thread:
        """Do something once so many units have begun."""

        def wait() -> None:
            end = time.monotonic() + 60
            while self.executions() < executions and time.monotonic() < end:
                time.sleep(0.02)
            action()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def require_whole(self, expected: dict[str, str], repeats: int) -> None:
        """Give the command again, and once more: all is there, little was done twice, then nothing."""
        assert self.run().exit_code == 0
        assert self.products() == expected
        assert self.executions() <= UNITS + repeats, self.notes().most_common(8)
        assert not list(self.output.rglob("*.partial*"))
        before = self.executions()
        assert self.run().exit_code == 0
        assert self.executions() == before, "a finished run ran units"


def main(root: str) -> None:
    """Run the collection in `root` on two workers: a client that can be killed."""
    from cryoscale.cluster import DaskExecutor

    with DaskExecutor(2) as executor:
        Scene(Path(root), 0.3).run(executor)


if __name__ == "__main__":
    main(sys.argv[1])
