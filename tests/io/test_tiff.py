"""TIFF stacks against tifffile's own reading; I01 to I06: what is refused, before a page is decoded."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import tifffile

from cryoscale.io.inputs import InputError
from cryoscale.io.source import open_source

BODY = np.random.default_rng(0).integers(0, 200, (9, 40, 30))
NM = {"unit": "nm", "spacing": 1.5, "axes": "ZYX"}


def saved(tmp_path, body=BODY, **options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, body, photometric=options.pop("photometric", "minisblack"), **options)
    return path


def code_of(path):
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "byteorder": ">"},
        {"compression": "zlib", "rowsperstrip": 7, "predictor": False},
        {"tile": (16, 16)},
    ],
    ids=str,
)
def test_boxes_equal_tifffiles(tmp_path, dtype, options):
    body = BODY.astype(dtype)
    path = saved(tmp_path, body, **options)
    source = open_source(path)
    assert (source.kind, source.shape, source.dtype) == ("tiff", BODY.shape, np.dtype(dtype))
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape), tifffile.imread(path))
    np.testing.assert_array_equal(source.read((2, 3, 4), (7, 33, 20)), body[2:7, 3:33, 4:20])


def test_imagej_voxel_size(tmp_path):
    path = saved(tmp_path, BODY.astype("u2"), imagej=True, metadata=NM, resolution=(1 / 1.4, 1 / 1.3))
    assert open_source(path).voxel_size_found_angstrom == pytest.approx((15, 13, 14), rel=1e-6)


def test_imagej_keeps_large_stacks_in_one_page(tmp_path):
    path = saved(tmp_path, BODY.astype("u2"), imagej=True, metadata=NM, byteorder=">")
    raw = bytearray(path.read_bytes())
    offset = struct.unpack_from(">I", raw, 4)[0]
    count = struct.unpack_from(">H", raw, offset)[0]
    raw[offset + 2 + 12 * count : offset + 6 + 12 * count] = bytes(4)
    path.write_bytes(raw)
    source = open_source(path)
    assert source.shape == BODY.shape
    np.testing.assert_array_equal(source.read((1, 2, 3), (9, 20, 30)), BODY[1:9, 2:20, 3:30])
    path.write_bytes(raw[: len(raw) // 2])
    assert code_of(path) == "truncated"


def test_ome_voxel_size(tmp_path):
    sizes = {f"PhysicalSize{a}": 1.4 for a in "XYZ"} | {f"PhysicalSize{a}Unit": "nm" for a in "XYZ"}
    source = open_source(saved(tmp_path, BODY.astype("u2"), ome=True, metadata={"axes": "ZYX", **sizes}))
    assert source.voxel_size_angstrom == pytest.approx((14, 14, 14))
    assert source.warnings == ()


def test_printers_resolution_is_not_believed(tmp_path):
    source = open_source(saved(tmp_path, BODY.astype("u2"), resolution=(72, 72), resolutionunit="INCH"))
    assert source.voxel_size_angstrom is None
    assert [code for code, _ in source.warnings] == ["voxel-size-missing"]


def test_channels_that_are_slices(tmp_path):
    source = open_source(saved(tmp_path, BODY.astype("u2"), imagej=True, metadata={"axes": "CYX"}))
    assert source.shape == BODY.shape
    assert "tiff-axis" in [code for code, _ in source.warnings]


def test_hyperstacks_are_refused(tmp_path):
    body = np.zeros((4, 3, 8, 8), "u2")
    assert code_of(saved(tmp_path, body, imagej=True, metadata={"axes": "ZCYX"})) == "tiff-hyperstack"
    assert code_of(saved(tmp_path, body, ome=True, metadata={"axes": "ZCYX"})) == "tiff-hyperstack"
    assert code_of(saved(tmp_path, body)) == "tiff-hyperstack"


def test_colours_types_and_shapes_refused(tmp_path):
    assert code_of(saved(tmp_path, np.zeros((6, 8, 8, 3), "u1"), photometric="rgb")) == "tiff-colour"
    assert code_of(saved(tmp_path, np.zeros((6, 8, 8), "c8"))) == "mode-complex"
    assert code_of(saved(tmp_path, np.zeros((8, 8), "u1"))) == "single-image"
    path = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(path) as writer:
        for edge in (8, 8, 8, 8, 4):
            writer.write(np.zeros((edge, edge), "u1"), metadata=None)
    assert code_of(path) == "tiff-mixed"


def test_palette_is_read_with_a_warning(tmp_path):
    path = saved(tmp_path, BODY.astype("u1"), photometric="palette", colormap=np.zeros((3, 256), "u2"))
    assert "tiff-palette" in [code for code, _ in open_source(path).warnings]


def page_tag(raw, name):
    """Return the offset of a tag's 12 bytes on the first page of a little-endian classic TIFF."""
    offset = struct.unpack_from("<I", raw, 4)[0]
    for index in range(struct.unpack_from("<H", raw, offset)[0]):
        entry = offset + 2 + 12 * index
        if struct.unpack_from("<H", raw, entry)[0] == name:
            return entry
    raise AssertionError(name)


