from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cryoscale.ingest.values import (
    byte_bands,
    clean_slices,
    combine,
    halve,
    signed_bytes_contradicted,
    spans,
    stored_dtype,
)

F4 = np.dtype("f4")


@pytest.fixture
def volume():
    return np.random.default_rng(5).normal(100, 20, (9, 14, 11)).astype("f4")


def test_slice_statistics_match_scipy(volume):
    _, found = clean_slices(volume.copy(), F4)
    for plane, row in zip(volume.astype(float), found, strict=True):
        expected = [
            np.median(plane),
            1.4826 * stats.median_abs_deviation(plane, axis=None),
            plane.std(),
            plane.min(),
            plane.max(),
            0,
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 2, 4, 9])
def test_statistics_do_not_depend_on_the_cut(volume, cut):
    volume[3, 4, 5] = np.nan
    volume[7] = 0
    whole = combine(clean_slices(volume.copy(), F4)[1], 14 * 11)
    parts = [clean_slices(volume[z : z + cut].copy(), F4)[1] for z in range(0, 9, cut)]
    assert combine(np.concatenate(parts), 14 * 11) == whole


def test_non_finite_voxels_become_their_slices_median(volume):
    clean_whole, before = clean_slices(volume.copy(), F4)
    bad = volume.copy()
    bad[2, 3, 4], bad[2, 0, 0], bad[5, 1, 1] = np.nan, np.inf, -np.inf
    clean, found = clean_slices(bad, F4)
    assert found[:, 5].tolist() == [0, 0, 2, 0, 0, 1, 0, 0, 0]
    assert clean[2, 3, 4] == clean[2, 0, 0] == np.float32(found[2, 0])
    assert np.isfinite(clean).all()
    touched = np.zeros(volume.shape, bool)
    touched[2, 3, 4] = touched[2, 0, 0] = touched[5, 1, 1] = True
    np.testing.assert_array_equal(clean[~touched], clean_whole[~touched])
    np.testing.assert_array_equal(found[[0, 1, 3, 4]], before[[0, 1, 3, 4]])


@pytest.mark.parametrize("scale", [3e38, 1e-40])
def test_extreme_values_stay_finite(scale):
    values = np.random.default_rng(1).choice([-1.0, -0.5, 0.5, 1.0], (4, 8, 8))
    clean, found = clean_slices((values * scale).astype("f4"), F4)
    assert np.isfinite(found).all()
    assert combine(found, 64).scale > 0
    assert np.isfinite(halve(clean)).all()


def test_large_offset_keeps_its_scale(volume):
    plain = combine(clean_slices(volume.astype("f8").astype("f4"), F4)[1], 154)
    moved = combine(clean_slices((volume + np.float32(1e6)), F4)[1], 154)
    assert moved.scale == pytest.approx(plain.scale, rel=0.02)


def test_half_precision_has_a_finite_scale():
    half = np.random.default_rng(2).normal(1000, 100, (4, 60, 60)).astype("f2")
    clean, found = clean_slices(half, stored_dtype(half.dtype))
    assert clean.dtype == np.float32
    assert combine(found, 3600).scale == pytest.approx(100, rel=0.05)


def test_hot_pixels_do_not_move_the_statistics(volume):
    hot = volume.copy()
    hot[4, 7, 7] = 1e6
    a, b = (combine(clean_slices(v.copy(), F4)[1], 154) for v in (volume, hot))
    assert b.centre == pytest.approx(a.centre, abs=0.02 * a.scale)
    assert b.scale == pytest.approx(a.scale, rel=0.02)


def test_unfilled_slices_are_left_out(volume):
    padded = np.concatenate([np.zeros((5, 14, 11), "f4"), volume, np.full((20, 14, 11), np.nan, "f4")])
    intensity, plain = (combine(clean_slices(v.copy(), F4)[1], 154) for v in (padded, volume))
    assert (intensity.centre, intensity.scale) == (plain.centre, plain.scale)
    assert spans(intensity.unfilled) == "0-4, 14-33"
    assert intensity.non_finite == 20 * 154


def test_wide_border_falls_back_to_the_plain_sd():
    volume = np.zeros((4, 20, 20), "f4")
    volume[:, 5:11, 5:11] = np.random.default_rng(3).normal(50, 5, (4, 6, 6))
    assert combine(clean_slices(volume, F4)[1], 400).scale > 0


def test_constant_has_no_scale():
    intensity = combine(clean_slices(np.full((3, 4, 4), 7, "u1"), np.dtype("u1"))[1], 16)
    assert (intensity.low, intensity.high, intensity.scale, intensity.unfilled) == (7, 7, 0, (0, 1, 2))


@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 9), (1, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("dtype", ["f4", "u1", "i1", "i2"])
def test_halve_is_the_mean_of_each_cell(shape, dtype):
    volume = np.random.default_rng(4).integers(-100, 100, shape).astype(dtype)
    found = halve(volume)
    for index in np.ndindex(*found.shape):
        cell = volume[tuple(slice(2 * i, 2 * i + 2) for i in index)].astype(float)
        # A cell at an odd end repeats what it has, which leaves the mean as it is.
        mean = cell.mean()
        assert found[index] == (np.rint(mean) if dtype != "f4" else np.float32(mean))
    labels = halve(volume, labels=True)
    for index in np.ndindex(*labels.shape):
        assert labels[index] == volume[tuple(slice(2 * i, 2 * i + 2) for i in index)].max()


def test_unsigned_bytes_read_as_signed_are_noticed():
    grey = np.random.default_rng(6).normal(128, 20, (4, 50, 50))
    misread = np.clip(grey, 0, 255).astype("u1").view("i1")
    honest = np.clip(grey - 128, -128, 127).astype("i1")
    clipped = np.clip((grey - 128) * 4, -128, 127).astype("i1")
    assert signed_bytes_contradicted(*byte_bands(misread), misread.size)
    assert not signed_bytes_contradicted(*byte_bands(honest), honest.size)
    assert not signed_bytes_contradicted(*byte_bands(clipped), clipped.size)
    assert not signed_bytes_contradicted(*byte_bands(np.zeros((2, 8, 8), "i1")), 128)


def test_byte_bands_match_a_count():
    values = np.random.default_rng(8).integers(-128, 128, (3, 20, 20)).astype("i1")
    assert byte_bands(values) == (
        int((values < -112).sum()),
        int(((values >= -16) & (values < 16)).sum()),
        int((values >= 112).sum()),
    )
