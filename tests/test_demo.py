"""The verb that simulates: presets, conditions that are asked for, real shapes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryoscale.cli import main
from cryoscale.io.meshes import read_ply
from cryoscale.io.mrc import write_mrc
from cryoscale.io.source import open_source


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


def test_the_demo_is_what_it_was(tmp_path: Path) -> None:
    imaging = simulated(tmp_path, "--preset", "demo")["imaging"]
    assert isinstance(imaging, dict)
    assert imaging["tilt_step_degrees"] == 3.0
    assert imaging["snr"] == 0.3
    assert imaging["defocus_um"] == 3.0
    assert imaging["detector_at_nyquist"] == 1.0


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "castle"], "preset must be one of"),
        (["--preset", "real"], "real with shapes given"),
        (["--tilt-range", "95"], "tilt_range_degrees < 90"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--output", str(tmp_path), "--shape", "32,32,32", *options]) == 2
    assert words in capsys.readouterr().err
