"""How much of a collection's tomograms is membrane, from small windows spread over a few of them.

    share  =  voxels of membrane in the windows / voxels of the windows

Windows lie where a sequence of low discrepancy (multiples of the powers of the root of g^4 = g + 1, modulo 1) puts
them, the same every time. Of masks they are counted; of tomograms the network scores them, eight slices thick, and the
middle four count.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.collection import Collection, run_collection
from cryoscale.engine import LoopExecutor
from cryoscale.errors import CryoscaleError
from cryoscale.foreground import foreground_of
from cryoscale.ingest.plan import MASK
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import open_level
from cryoscale.io.source import Source, is_packed, open_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.manifest import Entry
from cryoscale.segment.plan import CLASSES
from cryoscale.spec import RunSpec

__all__ = ["marked_share", "membrane_share", "own_inputs", "run_or_raise"]

_TOMOGRAMS, _WINDOWS = 3, 32
_WINDOW = (8, 128, 128)
_COUNTED = slice(2, 6)
_MEMBRANE = 2
_STEPS = 1.2207440846057596 ** -np.arange(1.0, 4.0)


def membrane_share(collection: Collection, entries: Sequence[Entry]) -> float | None:
    """Return how much of the tomograms, or of their masks, is membrane; None where none could be looked into.

    Parameters
    ----------
    collection
        Its options.
    entries
        Those of its tomograms that can be read; windows are taken of three at most, the first among them.
    """
    readable = [entry for entry in entries if not is_packed(entry.mask or entry.source)]
    few = readable[:: -(-len(readable) // _TOMOGRAMS)] if readable else []
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for entry in few:
            look = _masked_share if entry.mask else _scored_share
            try:
                found.append(look(entry, entry.spec_over(collection.spec), _WINDOWS // len(few), Path(scratch)))
            except (CryoscaleError, ValueError, OSError):
                # What is wrong with an input is told elsewhere; here there is one look less.
                continue
    return float(np.mean(found)) if found else None


def marked_share(folder: Path, spec: RunSpec) -> float:
    """Return how much of a tomogram of a run is membrane, by its network or its mask, before anything is dropped."""
    masked = (folder / MASK).is_dir()
    volume = open_level(folder / (MASK if masked else CLASSES), 0)
    counted = 0
    for start in range(0, volume.shape[0], volume.chunks[0]):
        slab = np.asarray(volume[start : start + volume.chunks[0]])
        counted += int(np.count_nonzero(_foreground(slab, spec) if masked else slab == _MEMBRANE))
    return counted / float(np.prod(volume.shape))


def own_inputs(spec: RunSpec) -> RunSpec:
    """Return the options for volumes that are ours, whose headers are right: those about inputs are the user's own."""
    chunk, levels = spec.ingest.chunk_voxels, spec.ingest.pyramid_levels
    ours = dataclasses.replace(RunSpec().ingest, chunk_voxels=chunk, pyramid_levels=levels)
    return dataclasses.replace(spec, ingest=ours)


def run_or_raise(collection: Collection) -> None:
    """Run a trial, and raise what it failed with."""
    for outcome in run_collection(collection, LoopExecutor()).failures:
        if outcome.error is not None:
            raise outcome.error


def _masked_share(entry: Entry, spec: RunSpec, count: int, scratch: Path) -> float:  # noqa: ARG001
    windows = _windows(_opened(entry.mask, spec), count)
    return float(np.mean([np.count_nonzero(_foreground(window, spec)) / window.size for window in windows]))


def _foreground(window: NDArray[Any], spec: RunSpec) -> NDArray[Any]:
    return foreground_of("", window.dtype, spec.merge.mask_threshold, spec.merge.mask_labels).of(window)


def _scored_share(entry: Entry, spec: RunSpec, count: int, scratch: Path) -> float:
    source, options = _opened(entry.source, spec), spec.ingest
    voxel, _ = resolve_voxel_size(
        source.voxel_size_found_angstrom, options.apix or None, force=options.force_apix, where=entry.source
    )
    windows = [window.astype(np.float32) for window in _windows(source, count)]
    sample = scratch / f"{entry.id}.mrc"
    write_mrc(sample, np.concatenate(windows), voxel)
    run_or_raise(Collection([Entry(entry.id, str(sample))], scratch / "out", own_inputs(spec), until="segment"))
    classes = np.asarray(open_level(scratch / "out" / entry.id / CLASSES, 0)[:]).reshape(count, *windows[0].shape)
    # A window's first and last slices were scored beside those of another.
    counted = classes[:, _COUNTED] if windows[0].shape[0] == _WINDOW[0] else classes
    return float(np.mean(counted == _MEMBRANE))


def _opened(path: str, spec: RunSpec) -> Source:
    options = spec.ingest
    return open_source(path, mode0_bytes=options.mode0_bytes, ignore_extended_header=options.ignore_extended_header)


def _windows(source: Source, count: int) -> Iterator[NDArray[Any]]:
    """Read so many windows, their middles spread over the volume; those beyond a face are moved inside."""
    shape = np.array(source.shape)
    size = np.minimum(_WINDOW, shape)
    for number in range(count):
        middle = (0.5 + number * _STEPS) % 1.0 * shape
        start = np.clip(np.rint(middle - size / 2).astype(int), 0, shape - size)
        yield source.read(start.tolist(), (start + size).tolist())
