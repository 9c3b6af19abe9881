"""One way to look into any volume a user may have: MRC, the same in gzip or bzip2, a TIFF stack, OME-Zarr.

What a file is, its first bytes say, not its name::

    folder                     OME-Zarr
    1f 8b / BZh                unpacked to a scratch file, then as below
    II*, MM*, II+, MM+         TIFF
    anything else              MRC, or refused with what it looks like
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.chunks import Region
from cryoscale.io import omezarr
from cryoscale.io.compressed import compression_of, head, unpack
from cryoscale.io.inputs import (
    Identity,
    InputError,
    Notes,
    identity_of,
    open_regular,
    printable,
    require_unchanged,
)
from cryoscale.io.mrc import read_box
from cryoscale.io.mrcfields import HEADER_BYTES, declared_bytes
from cryoscale.io.mrcheader import MrcHeader, interpret, read_header
from cryoscale.io.tiff import TiffStack, is_tiff, read_stack, read_stack_header
from cryoscale.io.voxelsize import VoxelSize, doubt

__all__ = ["Source", "is_packed", "open_source", "peek_source"]


@dataclass(frozen=True)
class Source:
    """A volume that can be read, wherever it lies."""

    path: str
    """What the user named."""
    kind: str
    """``mrc``, ``tiff`` or ``omezarr``."""
    shape: tuple[int, int, int]
    """Voxels along z, y, x."""
    dtype: np.dtype[Any]
    """Type of the voxels, native byte order."""
    voxel_size_found_angstrom: VoxelSize | None
    """Edges z, y, x as the file has them; may be anything."""
    voxel_size_angstrom: VoxelSize | None
    """Edges z, y, x, or None where they must be asked for."""
    origin_angstrom: tuple[float, float, float]
    """Position of voxel (0, 0, 0), z, y, x."""
    warnings: Notes
    """Each (code, text)."""
    identity: Identity
    """Which bytes the user's path stood for."""
    inner: MrcHeader | TiffStack | str
    """What reads it."""

    def read(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Read the box from voxel `start` up to `stop`, z, y, x; raises as the format's reader."""
        if isinstance(self.inner, MrcHeader):
            return read_box(self.inner, start, stop)
        if isinstance(self.inner, TiffStack):
            return read_stack(self.inner, start, stop)
        return omezarr.read_region(self.inner, Region(tuple(start), tuple(stop)))

    def require_same(self) -> None:
        """Refuse an input that is no longer the one that was opened: what was read from it may be half of each.

        Raises
        ------
        InputError
            ``changed``; or it cannot be opened any more.
        """
        looked_at = _metadata(Path(self.inner)) if isinstance(self.inner, str) else self.path
        require_unchanged(self.identity, identity_of(looked_at or self.path), self.path)


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in ("zarr.json", ".zattrs") if (folder / name).is_file()), None)


def is_packed(path: str | Path) -> bool:
    """Return whether `path` is a gzip or bzip2 file; raises as `cryoscale.io.inputs.open_regular`."""
    return not _is_folder(path) and compression_of(path) != ""


def open_source(
    path: str | Path,
    *,
    scratch: str | Path | None = None,
    mode0_bytes: str = "",
    ignore_extended_header: bool = False,
) -> Source:
    """Open a volume after judging all that can be judged without reading it.

    Parameters
    ----------
    path
        A file, or the folder of an OME-Zarr image.
    scratch
        File that a packed input is unpacked to; one that is there already is taken as complete.
    mode0_bytes, ignore_extended_header
        As in `cryoscale.io.mrcheader.read_header`.

    Raises
    ------
    InputError
        It cannot be read; `code` says why. `AskError` where the user has to state a value.
    ValueError
        The input is packed and no scratch file is named.
    """
    if _is_folder(path):
        return _open_omezarr(path)
    identity, readable = identity_of(path), path
    if is_packed(path):
        if scratch is None:
            msg = f"{path} is packed: a scratch file is needed"
            raise ValueError(msg)
        readable = scratch
        if not Path(scratch).exists():
            unpack(path, scratch)
    where = printable(path)
    descriptor, _ = open_regular(readable)
    try:
        start = os.pread(descriptor, 8, 0)
    finally:
        os.close(descriptor)
    if is_tiff(start):
        return _source(path, read_stack_header(readable, where), identity)
    options: dict[str, Any] = {"mode0_bytes": mode0_bytes, "ignore_extended_header": ignore_extended_header}
    return _source(path, read_header(readable, **options, where=where), identity)


def _source(path: str | Path, inner: MrcHeader | TiffStack, identity: Identity) -> Source:
    return Source(
        path=str(path),
        kind="mrc" if isinstance(inner, MrcHeader) else "tiff",
        shape=inner.shape,
        dtype=inner.dtype,
        voxel_size_found_angstrom=inner.voxel_size_found_angstrom,
        voxel_size_angstrom=inner.voxel_size_angstrom,
        origin_angstrom=inner.origin_angstrom if isinstance(inner, MrcHeader) else (0.0, 0.0, 0.0),
        warnings=inner.warnings,
        identity=identity,
        inner=inner,
    )


def peek_source(path: str | Path, *, mode0_bytes: str = "", ignore_extended_header: bool = False) -> Source:
    """Look into a volume without unpacking it: shape, type, voxel size and origin, to plan and estimate with.

    A packed MRC file is taken to be as long as its header says; what this returns for it cannot be read. Raises as
    `open_source`.
    """
    options: dict[str, Any] = {"mode0_bytes": mode0_bytes, "ignore_extended_header": ignore_extended_header}
    if not is_packed(path):
        return open_source(path, **options)
    start, identity = head(path, HEADER_BYTES), identity_of(path)
    assumed = Identity(identity.device, identity.inode, declared_bytes(start) or len(start), identity.mtime_ns)
    inner = interpret(start, assumed, str(path), printable(path), **options)
    return _source(path, inner, identity)


def _is_folder(path: str | Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - a path may hold bytes that pathlib refuses
    except (OSError, ValueError):
        return False


def _open_omezarr(path: str | Path) -> Source:
    folder = Path(path)
    metadata = _metadata(folder)
    if metadata is None:
        raise InputError(
            "not-a-file",
            "a folder that is not an OME-Zarr image",
            where=printable(path),
            found="no zarr.json and no .zattrs",
            allowed="a file, or an OME-Zarr image",
        )
    geometry = omezarr.image_geometry(folder)
    found = geometry.voxel_size_angstrom
    problem = doubt(found)
    return Source(
        path=str(path),
        kind="omezarr",
        shape=geometry.shape,
        dtype=omezarr.image_dtype(folder),
        voxel_size_found_angstrom=found,
        voxel_size_angstrom=None if problem else found,
        origin_angstrom=geometry.origin_angstrom,
        warnings=(problem,) if problem else (),
        identity=identity_of(metadata),
        inner=str(folder),
    )
