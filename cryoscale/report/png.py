"""Small PNG files: 256 colours chosen for the picture, which a tomogram's noise needs a quarter of the bytes for.

A noisy grey picture has about 4 bits of information in a pixel once it is shown with 32 greys; stored as true colour
with alpha it takes 12 or more. The palette is found by median cut (P. Heckbert, SIGGRAPH 1982) over the colours,
each halving the box whose colours differ most. See the PNG specification (ISO/IEC 15948) for the chunks.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["encode_png", "png_size"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(picture: NDArray[np.uint8], *, colours: int = 256, dither: bool = False) -> bytes:
    """Encode a picture with a palette of at most `colours`.

    Parameters
    ----------
    picture
        (h, w, 4) red, green, blue, alpha.
    colours
        1 to 256; a picture that has no more keeps each exactly.
    dither
        Mix the two nearest colours pixel by pixel: for smooth shading, which would show steps without it.

    Raises
    ------
    ValueError
        The picture is not (h, w, 4) uint8, is empty, or the number of colours is out of range.
    """
    if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8 or not picture.size:
        msg = f"a picture must be (h, w, 4) uint8 and not empty, not {picture.shape} {picture.dtype}"
        raise ValueError(msg)
    if not 1 <= colours <= 256:
        msg = f"a palette has 1 to 256 colours, not {colours}"
        raise ValueError(msg)
    picture = np.where(picture[..., 3:] > 0, picture, 0).astype(np.uint8)
    packed = np.ascontiguousarray(picture).view("<u4")[..., 0]
    unique, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    found = unique.astype("<u4").view(np.uint8).reshape(-1, 4)
    which = inverse.reshape(packed.shape)
    if len(found) <= colours:
        palette, rows = found, which.astype(np.uint8)
    else:
        palette = _median_cut(found, counts, colours)
        rows = _nearest(palette, found, which, dither=dither)
    height, width = picture.shape[:2]
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette[:, :3].tobytes()),
            _chunk(b"tRNS", palette[:, 3].tobytes()),
            _chunk(b"IDAT", zlib.compress(raw, 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _nearest(
    palette: NDArray[np.uint8], found: NDArray[np.uint8], which: NDArray[np.int64], *, dither: bool
) -> NDArray[np.uint8]:
    """(h, w) entry of the palette for each pixel, given the number of its colour in `found`."""
    colours = found.astype(np.float64)
    near = cKDTree(palette).query(colours, k=2)[1] if dither else cKDTree(palette).query(colours)[1][:, None]
    if not dither:
        return np.asarray(near[:, 0][which], np.uint8)
    first, second = (palette[near[:, n]].astype(np.float64) for n in (0, 1))
    apart = np.maximum(((second - first) ** 2).sum(axis=1), 1)
    share = np.clip(((colours - first) * (second - first)).sum(axis=1) / apart, 0, 1)
    # Steps between transparent and opaque are edges, not shading.
    share[found[:, 3] < 255] = 0
    row, column = np.ogrid[: which.shape[0], : which.shape[1]]
    # Interleaved gradient noise (J. Jimenez, SIGGRAPH 2014 courses): an even spread of thresholds without a pattern.
    threshold = np.mod(52.9829189 * np.mod(0.06711056 * column + 0.00583715 * row, 1.0), 1.0)
    return np.asarray(np.where(threshold < share[which], near[:, 1][which], near[:, 0][which]), np.uint8)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _median_cut(found: NDArray[np.uint8], counts: NDArray[np.int64], colours: int) -> NDArray[np.uint8]:
    """(colours, 4) palette for colours that occur `counts` times."""
    values = found.astype(np.float64)
    # The root keeps rare colours, a scale bar's say, from drowning in the many greys of the noise.
    weights = np.sqrt(counts.astype(np.float64))
    boxes = [np.arange(len(values))]
    spreads = [_spread(values, weights, boxes[0])]
    while len(boxes) < colours:
        widest = max(range(len(boxes)), key=lambda n: spreads[n][0])
        amount, axis = spreads[widest]
        if amount == 0:
            break
        box = boxes[widest][np.argsort(values[boxes[widest], axis], kind="stable")]
        share = np.cumsum(weights[box])
        middle = int(np.clip(np.searchsorted(share, share[-1] / 2), 1, len(box) - 1))
        boxes[widest], spreads[widest] = box[:middle], _spread(values, weights, box[:middle])
        boxes.append(box[middle:])
        spreads.append(_spread(values, weights, box[middle:]))
    means = [np.average(values[box], axis=0, weights=weights[box]) for box in boxes]
    return np.asarray(np.rint(np.array(means)), np.uint8)


def _spread(values: NDArray[np.float64], weights: NDArray[np.float64], box: NDArray[np.int64]) -> tuple[float, int]:
    """Weighted sum of squares about the mean along the channel where it is largest, and that channel."""
    if len(box) < 2:
        return 0.0, 0
    mean = np.average(values[box], axis=0, weights=weights[box])
    squares = weights[box] @ (values[box] - mean) ** 2
    return float(squares.max()), int(squares.argmax())


def png_size(data: bytes) -> tuple[int, int]:
    """Read width and height in pixels from a PNG's first chunk.

    Raises
    ------
    ValueError
        The bytes are not a PNG.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 24:
        msg = "the bytes are not a PNG"
        raise ValueError(msg)
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)
