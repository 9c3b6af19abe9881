"""Boxes against mrcfile and NumPy; files that change or end; what is written, read back by mrcfile in strict mode."""

from __future__ import annotations

import itertools
import os
import tracemalloc

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.io import mrc as reader
from cryoscale.io.inputs import InputError
from cryoscale.io.mrc import read_box, read_header, unchanged, write_mrc
from tests.io.corpus import APIX, BODY, CASES, SHAPE, imod, mrc


def saved(tmp_path, content):
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    return path


def whole(path, **options):
    header = read_header(path, **options)
    return read_box(header, (0, 0, 0), header.shape)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(4, 13)] * 3),
    kind=st.sampled_from(["i1", "i2", "f4", "u2", "f2"]),
    order=st.sampled_from("<>"),
    extended=st.integers(0, 50),
    data=st.data(),
)
def test_boxes_equal_mrcfiles(tmp_path_factory, shape, kind, order, extended, data):
    body = np.random.default_rng(sum(shape)).integers(-100, 100, shape).astype(kind)
    path = saved(tmp_path_factory.getbasetemp(), mrc(body, order=order, extended=bytes(extended)))
    with mrcfile.open(path) as file:
        expected = np.array(file.data)
    start = [data.draw(st.integers(0, n)) for n in shape]
    stop = [data.draw(st.integers(a, n)) for a, n in zip(start, shape, strict=True)]
    box = read_box(read_header(path), start, stop)
    assert box.dtype == expected.dtype.newbyteorder("=")
    assert box.flags.c_contiguous
    np.testing.assert_array_equal(box, expected[tuple(map(slice, start, stop))])


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
@pytest.mark.parametrize("block", [64, 1000, 16 << 20])
def test_permuted_axes_equal_numpys_transpose(tmp_path, monkeypatch, order, block):
    monkeypatch.setattr(reader, "_BLOCK_BYTES", block)
    case = {f"A02-{''.join(map(str, order))}": None}
    content = next((c.content for c in CASES if c.id in case), mrc())
    header = read_header(saved(tmp_path, content))
    assert header.shape == SHAPE
    np.testing.assert_allclose(header.voxel_size_angstrom, APIX, rtol=1e-6)
    np.testing.assert_array_equal(read_box(header, (0, 0, 0), SHAPE), BODY)
    np.testing.assert_array_equal(read_box(header, (2, 3, 4), (7, 5, 15)), BODY[2:7, 3:5, 4:15])


