"""Grey values of a tomogram's membranes: from which slices, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoscale.errors import UsageError
from cryoscale.io.mrc import write_mrc
from cryoscale.matching import match_intensities

SHAPE = (40, 16, 24)
MEMBRANE, PROTEIN = np.s_[:, 4:8], np.s_[:, 12:14]


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[str, str]:
    """Dark membranes (-10) and darker proteins (-20) in every slice, of which two have labels."""
    grey = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    grey[MEMBRANE] -= 10
    grey[PROTEIN] -= 20
    marks = np.zeros(SHAPE, np.uint8)
    marks[MEMBRANE], marks[PROTEIN] = 1, 3
    known = np.isin(np.arange(SHAPE[0]), (0, 39))
    marks[~known] = 0
    write_mrc(tmp_path / "tomo.mrc", grey, 10.0)
    write_mrc(tmp_path / "marks.mrc", marks, 10.0)
    return str(tmp_path / "tomo.mrc"), str(tmp_path / "marks.mrc")


def test_a_membrane_without_labels_is_no_background(labelled: tuple[str, str]) -> None:
    found = match_intensities(*labelled, protein=(3,))
    assert found.membrane_mean == pytest.approx(-10, abs=0.5) and found.membrane_sd == pytest.approx(1, abs=0.2)
    assert found.background_mean == pytest.approx(0, abs=0.3) and found.background_sd == pytest.approx(1, abs=0.2)
    # What a protein is nobody said: part of the membrane.
    assert match_intensities(*labelled).membrane_mean == pytest.approx(-40 / 3, abs=0.5)
    assert match_intensities(*labelled, membrane=(3,)).membrane_mean == pytest.approx(-20, abs=0.5)
    # The others are background where it is said so; of these slices two have labels, and are not among those sampled.
    with pytest.raises(UsageError, match=r"marks.mrc: no voxel of the labels is membrane; found none in 16 slices"):
        match_intensities(*labelled, all_slices=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nan", r"tomo.mrc: a voxel is not a finite number; found slice 39"),
        ("flat", r"tomo.mrc: no intensities to match; found the values of the background do not differ"),
        ("empty", r"marks.mrc: no voxel of the labels is membrane"),
        ("full", r"marks.mrc: no voxel of the labels is background"),
        ("shape", r"marks.mrc: labels and tomogram differ in shape; found 40 x 16 x 23"),
    ],
)
def test_what_cannot_be_matched_is_refused_by_name(labelled: tuple[str, str], change: str, words: str) -> None:
    tomogram, marks = labelled
    if change in ("nan", "flat"):
        grey = np.zeros(SHAPE, np.float32)
        grey[39, 4, 5] = np.nan if change == "nan" else 0
        write_mrc(Path(tomogram), grey, 10.0)
    else:
        shape = (40, 16, 23) if change == "shape" else SHAPE
        write_mrc(Path(marks), np.full(shape, change == "full", np.uint8), 10.0)
    with pytest.raises(UsageError, match=words):
        match_intensities(tomogram, marks)


def test_a_tomogram_is_not_its_own_labels(labelled: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=r"marks.mrc: a file is named as a tomogram and as labels"):
        match_intensities(labelled[1], labelled[1])


def test_a_tomogram_alone_that_is_not_finite_is_refused_by_name(labelled: tuple[str, str]) -> None:
    write_mrc(Path(labelled[0]), np.full(SHAPE, np.nan, np.float32), 10.0)
    with pytest.raises(UsageError, match=r"tomo.mrc: a voxel is not a finite number; found slice 1"):
        match_intensities(labelled[0])
