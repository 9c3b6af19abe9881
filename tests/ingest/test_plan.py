from __future__ import annotations

import bz2
import gzip
import os

import numpy as np
import pytest

from cryoscale.chunks import Region
from cryoscale.errors import CryoscaleError
from cryoscale.ingest.plan import MASK, TOMOGRAM, plan
from cryoscale.ingest.values import clean_slices, combine, halve
from cryoscale.io.inputs import AskError, InputError
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image, image_geometry, read_region, write_region
from cryoscale.io.source import Source
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import IngestSpec
from tests.io.corpus import APIX, BODY, mrc
from tests.plans import run_plan, traced_peak

SMALL = IngestSpec(chunk_voxels=(8, 16, 16))


def run(stage, seed=None):
    return run_plan(stage, seed=seed)[0]


def tomogram(folder, source):
    (folder / "out").mkdir(exist_ok=True)
    return Tomogram("t", str(source), str(folder / "out"))


def volume(shape=(21, 35, 18), seed=0):
    return np.random.default_rng(seed).normal(50, 10, shape).astype("f4")


def ingest(tmp_path, array, spec=SMALL, **options):
    path = tmp_path / "in.mrc"
    write_mrc(path, array, APIX, (10.0, 20.0, 30.0))
    return run(plan(tomogram(tmp_path, path), spec, **options))


def test_every_level_is_the_halved_one_above(tmp_path):
    array = volume()
    summary = ingest(tmp_path, array)
    store = tmp_path / "out" / TOMOGRAM
    for level in range(3):
        np.testing.assert_array_equal(read_region(store, level=level), array)
        array = halve(array)
    geometry = image_geometry(store)
    assert geometry.to_json() == summary["geometry"]
    np.testing.assert_allclose(geometry.voxel_size_angstrom, APIX, rtol=1e-6)
    assert geometry.origin_angstrom == (10.0, 20.0, 30.0)
    assert summary["centre"] == pytest.approx(50, abs=1)
    assert summary["scale"] == pytest.approx(10, abs=1)
    assert summary["warnings"] == []


@pytest.mark.parametrize("chunk", [(4, 8, 8), (8, 16, 16), (64, 128, 128)])
def test_chunking_and_order_do_not_matter(tmp_path, chunk):
    array = volume()
    array[3, 3, 3] = np.nan
    summary = ingest(tmp_path, array, IngestSpec(chunk_voxels=chunk))
    reference = array.copy()
    reference[3, 3, 3] = np.median(array[3][np.isfinite(array[3])].astype(float))
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), reference)
    again = run(plan(tomogram(tmp_path, tmp_path / "in.mrc"), IngestSpec(chunk_voxels=chunk)), seed=1)
    assert again == summary
    assert [w.split(":")[0] for w in summary["warnings"]] == ["non-finite"]
    expected = combine(clean_slices(array.copy(), np.dtype("f4"))[1], array[0].size)
    assert (summary["centre"], summary["scale"]) == (expected.centre, expected.scale)


def test_no_two_units_name_one_file(tmp_path):
    path = tmp_path / "in.mrc"
    write_mrc(path, volume(), APIX)
    stage = plan(tomogram(tmp_path, path), SMALL)
    units = stage.send([unit.call(*unit.args) for unit in next(stage)])
    files = [name for unit in units for name in unit.call(*unit.args).files]
    assert len(units) == 3
    assert len(set(files)) == len(files)
    on_disk = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("c/*/*/*")}
    assert set(files) == on_disk
    stage.close()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_packed_input_is_unpacked_once_and_cleaned_up(tmp_path, pack):
    path = tmp_path / "in.mrc"
    path.write_bytes(pack(mrc()))
    summary = run(plan(tomogram(tmp_path, path), SMALL))
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), BODY)
    assert summary["source"]["kind"] == "mrc"
    assert not list((tmp_path / "out").glob(".*"))


def test_scratch_that_vanished_is_made_again(tmp_path):
    path = tmp_path / "in.mrc"
    path.write_bytes(gzip.compress(mrc()))
    stage = plan(tomogram(tmp_path, path), SMALL)
    units = stage.send([unit.call(*unit.args) for unit in next(stage)])
    for scratch in (tmp_path / "out").glob(".*unpacked"):
        scratch.unlink()
    with pytest.raises(StopIteration):
        stage.send([unit.call(*unit.args) for unit in units])
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), BODY)


def test_input_that_changes_between_units_is_refused(tmp_path):
    path = tmp_path / "in.mrc"
    write_mrc(path, volume(), APIX)
    stage = plan(tomogram(tmp_path, path), SMALL)
    units = stage.send([unit.call(*unit.args) for unit in next(stage)])
    write_mrc(path, volume(seed=1), APIX)
    with pytest.raises(InputError) as caught:
        units[0].call(*units[0].args)
    assert caught.value.code == "changed"
    stage.close()


