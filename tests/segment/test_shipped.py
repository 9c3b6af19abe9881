"""The model that comes with cryoscale."""

from __future__ import annotations

from cryoscale.segment.weights import default_model_path, load_model


def test_the_shipped_model_loads_and_is_small() -> None:
    path = default_model_path()
    model, card = load_model(path)
    assert path.stat().st_size <= 4 << 20
    assert model.classes == 3
    assert card["command"].startswith("cryoscale train --output DIR --volumes ")
    assert {"input", "normalisation", "voxel_size_angstrom", "data", "scores"} <= set(card)
    assert path.with_suffix(".log.csv").read_text().startswith("step,")
