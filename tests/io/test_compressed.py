"""Z01 to Z03: packed by content, cut, damaged, bombs."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc

import numpy as np
import pytest

from cryoscale.io import compressed
from cryoscale.io.compressed import compression_of, unpack
from cryoscale.io.inputs import InputError
from cryoscale.io.source import is_packed, open_source, peek_source
from tests.io.corpus import BODY, SHAPE, header, mrc

PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("name", ["a.mrc.gz", "a.mrc.bz2", "a.mrc"])
def test_told_by_content(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(PACKERS[kind](mrc()))
    assert compression_of(path) == kind
    assert is_packed(path)
    source = open_source(path, scratch=tmp_path / "scratch")
    np.testing.assert_array_equal(source.read((0, 0, 0), SHAPE), BODY)
    assert source.path == str(path)
    assert source.identity.size == path.stat().st_size


def test_packed_without_scratch(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(mrc()))
    with pytest.raises(ValueError, match="scratch"):
        open_source(tmp_path / "a.gz")
    (tmp_path / "b").write_bytes(mrc())
    with pytest.raises(ValueError, match="neither"):
        unpack(tmp_path / "b", tmp_path / "c")


def test_peek_reads_the_header_only(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(mrc()))
    peeked = peek_source(tmp_path / "a.gz")
    assert (peeked.shape, peeked.dtype, peeked.kind) == (SHAPE, np.float32, "mrc")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gz"]
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"neither MRC nor TIFF"))
    with pytest.raises(InputError):
        peek_source(tmp_path / "b.gz")


def damaged(kind):
    good = bytearray(PACKERS[kind](mrc()))
    flipped = good.copy()
    flipped[len(good) // 2] ^= 0x10
    wrong = good.copy()
    wrong[-8 if kind == "gzip" else -6] ^= 0xFF
    return {"half": good[: len(good) // 2], "byte": good[:-1], "bit": flipped, "checksum": wrong}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("how", ["half", "byte", "bit", "checksum"])
def test_damaged_archive_is_refused(tmp_path, kind, how):
    path = tmp_path / "a.mrc"
    path.write_bytes(damaged(kind)[how])
    with pytest.raises(InputError) as caught:
        open_source(path, scratch=tmp_path / "scratch")
    assert caught.value.code == "archive-damaged"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]


@pytest.mark.parametrize("content", [b"", header((512, 512, 1024), 0)], ids=["zeros", "declared"])
@pytest.mark.parametrize("kind", PACKERS)
def test_bomb_is_refused(tmp_path, monkeypatch, kind, content):
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(compressed, "_LARGEST_RATIO", {"gzip": 1000, "bzip2": 5000})
    path = tmp_path / "bomb.mrc"
    path.write_bytes(PACKERS[kind](content + bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        unpack(path, tmp_path / "scratch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "expansion"
    assert peak < 64 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.mrc"]


def test_file_may_not_be_twice_what_its_header_says(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "_BLOCK_BYTES", 1024)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(mrc() + np.random.default_rng(0).bytes(4 * BODY.nbytes)))
    with pytest.raises(InputError) as caught:
        unpack(path, tmp_path / "scratch")
    assert caught.value.code == "expansion"
