"""Model files: round trip, and every kind of damage refused by name."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from cryoscale.errors import UsageError
from cryoscale.segment.card import model_hash
from cryoscale.segment.unet import UNet
from cryoscale.segment.weights import load_model, save_model
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
    assert card["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
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


@pytest.mark.parametrize(
    "change", ["missing", "extra", "shape", "architecture", "float64", "float8_e4m3fn", "complex64"]
)
def test_weights_of_another_network_are_refused(saved: Path, change: str) -> None:
    state = load(saved.read_bytes())
    if change == "missing":
        del state["head.bias"]
    elif change == "extra":
        state["spy"] = torch.zeros(1)
    elif hasattr(torch, change):
        state["head.bias"] = state["head.bias"].to(getattr(torch, change))
    elif change == "shape":
        state["head.bias"] = torch.zeros(4)
    else:
        state = UNet(width=5, depth=2).state_dict()
    rewrite(saved, save(state))
    with pytest.raises(UsageError, match="do not fit the card's architecture"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"architecture": 1, "sha256": "a"}', "[" * 200_000])
def test_damaged_card_is_refused(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(UsageError, match=r"model\.json: the model's card is missing or damaged"):
        load_model(saved)


def test_missing_weights_are_refused(saved: Path) -> None:
    saved.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_model(saved)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "tiny.safetensors"
    save_model(path, UNet(width=1, depth=1), {})
    return path


def loads_or_is_refused_by_name(path: Path) -> None:
    """Nothing but a sound model or a `UsageError` that names the file may come of any bytes."""
    try:
        model, _ = load_model(path)
    except UsageError as error:
        assert path.stem in str(error)
    else:
        assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
        assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_a_model_or_refused(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(tiny.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    kind = data.draw(st.sampled_from(["flip", "cut", "noise", "header"]))
    if kind == "flip":
        for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
            raw[place] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        first = data.draw(st.integers(0, len(raw)))
        del raw[first : first + data.draw(st.integers(0, 200))]
    elif kind == "noise":
        raw = bytearray(data.draw(st.binary(max_size=200)))
    else:
        header = json.loads(raw[8 : 8 + length])
        name = data.draw(st.sampled_from(sorted(header)))
        header[name] = {
            **header[name],
            **data.draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "dtype": st.sampled_from(
                            ["F64", "F16", "BF16", "F8_E4M3", "F8_E8M0", "I64", "BOOL", "F4", "X"]
                        ),
                        "shape": st.lists(st.integers(-2, 2**62), max_size=3),
                        "data_offsets": st.lists(st.integers(-2, 2**40), max_size=3),
                    },
                )
            ),
        }
        text = json.dumps(header).encode()
        raw = bytearray(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.with_suffix(".json").write_text(tiny.with_suffix(".json").read_text())
    rewrite(path, bytes(raw))
    loads_or_is_refused_by_name(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_card_is_understood_or_refused(tiny: Path, data: st.DataObject) -> None:
    card = json.loads(tiny.with_suffix(".json").read_text())
    kept = tiny.with_suffix(".json").read_text()
    own = ["architecture", "sha256", "voxel_size_angstrom", "score_threshold", "normalisation", "enhanced", "more"]
    field = data.draw(st.sampled_from([*own, "name", "slices_in", "classes", "width", "depth"]))
    if field in own:
        card[field] = data.draw(JSON)
    else:
        card["architecture"][field] = data.draw(JSON | st.integers(1, 10**12) | st.sampled_from(["twohead", "unet3d"]))
    try:
        tiny.with_suffix(".json").write_text(json.dumps(card))
        loads_or_is_refused_by_name(tiny)
    finally:
        tiny.with_suffix(".json").write_text(kept)


def test_the_hash_is_of_all_that_results_depend_on(saved: Path) -> None:
    before, card = model_hash(saved), json.loads(saved.with_suffix(".json").read_text())
    changes = {"sha256": "0" * 64, "voxel_size_angstrom": [1.0, 2.0], "score_threshold": 0.25}
    changes["architecture"] = {**card["architecture"], "width": 99}
    for name, value in changes.items():
        saved.with_suffix(".json").write_text(json.dumps({**card, name: value}))
        assert model_hash(saved) != before, name
    saved.with_suffix(".json").write_text(json.dumps({**card, "scores": {"step": 7}, "data": "others"}, indent=4))
    assert model_hash(saved) == before
