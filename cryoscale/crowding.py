"""How many worker processes this machine's memory holds, from the headers of the tomograms, before anything starts.

A worker takes its libraries and the largest unit that may come to it (estimate.py), and beside all workers there is the
command. What the shape of a tomogram alone determines is certain, what follows from membranes that nobody has seen yet
is likely: the number of workers is chosen by what is likely, and refused only by what is certain. A tomogram that not
even one process could make has no say here: it fails by itself, and the others go on (driver.py).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryoscale.collection import Collection
from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.estimate import estimate_tomogram, header_of, stages_to_do
from cryoscale.manifest import Entry
from cryoscale.memory import PROCESS_BYTES, size
from cryoscale.progress import printable
from cryoscale.records import Geometry
from cryoscale.spec import RunSpec

__all__ = ["Need", "need_of", "needs_of", "workers_for"]

_BY_SHAPE = {"ingest", "enhance", "segment", "merge", "connect", "locate", "report"}
"""Stages whose units are as large as the tomogram makes them, whatever is in it."""
_LOOKERS = 16
"""Threads that look into headers: on a shared file system each look is a wait."""


@dataclass(frozen=True)
class Need:
    """What a worker needs so that it can make a tomogram, in bytes."""

    name: str
    certain: int
    likely: int


def needs_of(collection: Collection) -> list[Need]:
    """Return what the tomograms of a collection need; of one that cannot be opened the run itself tells."""

    def look(entry: Entry) -> tuple[Entry, Geometry, list[int]] | None:
        try:
            return entry, *header_of(entry, collection)
        except (CryoscaleError, OSError, ValueError):
            return None

    with ThreadPoolExecutor(_LOOKERS) as pool:
        opened = [found for found in pool.map(look, collection.entries) if found]
    # Many have one shape.
    taken = functools.cache(_worker_bytes)
    needs = []
    for entry, geometry, itemsizes in opened:
        with contextlib.suppress(CryoscaleError):
            spec, stages = entry.spec_over(collection.spec), stages_to_do(entry, collection)
            about = Geometry(geometry.shape, geometry.voxel_size_angstrom)
            needs.append(Need(entry.id, *taken(about, tuple(itemsizes), spec, stages, masked=bool(entry.mask))))
    return needs


def need_of(name: str, geometry: Geometry, itemsize: int, spec: RunSpec) -> Need:
    """Return what a tomogram needs that is yet to be written, given bytes per voxel, for every stage to the report."""
    stages = Collection((), Path(), spec).stages(Entry(name, ""))
    return Need(name, *_worker_bytes(geometry, (itemsize,), spec, stages, masked=False))


def _worker_bytes(
    geometry: Geometry, itemsizes: tuple[int, ...], spec: RunSpec, stages: tuple[str, ...], *, masked: bool
) -> tuple[int, int]:
    """Return the memory of a worker, as far as it is certain and as it is likely."""
    units = {
        part.stage: part.unit_bytes for part in estimate_tomogram(geometry, itemsizes, spec, stages, masked=masked)
    }
    certain = max((units[stage] for stage in units.keys() & _BY_SHAPE), default=0)
    return PROCESS_BYTES + certain, PROCESS_BYTES + max(units.values(), default=0)


def workers_for(needs: Sequence[Need], asked: int, *, held_bytes: int, cores: int) -> tuple[int, str]:
    """Return how many workers there are to be, and what to tell of it where they are fewer than the cores.

    Parameters
    ----------
    needs
        Of the tomograms.
    asked
        The number that was asked for; 0 takes as many as there are cores and memory for.
    held_bytes
        Memory of this machine.
    cores
        Of this machine.

    Raises
    ------
    UsageError
        So many as were asked for have less memory each than a unit takes.
    """
    possible = [need for need in needs if need.certain <= held_bytes]
    if not possible:
        return asked or cores, ""
    if asked:
        _refuse_too_many(max(possible, key=lambda need: need.certain), asked, held_bytes)
        return asked, ""
    largest = max(possible, key=lambda need: need.likely)
    # A single worker is the command itself.
    count = min(cores, max(1, (held_bytes - PROCESS_BYTES) // largest.likely))
    told = (
        f"{count} of {cores} cores work: {printable(largest.name)} takes about {size(largest.likely)} of memory a "
        f"worker, of {size(held_bytes)} here"
    )
    return count, told if count < cores else ""


def _refuse_too_many(largest: Need, asked: int, held_bytes: int) -> None:
    each = held_bytes // asked
    if each < largest.certain:
        raise UsageError(
            "so many workers have too little memory each",
            where=f"--workers {asked}",
            found=f"{size(each)} of {size(held_bytes)}",
            allowed=f"at least {size(largest.certain)} for {printable(largest.name)}",
            todo=f"at most --workers {held_bytes // largest.certain}; without --workers there are as many as fit",
        )
