"""Scores against the truth of a simulation: Dice, instances, and the thickness of those that match."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryoscale.chunks import whole
from cryoscale.io.mrc import write_mrc
from cryoscale.io.omezarr import create_image, write_region
from cryoscale.io.tables import write_csv
from cryoscale.records import Geometry
from cryoscale.scoring import score_run, scores_text

SHAPE = (16, 24, 24)
TRUE_NM = {1: 3.0, 2: 4.0, 3: 2.5}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Three planes; the run found two of them, under other numbers, and one that is not there."""
    true, found = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint16)
    true[2:4], true[6:8], true[10:12] = 1, 2, 3
    found[2:4], found[6:8], found[14:16] = 5, 4, 6
    geometry = Geometry(SHAPE, (10.0, 10.0, 10.0))
    for name, volume in (("membranes", found), ("classes", np.where(found == 4, 2, 0).astype(np.uint8))):
        create_image(tmp_path / f"{name}.ome.zarr", geometry, volume.dtype, (8, 24, 24), levels=1)
        write_region(tmp_path / f"{name}.ome.zarr", whole(SHAPE), volume)
    write_mrc(tmp_path / "t__instances.mrc", true, (10.0, 10.0, 10.0))
    write_mrc(tmp_path / "t__beam_angle.mrc", np.where(true > 0, 0.0, -1.0).astype(np.float32), (10.0, 10.0, 10.0))
    facts = {"membranes": [{"id": number, "leaflets_nm": nm} for number, nm in TRUE_NM.items()]}
    (tmp_path / "t.json").write_text(json.dumps(facts))
    return tmp_path


def test_thickness_of_membranes_that_match(labels: Path) -> None:
    write_csv(labels / "membranes.csv", ["number", "thickness_nm"], [[4, 4.3], [5, 3.1], [6, 9.0]])
    scores = score_run(labels, labels / "t")
    # 4 is the true 2, 5 the true 1; 6 is none. Mutant: by number alone, nothing would match.
    assert scores["thickness_membranes"] == 2
    assert scores["thickness_bias_nm"] == pytest.approx(0.2)
    assert scores["thickness_rms_error_nm"] == pytest.approx(np.sqrt((0.3**2 + 0.1**2) / 2))
    assert scores["raw_is"] == "network" and scores["dice_raw"] < scores["dice_final"]
    assert scores["instance_recall"] == pytest.approx(2 / 3)
    assert "thickness bias nm" in scores_text(scores)


def test_without_thickness_nothing_is_said_of_it(labels: Path) -> None:
    assert "thickness_bias_nm" not in score_run(labels, labels / "t")
    write_csv(labels / "membranes.csv", ["number", "thickness_nm"], [[4, None], [5, None], [6, 9.0]])
    assert "thickness_bias_nm" not in score_run(labels, labels / "t")
