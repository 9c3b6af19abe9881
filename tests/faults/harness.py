"""A small collection that faults are done to, and what must hold after each.

Three masks of 64 x 48 x 48 voxels go through quick stages that use the project's own reading, writing, engine, driver
and collection: ingest in eight slabs, a second volume made from the first with a halo, a table. Units leave a note of
each execution outside of the run's folder, and do what they are ordered to: wait, or kill their process.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np

import cryoscale.ingest.plan as ingest
from cryoscale.chunks import blocks
from cryoscale.collection import Collection, Result, run_collection
from cryoscale.engine import Executor, JobPlan, LoopExecutor, Phase
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image
from cryoscale.manifest import entries
from cryoscale.records import Geometry, Unit, fingerprint
from cryoscale.spec import IngestSpec, RunSpec
from cryoscale.verify import find_damage, repair
from tests.faults.units import SHAPE, Watch, doubled, table, watched

NAMES = ("a", "b", "c")
UNITS = len(NAMES) * 18
_SLAB = (8, *SHAPE[1:])
_TELLS_WHEN = {"run.json", "run.lock", "seal.json", "summary.json", "journal.jsonl", "failures.csv"}


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

    def collection(self, *, retry_failed: bool = False) -> Collection:
        found = entries([str(self.mask(name)) for name in NAMES], "{path}")
        spec = RunSpec(ingest=IngestSpec(chunk_voxels=(8, 24, 24), pyramid_levels=1))
        return Collection(found, self.output, spec, until="fit", retry_failed=retry_failed)

    def _as_here(self) -> AbstractContextManager[object]:
        def job(*args, **options):
            return quick_job(*args, **options, watch=self.watch)

        return mock.patch("cryoscale.collection.tomogram_job", job)

    def run(self, executor: Executor | None = None, *, retry_failed: bool = False) -> Result:
        """Give the command."""
        with self._as_here():
            return run_collection(self.collection(retry_failed=retry_failed), executor or LoopExecutor())

    def verify(self) -> set[str]:
        """Look for damage, as ``cryoscale verify`` does, and mend it; return the files, relative to the output."""
        damage = find_damage(self.collection())
        if damage:
            with self._as_here():
                result, changed = repair(self.collection(), damage, LoopExecutor())
            assert result.exit_code == 0 and not changed
        return {f"{one.tomogram}/{one.file}" for one in damage}

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
