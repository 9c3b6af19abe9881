"""The model that comes with cryoscale."""

from __future__ import annotations

from cryoscale.chunks import whole
from cryoscale.segment.card import default_model_path
from cryoscale.segment.forward import for_inference
from cryoscale.segment.normalise import centre_and_scale
from cryoscale.segment.predict import predict_slab
from cryoscale.segment.scores import confusion, dice
from cryoscale.segment.weights import load_model
from cryoscale.simulate import image_phantom, make_phantom


def test_the_shipped_model_loads_and_is_small() -> None:
    path = default_model_path()
    model, card = load_model(path)
    assert path.stat().st_size <= 4 << 20
    assert model.classes == 3
    assert card["command"].startswith("cryoscale train --output DIR ")
    assert {"input", "normalisation", "voxel_size_angstrom", "data", "scores"} <= set(card)
    assert path.with_suffix(".log.csv").read_text().startswith("step,")


def test_the_shipped_model_finds_simulated_membranes() -> None:
    phantom = make_phantom((64, 160, 160), seed=20_002, preset="demo")
    tomogram = image_phantom(phantom.density, seed=20_002, snr=0.3)
    centre, scale = centre_and_scale(tomogram)
    model, region = for_inference(load_model(default_model_path())[0]), whole(tomogram.shape)
    scores = predict_slab(model, tomogram, region, tomogram.shape, centre=centre, scale=scale, batch_slices=1)
    found = dice(confusion(scores.argmax(axis=0), phantom.classes))
    assert found[2] > 0.7