@pytest.mark.parametrize("kind", ["mrc", "omezarr"])
def test_input_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, kind):
    """What was read of it may be half old, half new; without the second look nothing would tell."""
    array = volume()
    if kind == "mrc":
        path = touched = tmp_path / "a.mrc"
        write_mrc(path, array, APIX)
    else:
        path, touched = tmp_path / "a.ome.zarr", tmp_path / "a.ome.zarr" / "zarr.json"
        create_image(path, Geometry(array.shape, (APIX,) * 3), array.dtype, (8, 16, 16))
        write_region(path, Region((0, 0, 0), array.shape), array)
    read = Source.read

    def read_and_touch(source, start, stop):
        found = read(source, start, stop)
        os.utime(touched, ns=(1, 1))
        return found

    monkeypatch.setattr(Source, "read", read_and_touch)
    with pytest.raises(InputError) as caught:
        run(plan(tomogram(tmp_path, path), SMALL))
    assert caught.value.code == "changed"
    monkeypatch.setattr(Source, "require_same", lambda source: None)
    os.utime(touched)
    one_slab = IngestSpec(chunk_voxels=(32, 16, 16), pyramid_levels=1)
    run(plan(tomogram(tmp_path / "out", path), one_slab))


def values(kind):
    array = volume((12, 20, 20))
    if kind == "zero":
        array[:] = 0
    elif kind == "seven":
        array[:] = 7
    elif kind == "all-nan":
        array[:] = np.nan
    elif kind == "half-nan":
        array[np.random.default_rng(1).random(array.shape) < 0.5] = np.nan
    elif kind == "two-percent":
        array[np.random.default_rng(1).random(array.shape) < 0.02] = np.inf
    elif kind == "few":
        array[np.random.default_rng(1).random(array.shape) < 0.005] = np.nan
    elif kind == "one":
        array[1, 1, 1] = np.inf
    elif kind == "slab":
        array[3:6] = 0
    return array


@pytest.mark.parametrize(
    ("kind", "code"),
    [  # N02, N03, T06
        ("zero", "constant"),
        ("seven", "constant"),
        ("all-nan", "non-finite"),
        ("half-nan", "non-finite"),
        ("two-percent", "non-finite"),
    ],
)
def test_values_refused(tmp_path, kind, code):
    with pytest.raises(InputError) as caught:
        ingest(tmp_path, values(kind))
    assert caught.value.code == code
    assert str(tmp_path / "in.mrc") in str(caught.value)


@pytest.mark.parametrize(("kind", "code"), [("few", "non-finite"), ("one", "non-finite"), ("slab", "unfilled")])
def test_values_warned_of(tmp_path, kind, code):
    assert [w.split(":")[0] for w in ingest(tmp_path, values(kind))["warnings"]] == [code]


def test_preallocated_file_is_refused_after_the_scan(tmp_path):
    path = tmp_path / "in.mrc"
    path.write_bytes(mrc(np.zeros((8, 12, 16), "f4")))
    with pytest.raises(InputError, match="still be being written"):
        run(plan(tomogram(tmp_path, path), SMALL))


def test_unsigned_bytes_read_as_signed_are_asked_about(tmp_path):
    grey = np.clip(np.random.default_rng(1).normal(128, 20, (8, 32, 32)), 0, 255).astype("u1")
    (tmp_path / "in.mrc").write_bytes(mrc(grey.view("i1")))
    with pytest.raises(AskError) as caught:
        run(plan(tomogram(tmp_path, tmp_path / "in.mrc"), SMALL))
    assert caught.value.code == "bytes-sign"
    run(plan(tomogram(tmp_path, tmp_path / "in.mrc"), SMALL, mode0_bytes="unsigned"))
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), grey)


@pytest.mark.parametrize(("dtype", "stored"), [("i1", "i1"), ("i2", "i2"), ("u2", "u2"), ("f2", "f4"), ("f4", "f4")])
def test_stored_types(tmp_path, dtype, stored):
    array = volume().astype(dtype)
    (tmp_path / "in.mrc").write_bytes(mrc(array))
    assert run(plan(tomogram(tmp_path, tmp_path / "in.mrc"), SMALL))["dtype"] == np.dtype(stored).name
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), array)


def labels():
    array = np.zeros((21, 35, 18), "i1")
    array[4:9, 10:20, 3:15] = 1
    array[15, 20, 10] = 2
    return array


