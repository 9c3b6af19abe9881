"""The command that trains: what it writes, what it refuses, that it goes on after a kill."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoscale.cli import _parser, main
from cryoscale.io.mrc import write_mrc
from cryoscale.lock import is_held, run_lock
from cryoscale.segment.models import build_model
from cryoscale.segment.weights import load_model, save_model
from cryoscale.simulate import Drawn
from tests.segment.test_train import rings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own")
    for name in ("tomos", "labels", "more"):
        (made / name).mkdir()
    for seed in range(2):
        sample = rings(seed)
        write_mrc(made / f"tomos/TS_{seed}.mrc", sample.tomogram, 10.0)
        write_mrc(made / f"labels/TS_{seed}.mrc", (sample.classes == 2).astype(np.uint8), 10.0)
    write_mrc(made / "more/TS_9.mrc", rings(9).tomogram, 10.0)
    return made


def command(folder: Path, output: Path, *options: str) -> list[str]:
    own = ["--data", f"{folder}/tomos/*.mrc", "--labels", f"{folder}/labels/*.mrc", "--output", str(output)]
    return ["train", *own, "--threads", "1", "--validate-every", "5", *options]


@pytest.mark.parametrize(
    "options",
    [["--model", "unet2d", "--width", "2"], ["--model", "twohead", "--width", "1", "--unlabelled", "{}/more"]],
    ids=["unet2d", "twohead"],
)
def test_own_data_become_a_model_its_card_its_log_and_its_curves(
    folder: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option.format(folder) for option in options]
    assert main(command(folder, tmp_path, *given, "--steps", "10")) == 0
    weights = Path(capsys.readouterr().out.strip())
    model, card = load_model(weights)
    assert weights == tmp_path / f"{options[1]}.safetensors"
    assert model.name == card["name"] == card["architecture"]["name"] == options[1]
    assert card["command"].startswith(f"cryoscale train --output DIR --model {options[1]} --data ")
    assert card["data"].startswith("11 labelled slices of TS_0.mrc, TS_1.mrc; 1 held out")
    assert card["voxel_size_angstrom"][0] < 10 < card["voxel_size_angstrom"][1]
    assert {"loss", "validation_loss", "dice_membrane", "precision_membrane"} <= set(card["scores"])
    assert "normalisation" in card
    assert (tmp_path / f"{options[1]}.losses.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / f"{options[1]}.log.csv").read_text().startswith("step,seconds,loss,")
    json.loads(weights.with_suffix(".json").read_text())


def test_a_network_of_boxes_learns_from_labelled_slices(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tall = tmp_path / "tall"
    for name in ("tomos", "labels"):
        (tall / name).mkdir(parents=True)
    sample = rings(0)
    classes = np.zeros((18, 48, 48), np.uint8)
    classes[6:12] = sample.classes == 2
    write_mrc(tall / "tomos/TS.mrc", np.concatenate([rings(8).tomogram, sample.tomogram, rings(9).tomogram]), 10.0)
    write_mrc(tall / "labels/TS.mrc", classes, 10.0)
    options = ["--model", "unet3d", "--width", "2", "--steps", "3"]
    assert main(command(tall, tmp_path, *options)) == 0
    model, card = load_model(Path(capsys.readouterr().out.strip()))
    assert model.dims == 3 and card["data"].startswith("5 labelled slices of TS.mrc; 1 held out")
    assert main(command(folder, tmp_path / "thin", *options)) == 2
    words = capsys.readouterr().err
    assert "too small to train on" in words and "48 voxels wide, 6 slices" in words
    assert (
        main(["train", "--preset", "zhou2023", "--match", f"{tall}/tomos/TS.mrc", "--output", str(tmp_path), *options])
        == 2
    )
    assert "have no neighbours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--unlabelled", "{}/more"], "only a network with two heads"),
        (["--model", "resnet"], "no network has this name"),
        (["--width", "0"], "cannot be made of these options"),
        (["--mask-labels", "5"], "no voxel of the labels is membrane"),
    ],
)
def test_what_cannot_be_trained_is_said(
    folder: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, tmp_path, *(option.format(folder) for option in options), "--steps", "1")) == 2
    assert words in capsys.readouterr().err
    assert main(["train", "--output", str(tmp_path), "--data", str(folder / "tomos")]) == 2
    assert "come together" in capsys.readouterr().err


OPTIMISER = "--learning-rate 0.000123456789 --patience 3 --validate-every 7 --threads 1 --seed 5"
COMMANDS = [
    "--model twohead --data {}/tomos/*.mrc {}/tomos/TS_0.mrc --labels {}/labels --unlabelled {}/more "
    "--unlabelled-slices 5 --mask-labels=-1,1 --protein-labels 3 --all-slices --steps 2 " + OPTIMISER,
    "--model unet25d --preset training cell --volumes 2 --voxel-size 9.123456789 13 --slices-in 3 --width 2 "
    "--from {}/first.safetensors --keep 0.123456789 --minutes 0.123456789 " + OPTIMISER,
    "--model unet2d --preset zhou2023 --match {}/tomos/TS_0.mrc --labels {}/labels/TS_0.mrc --volumes 10 --steps 1 "
    "--mask-labels 1,4 --protein-labels 3 --all-slices " + OPTIMISER,
    "--model unet2d --preset zhou2023 --match {}/tomos/TS_0.mrc --volumes 10 --steps 1 --validate-every 1000000",
    "--model unet25d --preset real training --volumes 2 --shapes {}/labels {}/labels/TS_0.mrc --shapes-apix 12.5 "
    "--mask-labels 1 --steps 2",
]


@pytest.mark.parametrize("given", COMMANDS, ids=["own", "simulated", "paper", "plain", "real"])
def test_the_command_on_the_card_is_the_one_that_was_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    from cryoscale import training

    cards: list[dict[str, str]] = []

    def no_training(_: object, card: dict[str, str], *__: object, **___: object) -> Path:
        cards.append(card)
        return tmp_path

    monkeypatch.setattr(training, "_train", no_training)
    monkeypatch.setattr(training, "simulated_samples", lambda *_, **__: [])
    monkeypatch.setattr(training, "validation_samples", lambda _: [])
    save_model(folder / "first.safetensors", build_model("unet25d", slices_in=3, width=2), {})
    words = ["train", "--output", "DIR", *given.replace("{}", str(folder)).split()]
    assert main(words) == 0
    parser = _parser("train")
    program, *told = shlex.split(cards[0]["command"])
    assert program == "cryoscale"
    assert vars(parser.parse_args(told)) == vars(parser.parse_args(words))


def test_every_option_is_among_those_that_the_card_is_asked_for() -> None:
    given = _parser("train").parse_args(["train", "--output", "DIR"])
    asked = " ".join(COMMANDS)
    names = {name for name in vars(given) if name not in ("verb", "run", "output")}
    missing = {name for name in names if f"--{'from' if name == 'start' else name.replace('_', '-')}" not in asked}
    assert missing == set()


@pytest.mark.parametrize("own", [True, False], ids=["own", "simulated"])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--minutes", ["-1", "0", "nan", "inf"]),
        ("--steps", ["0", "-3"]),
        ("--volumes", ["0", "-3"]),
        ("--validate-every", ["0", "-5"]),
        ("--patience", ["-1"]),
        ("--threads", ["-1", "99999999999"]),
        ("--seed", ["-1", "9999999999999999999999"]),
        ("--unlabelled-slices", ["0", "-5"]),
    ],
)
def test_a_number_that_no_training_has_is_refused_before_anything_is_read(
    tmp_path: Path, option: str, values: list[str], own: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tmp_path / "none"), "--labels", str(tmp_path / "none")] if own else []
    data += ["--unlabelled", str(tmp_path / "none")] if own else []
    for value in values:
        assert main(["train", "--output", str(tmp_path / "out"), *data, option, value]) == 2
        words = capsys.readouterr().err
        assert words.startswith(f"cryoscale: {option}: ") and f"found {value}; allowed: " in words
    assert not (tmp_path / "out").exists()


OWN = "--data x.mrc --labels y.mrc"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (f"{OWN} --volumes 5", "--volumes: about what is simulated, and --data names tomograms; found 5;"),
        (f"{OWN} --preset cell", "--preset: about what is simulated, and --data names tomograms; found cell;"),
        (f"{OWN} --preset training", "--preset: about what is simulated"),
        (f"{OWN} --match x.mrc", "--match: about what is simulated"),
        (
            f"{OWN} --voxel-size 10 13",
            "--voxel-size: about what is simulated, and --data names tomograms; found 10.0 1",
        ),
        (f"{OWN} --unlabelled-slices 5", "--unlabelled-slices: it does nothing without --unlabelled;"),
        (f"{OWN} --mask-labels 1,2 --protein-labels 2,3", "--protein-labels: values that are membrane too; found 2;"),
        (f"{OWN} --steps 5 --minutes 5", "--minutes: the length is given twice;"),
        ("--data x.mrc", "--data: it and --labels come together;"),
        ("--labels x.mrc", "--labels: it and --data come together;"),
        ("--unlabelled x.mrc", "--unlabelled: without --data and --labels;"),
        ("--mask-labels 1", "--mask-labels: it does nothing without --labels;"),
        ("--all-slices --preset cell", "--all-slices: it does nothing without --labels;"),
        ("--preset zhou2023 --match x.mrc --protein-labels 1", "--protein-labels: it does nothing without --labels;"),
        ("--preset zhou2023 --match x.mrc --voxel-size 10 13", "--voxel-size: only for what is simulated in voxels;"),
        ("--preset zhou2023 --match x.mrc --labels x y", "--labels: more than the labels of --match; found x y;"),
        ("--preset zhou2023 cell --match x.mrc", "--preset: these images are slices, the others are volumes;"),
        ("--preset real", "--preset real: no shapes to take: the two come together;"),
        ("--shapes x.mrc", "--shapes: only real takes them: the two come together;"),
        ("--shapes-apix 10", "--shapes-apix: it does nothing without --shapes;"),
        (f"{OWN} --shapes x.mrc", "--shapes: about what is simulated, and --data names tomograms; found x.mrc;"),
        ("--preset zhou2023", "--preset zhou2023: no tomogram to take the intensities of"),
        ("--match x.mrc --preset cell", "--match: only zhou2023's images take the intensities"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--output", str(tmp_path / "out"), *options.split()]) == 2
    assert capsys.readouterr().err.startswith(f"cryoscale: {words}")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/in"):
        assert main(["train", "--output", str(tmp_path / output), "--data", "none", "--labels", "none"]) == 2
        assert f"--output: not a folder; found {tmp_path}/file;" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command(folder, tmp_path, "--model", "unet2d", "--width", "2", "--steps", "10")
    whole, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert main(given) == 4
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"cryoscale: train: {tmp_path}: No space left on device; found ")
    assert "MiB free; to do: free space" in told
    assert not list(tmp_path.glob(".*.partial"))
    assert main(given) == 0
    assert load_model(tmp_path / "unet2d.safetensors")[1]["scores"]["step"] == 10


def test_simulated_training_repeats_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoscale import simulated, training

    drawn: list[tuple[int, str]] = []

    def volume(seed: int, *, preset: str, volumes: object) -> tuple[np.ndarray, np.ndarray]:
        assert not volumes
        drawn.append((seed, preset))
        return _volume(seed)

    monkeypatch.setattr(simulated, "training_volume", volume)
    monkeypatch.setattr(training, "validation_samples", lambda _: [rings(seed) for seed in range(8)])
    options = ["train", "--output", str(tmp_path), "--volumes", "2", "--steps", "1", "--threads", "1", "--width", "2"]
    assert main(options) == 0
    _, card = load_model(tmp_path / "unet25d.safetensors")
    assert (
        card["command"]
        == "cryoscale train --output DIR --model unet25d --volumes 2 --width 2 --threads 1 --steps 1 --seed 0"
    )
    assert "dice_membrane_snr0.3" in card["scores"]
    assert main([*options, "--seed", "89999"]) == 2
    assert drawn == [(0, "training"), (1, "training")]
    more = ["--preset", "training", "microtubules", "cell", "--volumes", "4", "--seed", "7"]
    assert main([*options[:1], "--output", str(tmp_path / "mixed"), *options[5:], *more]) == 0
    assert drawn[2:] == [(7, "training"), (8, "microtubules"), (9, "cell"), (10, "training")]
    _, card = load_model(tmp_path / "mixed/unet25d.safetensors")
    assert "--preset training microtubules cell" in card["command"] and card["voxel_size_angstrom"] == [8.0, 20.0]
    assert card["data"].startswith("simulated (training, microtubules, cell): seeds 7 to 10")
    assert main([*options, "--preset", "training", "zhou2023"]) == 2
    known = ["--output", str(tmp_path / "known"), *options[3:], "--voxel-size"]
    assert main(["train", *known, "10", "13"]) == 0
    _, card = load_model(tmp_path / "known/unet25d.safetensors")
    assert "--voxel-size 10 13" in card["command"] and card["voxel_size_angstrom"] == [10.0, 13.0]
    assert card["data"].startswith("simulated brought to 10 to 13 Å: seeds 0 to 1")
    for low, high in (("13", "10"), ("0", "10"), ("11", "13"), ("nan", "12"), ("10", "inf")):
        assert main(["train", *known, low, high]) == 2
    assert main(["train", *known, "10", "13", "--data", "x", "--labels", "y"]) == 2


def test_real_shapes_are_read_and_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryoscale import simulated, training

    given: list[list[list[Drawn]]] = []

    def volume(seed: int, *, preset: str, volumes: list[list[Drawn]]) -> tuple[np.ndarray, np.ndarray]:
        given.append(volumes)
        return _volume(seed)

    monkeypatch.setattr(simulated, "training_volume", volume)
    monkeypatch.setattr(training, "validation_samples", lambda _: [rings(seed) for seed in range(8)])
    options = ["train", "--output", str(tmp_path / "a"), "--volumes", "1", "--steps", "1", "--threads", "1"]
    options += ["--width", "2", "--preset", "real", "--shapes"]
    path, silent = f"{folder}/labels/TS_0.mrc", str(tmp_path / "silent.mrc")
    assert main([*options, path]) == 0
    _, card = load_model(tmp_path / "a/unet25d.safetensors")
    assert card["data"].startswith("simulated (real), real shapes of TS_0.mrc: seeds 0 to 0")
    (shapes,) = given[0]
    # Rings of 10 Å voxels, in nm: a voxel is one of them.
    truth = np.argwhere(rings(0).classes == 2)
    assert np.ptp(np.concatenate([s.points for s in shapes]), axis=0) == pytest.approx(np.ptp(truth, axis=0), abs=4)
    write_mrc(Path(silent), (rings(0).classes == 2).astype(np.uint8), 0.0)
    options[2] = str(tmp_path / "b")
    assert main([*options, silent]) == 2
    assert "do not state their voxel size; to do: give --shapes-apix" in capsys.readouterr().err
    assert main([*options, silent, "--shapes-apix", "20"]) == 0
    ends = [np.concatenate([shape.points for shape in volume]).max() for volume in (given[-1][0], shapes)]
    assert ends[0] == pytest.approx(2 * ends[1])


def test_a_training_starts_from_given_weights(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "unet2d", "--width", "2"]
    assert main(command(folder, tmp_path / "first", *small, "--steps", "5")) == 0
    start = str(tmp_path / "first/unet2d.safetensors")
    for name, options in (("from", ["--from", start, "--learning-rate", "1e-4"]), ("anew", [])):
        assert main(command(folder, tmp_path / name, *small, *options, "--seed", "3", "--steps", "1")) == 0
    first, found, anew = (
        load_model(tmp_path / name / "unet2d.safetensors")[0].state_dict() for name in ("first", "from", "anew")
    )
    # One step of Adam moves a weight by its rate, 1e-4 / 50 in the first step of the warm-up, and no more.
    name = next(name for name in first if name.endswith("conv.weight"))
    assert 1e-6 < float((first[name] - found[name]).abs().max()) < 1e-5
    assert float((first[name] - anew[name]).abs().max()) > 1e-2
    card = json.loads((tmp_path / "from/unet2d.json").read_text())
    assert f"--from {start} --width 2 --learning-rate 0.0001" in card["command"]
    assert card["started_from_sha256"] == json.loads((tmp_path / "first/unet2d.json").read_text())["sha256"]
    capsys.readouterr()
    assert main(command(folder, tmp_path / "other", "--width", "4", "--from", start, "--steps", "1")) == 2
    assert "the weights are of another network" in capsys.readouterr().err
    assert main(command(folder, tmp_path / "first", "--from", start, "--steps", "1")) == 2
    assert "would overwrite the weights that it starts from" in capsys.readouterr().err
    assert main(command(folder, tmp_path / "none", "--from", "", "--steps", "1")) == 2
    # Asked for nothing, the network is that of the weights.
    assert main(command(folder, tmp_path / "same", "--from", start, "--steps", "1")) == 0
    assert load_model(tmp_path / "same/unet2d.safetensors")[0].width == 2
    assert main(command(folder, tmp_path / "other", *small, "--from", "shipped", "--steps", "1")) == 2
    assert "unet25d" in capsys.readouterr().err
    for more in (["--keep", "0.5"], ["--keep", "1", "--from", start], ["--keep", "nan", "--from", start]):
        assert main(command(folder, tmp_path / "other", *small, *more, "--steps", "1")) == 2
        assert "--keep" in capsys.readouterr().err
    for rate in ("0", "nan"):
        assert main(command(folder, tmp_path / "other", *small, "--learning-rate", rate, "--steps", "1")) == 2
        assert "--learning-rate" in capsys.readouterr().err


def test_weights_of_fewer_slices_are_started_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model", "unet25d", "--width", "2"]
    assert main(command(folder, tmp_path / "first", *small, "--slices-in", "3", "--steps", "1")) == 0
    start = ["--from", str(tmp_path / "first/unet25d.safetensors"), "--steps", "1"]
    assert main(command(folder, tmp_path / "more", *small, "--slices-in", "5", *start)) == 0
    first, found = (load_model(tmp_path / name / "unet25d.safetensors")[0].state_dict() for name in ("first", "more"))
    name = "down.0.0.conv.weight"
    assert found[name].shape[1] == 5
    assert float((found[name][:, 1:4] - first[name]).abs().max()) < 1e-3 > float(found[name][:, 0].abs().max()) > 0
    assert "--slices-in 5" in json.loads((tmp_path / "more/unet25d.json").read_text())["command"]
    # Asked for nothing, the network is that of the weights.
    assert main(command(folder, tmp_path / "same", "--from", start[1], "--steps", "1")) == 0
    same = load_model(tmp_path / "same/unet25d.safetensors")[0]
    assert (same.width, same.slices_in) == (2, 3)
    start = ["--from", str(tmp_path / "more/unet25d.safetensors"), "--steps", "1"]
    capsys.readouterr()
    assert main(command(folder, tmp_path / "fewer", "--slices-in", "3", *start)) == 2
    assert "the weights are of another network" in capsys.readouterr().err
    assert main(command(folder, tmp_path / "even", "--slices-in", "8", *start)) == 2
    assert "slices_in must be odd" in capsys.readouterr().err


def test_what_one_slice_taught_goes_on_with_several(folder: Path, tmp_path: Path) -> None:
    deep = build_model("unet2d", width=2, depth=2)
    save_model(tmp_path / "deep.safetensors", deep, {})
    start = ["--from", str(tmp_path / "deep.safetensors"), "--steps", "1"]
    assert main(command(folder, tmp_path / "same", *start)) == 0
    assert load_model(tmp_path / "same/unet2d.safetensors")[0].options == deep.options
    assert "depth" not in json.loads((tmp_path / "same/unet2d.json").read_text())["command"]
    for name, more in (("named", ["--model", "unet25d"]), ("asked", ["--slices-in", "5"])):
        assert main(command(folder, tmp_path / name, *start, *more)) == 0
        assert load_model(tmp_path / name / "unet25d.safetensors")[0].options == {**deep.options, "slices_in": 5}


@pytest.mark.parametrize("architecture", [[], [["name", "unet2d"]], {}, {"name": "unet2d", "width": "16"}, 3])
def test_a_card_that_says_nonsense_is_named(
    architecture: object, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.safetensors"
    card = save_model(path, build_model("unet2d", width=2), {})
    path.with_suffix(".json").write_text(json.dumps({**card, "architecture": architecture}))
    assert main(command(folder, tmp_path / "out", "--from", str(path), "--steps", "1")) == 2
    assert str(path.with_suffix(".json" if architecture == 3 else "")) in capsys.readouterr().err
    assert main(command(folder, tmp_path / "out", "--from", ".", "--steps", "1")) == 2


def test_a_share_of_the_first_weights_is_kept(folder: Path, tmp_path: Path) -> None:
    small = ["--model", "unet2d", "--width", "2"]
    assert main(command(folder, tmp_path / "first", *small, "--steps", "5")) == 0
    start = ["--from", str(tmp_path / "first/unet2d.safetensors"), "--seed", "3", "--steps", "4"]
    for name, more in (("trained", []), ("kept", ["--keep", "0.25"])):
        assert main(command(folder, tmp_path / name, *small, *start, *more)) == 0
    first, trained, kept = (
        load_model(tmp_path / name / "unet2d.safetensors")[0].state_dict() for name in ("first", "trained", "kept")
    )
    for name, tensor in kept.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.25 * first[name] + 0.75 * trained[name])
            assert (tensor != trained[name]).any() or (first[name] == trained[name]).all()
        else:
            assert (tensor == trained[name]).all()
    cards = [json.loads((tmp_path / name / "unet2d.json").read_text()) for name in ("trained", "kept")]
    assert "--keep 0.25" in cards[1]["command"] and "--keep" not in cards[0]["command"]
    # Its scores are its own.
    assert cards[0]["scores"]["validation_loss"] != cards[1]["scores"]["validation_loss"]
    # A training that is done is blended alone.
    assert main(command(folder, tmp_path / "trained", *small, *start, "--keep", "0.25")) == 0
    for name, tensor in load_model(tmp_path / "trained/unet2d.safetensors")[0].state_dict().items():
        torch.testing.assert_close(tensor, kept[name])


def test_the_papers_images_match_a_tomogram_and_go_on_where_they_were(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match = ["--preset", "zhou2023", "--match", f"{folder}/tomos/TS_0.mrc", "--labels", f"{folder}/labels/TS_0.mrc"]
    same = ["--volumes", "10", "--threads", "1", "--width", "2", "--validate-every", "1"]

    def run(name: str, steps: int, *more: str) -> int:
        return main(["train", "--output", str(tmp_path / name), *match, *same, "--steps", str(steps), *more])

    assert run("whole", 2) == 0
    model, card = load_model(tmp_path / "whole/unet2d.safetensors")
    assert model.slices_in == 1
    assert "10 images, 1 of them held out for the test, 1 more" in card["data"]
    assert "--preset zhou2023 --match" in card["command"]
    grey, marks = rings(0).tomogram, rings(0).classes == 2
    assert card["intensities"]["membrane_mean"] == pytest.approx(grey[marks].mean(), rel=1e-4)
    assert card["intensities"]["background_sd"] == pytest.approx(grey[~marks].std(), rel=1e-4)
    assert {"pixel_accuracy", "iou_membrane"} <= set(card["test"])
    # Cut after its first step, as a kill between validations leaves it; 1 of 2 steps has the same rate: no annealing.
    assert run("cut", 1) == 0
    assert run("cut", 2) == 0
    whole, again = ((tmp_path / name / "unet2d.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == again
    capsys.readouterr()
    assert run("whole", 2, "--seed", "1") == 2
    assert "not a checkpoint of this training" in capsys.readouterr().err
    assert run("other", 1, "--model", "unet25d") == 2
    assert "no neighbours" in capsys.readouterr().err
    assert main(["train", "--output", str(tmp_path), "--preset", "zhou2023"]) == 2
    assert "come together" in capsys.readouterr().err


def test_a_folder_takes_one_training_at_a_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(folder, tmp_path, "--model", "unet2d", "--width", "2", "--steps", "1")
    with run_lock(tmp_path):
        assert main(words) == 5
        assert "another run holds this output folder" in capsys.readouterr().err
        assert not (tmp_path / "unet2d.safetensors").exists()
        # Of several processes the first holds the lock for all.
        for rank, code in (("0", 5), ("1", 2)):
            monkeypatch.setenv("WORLD_SIZE", "2")
            monkeypatch.setenv("RANK", rank)
            assert main([*words, "--mask-labels", "7"]) == code
        monkeypatch.delenv("WORLD_SIZE")
    assert main(words) == 0
    assert not (tmp_path / "run.lock").exists()


def test_the_lock_is_held_while_it_trains(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoscale import training

    held: list[bool] = []
    read = training.read_labelled
    monkeypatch.setattr(training, "read_labelled", lambda *a, **k: held.append(is_held(tmp_path)) or read(*a, **k))
    monkeypatch.setattr(training, "draw_losses", lambda *_, **__: held.append(is_held(tmp_path)))
    assert main(command(folder, tmp_path, "--model", "unet2d", "--width", "2", "--steps", "1")) == 0
    assert held == [True, True]


def _volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    big = rings(seed)
    return np.tile(big.tomogram, (1, 4, 4)), np.tile(big.classes, (1, 4, 4))


@pytest.mark.fault
def test_a_killed_training_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    def run(output: Path) -> subprocess.Popen[bytes]:
        options = command(folder, output, "--model", "twohead", "--width", "2", "--steps", "40", "--patience", "0")
        code = "import sys; from cryoscale.cli import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.Popen([sys.executable, "-c", code, *options], env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert run(tmp_path / "whole").wait(120) == 0
    cut = run(tmp_path / "cut")
    while not (tmp_path / "cut/checkpoint.safetensors").exists():
        assert cut.poll() is None
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    assert cut.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "cut/twohead.losses.png").exists()
    assert run(tmp_path / "cut").wait(120) == 0
    whole, again = ((tmp_path / name / "twohead.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == again


DDP = """
import sys, torch, torch.distributed as dist
from cryoscale.segment.settings import settings_for
from cryoscale.segment.train import train
from tests.segment.test_train import rings
torch.set_num_threads(1)
dist.init_process_group("gloo")
settings = settings_for("twohead", options={"width": 1}, crop_voxels=32, batch=2, mixed=False, validate_every=3)
model, log = train([rings(0)], validation=[rings(1)], unlabelled=[rings(2)], settings=settings, steps=8)
state = torch.cat([p.detach().ravel() for p in model.parameters()])
every = [torch.empty_like(state) for _ in range(2)]
dist.all_gather(every, state)
assert torch.equal(*every), "the processes went apart"
assert bool(log) == (dist.get_rank() == 0)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    (tmp_path / "ddp.py").write_text(DDP)
    root = str(Path(__file__).resolve().parents[1])
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(tmp_path / "ddp.py"),
    ]
    done = subprocess.run(
        launch,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr[-6000:]
