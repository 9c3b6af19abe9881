"""TIFF stacks as ImageJ, Fiji and MIB open them: a page per z, voxel size in nm, origin; a slab in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from cryoscale.io.files import atomic_write
from cryoscale.records import Geometry

__all__ = ["write_tiff"]

_TYPES = ("uint8", "uint16", "float32")


def write_tiff(path: str | Path, slabs: Iterable[NDArray[Any]], geometry: Geometry, dtype: DTypeLike) -> None:
    """Write a volume, whole or not at all.

    Parameters
    ----------
    path
    slabs
        Slabs of the volume along z, in order, each z, y, x.
    geometry
        Shape, voxel size and origin.
    dtype
        uint8, uint16 or float32: what ImageJ opens.

    Raises
    ------
    ValueError
        Another type, or slabs that do not add up to the shape.
    """
    kind = np.dtype(dtype)
    if kind.name not in _TYPES:
        msg = f"a TIFF stack for ImageJ is {', '.join(_TYPES)}, not {kind}"
        raise ValueError(msg)
    z, y, x = (size / 10 for size in geometry.voxel_size_angstrom)
    # ImageJ's origin is where position 0 lies, in voxels.
    names = ("zorigin", "yorigin", "xorigin")
    places = zip(geometry.origin_angstrom, geometry.voxel_size_angstrom, strict=True)
    origin = {name: f"{-o / v:.9g}" for name, (o, v) in zip(names, places, strict=True) if o}
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": z, **origin}
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            _planes(slabs, geometry.shape, kind),
            shape=geometry.shape,
            dtype=kind,
            imagej=True,
            resolution=(1 / x, 1 / y),
            metadata=metadata,
        )


def _planes(slabs: Iterable[NDArray[Any]], shape: Sequence[int], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    count = 0
    for slab in slabs:
        if slab.shape[1:] != tuple(shape[1:]):
            msg = f"a slab of {slab.shape} is no part of a volume of {tuple(shape)}"
            raise ValueError(msg)
        for plane in slab:
            count += 1
            yield np.ascontiguousarray(plane, kind)
    if count != shape[0]:
        msg = f"{count} planes are not the {shape[0]} of the volume"
        raise ValueError(msg)
