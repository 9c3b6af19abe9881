"""STAR by its own rules, and what each program reads in it."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoscale.errors import TomogramError
from cryoscale.io.star import Oriented, read_star, relion4_columns, relion5_columns, warp_columns, write_star
from cryoscale.records import Geometry

CENTRES = np.array([[1.5, 20.25, 300.0], [4.0, 5.0, 6.0]])
ANGLES = np.array([[0.0, 30.0, -120.0], [0.0, 90.0, 45.0]])
PARTICLES = Oriented(CENTRES, ANGLES, np.array([True, False]))
NONE = Oriented(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, bool))
GEOMETRY = Geometry((100, 201, 400), (8.0, 8.0, 8.0), (-500.0, 3.0, 70.0))


def numbers(star, label):
    """Columns X, Y, Z (or whatever letters) of a label as (n, k)."""
    return np.array([[float(v) for v in star[label.format(letter)]] for letter in "XYZ"]).T


def written(tmp_path, columns):
    write_star(tmp_path / "p.star", columns)
    return read_star(tmp_path / "p.star")


def test_axes_are_swapped_at_the_door(tmp_path):
    back = written(tmp_path, relion4_columns("TS_001", PARTICLES))
    text = (tmp_path / "p.star").read_text()
    assert text.startswith("\ndata_particles\n\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n")
    assert "\nTS_001 300.000000 20.250000 1.500000 " in text
    np.testing.assert_allclose(numbers(back, "rlnCoordinate{}")[:, ::-1], CENTRES)
    assert back["rlnTomoName"] == ["TS_001"] * 2
    assert (numbers(back, "rlnOrigin{}Angst") == 0).all()


def test_relion_5_counts_angstrom_from_the_middle(tmp_path):
    back = written(tmp_path, relion5_columns("TS_001", PARTICLES, GEOMETRY))
    centred = numbers(back, "rlnCenteredCoordinate{}Angst")
    # As RELION 5 takes them back: pixels = angstrom / pixel size + size / 2, halves kept for odd sizes.
    size = np.array(GEOMETRY.shape[::-1])
    np.testing.assert_allclose((centred / 8.0 + size / 2.0)[:, ::-1], CENTRES)
    np.testing.assert_allclose(centred[0], [(300 - 200) * 8, (20.25 - 100.5) * 8, (1.5 - 50) * 8])
    assert "rlnCoordinateX" not in back


def test_warp_names_the_tilt_series(tmp_path):
    back = written(tmp_path, warp_columns("TS_001", PARTICLES))
    assert back["rlnMicrographName"] == ["TS_001.tomostar"] * 2
    np.testing.assert_allclose(numbers(back, "rlnCoordinate{}")[:, ::-1], CENTRES)


@pytest.mark.parametrize("columns", [relion4_columns, warp_columns, lambda *a: relion5_columns(*a, GEOMETRY)])
def test_angles_priors_and_class(tmp_path, columns):
    back = written(tmp_path, columns("TS_001", PARTICLES))
    angles = np.array([[float(v) for v in back[f"rlnAngle{name}"]] for name in ("Rot", "Tilt", "Psi")]).T
    np.testing.assert_allclose(angles, ANGLES)
    assert back["rlnAngleTiltPrior"] == back["rlnAngleTilt"] and back["rlnAnglePsiPrior"] == back["rlnAnglePsi"]
    assert back["rlnClassNumber"] == ["1", "2"]
    axis = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply([0, 0, 1])
    np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 1)


def test_no_particles_is_still_a_loop(tmp_path):
    assert written(tmp_path, relion5_columns("TS_001", NONE, GEOMETRY))["rlnAnglePsi"] == []


@pytest.mark.parametrize("name", ["a b", "a#b", "'x'", "", "_rlnX", "data_x", "loop_", "a\nb", "-x", "café"])
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="safe name"):
        write_star(tmp_path / "p.star", relion4_columns(name, PARTICLES))
    assert list(tmp_path.iterdir()) == []


def test_bad_star_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        write_star(tmp_path / "p.star", {"rlnA": [1], "rlnB": [1, 2]})
    with pytest.raises(ValueError, match="labels"):
        write_star(tmp_path / "p.star", {"a b": [1]})
    with pytest.raises(ValueError, match="finite"):
        write_star(tmp_path / "p.star", {"rlnA": [math.nan]})


@pytest.mark.parametrize("content", ["", "data_particles\n", "data_particles\nloop_\n_rlnA #1\n_rlnB #2\n1\n"])
def test_damaged_star_is_refused(tmp_path, content):
    (tmp_path / "p.star").write_text(content)
    with pytest.raises(TomogramError, match=r"p\.star"):
        read_star(tmp_path / "p.star")