def test_permuted_box_holds_little_more_than_itself(tmp_path):
    body = np.random.default_rng(0).normal(size=(150, 200, 400)).astype("f4")
    path = saved(tmp_path, mrc(body, mapc=3, mapr=2, maps=1))
    header = read_header(path)
    tracemalloc.start()
    box = read_box(header, (10, 0, 0), (20, *header.shape[1:]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(box, body.transpose(2, 1, 0)[10:20])
    assert peak < box.nbytes + 2 * (16 << 20)


def test_imod_bytes_are_unsigned(tmp_path):
    body = np.arange(256, dtype="u1").reshape(4, 8, 8)
    np.testing.assert_array_equal(whole(saved(tmp_path, mrc(body, mode=0, patch=imod(0)))), body)
    np.testing.assert_array_equal(whole(saved(tmp_path, mrc(body, mode=0, patch=imod(1)))), body.view("i1"))
    np.testing.assert_array_equal(whole(saved(tmp_path, mrc(body, mode=0)), mode0_bytes="unsigned"), body)


@pytest.mark.parametrize("columns", [16, 15])
def test_four_bit_voxels(tmp_path, columns):
    values = np.random.default_rng(1).integers(0, 16, (8, 12, columns)).astype("u1")
    padded = np.pad(values, ((0, 0), (0, 0), (0, columns % 2)))
    packed = padded[..., 0::2] | padded[..., 1::2] << 4
    header = read_header(saved(tmp_path, mrc(packed, mode=101, shape=values.shape)))
    np.testing.assert_array_equal(read_box(header, (0, 0, 0), values.shape), values)
    np.testing.assert_array_equal(read_box(header, (1, 2, 3), (5, 9, 8)), values[1:5, 2:9, 3:8])


def test_origin_leaves_in_the_sense_of_mrc2014(tmp_path):
    plain = read_header(saved(tmp_path, mrc(origin=(1, 2, 3))))
    flagged = read_header(saved(tmp_path, mrc(origin=(1, 2, 3), nversion=0, patch=imod(4))))
    imods = read_header(saved(tmp_path, mrc(origin=(1, 2, 3), nversion=0, patch=imod(0))))
    assert plain.origin_angstrom == flagged.origin_angstrom == (3.0, 2.0, 1.0)
    assert imods.origin_angstrom == (-3.0, -2.0, -1.0)


@pytest.mark.parametrize("bounds", [((0, 0, 0), (9, 12, 16)), ((-1, 0, 0), (2, 2, 2)), ((3, 0, 0), (2, 2, 2))])
def test_box_outside_the_volume(tmp_path, bounds):
    with pytest.raises(ValueError, match="not inside"):
        read_box(read_header(saved(tmp_path, mrc())), *bounds)


def code_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return caught.value.code


def test_replaced_file_is_noticed(tmp_path):
    path = saved(tmp_path, mrc())
    header = read_header(path)
    unchanged(header)
    (tmp_path / "b.mrc").write_bytes(mrc(BODY + 1))
    (tmp_path / "b.mrc").replace(path)
    assert code_of(unchanged, header) == "changed"
    assert code_of(read_box, header, (0, 0, 0), SHAPE) == "changed"


def test_file_that_shrinks_is_noticed(tmp_path):
    path = saved(tmp_path, mrc())
    header = read_header(path)
    os.truncate(path, 2000)
    assert code_of(read_box, header, (0, 0, 0), SHAPE) == "changed"


def test_file_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path, mrc())
    header = read_header(path)
    check = reader.require_unchanged
    monkeypatch.setattr(reader, "require_unchanged", lambda *args: (check(*args), os.truncate(path, 2000)))
    assert code_of(read_box, header, (0, 0, 0), SHAPE) == "truncated"


@pytest.mark.parametrize(
    ("dtype", "mode", "stored"),
    [
        ("bool", 0, "i1"),
        ("i1", 0, "i1"),
        ("u1", 0, "i1"),
        ("i2", 1, "i2"),
        ("u2", 6, "u2"),
        ("i4", 6, "u2"),
        ("f2", 12, "f2"),
        ("f4", 2, "f4"),
        ("f8", 2, "f4"),
        (">f4", 2, "f4"),
    ],
)
def test_written_file_passes_mrcfile(tmp_path, dtype, mode, stored):
    body = np.random.default_rng(2).integers(0, 100, (5, 7, 9)).astype(dtype)
    path = tmp_path / "out.mrc"
    write_mrc(path, body, (13.0, 13.5, 14.0), (1.5, -2.5, 3.5))
    # mrcfile's own check of the rms of 16-bit floats overflows.
    assert dtype == "f2" or mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert int(file.header.mode) == mode
        assert file.data.dtype == np.dtype(stored)
        assert file.is_volume()
        np.testing.assert_array_equal(file.data, body)
        assert tuple(file.voxel_size.item()) == (14.0, 13.5, 13.0)
        assert tuple(file.header.origin.item()) == (3.5, -2.5, 1.5)
        assert float(file.header.rms) == pytest.approx(body.astype(float).std(), rel=1e-6)
        assert (float(file.header.dmin), float(file.header.dmax)) == (body.min(), body.max())
    header = read_header(path)
    assert header.origin_angstrom == (1.5, -2.5, 3.5)


def test_large_labels_of_bytes_become_sixteen_bits(tmp_path):
    body = np.full((4, 4, 4), 200, "u1")
    write_mrc(tmp_path / "out.mrc", body, APIX)
    assert read_header(tmp_path / "out.mrc").dtype == np.uint16
    np.testing.assert_array_equal(whole(tmp_path / "out.mrc"), body)


def test_streamed_slabs_equal_the_whole(tmp_path):
    body = np.random.default_rng(3).normal(size=(11, 6, 7)).astype("f4")
    write_mrc(tmp_path / "whole.mrc", body, APIX)
    write_mrc(tmp_path / "slabs.mrc", (body[z : z + 3] for z in range(0, 11, 3)), APIX)
    assert (tmp_path / "whole.mrc").read_bytes() == (tmp_path / "slabs.mrc").read_bytes()
    write_mrc(tmp_path / "bytes.mrc", iter([np.ones((2, 4, 4), "u1")] * 2), APIX)
    assert read_header(tmp_path / "bytes.mrc").dtype == np.uint16


def test_streaming_holds_one_slab(tmp_path):
    slabs = (np.full((4, 256, 256), z, "f4") for z in range(64))
    tracemalloc.start()
    write_mrc(tmp_path / "out.mrc", slabs, APIX)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out.mrc").stat().st_size == 1024 + 64 * (1 << 20)
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        (np.full((4, 4, 4), 70000), None, "do not fit"),
        (np.full((4, 4, 4), -1), None, "do not fit"),
        (np.ones((4, 4)), None, "slab of shape"),
        (np.ones((0, 4, 4)), None, "no voxels"),
        (np.ones((4, 4, 4), "c8"), None, "cannot be written"),
        (np.ones((4, 4, 4)), "i8", "cannot be written"),
        (iter([np.ones((2, 4, 4)), np.ones((2, 4, 5))]), None, "slab of shape"),
        (iter([]), None, "no voxels"),
    ],
)
def test_nothing_is_left_of_what_cannot_be_written(tmp_path, data, dtype, message):
    with pytest.raises(ValueError, match=message):
        write_mrc(tmp_path / "out.mrc", data, APIX, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_non_finite_voxels_are_written_and_left_out_of_the_statistics(tmp_path):
    body = BODY.copy()
    body[0, 0, 0] = np.nan
    write_mrc(tmp_path / "out.mrc", body, APIX)
    np.testing.assert_array_equal(whole(tmp_path / "out.mrc"), body)
    with mrcfile.open(tmp_path / "out.mrc") as file:
        assert float(file.header.dmax) == np.nanmax(body)
    write_mrc(tmp_path / "nan.mrc", np.full((4, 4, 4), np.nan, "f4"), APIX)
    assert np.isnan(whole(tmp_path / "nan.mrc")).all()
