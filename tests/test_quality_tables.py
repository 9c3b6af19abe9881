"""The tables of the quality benchmark: sums of counts, and only the angles that are asked about."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import quality
from benchmarks._network_quality import _scores, held_out_table, paper_rows, seen_dice
from cryoscale.simulate import make_phantom


def row(snr: float, voxel: float, counts: list[tuple[int, int, int]]) -> dict[str, object]:
    names = ("true_positive", "false_positive", "false_negative")
    return {
        "seed": 1,
        "snr": snr,
        "voxel_size_angstrom": voxel,
        "confusion": [[90, 1, 2], [3, 5, 1], [4, 0, 30]],
        "by_angle": [dict(zip(names, part, strict=True)) for part in counts],
        "found_of_kind": {"blend": [3, 4]},
    }


def test_dice_is_of_the_sums_where_the_membrane_is_seen() -> None:
    rows = [row(0.3, 10.0, [(0, 9, 9), (10, 2, 4), (20, 0, 0)]), row(0.3, 8.0, [(5, 0, 0), (1, 5, 5), (0, 0, 8)])]
    assert seen_dice(rows) == pytest.approx(2 * 31 / (2 * 31 + 7 + 17))
    text = held_out_table(rows)
    assert f"{seen_dice(rows):.3f}" in text.splitlines()[1]
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["8", "10"]
    assert "blend 0.750" in text


def test_the_truth_itself_scores_1_and_nothing_0() -> None:
    phantom = make_phantom((32, 64, 64), seed=95_001, preset="heldout", voxel_size_angstrom=20.0)
    perfect, empty = (_scores(found, phantom) for found in (phantom.classes, np.zeros_like(phantom.classes)))
    assert seen_dice([perfect]) == 1.0
    assert seen_dice([empty]) == 0.0
    assert all(found == total > 0 for found, total in perfect["found_of_kind"].values())
    assert np.trace(perfect["confusion"]) == phantom.classes.size


def test_the_shipped_network_on_the_papers_images() -> None:
    (scores,) = paper_rows(1, [""])
    assert scores["model"] == "unet25d"
    assert 0.5 < scores["pixel_accuracy"] <= 1


def test_slices_without_a_membrane_do_not_spoil_the_means(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scores = {
        "raw_is": "scores",
        "dice_raw": 0.8,
        "dice_final": 0.9,
        "dice_raw_by_angle": [0.7, 0.8, 0.9],
        "dice_final_by_angle": [0.8, 0.9, 1.0],
        "dice_raw_by_slice": [None, 0.8],
        "dice_final_by_slice": [None, 0.9],
        "instance_f1": 1.0,
        "panoptic_quality": 0.5,
    }
    monkeypatch.setattr(quality, "write_simulation", lambda folder, **_: folder / "simulated_1.mrc")
    monkeypatch.setattr(quality, "entries", lambda _: [])
    monkeypatch.setattr(quality, "run_collection", lambda *_: SimpleNamespace(failures=[]))
    monkeypatch.setattr(quality, "score_run", lambda *_: scores)
    rows = [quality.one(tmp_path, seed, 0.3, (8, 8, 8), 1) for seed in (1, 2)]
    mean = quality.table(rows).splitlines()[-1]
    assert "mean | 0.800 0.900  1.12 |             0.700 0.800 0.900 | 0.800 0.900 1.000" in mean
