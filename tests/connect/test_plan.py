"""The stage end to end on stored volumes: any chunks, slabs and order, what merge leaves, bad input, memory."""

import numpy as np
import pytest
from scipy import ndimage

import cryoscale.connect.plan as stage
import cryoscale.merge.plan as merge_stage
from cryoscale.chunks import whole
from cryoscale.connect import options_in_voxels
from cryoscale.connect.memory import projected_bytes, projected_number_bytes, projected_paint_bytes
from cryoscale.connect.volume import connect_volume, slice_labels
from cryoscale.errors import UsageError
from cryoscale.io.files import load_npz
from cryoscale.io.omezarr import create_image, image_geometry, read_region, write_region
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import ConnectSpec, MergeSpec
from tests.plans import run_plan, traced_peak

SHAPE = (19, 70, 90)
GEOMETRY = Geometry(SHAPE, (10.0, 10.0, 10.0), (5.0, -7.0, 11.0))
SPEC = ConnectSpec(episodes=60)
MERGE = MergeSpec(connect="qlearning", minimum_volume_nm3=150.0)


def scene():
    """A vesicle with gaps that turn from slice to slice, one inside it, and an open sheet beside them."""
    z, y, x = np.indices(SHAPE)
    radius, angle = np.hypot(y - 34, x - 34), np.arctan2(y - 34, x - 34)
    outer = (np.abs(radius - 24 - z / 8) < 1.6) & (np.cos(3 * angle + z) < 0.9)
    inner = np.abs(np.hypot(y - 36, x - 32) - 10) < 1.6
    sheet = (np.abs(x - 78 - y / 12) < 1.6) & (y > 8) & (y < 60)
    return outer | inner | sheet


def prepare(folder, volume):
    create_image(folder / "source.ome.zarr", GEOMETRY, volume.dtype, (8, 32, 32))
    write_region(folder / "source.ome.zarr", whole(SHAPE), volume)
    return Tomogram("TS_001", "TS_001.mrc", str(folder), GEOMETRY)


def planned(folder, volume, *, chunk=(8, 32, 32), spec=SPEC, merge=MERGE, **options):
    return stage.plan(prepare(folder, volume), spec, merge, chunk, source="source.ome.zarr", **options)


@pytest.fixture(scope="module")
def expected():
    return connect_volume(scene(), options_in_voxels(SPEC, 10.0), minimum_voxels=150)


@pytest.mark.parametrize("slices", [1, 5, 8, 40])
@pytest.mark.parametrize("chunk", [(8, 32, 32), (4, 16, 20), (20, 70, 90)])
def test_equals_the_whole_for_any_chunks_slabs_and_order(tmp_path, monkeypatch, expected, slices, chunk):
    monkeypatch.setattr(stage, "_SLICES", slices)
    monkeypatch.setattr(stage, "_BLOCK_VOXELS", 8 * 32 * 90)
    summary, receipts = run_plan(planned(tmp_path, scene() * np.uint8(2), chunk=chunk, values=(2,)), seed=slices)
    labels, count = expected
    found = read_region(tmp_path / summary["volume"])
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, labels)
    assert summary["count"] == count == 3
    written = [name for receipt in receipts for name in receipt.files]
    assert len(set(written)) == len(written), "two units wrote one file"
    assert all((tmp_path / name).is_file() for name in written)