def mask_file(tmp_path, array, apix=APIX):
    write_mrc(tmp_path / "mask.mrc", array, apix)
    return str(tmp_path / "mask.mrc")


def test_mask_keeps_its_labels_on_every_level(tmp_path):
    mask = mask_file(tmp_path, labels())
    summary = run(plan(tomogram(tmp_path, mask), SMALL, mask=mask))
    store = tmp_path / "out" / MASK
    level = read_region(store)
    assert level.dtype == np.uint8
    np.testing.assert_array_equal(level, labels())
    np.testing.assert_array_equal(read_region(store, level=2), halve(halve(labels(), labels=True), labels=True))
    assert (summary["volume"], summary["dtype"], summary["largest"]) == (MASK, "uint8", 2)
    assert "centre" not in summary


def test_mask_takes_the_tomograms_geometry(tmp_path):
    mask = mask_file(tmp_path, labels(), apix=1.0)
    geometry = Geometry(labels().shape, (9.0, 9.0, 9.0), (1.0, 2.0, 3.0))
    known = Tomogram("t", mask, str(tmp_path / "out"), geometry)
    assert run(plan(known, SMALL, mask=mask))["geometry"] == geometry.to_json()
    other = Tomogram("t", mask, str(tmp_path / "out"), Geometry((5, 5, 5), (9.0, 9.0, 9.0)))
    with pytest.raises(InputError) as caught:
        run(plan(other, SMALL, mask=mask))
    assert caught.value.code == "mask-shape"


def test_negative_mask_is_asked_about_and_empty_one_warned_of(tmp_path):
    mask = mask_file(tmp_path, -labels())
    with pytest.raises(AskError, match="unsigned"):
        run(plan(tomogram(tmp_path, mask), SMALL, mask=mask))
    empty = mask_file(tmp_path, np.zeros((8, 8, 8), "i1"))
    assert run(plan(tomogram(tmp_path, empty), SMALL, mask=empty))["warnings"][0].startswith("mask-empty")


def test_score_mask_has_no_nan(tmp_path):
    scores = np.random.default_rng(0).random((8, 12, 16)).astype("f4")
    scores[2, 2, 2] = np.nan
    mask = mask_file(tmp_path, scores)
    assert run(plan(tomogram(tmp_path, mask), SMALL, mask=mask))["dtype"] == "float32"
    assert read_region(tmp_path / "out" / MASK)[2, 2, 2] == 0


def test_omezarr_source(tmp_path):
    array, source = volume(), tmp_path / "in.ome.zarr"
    geometry = Geometry(array.shape, (8.0, 8.0, 8.0), (1.0, 2.0, 3.0))
    create_image(source, geometry, "f4", (8, 16, 16))
    write_region(source, Region((0, 0, 0), array.shape), array)
    summary = run(plan(tomogram(tmp_path, source), SMALL))
    assert summary["geometry"] == geometry.to_json()
    np.testing.assert_array_equal(read_region(tmp_path / "out" / TOMOGRAM), array)


def test_voxel_size_is_asked_for_and_taken(tmp_path):
    path = tmp_path / "in.mrc"
    write_mrc(path, volume(), 1.0)
    with pytest.raises(AskError, match="--apix"):
        run(plan(tomogram(tmp_path, path), SMALL))
    summary = run(plan(tomogram(tmp_path, path), IngestSpec(chunk_voxels=(8, 16, 16), apix=13.48)))
    assert summary["geometry"]["voxel_size_angstrom"] == [13.48] * 3
    assert [w.split(":")[0] for w in summary["warnings"]] == ["voxel-size-stated"]


def test_every_unit_stays_within_its_projected_bytes(tmp_path):
    write_mrc(tmp_path / "in.mrc", volume((64, 400, 400)), APIX)
    stage = plan(tomogram(tmp_path, tmp_path / "in.mrc"), IngestSpec())
    units = stage.send([unit.call(*unit.args) for unit in next(stage)])
    _, peak = traced_peak(lambda: units[0].call(*units[0].args))
    stage.close()
    assert 0.3 * units[0].bytes < peak < units[0].bytes


def test_real_mask_with_a_broken_header_is_asked_about(tmp_path, shared_data):
    source = shared_data / "labels" / "mitochondria-TE1.mrc.gz"
    stage = plan(tomogram(tmp_path, source), SMALL, mask=str(source))
    opened = [unit.call(*unit.args) for unit in next(stage)]
    with pytest.raises(AskError) as caught:
        stage.send(opened)
    assert "3881.28, 12.44, 12.44" in str(caught.value)
    assert "--apix" in str(caught.value)
    assert isinstance(caught.value, CryoscaleError)
