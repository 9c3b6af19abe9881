"""The verb that simulates: presets, conditions that are asked for, real shapes, and what it refuses."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.io.meshes import read_ply
from cryoscale.io.mrc import write_mrc
from cryoscale.io.source import open_source
from cryoscale.simulate import CONDITIONS, SCENES, image_phantom, make_phantom


def simulated(folder: Path, *options: str) -> dict[str, object]:
    assert main(["simulate", "--output", str(folder), "--shape", "32,48,64", *options]) == 0
    facts: dict[str, object] = json.loads((folder / "truth/simulated_0.json").read_text())
    return facts


def test_a_preset_with_conditions_asked_for(tmp_path: Path) -> None:
    options = ("--preset", "cell", "--apix", "16", "--tilt-range", "45", "--tilt-step", "3")
    facts = simulated(tmp_path / "a", *options, "--snr", "0.2")
    imaging = facts["imaging"]
    assert isinstance(imaging, dict)
    assert imaging["tilt_range_degrees"] == 45
    assert imaging["tilt_step_degrees"] == 3
    assert facts["voxel_size_angstrom"] == imaging["voxel_size_angstrom"] == 16
    assert facts["snr"] == 0.2
    assert facts["preset"] == "cell"
    simulated(tmp_path / "b", *options, "--snr", "0.2")
    one, same = ((tmp_path / name / "simulated_0.mrc").read_bytes()[1024:] for name in "ab")
    assert one == same


def test_every_condition_can_be_asked_for(tmp_path: Path) -> None:
    asked = {
        "snr": 0.5,
        "defocus_um": 6.5,
        "voltage_kv": 200.0,
        "cs_mm": 2.2,
        "amplitude_contrast": 0.2,
        "dose_per_angstrom2": 40.0,
        "shift_sd_nm": 0.0,
        "detector_at_nyquist": 0.3,
        "sirt_iterations": 12,
        "phase_flip": False,
    }
    words = ["--snr", "0.5", "--defocus", "6.5", "--voltage", "200", "--cs", "2.2", "--amplitude-contrast", "0.2"]
    words += ["--dose", "40", "--shifts", "0", "--detector", "0.3", "--sirt", "12", "--no-phase-flip"]
    imaging = simulated(tmp_path, "--preset", "shrec2021", *words)["imaging"]
    assert isinstance(imaging, dict)
    assert {name: imaging[name] for name in asked} == asked
    source = open_source(tmp_path / "simulated_0.mrc")
    phantom = make_phantom((32, 48, 64), seed=0, preset="shrec2021")
    expected = image_phantom(phantom.density, seed=0, **imaging)
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape), expected)
    assert set(imaging) == set(inspect.signature(image_phantom).parameters) - {"density", "seed"}


def test_the_demo_is_what_it_was(tmp_path: Path) -> None:
    imaging = simulated(tmp_path, "--preset", "demo")["imaging"]
    assert isinstance(imaging, dict)
    assert imaging["tilt_step_degrees"] == 3.0
    assert imaging["snr"] == 0.3
    assert imaging["defocus_um"] == 3.0
    assert imaging["detector_at_nyquist"] == 1.0


def test_every_preset_is_listed_and_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"--preset NAME {', '.join(CONDITIONS)} " in told
    assert set(CONDITIONS) == {*SCENES, "real"}
    for preset in SCENES:
        facts = simulated(tmp_path / preset, "--preset", preset)
        low, high = CONDITIONS[preset].voxel_size_angstrom
        assert facts["preset"] == preset
        assert low <= facts["voxel_size_angstrom"] <= high  # type: ignore[operator]


def test_real_shapes_and_their_mid_surface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    z, y, x = np.indices((40, 40, 40)) - 19.5
    shell = np.abs(np.sqrt(z**2 + y**2 + x**2) - 12) <= 1.5
    labels = shell.astype(np.uint8) * 3 + (z**2 + y**2 + x**2 < 100) * np.uint8(9)
    write_mrc(tmp_path / "labels.mrc", labels, 20.0)
    with (tmp_path / "labels.mrc").open("r+b") as stream:
        stream.seek(40)
        stream.write(bytes(12))  # the box in Å
    taken = ("--labels", str(tmp_path / "labels.mrc"), "--mask-labels", "3", "--apix", "25")
    assert main(["simulate", "--output", str(tmp_path / "out"), *taken]) == 2
    assert "give --labels-apix" in capsys.readouterr().err
    taken = (*taken, "--labels-apix", "20")
    facts = simulated(tmp_path / "out", *taken)
    assert facts["preset"] == "real"
    (membrane,) = facts["membranes"]  # type: ignore[misc, has-type]
    assert 2 < membrane.pop("leaflets_nm") < 5
    assert membrane == {"id": 1, "kind": "real", "closed": True, "inside": 0}
    mesh = read_ply(tmp_path / "out/truth/simulated_0__midsurface.ply")
    out = mesh.vertices - mesh.vertices.mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 240 - 20 * 1.5**2 / 12, atol=6)
    assert mesh.normals is not None
    assert ((mesh.normals * out).sum(axis=1) > 230 * 0.95).all()
    assert (mesh.properties["membrane"] == 1).all()
    source = open_source(tmp_path / "out/truth/simulated_0__instances.mrc")
    assert source.read((0, 0, 0), source.shape).max() == 1


REFUSED = [
    (["--preset", "castle"], "--preset: no preset has this name; found castle; allowed: demo, "),
    (["--preset", "real"], "--preset real: this preset takes its membranes from a label volume"),
    (["--preset", "cell", "--labels", "no.mrc"], "--preset: only real takes a label volume; found cell"),
    (["--mask-labels", "1"], "--mask-labels: this says how to read a label volume, and none is named"),
    (["--labels-apix", "10"], "--labels-apix: this says how to read a label volume, and none is named"),
    *(
        (["--apix", apix], f"--apix: voxel size outside the range of tomograms; found {found}; allowed: 0.5 to 100 Å")
        for apix, found in (("-5", "-5.0"), ("0", "0.0"), ("inf", "inf"), ("nan", "nan"), ("1e6", "1000000.0"))
    ),
    *(
        (["--snr", snr], f"--snr: not a signal-to-noise ratio; found {snr}; allowed: 1e-06 or more; inf for no noise")
        for snr in ("1e-300", "9e-07", "0.0", "-1.0", "nan")
    ),
    (["--tilt-range", "95"], "--tilt-range: not a range of tilts; found 95.0; allowed: above 0 and below 90 degrees"),
    (["--tilt-range", "nan"], "--tilt-range: not a range of tilts; found nan"),
    (
        ["--tilt-step", "0"],
        "--tilt-step: not a step between tilts; found 0.0; allowed: above 0 and at most the range, 60",
    ),
    (["--defocus", "nan"], "--defocus: not a defocus; found nan; allowed: -20 to 20 um, underfocus above 0"),
    (["--voltage", "300000"], "--voltage: not a voltage; found 300000.0; allowed: 50 to 1000 kV"),
    (["--cs", "-1"], "--cs: not a spherical aberration; found -1.0; allowed: 0 to 10 mm"),
    (["--amplitude-contrast", "7"], "--amplitude-contrast: not an amplitude contrast; found 7.0; allowed: 0.01 to 1"),
    (["--dose", "0"], "--dose: not a dose; found 0.0; allowed: 1 to 1000 electrons per square ångström, of all tilts"),
    (["--shifts", "-0.5"], "--shifts: not an error of alignment; found -0.5; allowed: 0 to 50 nm"),
    (["--detector", "0"], "--detector: not a share that a detector keeps; found 0.0; allowed: 0.01 to 1"),
    (["--sirt", "-1"], "--sirt: not a number of iterations; found -1; allowed: 0 (weighted by the ramp) to 10000"),
    (["--tilt-step", "1e-9"], "too little memory to simulate so many voxels and tilts; found 32, 32, 32, which takes"),
    (["--shape", "90000,90000,90000"], "--shape: this machine has too little memory to simulate so many voxels"),
]


@pytest.mark.parametrize(
    ("options", "words"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_cannot_be_simulated_is_said(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--output", str(tmp_path), "--shape", "32,32,32", *options]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ("--snr", "1e-6"),
        ("--apix", "100"),
        ("--apix", "0.5"),
        ("--dose", "1", "--apix", "0.5"),
        ("--defocus", "0", "--cs", "0", "--amplitude-contrast", "0.01"),
        ("--sirt", "10000"),
    ],
)
def test_the_ends_of_what_can_be_simulated_are_finite(tmp_path: Path, options: tuple[str, ...]) -> None:
    simulated(tmp_path, *options)
    source = open_source(tmp_path / "simulated_0.mrc")
    tomogram = source.read((0, 0, 0), source.shape)
    assert np.isfinite(tomogram).all()
    assert tomogram.std() > 0


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_labels_that_are_no_labels_are_refused(
    tmp_path: Path, wrong: float, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((32, 32, 32), np.float32)
    labels[10:14] = 2.0
    write_mrc(tmp_path / "labels.mrc", labels, 10.0)
    simulated(tmp_path / "whole", "--labels", str(tmp_path / "labels.mrc"))
    labels[3, 4, 5] = wrong
    write_mrc(tmp_path / "labels.mrc", labels, 10.0)
    taken = ["--labels", str(tmp_path / "labels.mrc")]
    assert main(["simulate", "--output", str(tmp_path / "out"), "--shape", "32,32,32", *taken]) == 2
    assert "labels.mrc: a label is not a whole number; to do: give labels" in capsys.readouterr().err
    assert main(["simulate", "--output", str(tmp_path / "out"), *taken, "--labels-apix", "nan"]) == 2
    assert "--labels-apix: voxel size outside the range" in capsys.readouterr().err
