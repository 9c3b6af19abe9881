"""CSV against the csv module and hypothesis; STAR by its own rules."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscale.errors import TomogramError
from cryoscale.io.tables import particle_columns, read_csv, read_star, write_csv, write_star


def plain(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_cells(tmp_path):
    row = ['vesicle, "big"\nsecond line', 3, -2.5, True, None, math.nan, np.float32(0.1), np.int32(-7), np.False_]
    write_csv(tmp_path / "a.csv", list("abcdefghi"), [row])
    assert plain(tmp_path / "a.csv") == [
        list("abcdefghi"),
        ['vesicle, "big"\nsecond line', "3", "-2.5", "yes", "", "", "0.1", "-7", "no"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+a", "-1+1", "-", "@A1", "\tx", "\rx", "=cmd|' /C x'!A0", "'=x", "''-x"])
def test_formulas_are_disarmed_and_come_back(tmp_path, text):
    write_csv(tmp_path / "a.csv", ["name"], [[text]])
    assert plain(tmp_path / "a.csv")[1] == ["'" + text]
    assert read_csv(tmp_path / "a.csv") == [{"name": text}]


@pytest.mark.parametrize(
    "text",
    ["", "'", "it's", "'quoted'", "a=b", " =1", "00255", "-1.5", "+2e-3", "'-1", "断層", "$(touch x)", "%s%n"],
)
def test_harmless_text_is_left_alone(tmp_path, text):
    write_csv(tmp_path / "a.csv", ["name", "n"], [[text, 1]])
    assert plain(tmp_path / "a.csv")[1] == [text, "1"]
    assert read_csv(tmp_path / "a.csv") == [{"name": text, "n": "1"}]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "a.csv"
    clean = [tuple(cell.encode("utf-8", "backslashreplace").decode() for cell in row) for row in rows]
    write_csv(path, ["a", "b"], clean)
    assert [tuple(row.values()) for row in read_csv(path)] == clean


def test_a_name_that_is_not_utf8_does_not_stop_the_table(tmp_path):
    write_csv(tmp_path / "a.csv", ["source"], [[b"tomo\xff.mrc".decode("utf-8", "surrogateescape")]])
    assert read_csv(tmp_path / "a.csv") == [{"source": "tomo\\udcff.mrc"}]


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ"):
        write_csv(tmp_path / "a.csv", ["a", "a"], [])
    with pytest.raises(ValueError, match="row 1 has 1"):
        write_csv(tmp_path / "a.csv", ["a", "b"], [[1, 2], [1]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a,a\n1,2\n", b"a,b\n1\n", b"a\n\xff\n", b'a\n"open\n'])
def test_damaged_csv_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(TomogramError, match=r"a\.csv"):
        read_csv(tmp_path / "a.csv")


def test_particles_star_swaps_axes_at_the_door(tmp_path):
    centres = np.array([[1.5, 20.25, 300.0], [4.0, 5.0, 6.0]])
    write_star(tmp_path / "p.star", particle_columns("TS_001", centres))
    text = (tmp_path / "p.star").read_text()
    assert text.startswith("\ndata_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n")
    assert "\nTS_001 300.000000 20.250000 1.500000 " in text
    back = read_star(tmp_path / "p.star")
    np.testing.assert_allclose([[float(v) for v in back[f"rlnCoordinate{a}"]] for a in "ZYX"], centres.T)
    assert back["rlnMicrographName"] == ["TS_001"] * 2
    assert {float(v) for a in "XYZ" for v in back[f"rlnOrigin{a}Angst"]} == {0.0}


def test_no_particles_is_still_a_loop(tmp_path):
    write_star(tmp_path / "p.star", particle_columns("TS_001", np.zeros((0, 3))))
    assert read_star(tmp_path / "p.star")["rlnCoordinateX"] == []


@pytest.mark.parametrize("name", ["a b", "a#b", "'x'", "", "_rlnX", "data_x", "loop_", "a\nb", "-x", "café"])
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="safe name"):
        write_star(tmp_path / "p.star", particle_columns(name, np.zeros((1, 3))))
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