def test_vesicles_and_sheet_are_one_membrane_each(expected):
    labels, count = expected
    assert count == 3
    for y, x in ((36, 22), (34, 78 + 34 // 12)):
        assert len(np.unique(labels[:, y - 2 : y + 3, x - 2 : x + 3])) == 2  # background and one membrane


def test_leaves_what_merge_leaves(tmp_path):
    volume = scene().astype(np.uint8)
    ours, _ = run_plan(planned(tmp_path / "a", volume))
    theirs, _ = run_plan(
        merge_stage.plan(prepare(tmp_path / "b", volume), MERGE, (8, 32, 32), source="source.ome.zarr"), seed=1
    )
    assert set(ours) == set(theirs) and ours["volume"] == theirs["volume"]
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in theirs.items()}
    assert ours["voxels"] == theirs["voxels"] == volume.sum() and ours["minimum_voxels"] == theirs["minimum_voxels"]
    columns, wanted = load_npz(tmp_path / "a" / ours["regions"]), load_npz(tmp_path / "b" / theirs["regions"])
    assert [(name, c.dtype, c.shape[1:]) for name, c in columns.items()] == [
        (name, c.dtype, c.shape[1:]) for name, c in wanted.items()
    ]
    assert image_geometry(tmp_path / "a" / ours["volume"]) == GEOMETRY


def test_the_table_describes_the_volume(tmp_path, expected):
    summary, _ = run_plan(planned(tmp_path, scene().astype(np.uint8)))
    labels, table = expected[0], load_npz(tmp_path / summary["regions"])
    for number in range(1, summary["count"] + 1):
        where = np.argwhere(labels == number)
        assert table["voxels"][number - 1] == len(where)
        np.testing.assert_array_equal(table["coordinate_sum"][number - 1], where.sum(axis=0))
        np.testing.assert_array_equal(table["box"][number - 1], [*where.min(axis=0), *(where.max(axis=0) + 1)])
        assert table["first_voxel"][number - 1] == np.flatnonzero(labels == number)[0]
    assert summary["kept_voxels"] == (labels > 0).sum()


def test_the_slices_seed_is_their_own(tmp_path, expected):
    """The first slices of a volume come out the same without the rest: resumed, repeated or shown alone."""
    options = options_in_voxels(SPEC, 10.0)
    labels, _ = connect_volume(scene()[:11], options)
    whole_labels, _ = connect_volume(scene(), options)
    np.testing.assert_array_equal(labels > 0, whole_labels[:11] > 0)


def test_units_read_no_more_than_their_slices_and_the_next(tmp_path, monkeypatch, expected):
    """A link unit without the next slab's first slice breaks every membrane there: the halo is one slice."""
    monkeypatch.setattr(stage, "_SLICES", 5)
    original = stage.link_unit
    monkeypatch.setattr(
        stage, "link_unit", lambda task, slab, first, past, more: original(task, slab, first, past, False)
    )
    summary, _ = run_plan(planned(tmp_path, scene().astype(np.uint8)))
    assert summary["count"] > expected[1]


def test_chunks_of_an_earlier_run_go_away(tmp_path):
    run_plan(planned(tmp_path, scene().astype(np.uint8)))
    write_region(tmp_path / "source.ome.zarr", whole(SHAPE), np.zeros(SHAPE, np.uint8))
    tomogram = Tomogram("TS_001", "TS_001.mrc", str(tmp_path), GEOMETRY)
    summary, _ = run_plan(stage.plan(tomogram, SPEC, MERGE, (8, 32, 32), source="source.ome.zarr"))
    assert summary["count"] == 0 and not read_region(tmp_path / summary["volume"]).any()
    assert load_npz(tmp_path / summary["regions"])["box"].shape == (0, 6)
    assert summary["warnings"] == ["connect: no voxel is membrane; looked for values other than 0"]


def test_scores_are_compared_with_a_threshold(tmp_path):
    scores = np.where(scene(), np.float32(0.6), np.float32(0.2))
    scores[3, 4, 5] = np.nan
    assert run_plan(planned(tmp_path, scores))[0]["voxels"] == scene().sum()
    assert run_plan(planned(tmp_path, scores, threshold=0.7))[0]["voxels"] == 0
    found = run_plan(planned(tmp_path, scores, merge=MergeSpec(connect="qlearning", mask_threshold=0.65)))[0]
    assert found["warnings"] == ["connect: no voxel is membrane; looked for scores from 0.65"]


def test_all_too_small_is_said(tmp_path):
    summary, _ = run_plan(planned(tmp_path, scene().astype(np.uint8), merge=MergeSpec(minimum_volume_nm3=1e6)))
    assert summary["count"] == 0 and "no membrane reaches merge.minimum_volume_nm3" in summary["warnings"][0]


@pytest.mark.parametrize(
    ("dtype", "merge", "options", "words"),
    [
        (np.uint8, MERGE, {"threshold": 3, "values": (2,)}, r"no values to choose.*\(2,\)"),
        (np.uint8, MERGE, {"values": (0, 1)}, "0 is background"),
        (np.uint8, MergeSpec(separate_labels=True), {"values": (1, 2)}, "merge.separate_labels"),
    ],
)
def test_contradictions_are_refused_before_any_unit(tmp_path, dtype, merge, options, words):
    with pytest.raises(UsageError, match=words):
        next(planned(tmp_path, np.zeros(SHAPE, dtype), merge=merge, **options))


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", ["scene", "full", "empty", "specks"])
def test_projected_bytes_hold(tmp_path, monkeypatch, name):
    """Every unit, in a slab of 8 slices, against its projection; the fixed part covers no array."""
    volumes = {
        "scene": scene,
        "full": lambda: np.ones(SHAPE, bool),
        "empty": lambda: np.zeros(SHAPE, bool),
        "specks": lambda: np.random.default_rng(0).random(SHAPE) < 0.1,
    }
    run_plan(planned(tmp_path, scene().astype(np.uint8)))  # compiled outside the measurement
    plan = planned(tmp_path, volumes[name]().astype(np.uint8))
    answer = None
    try:
        while True:
            units = plan.send(answer)
            answer = []
            for unit in units:
                receipt, used = traced_peak(lambda unit=unit: unit.call(*unit.args))
                assert used <= unit.bytes - (15 << 20), unit.key
                answer.append(receipt)
    except StopIteration:
        pass


def test_a_maze_of_noise_stays_within_the_projection():
    """The most segments a slice can have: what grows with their square is projected too."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(256, 256)), 3)
    mask = np.abs(noise) < 0.15 * noise.std()
    options = options_in_voxels(ConnectSpec(episodes=5), 10.0)
    slice_labels(mask, options, 0)  # compiled outside the measurement
    _, used = traced_peak(lambda: slice_labels(mask, options, 0))
    assert used <= projected_bytes((1, 256, 256), 1, chunk_slices=1) - (48 << 20)


def test_projections_grow_with_what_they_are_about():
    assert projected_bytes((8, 100, 100), 4, chunk_slices=64) > projected_bytes((8, 100, 100), 1, chunk_slices=64)
    assert projected_bytes((8, 100, 100), 1, chunk_slices=64) > projected_bytes((4, 100, 100), 1, chunk_slices=64)
    assert projected_number_bytes(1000, 0) < projected_number_bytes(1000, 10) < projected_number_bytes(2000, 10)
    assert projected_paint_bytes((8, 32, 90), 8, (70, 90)) < projected_paint_bytes((8, 64, 90), 8, (70, 90))
