"""The card of a model: what a run goes by is sound or refused by name, is used, and is in the model's hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryoscale.errors import UsageError
from cryoscale.segment.card import model_hash, read_card
from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import load_model, save_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, UNet(width=1, depth=1), {"voxel_size_angstrom": [10.0, 13.0]})
    return path


def edit(path: Path, **fields: object) -> None:
    """Change fields of a card; those that are `...` go."""
    card = json.loads(path.with_suffix(".json").read_text()) | fields
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in card.items() if v is not ...}))


WRONG_SIZES: list[object] = [
    [13, 10], [float("nan"), 13], [10, float("nan")], "abc", "1", [10], [9, 10, 11], None, [0, 0], [0, 10], [-10, 13],
    ["10", "13"], [10, float("inf")], [10, 10**400], [1e-300, 1e-300], [True, 13], 10, {}, [[10], [13]],
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(("voxel_size_angstrom", value, "two numbers, the least and the largest") for value in WRONG_SIZES),
        *(
            ("score_threshold", value, "a number above 0 and below 1")
            for value in (float("nan"), 0, 1, -0.5, 2, "0.5", None, True, [0.5], float("inf"))
        ),
        *(
            ("classes", value, r'\["background", "protein", "membrane"\], in this order')
            for value in (["background", "membrane", "protein"], ["background", "membrane"], "membrane", None, 3)
        ),
        *(("normalisation", value, r'"clip\(\(x - median\)') for value in ("none", "", None, 1)),
        *(("enhanced", value, "true or false") for value in ("no", 0, 1, None)),
    ],
)
def test_a_field_that_no_run_can_go_by_is_refused(saved: Path, field: str, value: object, allowed: str) -> None:
    edit(saved, **{field: value})
    for read in (read_card, load_model, model_hash):
        with pytest.raises(UsageError, match=rf"model\.json: .*{field}.*; found .*; allowed: {allowed}.*; to do: "):
            read(saved)


@pytest.mark.parametrize(
    "fields",
    [
        {"voxel_size_angstrom": [10, 10]},
        {"voxel_size_angstrom": ..., "score_threshold": ..., "classes": ..., "normalisation": ..., "enhanced": ...},
        {"enhanced": True},
    ],
)
def test_sound_and_absent_fields_are_legal(saved: Path, fields: dict[str, object]) -> None:
    edit(saved, **fields)
    assert load_model(saved)[0].threshold == 0.5


def test_the_cards_threshold_is_the_models(saved: Path) -> None:
    edit(saved, score_threshold=0.25)
    model, card = load_model(saved)
    assert model.threshold == card["score_threshold"] == 0.25
    assert save_model(saved, model, card)["score_threshold"] == 0.25


def test_what_the_network_is_shown_is_in_the_hash(saved: Path) -> None:
    plain = model_hash(saved)
    edit(saved, enhanced=False)
    assert model_hash(saved) == plain
    edit(saved, enhanced=True)
    assert model_hash(saved) != plain


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_network_of_other_classes_is_refused(saved: Path, classes: int) -> None:
    save_model(saved, UNet(classes=classes, width=1, depth=1), {})
    with pytest.raises(UsageError, match=rf"option classes.*found {classes}; allowed: 3 \(background, protein, membr"):
        load_model(saved)
