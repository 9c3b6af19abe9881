"""Lists of particles: axes, extra columns, and every malformed line named by its number."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.errors import CryoscaleError, UsageError
from cryoscale.io.particlelists import read_class_radii, read_particle_list


def test_lines_become_zyx_and_angles_are_left_alone(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("3d2f  180  480  118  -45   81  -72\n1qvr 1.5 -2e1 .25\r\n\n\n")
    found = read_particle_list(path)
    assert found.classes == ("3d2f", "1qvr")
    np.testing.assert_array_equal(found.positions, [[118, 480, 180], [0.25, -20, 1.5]])


def test_an_empty_file_lists_nothing(tmp_path):
    (tmp_path / "p.txt").write_text("\n \n")
    found = read_particle_list(tmp_path / "p.txt")
    assert found.classes == () and found.positions.shape == (0, 3)


@pytest.mark.parametrize(
    "line",
    ["1bxn 1 2", "1bxn a 2 3", "1bxn nan 2 3", "1bxn 1 inf 3", "1bxn 1 2 1_0", "", "# comment", "1,2,3,4", "\x00"],
)
def test_a_malformed_line_is_named(tmp_path, line):
    (tmp_path / "p.txt").write_text(f"1bxn 1 2 3\n{line}\n1bxn 1 2 3\n")
    with pytest.raises(UsageError, match=r"p\.txt line 2: malformed line; found .*; allowed: class x y z"):
        read_particle_list(tmp_path / "p.txt")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("p") / "p.txt"
    path.write_bytes(content)
    for read in (read_particle_list, read_class_radii):
        try:
            read(path)
        except CryoscaleError as error:
            assert "p.txt" in str(error)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("missing.txt", "pipe.txt", "."):
        with pytest.raises(CryoscaleError, match=r"opened|regular"):
            read_particle_list(tmp_path / name)
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe1\x00")
    with pytest.raises(UsageError, match="not a text file"):
        read_particle_list(tmp_path / "p.txt")


def test_radii(tmp_path):
    (tmp_path / "r.txt").write_text("Ribosome 150 2\nfas 90\n")
    assert read_class_radii(tmp_path / "r.txt") == {"ribosome": (150.0, 2.0), "fas": (90.0, 1.0)}
    for line in ("fas", "fas 0", "fas -1", "fas 5 -1", "fas 5 1 1", "FAS 5\nfas 5", "fas x"):
        (tmp_path / "r.txt").write_text(line)
        with pytest.raises(UsageError, match=r"r\.txt line [12]"):
            read_class_radii(tmp_path / "r.txt")
