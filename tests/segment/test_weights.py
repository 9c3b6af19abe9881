"""Model files: round trip, and every kind of damage refused by name."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from cryoscale.errors import UsageError
from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import load_model, model_hash, save_model
from tests.segment.test_unet import random_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, random_model(), {"training": {"command": "cryoscale train"}})
    return path


def rewrite(path: Path, data: bytes) -> None:
    """Replace the weights and make the card agree, so that only the content can be found wrong."""
    path.write_bytes(data)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": hashlib.sha256(data).hexdigest()}))


def test_round_trip(saved: Path) -> None:
    model, card = load_model(saved)
    x = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(model(x), random_model()(x))
    assert not model.training
    assert card["training"] == {"command": "cryoscale train"}
    assert card["architecture"] == {"name": "unet2d", "slices_in": 1, "classes": 3, "width": 4, "depth": 2}
    assert model_hash(saved) == card["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model.json", "model.safetensors"]


def test_every_flipped_byte_is_seen(saved: Path) -> None:
    data = saved.read_bytes()
    for place in np.random.default_rng(0).integers(len(data), size=20):
        damaged = bytearray(data)
        damaged[place] ^= 1
        saved.write_bytes(bytes(damaged))
        with pytest.raises(UsageError, match=r"model\.safetensors: the weights are not the ones the card describes"):
            load_model(saved)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_truncated_file_is_refused(saved: Path, keep: int) -> None:
    rewrite(saved, saved.read_bytes()[:keep])
    with pytest.raises(UsageError, match="not a safetensors file, or damaged"):
        load_model(saved)


def test_pickled_checkpoint_is_refused_unopened(saved: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (saved.with_name("opened"),))

    rewrite(saved, pickle.dumps(Trap()))
    with pytest.raises(UsageError, match="not a safetensors file"):
        load_model(saved)
    assert not saved.with_name("opened").exists()


def test_repeated_name_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    twice = header[:-1] + b',"head.bias":' + json.dumps(json.loads(header)["head.bias"]).encode() + b"}"
    twice += b" " * (-len(twice) % 8)
    rewrite(saved, len(twice).to_bytes(8, "little") + twice + data[8 + length :])
    load(saved.read_bytes())  # safetensors itself takes it
    with pytest.raises(UsageError, match=r"'head\.bias' is there twice"):
        load_model(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_not_finite_is_refused(saved: Path, value: float) -> None:
    state = load(saved.read_bytes())
    state["head.weight"][0, 0] = value
    rewrite(saved, save(state))
    with pytest.raises(UsageError, match=r"not finite numbers; found head\.weight"):
        load_model(saved)
    model = random_model()
    model.head.weight.data[0, 0] = value
    with pytest.raises(UsageError, match="not finite"):
        save_model(saved, model, {})


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "architecture"])
def test_weights_of_another_network_are_refused(saved: Path, change: str) -> None:
    state = load(saved.read_bytes())
    if change == "missing":
        del state["head.bias"]
    elif change == "extra":
        state["spy"] = torch.zeros(1)
    elif change == "shape":
        state["head.bias"] = torch.zeros(4)
    else:
        state = UNet(width=5, depth=2).state_dict()
    rewrite(saved, save(state))
    with pytest.raises(UsageError, match="do not fit the card's architecture"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"architecture": 1, "sha256": "a"}'])
def test_damaged_card_is_refused(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(UsageError, match=r"model\.json: the model's card is missing or damaged"):
        load_model(saved)


def test_missing_weights_are_refused(saved: Path) -> None:
    saved.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_model(saved)