@pytest.mark.parametrize("edge", [2**31 - 1, 60000])
def test_declared_size_is_checked_before_allocation(tmp_path, edge):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        for _ in range(5):
            writer.write(np.zeros((8, 8), "u1"), metadata=None, compression="zlib", contiguous=False)
    raw = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", raw, 4)[0]
    while offset:
        count = struct.unpack_from("<H", raw, offset)[0]
        for index in range(count):
            entry = offset + 2 + 12 * index
            if struct.unpack_from("<H", raw, entry)[0] in (256, 257, 278):
                struct.pack_into("<HII", raw, entry + 2, 4, 1, edge)
        offset = struct.unpack_from("<I", raw, offset + 2 + 12 * count)[0]
    path.write_bytes(raw)
    tracemalloc.start()
    assert code_of(path) in ("dimensions", "too-large", "expansion")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True}, {"ome": True}], ids=str)
def test_cut_file_is_never_a_shorter_volume(tmp_path, part, options):
    metadata = {"metadata": {"axes": "ZYX"}} if options else {}
    body = np.random.default_rng(1).integers(0, 9999, (9, 40, 30)).astype("u2")
    path = saved(tmp_path, body, **options, **metadata)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    assert code_of(path) in ("tiff-pages", "tiff-planes", "truncated", "tiff-unreadable")


def test_cut_at_every_hundredth_byte_is_refused_or_whole(tmp_path):
    body = BODY[:5, :12, :9].astype("u1")
    path = saved(tmp_path, body, compression="zlib")
    raw = path.read_bytes()
    for length in range(0, len(raw), max(1, len(raw) // 100)):
        path.write_bytes(raw[:length])
        with pytest.raises(InputError):
            open_source(path).read((0, 0, 0), body.shape)


def test_loop_of_pages_is_refused(tmp_path):
    path = saved(tmp_path, BODY.astype("u2"), byteorder="<")
    raw = bytearray(path.read_bytes())
    offset = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, offset)[0]
    struct.pack_into("<I", raw, offset + 2 + 12 * count, offset)
    path.write_bytes(raw)
    assert code_of(path) == "tiff-pages"


BOMB = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "ha">]><OME><Image><Pixels SizeZ="9"/></Image></OME>'
ELSEWHERE = (
    '<?xml version="1.0"?><OME><Image><Pixels SizeZ="9" SizeC="1" SizeT="1">'
    '<TiffData><UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
)
TORN = '<?xml version="1.0"?><OME><Image><Pixels SizeZ="9"'


@pytest.mark.parametrize("text", [BOMB, ELSEWHERE, TORN], ids=["entities", "other file", "torn"])
def test_ome_xml_refused(tmp_path, text):
    assert code_of(saved(tmp_path, BODY.astype("u2"), description=text, metadata=None)) == "ome-xml"


def test_declared_planes_must_be_there(tmp_path):
    text = '<?xml version="1.0"?><OME><Image><Pixels SizeZ="12" SizeC="1" SizeT="1"/></Image></OME>'
    assert code_of(saved(tmp_path, BODY.astype("u2"), description=text, metadata=None)) == "tiff-planes"


def test_damaged_page_is_an_error(tmp_path):
    path = saved(tmp_path, BODY.astype("u2"), compression="zlib")
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[4].dataoffsets[0]
    raw[start : start + 40] = bytes(40)
    path.write_bytes(raw)
    source = open_source(path)
    with pytest.raises(InputError) as caught:
        source.read((0, 0, 0), source.shape)
    assert caught.value.code == "tiff-unreadable"
    assert "page 4" in str(caught.value)


def test_replaced_stack_is_noticed(tmp_path):
    source = open_source(saved(tmp_path, BODY.astype("u2")))
    saved(tmp_path, (BODY + 1).astype("u2"))
    with pytest.raises(InputError) as caught:
        source.read((0, 0, 0), (1, 1, 1))
    assert caught.value.code == "changed"


def test_real_stack(shared_data):
    path = shared_data / "negatives" / "microtubule-13pf.tif"
    source = open_source(path)
    assert source.voxel_size_angstrom == pytest.approx((10.52,) * 3)
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape), tifffile.imread(path))
