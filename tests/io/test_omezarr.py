"""OME-Zarr volumes: geometry kept, damage found, no two owners of one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from cryoscale.chunks import Region, blocks, whole
from cryoscale.errors import TomogramError, TransientError
from cryoscale.io.omezarr import create_image, image_geometry, open_level, read_region, write_region
from cryoscale.records import Geometry

GEOMETRY = Geometry((20, 30, 25), (10.0, 10.0, 10.0), (-5.0, 100.0, 7.5))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "float16", "float32", "uint32"])
def test_round_trip_by_blocks(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, dtype, (8, 16, 16), levels=3)
    values = np.random.default_rng(0).integers(0, 100, GEOMETRY.shape).astype(dtype)
    for region in blocks(GEOMETRY.shape, (8, 32, 16)):
        write_region(path, region, values[region.slices])
    assert (read_region(path) == values).all()
    assert (zarr.open_group(path, mode="r")["0"][...] == values).all()
    assert image_geometry(path) == GEOMETRY


def test_levels_halve_and_keep_their_place(tmp_path: Path) -> None:
    create_image(tmp_path / "a.ome.zarr", GEOMETRY, "uint8", (8, 16, 16), levels=3)
    shapes = [open_level(tmp_path / "a.ome.zarr", level).shape for level in range(3)]
    assert shapes == [(20, 30, 25), (10, 15, 13), (5, 8, 7)]
    ome = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    scale, shift = ome["multiscales"][0]["datasets"][2]["coordinateTransformations"]
    # The first voxel of level 2 covers voxels 0..3 of level 0: its centre is at 1.5 voxels.
    assert scale["scale"] == [40.0] * 3
    assert np.allclose(shift["translation"], np.array(GEOMETRY.origin_angstrom) + 15.0)


def test_a_region_through_a_chunk_is_refused(tmp_path: Path) -> None:
    create_image(tmp_path / "a.ome.zarr", GEOMETRY, "uint8", (8, 16, 16))
    with pytest.raises(ValueError, match="whole chunks"):
        write_region(tmp_path / "a.ome.zarr", Region((0, 0, 0), (4, 30, 25)), np.zeros((4, 30, 25), "uint8"))


@pytest.mark.parametrize("shards", [None, (8, 30, 25), (16, 16, 32)])
def test_files_named_are_those_that_exist(tmp_path: Path, shards: tuple[int, int, int] | None) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "uint8", (8, 16, 16), shards=shards, levels=2 if shards == (8, 30, 25) else 1)
    values = np.random.default_rng(0).integers(0, 9, GEOMETRY.shape).astype("uint8")
    for written in (values, values * (np.indices(GEOMETRY.shape)[0] < 8), values * 0):
        files = write_region(path, whole(GEOMETRY.shape), written)
        assert sorted(files) == sorted(str(name) for name in path.rglob("c/*/*/*"))
        assert len(files) == {None: 12, (8, 30, 25): 3, (16, 16, 32): 4}[shards]
        assert np.array_equal(read_region(path), written)
        assert np.array_equal(zarr.open_array(str(path / "0"), mode="r")[:], written)


@pytest.mark.parametrize("shards", [None, (8, 30, 25)])
def test_a_missing_file_is_an_error_and_never_zeros(tmp_path: Path, shards: tuple[int, int, int] | None) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "uint8", (8, 16, 16), shards=shards)
    values = np.zeros(GEOMETRY.shape, "uint8")
    Path(write_region(path, whole(GEOMETRY.shape), values)[1]).unlink()
    with pytest.raises(TransientError, match="0/c/"):
        read_region(path)
    # Zarr itself says nothing.
    assert not zarr.open_array(str(path / "0"), mode="r")[:].any()
    write_region(path, whole(GEOMETRY.shape), values)
    assert not read_region(path).any()


def test_a_torn_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "uint8", (8, 16, 16), shards=(8, 30, 25))
    values = np.ones(GEOMETRY.shape, "uint8")
    for file in write_region(path, whole(GEOMETRY.shape), values):
        Path(file).write_bytes(Path(file).read_bytes()[:20])
    write_region(path, whole(GEOMETRY.shape), values)
    assert read_region(path).all()


@pytest.mark.parametrize("position", [0, 50, 100, -1])
def test_one_flipped_bit_is_an_error(tmp_path: Path, position: int) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "float32", (8, 16, 16))
    values = np.random.default_rng(1).normal(size=GEOMETRY.shape).astype("float32")
    chunk = Path(write_region(path, whole(GEOMETRY.shape), values)[3])
    damaged = bytearray(chunk.read_bytes())
    damaged[position] ^= 4
    chunk.write_bytes(damaged)
    with pytest.raises(TomogramError, match="damaged"):
        read_region(path)


@pytest.mark.parametrize("text", ["", "{", "\0\0", '{"zarr_format": 3}'])
def test_torn_metadata_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "uint8", (8, 16, 16))
    (path / "0" / "zarr.json").write_text(text)
    with pytest.raises(TomogramError, match="no readable Zarr array"):
        read_region(path)
    (path / "zarr.json").write_text(text)
    with pytest.raises(TomogramError, match="metadata"):
        image_geometry(path)


def test_units_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    create_image(path, GEOMETRY, "uint8", (8, 16, 16))
    group = json.loads((path / "zarr.json").read_text())
    for axis in group["attributes"]["ome"]["multiscales"][0]["axes"]:
        axis["unit"] = "nanometer"
    (path / "zarr.json").write_text(json.dumps(group))
    assert image_geometry(path).voxel_size_angstrom == (100.0, 100.0, 100.0)


def test_a_codec_that_could_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr" / "0"
    zarr.create_array(store=str(path), shape=(8,), chunks=(8,), dtype="uint8")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(TomogramError):
        open_level(tmp_path / "a.ome.zarr")
