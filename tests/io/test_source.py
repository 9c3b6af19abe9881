"""Real files with odd headers, each with its outcome; what else may be given as a volume."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cryoscale.chunks import Region
from cryoscale.errors import TomogramError
from cryoscale.io.inputs import AskError, InputError
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.io.source import open_source, peek_source
from cryoscale.io.voxelsize import resolve_voxel_size
from cryoscale.records import Geometry

ODD = {
    "EMD-3001.map": ("REJECT", "cell-angles"),
    "EMD-3001.map.bz2": ("REJECT", "cell-angles"),
    "EMD-3197.map": ("WARN", "nstart"),
    "emd_3197.map.gz": ("WARN", "nstart"),
    "iota_yzx.ccp4.gz": ("REJECT", "too-small"),
    "rec3D.rec": ("ASK", "bytes-sign"),
    "mrc2D.mrc": ("REJECT", "single-image"),
    "header_only.mrc": ("REJECT", "truncated"),
    "emd_3197.png.gz": ("REJECT", "not-mrc"),
    "float16.mrc": ("REJECT", "single-image"),
    "blik_3d_vol_zero_voxel.mrc": ("ASK", "voxel-size-zero"),
    "test_image_membrane.rec": ("WARN", "origin-imod"),
    "test_1d_example.rec": ("REJECT", "too-small"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("look", [open_source, peek_source], ids=["open", "peek"])
def test_odd_header(name, look, shared_data, tmp_path):
    outcome, code = ODD[name]
    scratch = {"scratch": tmp_path / "scratch"} if look is open_source else {}
    try:
        source = look(shared_data / "odd-headers" / name, **scratch)
        resolve_voxel_size(source.voxel_size_found_angstrom, None)
        found = "WARN", [code for code, _ in source.warnings]
    except AskError as error:
        found = "ASK", [error.code]
    except InputError as error:
        found = "REJECT", [error.code]
    assert found[0] == outcome
    assert code in found[1]


def test_every_odd_header_has_an_outcome(shared_data):
    assert {path.name for path in (shared_data / "odd-headers").iterdir()} == set(ODD)


def test_old_bytes_are_read_once_their_sign_is_stated(shared_data):
    path = shared_data / "odd-headers" / "rec3D.rec"
    source = open_source(path, mode0_bytes="unsigned")
    voxels = source.read((0, 0, 0), source.shape)
    assert (voxels.min(), voxels.max()) == (141, 163)
    assert source.voxel_size_angstrom == pytest.approx((23.2,) * 3, rel=1e-5)


LABELS = {
    "autophagosome": ((211, 542, 542), 14.08),
    "microsome": ((50, 166, 166), None),
    "mitochondria-TE1": ((312, 928, 960), None),
    "phagophore": ((161, 473, 459), 14.08),
    "thylakoid-M1": ((80, 466, 431), 13.68),
    "thylakoid-M15": ((73, 193, 200), 13.68),
    "vesicle-t74": ((45, 70, 60), 25.26),
    "vesicles": ((159, 332, 612), 16.84),
}


@pytest.mark.parametrize("name", LABELS)
def test_real_labels_are_peeked_at(name, shared_data):
    shape, apix = LABELS[name]
    source = peek_source(shared_data / "labels" / f"{name}.mrc.gz")
    assert source.shape == shape
    if apix is None:
        assert source.voxel_size_angstrom is None
    else:
        assert source.voxel_size_angstrom == pytest.approx((apix,) * 3, rel=1e-5)


def test_omezarr(tmp_path):
    array = np.random.default_rng(0).normal(size=(10, 12, 14)).astype("f4")
    geometry = Geometry(array.shape, (8.0, 8.0, 8.0), (1.0, 2.0, 3.0))
    create_image(tmp_path / "a.ome.zarr", geometry, "f4", (4, 8, 8))
    write_region(tmp_path / "a.ome.zarr", Region((0, 0, 0), array.shape), array)
    source = open_source(tmp_path / "a.ome.zarr")
    assert (source.kind, source.shape, source.origin_angstrom) == ("omezarr", array.shape, (1.0, 2.0, 3.0))
    assert source.voxel_size_angstrom == (8.0, 8.0, 8.0)
    np.testing.assert_array_equal(source.read((1, 2, 3), (9, 10, 14)), array[1:9, 2:10, 3:14])
    (tmp_path / "a.ome.zarr" / "zarr.json").write_text("{")
    with pytest.raises(TomogramError):
        open_source(tmp_path / "a.ome.zarr")


@pytest.mark.parametrize("key", ["multiscales", "axes", "name", "unit", "datasets", "path", "type", "scale"])
@pytest.mark.parametrize("value", [None, 10**400, [], "gone"])
def test_omezarr_without_what_a_geometry_needs(tmp_path, key, value):
    create_image(tmp_path / "a.ome.zarr", Geometry((8, 8, 8), (8.0, 8.0, 8.0)), "f4", (4, 8, 8))
    path = tmp_path / "a.ome.zarr" / "zarr.json"

    def changed(node):
        if isinstance(node, list):
            return [changed(part) for part in node]
        if not isinstance(node, dict):
            return node
        parts = {name: changed(part) for name, part in node.items()}
        if key in parts:
            parts[key] = [value, 1.0, 1.0] if key == "scale" else value
            if value == "gone":
                del parts[key]
        return parts

    path.write_text(json.dumps(changed(json.loads(path.read_text()))))
    with pytest.raises(TomogramError, match=r"OME-Zarr (metadata is missing|axes or level path)"):
        open_source(tmp_path / "a.ome.zarr")


def test_placeholder_voxel_size_of_omezarr_is_asked_for(tmp_path):
    create_image(tmp_path / "a.ome.zarr", Geometry((8, 8, 8), (1.0, 1.0, 1.0)), "f4", (4, 8, 8))
    source = open_source(tmp_path / "a.ome.zarr")
    assert source.voxel_size_angstrom is None
    with pytest.raises(AskError):
        resolve_voxel_size(source.voxel_size_found_angstrom, None)
