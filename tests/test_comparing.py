"""`cryoscale evaluate`: two label volumes of any format, compared slab by slab."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import cryoscale.scoring as scoring
from cryoscale.chunks import whole
from cryoscale.cli import main
from cryoscale.comparing import compare_volumes
from cryoscale.errors import UsageError
from cryoscale.evaluate.surfaces import border_points, surface_scores
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.records import Geometry
from tests.report.scene import volumes


@pytest.fixture(scope="module")
def pair() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Prediction and truth: one membrane shifted by a voxel, the other half missing."""
    truth = volumes()[1]
    found = np.roll(truth, 1, axis=2)
    found[:, 40:] = 0
    return found, truth


@pytest.fixture(scope="module")
def files(
    pair: tuple[NDArray[np.uint16], NDArray[np.uint16]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder, (found, truth) = tmp_path_factory.mktemp("labels"), pair
    with mrcfile.new(folder / "truth.mrc") as stream:
        stream.set_data(truth)
        stream.voxel_size = 10.0
    tifffile.imwrite(folder / "found.tif", found, metadata={"axes": "ZYX"})
    create_image(folder / "found.ome.zarr", Geometry(found.shape, (10.0,) * 3), np.uint16, (16, 32, 32))
    write_region(folder / "found.ome.zarr", whole(found.shape), found)
    return {path.suffix: path for path in folder.iterdir()}


def test_formats_agree_and_scores_are_those_of_the_whole(files: dict[str, Path], pair, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(scoring, "_SLAB_SLICES", 7)
    ours = compare_volumes(files[".zarr"], files[".mrc"], tolerance_nm=2.0, by_angle=True)
    also = compare_volumes(files[".tif"], files[".mrc"], tolerance_nm=2.0, by_angle=True)
    assert ours.scores == also.scores
    found, truth = pair
    right = int(((found > 0) & (truth > 0)).sum())
    either = int(((found > 0) | (truth > 0)).sum())
    assert ours.scores["iou"] == pytest.approx(right / either)
    assert ours.scores["dice"] == pytest.approx(2 * right / ((found > 0).sum() + (truth > 0).sum()))
    surface = surface_scores(border_points(found > 0, 1.0), border_points(truth > 0, 1.0), tolerance_nm=2.0)
    assert ours.scores["surface_dice"] == pytest.approx(surface.surface_dice)
    assert ours.scores["instances_true"] == 2
    assert len(ours.scores["dice_by_angle"]) == 3


def test_tables_and_picture(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores"
    assert main(["evaluate", str(files[".tif"]), str(files[".mrc"]), "--json", "--by-angle", "--output", str(out)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == json.loads((out / "scores.json").read_text())
    with (out / "slices.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    names = ("true_positive", "false_positive", "false_negative")
    right, surplus, missing = (sum(int(row[name]) for row in rows) for name in names)
    assert 2 * right / (2 * right + surplus + missing) == pytest.approx(scores["dice"])
    assert rows[0]["dice"] == ""
    with (out / "instances.csv").open() as stream:
        matches = list(csv.DictReader(stream))
    assert {row["true"] for row in matches} >= {"1", "2"}
    assert (out / "scores.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_compared(files: dict[str, Path], tmp_path: Path) -> None:
    small = tmp_path / "small.mrc"
    with mrcfile.new(small) as stream:
        stream.set_data(np.zeros((8, 8, 8), np.int16))
    with pytest.raises(UsageError, match="shapes differ"):
        compare_volumes(small, files[".mrc"])
    with pytest.raises(UsageError, match="voxel size"):
        compare_volumes(small, small, tolerance_nm=1.0)
    empty = compare_volumes(small, small, tolerance_nm=1.0, apix=10.0)
    assert math.isnan(empty.scores["surface_dice"])
