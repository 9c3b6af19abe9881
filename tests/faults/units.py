"""Units of the small collection that faults are done to: all that its workers import, so that they start quickly."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cryoscale.ingest.plan as ingest
from cryoscale.chunks import Region
from cryoscale.io.files import relative_files, write_text
from cryoscale.io.omezarr import read_region, write_region
from cryoscale.records import Receipt

SHAPE = (64, 48, 48)


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
