"""Slices to look through: of each axis some forty thumbnails in one picture, membranes in another that lies over it.

A grey one is a JPEG, a fifth of the size that noise needs without loss; the membranes are a PNG of 17 colours:
nothing, eight membranes' colours, and the same paler where the surface is inferred. Rows run upwards.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cryoscale.report.colours import PALETTE, tint

__all__ = ["Stack", "cut_stacks"]

_MOST_SLICES = 48
_QUALITY = 62
_OPACITY = 200


@dataclass(frozen=True)
class Stack:
    """Slices across one axis, one above the other in each picture."""

    name: str
    """Axes of a slice: xy, xz or yz; the first runs to the right, the second up."""
    grey: bytes
    """JPEG; empty where there is no tomogram."""
    labels: bytes
    """PNG, transparent where no membrane is."""
    rows: int
    """Of one slice."""
    columns: int
    positions_nm: tuple[float, ...]
    """Of the slices, on the third axis."""
    start: int
    """The slice with most membrane."""
    nm_per_pixel: float


def cut_stacks(
    raw: NDArray[np.floating] | None,
    labels: NDArray[np.integer],
    inferred: NDArray[np.bool_],
    voxel_nm: float,
    first_nm: float = 0.0,
) -> list[Stack]:
    """Cut small volumes along the three axes.

    Parameters
    ----------
    raw
        (z, y, x) intensity, or None.
    labels
        (z, y, x) numbers of membranes.
    inferred
        (z, y, x) whether the membrane there is inferred.
    voxel_nm
        Edge of these volumes' voxels.
    first_nm
        Position of the centre of the first.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if labels.shape != inferred.shape or (raw is not None and raw.shape != labels.shape):
        msg = f"the volumes must have one shape, not {labels.shape}, {inferred.shape} and {getattr(raw, 'shape', None)}"
        raise ValueError(msg)
    grey = None if raw is None else _grey(raw)
    colour = ((labels + (len(PALETTE) - 1)) % len(PALETTE)).astype(np.uint8) + 1
    colour += np.uint8(len(PALETTE)) * inferred
    colour *= labels > 0
    return [_stack(axis, grey, colour, voxel_nm, first_nm) for axis in range(3)]


def _grey(raw: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Black and white at two percentiles of all slices, so that a slice is not brighter than its neighbour."""
    low, high = np.percentile(raw[tuple(slice(None, None, 2 if n > 64 else 1) for n in raw.shape)], (0.1, 99.9))
    out = np.empty(raw.shape, np.uint8)
    for grey, plane in zip(out, raw, strict=True):
        grey[:] = np.rint(255 * np.clip((plane - low) / max(high - low, 1e-12), 0, 1))
    return out


def _stack(
    axis: int, grey: NDArray[np.uint8] | None, colour: NDArray[np.uint8], voxel_nm: float, first_nm: float
) -> Stack:
    count = colour.shape[axis]
    planes = np.unique(np.rint(np.linspace(0, count - 1, min(count, _MOST_SLICES))).astype(int))
    shown = _piled(colour, axis, planes)
    rows, columns = len(shown) // len(planes), shown.shape[1]
    cut = np.count_nonzero(shown.reshape(len(planes), -1), axis=1)
    return Stack(
        ("xy", "xz", "yz")[axis],
        b"" if grey is None else _jpeg(_piled(grey, axis, planes)),
        _png(shown),
        rows,
        columns,
        tuple(float(plane * voxel_nm + first_nm) for plane in planes),
        int(np.argmax(cut)),
        voxel_nm,
    )


def _piled(volume: NDArray[np.uint8], axis: int, planes: NDArray[np.integer]) -> NDArray[np.uint8]:
    slices = np.moveaxis(volume, axis, 0)[planes][:, ::-1]
    return np.ascontiguousarray(slices).reshape(-1, slices.shape[2])


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _png(indices: NDArray[np.uint8]) -> bytes:
    full = np.array(PALETTE, np.float64)
    colours = np.concatenate([np.zeros((1, 3)), full, tint(full)])
    image = Image.fromarray(indices)
    image.putpalette(np.rint(colours).astype(np.uint8).tobytes())
    stream = io.BytesIO()
    opacity = bytes([0, *([_OPACITY] * (len(colours) - 1))])
    image.save(stream, "PNG", transparency=opacity, optimize=True)
    return stream.getvalue()
