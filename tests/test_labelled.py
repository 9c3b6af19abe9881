"""Own data: what is read, what is held out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.io.mrc import write_mrc
from cryoscale.labelled import OwnData, held_out, read_labelled, read_unlabelled

SHAPE = (12, 32, 40)
LABELLED = (2, 3, 9)


def tomogram(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, SHAPE).astype(np.float32)


def marks(slices: tuple[int, ...] = LABELLED, value: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for z in slices:
        labels[z, z : z + 4, 5:30] = value
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tomos", "labels"):
        (tmp_path / name).mkdir()
    write_mrc(tmp_path / "tomos/TS_1.mrc", tomogram(), 10.0)
    write_mrc(tmp_path / "labels/TS_1_membranes.mrc", marks(), 10.0)
    return tmp_path


def read(folder: Path, **options: object) -> OwnData:
    given = {"neighbours": 2, **options}
    return read_labelled([str(folder / "tomos/*.mrc")], [str(folder / "labels/*.mrc")], **given)  # type: ignore[arg-type]


def test_labelled_slices_are_read_with_their_neighbours(folder: Path) -> None:
    own = read(folder)
    assert own.slice_count == 3
    assert own.voxel_size_angstrom == (10.0, 10.0)
    assert own.names == ("TS_1.mrc",)
    first, second = own.samples
    np.testing.assert_array_equal(first.tomogram, tomogram()[0:6])
    np.testing.assert_array_equal(second.tomogram, tomogram()[7:12])
    assert (first.slices, second.slices) == ((2, 3), (2,))
    np.testing.assert_array_equal(first.classes, marks()[0:6] * 2)
    assert first.centre == second.centre == pytest.approx(5, abs=0.2)


def test_values_say_what_is_membrane_and_protein(folder: Path) -> None:
    write_mrc(folder / "labels/TS_1_membranes.mrc", marks((2,), 1) + marks((5,), 4) + marks((8,), 7), 10.0)
    own = read(folder, neighbours=0, membrane=(4,), protein=(7,))
    assert [sample.classes.max() for sample in own.samples] == [2, 1]
    own = read(folder, neighbours=0, protein=(7,))
    assert [sample.classes.max() for sample in own.samples] == [2, 2, 1]


def test_slices_without_labels_are_unknown_unless_said_otherwise(folder: Path) -> None:
    assert read(folder, all_slices=True).slice_count == 12


def test_unlabelled_slices_are_spread(folder: Path) -> None:
    own = read_unlabelled([str(folder / "tomos")], neighbours=0, slices=3)
    assert [float(sample.tomogram[0, 0, 0]) for sample in own.samples] == tomogram()[[2, 6, 10], 0, 0].tolist()
    assert all(not sample.classes.any() for sample in own.samples)


def test_a_tenth_is_held_out_and_nothing_is_in_both(folder: Path) -> None:
    write_mrc(folder / "labels/TS_1_membranes.mrc", marks(tuple(range(12))), 10.0)
    write_mrc(folder / "tomos/TS_2.mrc", tomogram(1), 10.0)
    write_mrc(folder / "labels/TS_2.mrc", marks(tuple(range(12))), 10.0)
    own = read(folder, neighbours=0)
    seen = set()
    for seed in range(20):
        kept, scored = held_out(own, seed)
        out = {(id(s.tomogram), z) for s in scored for z in s.slices}
        rest = {(id(s.tomogram), z) for s in kept.samples for z in s.slices}
        assert (len(out), len(rest)) == (2, 22)
        assert not out & rest
        seen.add(frozenset(out))
    assert len(seen) > 5
    one = OwnData(own.samples[:1], own.names, None)
    with pytest.raises(UsageError, match="too few labelled slices"):
        held_out(OwnData((one.samples[0].only([3]),), own.names, None), 0)


def test_the_digest_tells_data_apart(folder: Path) -> None:
    before = read(folder).digest
    assert read(folder).digest == before
    write_mrc(folder / "labels/TS_1_membranes.mrc", np.roll(marks(), 1, axis=2), 10.0)
    assert read(folder).digest != before


def test_a_tomogram_is_not_its_own_labels(folder: Path) -> None:
    (folder / "other").symlink_to(folder / "labels")
    for data, labels in ((["tomos"], ["tomos"]), (["tomos", "labels"], ["labels"]), (["labels"], ["other"])):
        with pytest.raises(UsageError, match="a file is named as a tomogram and as labels; found 1 such"):
            read_labelled([str(folder / d) for d in data], [str(folder / name) for name in labels], neighbours=0)


def test_labels_of_many_membranes_are_no_grey_values(folder: Path) -> None:
    label = folder / "labels/TS_1_membranes.mrc"
    rows = np.zeros(SHAPE, np.int16)
    rows[:, ::2, 5:30] = 1 + np.arange(12 * 16).reshape(12, 16, 1)
    write_mrc(label, rows, 10.0)
    assert read(folder).slice_count == 12
    grey = np.rint(100 + 20 * tomogram()).astype(np.int16)
    grey[:, :, :25] = 0  # a turned tomogram's border
    for values in (grey, (grey // 2).clip(0, 127).astype(np.uint8)):
        write_mrc(label, values, 10.0)
        for membrane in ((), (100,)):
            with pytest.raises(UsageError, match=r"TS_1_membranes.mrc: these labels are grey values; found one value"):
                read(folder, membrane=membrane)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "shape",
            r"TS_1_membranes.mrc: labels and tomogram differ in shape; found 12 x 32 x 39; allowed: 12 x 32 x 40",
        ),
        ("empty", "no voxel of the labels is membrane"),
        ("value", "no voxel of the labels is membrane"),
        ("scores", "a label is not a whole number"),
        ("stranger", "these labels belong to no tomogram"),
        ("longer name", "these labels belong to no tomogram"),
        ("twice", "two label files for one tomogram"),
        ("missing", r"TS_2.mrc: a tomogram has no labels"),
        ("none", "no tomogram found"),
        ("flat", "nothing to learn from"),
        ("nan", "not a finite number"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(folder: Path, change: str, words: str) -> None:
    label = folder / "labels/TS_1_membranes.mrc"
    options: dict[str, object] = {}
    if change == "shape":
        write_mrc(label, marks()[..., 1:], 10.0)
    elif change == "empty":
        write_mrc(label, 0 * marks(), 10.0)
    elif change == "value":
        options["membrane"] = (3,)
    elif change == "scores":
        write_mrc(label, tomogram(), 10.0)
    elif change == "stranger":
        label.rename(folder / "labels/XY.mrc")
    elif change == "longer name":
        label.rename(folder / "labels/TS_10.mrc")
    elif change == "twice":
        write_mrc(folder / "labels/TS_1.mrc", marks(), 10.0)
    elif change == "missing":
        write_mrc(folder / "tomos/TS_2.mrc", tomogram(), 10.0)
    elif change == "none":
        label.unlink()
    elif change == "flat":
        write_mrc(folder / "tomos/TS_1.mrc", np.ones(SHAPE, np.float32), 10.0)
    else:
        bad = tomogram()
        bad[3, 4, 5] = np.nan
        write_mrc(folder / "tomos/TS_1.mrc", bad, 10.0)
    with pytest.raises(CryoscaleError, match=words):
        read(folder, **options)
