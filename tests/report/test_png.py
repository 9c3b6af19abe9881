"""PNG files against matplotlib's reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from cryoscale.report.png import encode_png, png_size


def decoded(data: bytes) -> np.ndarray:
    picture = np.rint(imread(io.BytesIO(data), format="png") * 255).astype(np.uint8)
    if picture.shape[2] == 3:
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    return picture


def test_few_colours_come_back_exactly() -> None:
    rng = np.random.default_rng(1)
    palette = rng.integers(0, 256, (200, 4)).astype(np.uint8)
    palette[:, 3] = np.maximum(palette[:, 3], 1)
    picture = palette[rng.integers(0, 200, (31, 17))]
    assert np.array_equal(decoded(encode_png(picture)), picture)
    assert png_size(encode_png(picture)) == (17, 31)


def test_many_colours_come_back_nearly() -> None:
    y, x = np.indices((80, 120))
    picture = np.dstack([2 * x, 3 * y, x + y, np.full_like(x, 255)]).astype(np.uint8)
    back = decoded(encode_png(picture)).astype(int)
    assert np.abs(back - picture).mean() < 8
    assert (back[..., 3] == 255).all()


def test_mixed_colours_are_right_on_average_where_single_colours_step() -> None:
    ramp = np.linspace(40, 220, 256)
    picture = np.dstack([np.tile(ramp, (64, 1))] * 3 + [np.full((64, 256), 255.0)]).astype(np.uint8)
    errors = []
    for dither in (False, True):
        back = decoded(encode_png(picture, colours=8, dither=dither)).astype(float) - picture
        errors.append(np.abs(back[..., 0].reshape(8, 8, 32, 8).mean(axis=(1, 3))).mean())
    assert errors[1] < errors[0] / 3


def test_what_is_transparent_has_no_colour() -> None:
    picture = np.full((4, 4, 4), 200, np.uint8)
    picture[:2, :, 3] = 0
    assert (decoded(encode_png(picture))[:2, :, 3] == 0).all()


def test_bad_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ValueError, match="1 to 256"):
        encode_png(np.zeros((3, 3, 4), np.uint8), colours=300)
    with pytest.raises(ValueError, match="not a PNG"):
        png_size(b"GIF89a")
