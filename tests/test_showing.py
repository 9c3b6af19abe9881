"""`connect --show` and `fit --show`: a slice of a run, of a mask, of scores; what cannot be shown is refused."""

import json
from dataclasses import asdict

import mrcfile
import numpy as np
import pytest

from cryoscale.chunks import whole
from cryoscale.connect import options_in_voxels
from cryoscale.connect.slice import connect_slice
from cryoscale.connect.volume import slice_seed
from cryoscale.errors import TomogramError, UsageError
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry
from cryoscale.report.png import png_size
from cryoscale.showing import show_connection, show_fit
from cryoscale.spec import ConnectSpec, IngestSpec, MergeSpec, RunSpec

SHAPE = (4, 60, 80)
SPEC = RunSpec(connect=ConnectSpec(episodes=50, seed=3))


def mask():
    _, y, x = np.indices(SHAPE)
    angle = np.arctan2(y - 30, x - 35)
    return (np.abs(np.hypot(y - 30, x - 35) - 20) < 1.6) & (np.cos(2 * angle) < 0.97)


def store(folder, name, volume):
    create_image(folder / name, Geometry(SHAPE, (8.0,) * 3), volume.dtype, (4, 32, 32))
    write_region(folder / name, whole(SHAPE), volume)


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, as well as the picture."""
    seen = []
    import cryoscale.showing as showing

    original = showing.connection_figure
    monkeypatch.setattr(showing, "connection_figure", lambda found: (seen.append(found), original(found))[1])
    return seen


def a_run(output, *ids):
    for name in ids:
        store(output / name, "classes.ome.zarr", mask() * np.uint8(2) + (~mask()).astype(np.uint8))
        store(output / name, "tomogram.ome.zarr", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    record = {"tomograms": [{"id": name} for name in ids], "spec": asdict(SPEC)}
    (output / "run.json").write_text(json.dumps(record))


def test_a_slice_of_a_run_is_shown_with_the_runs_options(tmp_path, drawn):
    a_run(tmp_path, "TS_001")
    for source in (tmp_path, tmp_path / "TS_001"):
        path = show_connection(source, 2, tmp_path / "slice.png")
        width, height = png_size(path.read_bytes())
        assert width > height > 300
    first, second = drawn
    expected = connect_slice(mask()[2], options_in_voxels(SPEC.connect, 8.0), slice_seed(3, 2))
    np.testing.assert_array_equal(first.mask, mask()[2])
    np.testing.assert_array_equal(first.q, expected.q)
    assert first.paths == second.paths == expected.paths and first.closed == expected.closed == (True,)
    assert first.intensity.shape == SHAPE[1:] and first.nm_per_pixel == 0.8
    assert first.title == "TS_001, z = 2 (2 nm)"


def test_a_mask_needs_no_run(tmp_path, drawn):
    labels = mask() * np.int8(5)
    labels[:, :3] = 1
    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(labels)
        mrc.voxel_size = 8.0
    show_connection(tmp_path / "mask.mrc", 0, tmp_path / "all.png")
    show_connection(tmp_path / "mask.mrc", 0, tmp_path / "5.png", spec=RunSpec(merge=MergeSpec(mask_labels=(5,))))
    assert drawn[0].mask.sum() == mask()[0].sum() + 3 * 80 and drawn[1].mask.sum() == mask()[0].sum()
    assert drawn[0].intensity is None


def test_scores_are_compared_with_the_threshold(tmp_path, drawn):
    store(tmp_path, "scores.ome.zarr", np.where(mask(), np.float32(0.7), np.float32(0.4)))
    spec = RunSpec(merge=MergeSpec(mask_threshold=0.3))
    for options in (None, spec):
        show_connection(tmp_path / "scores.ome.zarr", 1, tmp_path / "s.png", spec=options)
    assert drawn[0].mask.sum() == mask()[1].sum() and drawn[1].mask.all()


def test_the_voxel_size_is_never_guessed(tmp_path, drawn):
    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(mask().astype(np.int8))
    with pytest.raises(TomogramError, match="--apix"):
        show_connection(tmp_path / "mask.mrc", 0, tmp_path / "m.png")
    show_connection(tmp_path / "mask.mrc", 0, tmp_path / "m.png", spec=RunSpec(ingest=IngestSpec(apix=12.0)))
    assert drawn[0].nm_per_pixel == pytest.approx(1.2)


def test_what_cannot_be_shown_is_refused(tmp_path):
    a_run(tmp_path, "TS_001", "TS_002")
    with pytest.raises(UsageError, match="TS_001, TS_002"):
        show_connection(tmp_path, 0, tmp_path / "m.png")
    for z in (-1, 4):
        with pytest.raises(UsageError, match=f"no such slice.*found {z}.*0 to 3"):
            show_connection(tmp_path / "TS_002", z, tmp_path / "m.png")
    (tmp_path / "run.json").write_text(json.dumps({"tomograms": [{"id": "TS_003"}]}))
    with pytest.raises(UsageError, match="no tomogram of this run has masks yet"):
        show_connection(tmp_path, 0, tmp_path / "m.png")
    with pytest.raises(TomogramError):
        show_connection(tmp_path / "nothing.mrc", 0, tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()


@pytest.fixture
def fitted(monkeypatch):
    """What was drawn of fits, as well as the picture."""
    seen = []
    import cryoscale.showing as showing

    original = showing.slice_fits_figure
    monkeypatch.setattr(showing, "slice_fits_figure", lambda found: (seen.append(found), original(found))[1])
    return seen


def test_the_fits_of_a_slice_of_a_run(tmp_path, fitted):
    a_run(tmp_path, "TS_001")
    instances = mask() * np.int32(3)
    instances[:, :3] = 2
    show_fit(tmp_path, 2, tmp_path / "masks.png")
    store(tmp_path / "TS_001", "instances.ome.zarr", instances)
    path = show_fit(tmp_path, 2, tmp_path / "fit.png")
    width, height = png_size(path.read_bytes())
    assert width > 2 * height
    without, found = fitted
    # The run's membranes where there are any, the connected pieces of its masks where there are not yet.
    assert [one.number for one in without.membranes] == [1, 2] and len(without.curves) == 2
    assert [one.number for one in found.membranes] == [2, 3]
    assert found.intensity.shape == SHAPE[1:] and found.nm_per_pixel == 0.8 and found.title == "TS_001, z = 2 (2 nm)"
    np.testing.assert_array_equal(found.mask, instances[2] != 0)
    ring = np.concatenate([curve.points for curve in found.curves if curve.number == 3])
    assert np.abs(np.hypot(ring[:, 0] - 30, ring[:, 1] - 35) - 20).max() < 2.0
    band = next(one for one in found.membranes if one.number == 2)
    assert band.outline is None and band.selected.all()


def test_values_of_a_mask_are_its_membranes_where_they_are_separated(tmp_path, fitted):
    labels = mask() * np.int8(5)
    labels[:, :3] = 1
    labels[:, :, 78:] = 1
    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(labels)
        mrc.voxel_size = 8.0
    show_fit(tmp_path / "mask.mrc", 3, tmp_path / "a.png", spec=RunSpec(merge=MergeSpec(mask_labels=(5,))))
    show_fit(tmp_path / "mask.mrc", 3, tmp_path / "b.png", spec=RunSpec(merge=MergeSpec(separate_labels=True)))
    pieces, values = fitted
    assert len(pieces.membranes) == 2 and pieces.intensity is None
    assert [one.number for one in values.membranes] == [1, 5]
    assert values.membranes[1].outline is not None


def as_mrc(path, volume):
    with mrcfile.new(path) as mrc:
        mrc.set_data(volume)
        mrc.voxel_size = 8.0
    return path


SEPARATED = RunSpec(merge=MergeSpec(separate_labels=True))


def test_labels_of_any_size_are_separated(tmp_path, fitted):
    """One beyond int32, and one that a table of all numbers up to it would need gigabytes for."""
    labels = mask() * np.uint32(2**31 + 5)
    labels[:, :3] = 150_000_000
    store(tmp_path, "labels.ome.zarr", labels)
    show_fit(tmp_path / "labels.ome.zarr", 2, tmp_path / "a.png", spec=SEPARATED)
    assert [one.number for one in fitted[0].membranes] == [150_000_000, 2**31 + 5]


@pytest.mark.parametrize("draw", [show_connection, show_fit])
def test_a_mask_that_a_run_refuses_is_refused(tmp_path, draw):
    negative = as_mrc(tmp_path / "negative.mrc", mask() * np.int16(-3))
    for spec in (None, SEPARATED):
        with pytest.raises(TomogramError, match=r"a mask with negative values; found -3"):
            draw(negative, 2, tmp_path / "m.png", spec=spec)


def test_scores_have_no_labels_to_separate(tmp_path):
    scores = as_mrc(tmp_path / "scores.mrc", mask() * np.float32(70000))
    with pytest.raises(UsageError, match="scores have no values to choose or to keep apart"):
        show_fit(scores, 2, tmp_path / "m.png", spec=SEPARATED)
    # What draws no membranes separates none.
    show_connection(scores, 2, tmp_path / "m.png", spec=SEPARATED)


@pytest.mark.parametrize("verb", ["connect", "fit"])
def test_a_slice_without_membrane_is_said_to_be(tmp_path, capsys, verb):
    from cryoscale.cli import main

    full, empty = (
        as_mrc(tmp_path / "full.mrc", mask().astype(np.int16)),
        as_mrc(tmp_path / "0.mrc", np.zeros(SHAPE, "i2")),
    )
    command = [verb, "--show", "1", "--output", str(tmp_path / "s.png")]
    for source, options, says in (
        (empty, [], "0.mrc, z = 1 (1 nm): no voxel is membrane; looked for values other than 0"),
        (full, ["--mask-labels", "99"], "full.mrc, z = 1 (1 nm): no voxel is membrane; looked for values [99]"),
        (full, [], ""),
    ):
        assert main([*command, str(source), *options]) == 0
        assert capsys.readouterr().err.strip() == says
        assert png_size((tmp_path / "s.png").read_bytes())[0] > 300


def test_a_slice_of_crumbs_is_said_to_have_no_fit(tmp_path):
    crumbs = np.zeros(SHAPE, np.int16)
    crumbs[:, 5, 5:10] = 1
    told = []
    show_fit(as_mrc(tmp_path / "m.mrc", crumbs), 1, tmp_path / "s.png", tell=told.append)
    assert len(told) == 1 and "no membrane has 12 pixels in this slice" in told[0]


def test_a_nest_has_a_colour_for_each_ring(tmp_path, fitted):
    _, y, x = np.indices(SHAPE)
    far = np.hypot(y - 30, x - 40)
    store(tmp_path, "rings.ome.zarr", ((np.abs(far - 25) < 1.5) | (np.abs(far - 17) < 1.5)).astype(np.uint8))
    show_fit(tmp_path / "rings.ome.zarr", 0, tmp_path / "n.png")
    by_number = {curve.number: np.hypot(*(curve.points - (30, 40)).T).mean() for curve in fitted[0].curves}
    assert by_number == pytest.approx({1: 25, 2: 17}, abs=0.5)


def test_fits_that_cannot_be_shown_are_refused(tmp_path):
    a_run(tmp_path, "TS_001")
    with pytest.raises(UsageError, match=r"no such slice.*found 4.*0 to 3"):
        show_fit(tmp_path, 4, tmp_path / "m.png")
    with pytest.raises(TomogramError):
        show_fit(tmp_path / "nothing.mrc", 0, tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()


def test_the_verb_draws(tmp_path, capsys):
    from cryoscale.cli import main

    a_run(tmp_path, "TS_001")
    picture = tmp_path / "fit.png"
    assert main(["fit", str(tmp_path), "--show", "1", "--output", str(picture)]) == 0
    assert capsys.readouterr().out.strip() == str(picture) and png_size(picture.read_bytes())[0] > 300


@pytest.mark.parametrize("verb", ["connect", "fit"])
def test_a_mask_is_read_as_the_options_say(tmp_path, drawn, fitted, verb):
    """A mask without a voxel size, of which one value is membrane: as `run` takes it."""
    from cryoscale.cli import main

    labels = mask() * np.int8(5)
    labels[:, :3] = 1
    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(labels)
    command = [verb, str(tmp_path / "mask.mrc"), "--show", "1", "--output", str(tmp_path / "s.png"), "--apix", "12"]
    assert main([*command, "--mask-labels", "5"]) == 0
    (tmp_path / "run.toml").write_text("[ingest]\napix = 9.0\n[connect]\nepisodes = 5\n")
    assert main([*command, "--config", str(tmp_path / "run.toml")]) == 0
    one, both = drawn or fitted
    assert one.nm_per_pixel == both.nm_per_pixel == pytest.approx(1.2)
    assert one.mask.sum() == mask()[1].sum()
    assert both.mask.sum() == one.mask.sum() + 3 * 80


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--apix", "-3"), "ingest.apix"),
        (("--apix", "4000"), "0.5 to 100"),
        (("--apix", "12", "--mask-labels", "0,5"), "0 is background"),
        (("--apix", "12", "--config", "none.toml"), "none.toml"),
    ],
)
@pytest.mark.parametrize("verb", ["connect", "fit"])
def test_options_that_cannot_be_are_refused(tmp_path, capsys, verb, options, says):
    from cryoscale.cli import main

    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(mask().astype(np.int8))
    picture = tmp_path / "s.png"
    assert main([verb, str(tmp_path / "mask.mrc"), "--show", "1", "--output", str(picture), *options]) == 2
    assert says in capsys.readouterr().err
    assert not picture.exists()


def test_a_run_is_not_read_otherwise(tmp_path, capsys):
    from cryoscale.cli import main

    a_run(tmp_path, "TS_001")
    command = ["fit", str(tmp_path), "--show", "1", "--output", str(tmp_path / "s.png")]
    assert main([*command, "--apix", "12", "--separate-labels"]) == 2
    assert "--apix, --separate-labels: a run has its own" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "s.png")]) == 0
    with pytest.raises(SystemExit):
        main(["connect", str(tmp_path), "--show", "1", "--separate-labels"])
